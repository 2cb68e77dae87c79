//! A store that several processes open: who owns it, what they see of each other, and that
//! they go on when the owner leaves or is killed.

use std::{fs, path::PathBuf, thread, time::Duration};

use shm_store::{
    Ack, Append, Durability, Followed, From, OpenError, Options, Producer, ReadError, Store,
    StreamConfig, WriteError,
};
use shm_tests::{Place, WAIT, eventually, peer, process::Peer, store::Text, within_wait};
use shm_transport::{Guest, Lease, RecvError, SendError};

fn directory(place: &Place) -> PathBuf {
    place.file("store")
}

fn opened(place: &Place, role: &str) -> Peer {
    let mut peer = peer!("store", directory(place));
    assert_eq!(peer.ask("open"), role);
    peer
}

#[test]
fn the_first_process_owns_the_store_and_all_see_the_same() {
    let place = Place::new();
    let mut first = opened(&place, "owner");
    let mut second = opened(&place, "guest");
    let mut third = opened(&place, "guest");
    assert_eq!(second.ask("create s"), "false");
    assert_eq!(first.ask("create s"), "true", "it is there already");
    let mut offsets = Vec::new();
    for (at, peer) in [&mut first, &mut second, &mut third].into_iter().enumerate() {
        offsets.push(peer.ask(&format!("append s entry-{at}")));
    }
    assert!(offsets.is_sorted(), "{offsets:?}");
    for peer in [&mut first, &mut second, &mut third] {
        assert_eq!(peer.ask("read s"), "entry-0 entry-1 entry-2");
    }
}

#[test]
fn entries_of_all_sizes_go_through_guests_unchanged() {
    let place = Place::new();
    let _owner = opened(&place, "owner");
    let mut guest = opened(&place, "guest");
    let mut reader = opened(&place, "guest");
    guest.ask("create s");
    let sizes = [16, 100, 4_000, 9_000, 70_000, 300_000, 1 << 20, 5 << 20];
    for size in sizes {
        let answer = guest.ask(&format!("append-large s {size}"));
        assert!(!answer.starts_with("error"), "{size}: {answer}");
    }
    let expected = sizes.map(|size| size.to_string()).join(" ");
    assert_eq!(reader.ask("read s"), expected);
}

#[test]
fn a_guest_takes_over_when_the_owner_is_killed_and_everything_is_there() {
    let place = Place::new();
    let mut owner = opened(&place, "owner");
    let mut guests: Vec<_> = (0..3).map(|_| opened(&place, "guest")).collect();
    guests[0].ask("create s");
    let mut expected = Vec::new();
    for round in 0..3 {
        for guest in &mut guests {
            let text = format!("{round}-{}", guest.pid());
            let answer = guest.ask(&format!("append s {text}"));
            assert!(!answer.starts_with("error"), "{answer}");
            expected.push(text);
        }
        owner.kill();
        // Whoever asks first becomes the owner.
        assert_eq!(guests[1].ask("read s"), expected.join(" "));
        assert_eq!(guests[1].ask("owner"), "true");
        for guest in [0, 2] {
            assert_eq!(guests[guest].ask("read s"), expected.join(" "));
            assert_eq!(guests[guest].ask("owner"), "false");
        }
        owner = std::mem::replace(&mut guests[1], opened(&place, "guest"));
    }
}

#[test]
fn when_the_owner_leaves_in_peace_no_call_has_an_unknown_outcome() {
    let place = Place::new();
    let store = Store::open(directory(&place)).unwrap();
    assert!(store.is_owner());
    store.create("s", StreamConfig::default()).unwrap();
    let mut guests: Vec<_> = (0..3).map(|_| opened(&place, "guest")).collect();
    let mut logs = Vec::new();
    let mut appenders: Vec<Peer> = (0..3)
        .map(|at| {
            let log = place.file(&format!("log-{at}"));
            let mut peer =
                peer!("store-append", directory(&place), "s", at.to_string(), &log, "none");
            assert_eq!(peer.answer(), "appending");
            logs.push(log);
            peer
        })
        .collect();
    let acknowledged = |log: &PathBuf| fs::read_to_string(log).unwrap_or_default().lines().count();
    eventually(|| logs.iter().all(|log| acknowledged(log) > 10).then_some(()));
    drop(store);
    let before: Vec<_> = logs.iter().map(acknowledged).collect();
    eventually(|| {
        logs.iter().zip(&before).all(|(log, n)| acknowledged(log) > n + 10).then_some(())
    });
    let read: Vec<_> = logs.iter().map(|log| fs::read_to_string(log).unwrap()).collect();
    // One of them is the owner now: from here on outcomes may be unknown.
    appenders.iter_mut().for_each(Peer::kill);
    for log in &read {
        assert!(!log.contains('?') && !log.contains("error"), "{log}");
    }
    guests.iter_mut().for_each(|guest| assert!(!guest.ask("read s").contains("error")));
}

#[test]
fn a_tail_misses_and_repeats_nothing_while_owners_are_killed() {
    let place = Place::new();
    let mut owner = opened(&place, "owner");
    let mut appender = opened(&place, "guest");
    let mut follower = opened(&place, "guest");
    appender.ask("create s");
    appender.ask("append s before");
    assert_eq!(follower.ask("tail s"), "tailing");
    assert_eq!(follower.ask("next 1"), "before");
    for round in 0..3 {
        for at in 0..5 {
            let answer = appender.ask(&format!("append s {round}-{at}"));
            assert!(!answer.starts_with("error"), "{answer}");
        }
        let expected: Vec<_> = (0..5).map(|at| format!("{round}-{at}")).collect();
        assert_eq!(follower.ask("next 5"), expected.join(" "));
        follower.tell("next 1");
        owner.kill();
        let answer = appender.ask(&format!("append s {round}-after"));
        assert!(!answer.starts_with("error"), "{answer}");
        assert_eq!(follower.answer(), format!("{round}-after"));
        let owns = appender.ask("owner") == "true";
        owner = match owns {
            true => std::mem::replace(&mut appender, opened(&place, "guest")),
            false => {
                assert_eq!(follower.ask("owner"), "true");
                // A tail is of its process: the new follower begins at the start.
                let old = std::mem::replace(&mut follower, opened(&place, "guest"));
                assert_eq!(follower.ask("tail s"), "tailing");
                follower.ask(&format!("next {}", 1 + (round + 1) * 6));
                old
            }
        };
    }
}

#[test]
fn a_tail_that_was_lapped_reads_what_it_missed() {
    let store = Store::in_memory().unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    let mut tail = store.tail("s", From::Start).unwrap();
    assert_eq!(tail.next(Duration::from_millis(1)).unwrap(), None);
    let count = 3_000;
    for number in 0..count {
        store.append("s", Text::numbered("life", number)).unwrap();
    }
    for number in 0..count {
        let Some(Followed::Entry(entry)) = tail.next(WAIT).unwrap() else { panic!() };
        assert_eq!(Text::parse(&entry.data), Some(("life".into(), number)));
    }
    let reads = tail.reads();
    assert!(reads >= 3, "it was lapped: {reads}");
    // What is too large for the topic is read, what is not comes through it.
    store.append("s", Text::of_len(100_000)).unwrap();
    let Some(Followed::Entry(entry)) = tail.next(WAIT).unwrap() else { panic!() };
    assert_eq!(Text::check(&entry.data), Some(100_000));
    assert_eq!(tail.reads(), reads + 1);
    for number in 0..100 {
        store.append("s", Text::numbered("small", number)).unwrap();
        let Some(Followed::Entry(entry)) = tail.next(WAIT).unwrap() else { panic!() };
        assert_eq!(Text::parse(&entry.data), Some(("small".into(), number)));
    }
    assert_eq!(tail.reads(), reads + 1);
    assert_eq!(tail.next(Duration::from_millis(1)).unwrap(), None);
    store.close("s").unwrap();
    assert_eq!(tail.next(WAIT).unwrap(), Some(Followed::Closed));
    assert_eq!(tail.next(WAIT).unwrap(), Some(Followed::Closed));
}

#[test]
fn a_tail_learns_of_a_deletion_and_does_not_go_on_with_another_stream_of_the_name() {
    let store = Store::in_memory().unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    let mut follower = store.tail("s", From::Now).unwrap();
    let mut later = store.tail("s", From::Start).unwrap();
    assert_eq!(follower.next(Duration::from_millis(1)).unwrap(), None);
    store.delete("s").unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    store.append("s", "other").unwrap();
    assert_eq!(follower.next(WAIT).unwrap(), Some(Followed::Deleted));
    assert_eq!(later.next(WAIT).unwrap(), Some(Followed::Deleted));
}

#[test]
fn large_entries_that_are_kept_for_long_hold_nobody_up() {
    let store = Store::in_memory().unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    // More than a link carries as sealed payloads at a time, kept in the owner's memory, and
    // then in the reader's.
    let count = 20;
    for _ in 0..count {
        store.append("s", vec![7; (1 << 20) + 1]).unwrap();
    }
    let pages: Vec<_> = store.pages("s", From::Start).map(Result::unwrap).collect();
    assert_eq!(pages.iter().map(|page| page.entries.len()).sum::<usize>(), count);
}

#[test]
fn many_threads_share_one_handle() {
    let place = Place::new();
    let _owner = opened(&place, "owner");
    let store = Store::open(directory(&place)).unwrap();
    assert!(!store.is_owner());
    store.create("s", StreamConfig::default()).unwrap();
    let threads: Vec<_> = (0..16)
        .map(|thread| {
            let store = store.clone();
            thread::spawn(move || {
                let life = format!("thread-{thread}");
                for number in 0..20 {
                    let ack = store.append("s", Text::numbered(&life, number)).unwrap();
                    let page = store.read("s", From::Offset(ack.start)).unwrap();
                    assert_eq!(page.entries[0].data, Text::numbered(&life, number));
                    assert_eq!(page.entries[0].next, ack.end);
                }
            })
        })
        .collect();
    within_wait(|| threads.into_iter().for_each(|thread| thread.join().unwrap()));
    let entries: usize =
        store.pages("s", From::Start).map(|page| page.unwrap().entries.len()).sum();
    assert_eq!(entries, 320);
}

#[test]
fn a_call_ends_at_its_deadline_when_the_owner_is_stopped_and_says_what_is_known() {
    let place = Place::new();
    let owner = opened(&place, "owner");
    let store = Store::open(directory(&place)).unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    owner.stop();
    let hasty = store.waiting(Duration::from_millis(50));
    assert!(matches!(hasty.append("s", "x"), Err(WriteError::Indeterminate)));
    assert!(matches!(hasty.read("s", From::Start), Err(ReadError::TimedOut)));
    // Nobody takes a store from a living owner.
    owner.go_on();
    assert!(!store.is_owner());
    let page = store.read("s", From::Start).unwrap();
    assert!(page.entries.len() <= 1);
    store.append("s", "y").unwrap();
}

#[test]
fn an_append_by_a_producer_is_done_once_and_answered_alike() {
    let store = Store::in_memory().unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    let append = |sequence| Append {
        entries: vec![format!("entry {sequence}").into()],
        producer: Some(Producer { id: "p".into(), epoch: 1, sequence }),
        ..Append::default()
    };
    let first = store.append_with("s", append(0)).unwrap();
    let again = store.append_with("s", append(0)).unwrap();
    assert!(!first.repeated && again.repeated);
    assert_eq!((first.start, first.end, first.lsn), (again.start, again.end, again.lsn));
    assert!(matches!(store.append_with("s", append(2)), Err(WriteError::Gap { expected: 1 })));
}

#[test]
fn the_acknowledgement_says_how_durable_the_store_is() {
    let options = |durability| Options { durability, ..Options::default() };
    let store = Store::in_memory_with(options(Durability::Durable)).unwrap();
    assert!(matches!(store.create("s", StreamConfig::default()), Ok(Ack::Durable(_))));
    let store = Store::in_memory_with(options(Durability::Relaxed)).unwrap();
    assert!(matches!(store.create("s", StreamConfig::default()), Ok(Ack::Relaxed(_))));
}

#[test]
fn a_directory_with_a_long_path_is_as_good_as_any() {
    let place = Place::new();
    let deep = place.file(&"d".repeat(200)).join("e".repeat(200));
    let store = Store::open(&deep).unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    let mut peer = peer!("store", &deep);
    assert_eq!(peer.ask("open"), "guest");
    assert!(!peer.ask("append s x").contains("error"));
    drop(store);
    assert_eq!(peer.ask("read s"), "x");
    assert_eq!(peer.ask("owner"), "true");
}

#[test]
fn impossible_options_are_refused_before_anything_is_made() {
    let place = Place::new();
    let options = Options { shards: 3, ..Options::default() };
    assert!(matches!(Store::open_with(directory(&place), options), Err(OpenError::Options(_))));
    assert!(!directory(&place).exists());
}

#[test]
fn texts_that_are_too_long_are_refused() {
    let store = Store::in_memory().unwrap();
    let long = "x".repeat(256);
    assert!(matches!(store.create(&long, StreamConfig::default()), Err(WriteError::BadName)));
    assert!(matches!(store.head(&long), Err(ReadError::NotFound)));
    assert_eq!(store.list(&long, None).unwrap(), []);
    assert!(matches!(store.append("", "x"), Err(WriteError::BadName | WriteError::NotFound)));
}

#[test]
fn a_client_that_sends_nonsense_or_reads_no_answers_loses_its_link_and_nobody_else_anything() {
    let place = Place::new();
    let store = Store::open(directory(&place)).unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    for socket in ["commit", "read"] {
        let attach = || Guest::attach(directory(&place).join(socket), WAIT).unwrap();
        for nonsense in [&b"nonsense"[..], &[], &[0; 100], &[0xff; 5000]] {
            let mut guest = attach();
            guest.link.send(nonsense, WAIT).unwrap();
            let answer = guest.link.recv(WAIT).map(|message| message.len());
            assert!(matches!(answer, Err(RecvError::Ended(_))), "{socket}: {answer:?}");
        }
        // A head of a stream that is not there, or the deletion of one, without an end.
        let kind = if socket == "read" { 7 } else { 3 };
        let request = [&1u64.to_le_bytes()[..], &[kind, 1, b'x']].concat();
        let mut guest = attach();
        let ended = within_wait(move || {
            loop {
                match guest.link.send(&request, WAIT) {
                    Ok(()) => {}
                    Err(SendError::Ended(end)) => return end,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        println!("{socket}: {ended}");
        store.append("s", "x").unwrap();
        assert!(store.exists("s").unwrap());
    }
    let entries: usize =
        store.pages("s", From::Start).map(|page| page.unwrap().entries.len()).sum();
    assert_eq!(entries, 2);
}

#[test]
fn a_reader_of_more_than_a_page_pins_the_log_until_it_is_done_or_dies() {
    let place = Place::new();
    let store = Store::open(directory(&place)).unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    for _ in 0..4 {
        store.append("s", Text::of_len(600_000)).unwrap();
    }
    let lease = directory(&place).join("lease");
    let readers = || Lease::read_header(&lease).unwrap().readers.len();
    let mut pages = store.pages("s", From::Start);
    pages.next().unwrap().unwrap();
    assert_eq!(readers(), 1);
    let position = Lease::read_header(&lease).unwrap().readers[0].record.unwrap().position;
    assert_eq!(position, store.stat().unwrap().visible.number());
    assert!(pages.by_ref().all(|page| page.is_ok()));
    assert_eq!(readers(), 0);

    let mut guest = opened(&place, "guest");
    assert_eq!(guest.ask("begin s"), "more");
    assert_eq!(readers(), 1);
    guest.kill();
    assert_eq!(readers(), 0);
}

#[test]
fn a_tail_that_was_lapped_goes_on_from_the_newest_event() {
    let store = Store::in_memory().unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    let mut tail = store.tail("s", From::Start).unwrap();
    assert_eq!(tail.next(Duration::from_millis(1)).unwrap(), None);
    let append = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            store.append("s", Text::numbered("life", number)).unwrap();
        }
    };
    let mut expect = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let Some(Followed::Entry(entry)) = tail.next(WAIT).unwrap() else { panic!() };
            assert_eq!(Text::parse(&entry.data), Some(("life".into(), number)));
        }
        tail.reads()
    };
    // The topic has room for 1024 events.
    append(0..2_000);
    let reads = expect(0..2_000);
    // It is not so far behind now that these could lap it again: nothing has to be read.
    append(2_000..2_900);
    assert_eq!(expect(2_000..2_900), reads);
}

#[test]
fn all_processes_see_up_to_where_the_store_is_durable_without_asking() {
    let place = Place::new();
    let durability = Durability::Relaxed;
    let store = Store::open_with(directory(&place), Options { durability, ..Options::default() });
    let store = store.unwrap();
    let mut guest = opened(&place, "guest");
    store.create("s", StreamConfig::default()).unwrap();
    // It is acknowledged before it is durable, and soon it is.
    let ack = store.append("s", "x").unwrap();
    assert!(matches!(ack, Ack::Relaxed(_)));
    eventually(|| (store.durable_lsn().unwrap() >= ack.lsn).then_some(()));
    let seen = |guest: &mut Peer| -> u64 { guest.ask("durable").parse().unwrap() };
    eventually(|| (seen(&mut guest) >= ack.lsn.number()).then_some(()));
    // Who looks and does nothing else finds the next owner, or becomes it.
    let becomes_the_owner = |guest: &mut Peer, least: u64| {
        eventually(|| {
            assert!(seen(guest) >= least);
            (guest.ask("owner") == "true").then_some(())
        });
    };
    drop(store);
    becomes_the_owner(&mut guest, ack.lsn.number());
    let mut other = opened(&place, "guest");
    let before = seen(&mut other);
    guest.kill();
    becomes_the_owner(&mut other, before);
}

#[test]
fn who_has_an_acknowledgement_sees_that_it_is_durable() {
    let place = Place::new();
    let owner = opened(&place, "owner");
    let store = Store::open(directory(&place)).unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    for _ in 0..100 {
        let ack = store.append("s", "x").unwrap();
        assert!(store.durable_lsn().unwrap() >= ack.lsn);
    }
    // A stopped owner is asked nothing.
    owner.stop();
    let durable = store.waiting(Duration::from_millis(1)).durable_lsn().unwrap();
    owner.go_on();
    assert_eq!(durable, store.stat().unwrap().durable);
}
