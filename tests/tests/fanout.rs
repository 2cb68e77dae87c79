//! One message to all: each guest that keeps up receives all of it in order, a large one is
//! there once, and a guest that is slow, stopped, dead or hostile costs the others nothing.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shm_tests::{
    Place, WAIT, counts, eventually, pattern, peer,
    process::Peer,
    raw::{RawGuest, at},
    small, within_wait,
};
use shm_transport::{
    Deadline, FanOut, FanOutError, Host, Link, LinkConfig, LinkEnd, LinkKey, LinkSet, Missed,
    RecvError, SendError, SharedPayload, SizeClass, SlowGuest,
};

const INLINE: usize = 100;
const SEALED: usize = 20_000;

fn wait() -> SlowGuest {
    SlowGuest::Wait(WAIT.into())
}

fn attach(host: &mut Host, links: &mut LinkSet) -> (LinkKey, Peer) {
    let mut guest = peer!("guest", host.path());
    let link = host.accept(WAIT).unwrap();
    assert_eq!(guest.answer(), format!("attached {}", link.peer()));
    (links.insert(link).unwrap(), guest)
}

/// Guests of a host, and the links to them.
fn guests<const N: usize>(host: &mut Host) -> (LinkSet, [(LinkKey, Peer); N]) {
    let mut links = LinkSet::new().unwrap();
    let guests = [(); N].map(|()| attach(host, &mut links));
    (links, guests)
}

/// Pairs of links inside this process; the left ones are in the set.
fn pairs(configs: &[LinkConfig]) -> (LinkSet, Vec<(LinkKey, Link)>) {
    let mut links = LinkSet::new().unwrap();
    let pairs = configs.iter().map(|config| {
        let (left, right) = Link::pair(config).unwrap();
        (links.insert(left).unwrap(), right)
    });
    let pairs = pairs.collect();
    (links, pairs)
}

/// A message that starts with its number.
fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut message = number.to_le_bytes().to_vec();
    message.extend(pattern::message(number, len));
    message
}

/// Stops a process, and waits until it has.
fn stop(guest: &Peer) {
    guest.signal(Signal::SIGSTOP);
    eventually(|| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", guest.pid())).unwrap();
        stat.contains(") T ").then_some(())
    });
}

fn is_complete(all: &FanOut, links: usize) {
    assert_eq!((all.sent, all.missed.len()), (links, 0), "{all:?}");
}

/// Fills a link until it takes no more messages of this length.
fn fill(links: &mut LinkSet, key: LinkKey, len: usize) -> u64 {
    let link = links.get_mut(key).unwrap();
    let payload = SharedPayload::new(&vec![0; len]).unwrap();
    let mut count = 0;
    while link.sender.try_send_shared(&payload).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn every_guest_receives_messages_of_every_size_in_order() {
    let place = Place::new();
    let mut host = place.host(Host::builder());
    let (mut links, mut guests) = guests::<3>(&mut host);
    for (_, guest) in &mut guests {
        guest.tell("receive-all");
    }
    let inline = LinkConfig::default().inline_max() as usize;
    let edges = [0, 1, 8, inline, inline + 1, 16 << 10, 1 << 20, (1 << 20) + 1, 5 << 20];
    let mut count = 0;
    for _ in 0..5 {
        for len in edges {
            let all = links.send_to_all(&pattern::message(count, len), wait()).unwrap();
            is_complete(&all, 3);
            count += 1;
        }
    }
    for _ in 0..500 {
        let len = pattern::length(count, 100_000);
        let all = links.send_to_all(&pattern::message(count, len), wait()).unwrap();
        is_complete(&all, 3);
        count += 1;
    }
    drop(links);
    for (_, guest) in &mut guests {
        assert_eq!(guest.answer(), format!("{count} Ended(Departed)"));
    }
}

/// What one guest is sent alone keeps its place among what all are sent.
#[test]
fn messages_to_all_and_to_one_arrive_in_the_order_of_the_calls() {
    let (mut links, mut ends) = pairs(&[small(), small()]);
    let sizes = [0, INLINE, SEALED, 1000];
    for (round, len) in (0..40).zip(sizes.into_iter().cycle()) {
        let (to_all, to_one) = (pattern::message(2 * round, len), pattern::message(round, len / 2));
        is_complete(&links.send_to_all(&to_all, wait()).unwrap(), 2);
        links.get_mut(ends[0].0).unwrap().send(&to_one, WAIT).unwrap();
        assert_eq!(ends[0].1.recv(WAIT).unwrap().to_bytes(), to_all);
        assert_eq!(ends[0].1.recv(WAIT).unwrap().to_bytes(), to_one);
        assert_eq!(ends[1].1.recv(WAIT).unwrap().to_bytes(), to_all);
    }
}

#[test]
fn a_large_payload_is_there_once_for_all_guests() {
    let place = Place::new();
    let mut host = place.host(Host::builder());
    let (mut links, mut guests) = guests::<4>(&mut host);
    let sizes = [64 << 10, 300 << 10, 4 << 20];
    for (number, len) in (0..).zip(sizes) {
        is_complete(&links.send_to_all(&pattern::message(number, len), wait()).unwrap(), 4);
        for (_, guest) in &mut guests {
            assert_eq!(guest.ask("hold"), format!("held {}", number + 1));
        }
    }
    let mapped = |guest: &Peer| {
        let mut inodes = counts::payloads_mapped_by(&guest.pid().to_string());
        inodes.sort_unstable();
        inodes
    };
    let first = mapped(&guests[0].1);
    assert_eq!(first.len(), sizes.len());
    for (_, guest) in &guests {
        assert_eq!(mapped(guest), first, "each payload is the same file");
    }
    for (key, guest) in &mut guests {
        let link = links.get_mut(*key).unwrap();
        assert_eq!(link.sender.slots_in_flight(), sizes.len());
        assert_eq!(guest.ask("release"), "released");
        assert_eq!(mapped(guest), []);
        assert_eq!(link.sender.slots_in_flight(), 0);
    }
}

#[test]
fn a_stopped_guest_is_waited_for_when_the_others_have_theirs() {
    for len in [INLINE, SEALED] {
        let place = Place::new();
        let mut host = place.small_host();
        let (mut links, [(slow, slow_guest), (_, mut quick), (_, mut quicker)]) =
            guests::<3>(&mut host);
        stop(&slow_guest);
        let filled = fill(&mut links, slow, len);
        assert!(filled > 0);
        let message = pattern::message(0, len);
        let sending = thread::spawn(move || (links.send_to_all(&message, wait()), links));
        for guest in [&mut quick, &mut quicker] {
            assert_eq!(guest.ask("receive 40000"), format!("{len} bytes"));
        }
        assert!(!sending.is_finished(), "the slow guest is still stopped");
        slow_guest.signal(Signal::SIGCONT);
        let mut slow_guest = slow_guest;
        for _ in 0..=filled {
            assert_eq!(slow_guest.ask("receive 40000"), format!("{len} bytes"));
        }
        let (all, _links) = within_wait(move || sending.join().unwrap());
        is_complete(&all.unwrap(), 3);
    }
}

#[test]
fn a_guest_that_makes_no_room_before_the_deadline_is_named() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut links, [(slow, slow_guest), (_, mut quick)]) = guests::<2>(&mut host);
    stop(&slow_guest);
    for len in [INLINE, SEALED] {
        fill(&mut links, slow, len);
        for deadline in [Deadline::NOW, Duration::from_millis(30).into()] {
            let start = Instant::now();
            let all = links.send_to_all(&vec![1; len], SlowGuest::Wait(deadline)).unwrap();
            assert!(deadline == Deadline::NOW || start.elapsed() >= Duration::from_millis(30));
            assert_eq!(all.sent, 1);
            assert!(matches!(all.missed[..], [(key, Missed::TimedOut)] if key == slow), "{all:?}");
            assert_eq!(quick.ask("receive 40000"), format!("{len} bytes"));
        }
    }
    // Nobody dropped anything: who calls decides what comes of it.
    assert_eq!(links.get_mut(slow).unwrap().sender.dropped(), 0);
}

/// The guest for which the call waits longest does not keep the others waiting.
#[test]
fn of_several_slow_guests_each_is_served_as_soon_as_it_has_room() {
    for len in [INLINE, SEALED] {
        let (mut links, mut ends) = pairs(&[small(), small(), small()]);
        let filled: Vec<u64> = ends.iter().map(|end| fill(&mut links, end.0, len)).collect();
        let message = pattern::message(5, len);
        let expected = message.clone();
        let sending = thread::spawn(move || (links.send_to_all(&message, wait()), links));
        for (at, (_, end)) in ends.iter_mut().enumerate().rev() {
            for _ in 0..filled[at] {
                end.recv(WAIT).unwrap();
            }
            assert_eq!(end.recv(WAIT).unwrap().to_bytes(), expected);
            assert!(at == 0 || !sending.is_finished());
        }
        let (all, _links) = within_wait(move || sending.join().unwrap());
        is_complete(&all.unwrap(), 3);
    }
}

/// More words than `futex_waitv` takes at once.
#[test]
fn many_guests_are_waited_for_at_once() {
    const LINKS: usize = 100;
    let config = LinkConfig { ring_capacity: 64, ..small() };
    let (mut links, mut ends) = pairs(&vec![config; LINKS]);
    let filled: Vec<u64> = ends.iter().map(|end| fill(&mut links, end.0, 8)).collect();
    let sending = thread::spawn(move || (links.send_to_all(&[7; 8], wait()), links));
    thread::sleep(Duration::from_millis(20));
    for (at, (_, end)) in ends.iter_mut().enumerate().rev() {
        for _ in 0..filled[at] {
            end.recv(WAIT).unwrap();
        }
        assert_eq!(end.recv(WAIT).unwrap().to_bytes(), [7; 8][..]);
    }
    let (all, _links) = within_wait(move || sending.join().unwrap());
    is_complete(&all.unwrap(), LINKS);
}

#[test]
fn what_is_dropped_for_a_stopped_guest_is_counted_exactly() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut links, mut guests) = guests::<3>(&mut host);
    for (_, guest) in &mut guests {
        guest.tell("gather");
    }
    let mut dropped: HashMap<LinkKey, u64> = HashMap::new();
    let mut sent = 0;
    let mut send = |links: &mut LinkSet, len, slow| {
        let all = links.send_to_all(&numbered(sent, len), slow).unwrap();
        assert_eq!(all.sent + all.missed.len(), 3);
        for (key, missed) in all.missed {
            assert!(matches!(missed, Missed::Dropped), "{missed:?}");
            *dropped.entry(key).or_default() += 1;
        }
        sent += 1;
    };
    for round in 0..5 {
        stop(&guests[0].1);
        for number in 0..100 {
            send(&mut links, if number % 5 == 0 { SEALED } else { INLINE }, SlowGuest::Drop);
        }
        guests[0].1.signal(Signal::SIGCONT);
        for _ in 0..round {
            // Those that come after the gap tell of it.
            send(&mut links, INLINE, wait());
        }
    }
    for (key, _) in &guests {
        let link = links.get_mut(*key).unwrap();
        assert_eq!(link.sender.dropped(), dropped.get(key).copied().unwrap_or(0));
    }
    drop(links);
    for (key, guest) in &mut guests {
        let missed = dropped.get(key).copied().unwrap_or(0);
        assert_eq!(guest.answer(), format!("{} {missed} Ended(Departed)", sent - missed));
    }
    // The ring takes no more than 9 of these, and it was stopped 5 times for 100.
    assert!(dropped[&guests[0].0] > 400);
}

#[test]
fn a_stopped_guest_is_evicted_and_the_others_go_on() {
    for len in [INLINE, SEALED] {
        let place = Place::new();
        let mut host = place.small_host();
        let (mut links, [(slow, mut slow_guest), (_, mut quick)]) = guests::<2>(&mut host);
        stop(&slow_guest);
        let filled = fill(&mut links, slow, len);
        let all = links.send_to_all(&vec![1; len], SlowGuest::Evict).unwrap();
        assert_eq!(all.sent, 1);
        assert!(matches!(all.missed[..], [(key, Missed::Evicted)] if key == slow), "{all:?}");
        assert_eq!(links.get_mut(slow).unwrap().end(), Some(LinkEnd::Evicted));
        assert_eq!(host.hub().statistics().evicted, 1);
        assert_eq!(host.hub().peers().len(), 1);
        assert_eq!(quick.ask("receive 40000"), format!("{len} bytes"));

        let all = links.send_to_all(&vec![1; len], SlowGuest::Evict).unwrap();
        assert_eq!(all.sent, 1);
        assert!(
            matches!(all.missed[..], [(key, Missed::Ended(LinkEnd::Evicted))] if key == slow),
            "{all:?}"
        );
        assert_eq!(quick.ask("receive 40000"), format!("{len} bytes"));
        slow_guest.signal(Signal::SIGCONT);
        eventually(|| (slow_guest.ask("end") == "Some(Evicted)").then_some(()));
        assert_eq!(slow_guest.ask("receive 40000"), "Ended(Evicted)");
        assert!(filled > 0);
    }
}

#[test]
fn a_guest_that_is_killed_while_it_is_waited_for_is_named_and_the_others_go_on() {
    for len in [INLINE, SEALED] {
        let place = Place::new();
        let mut host = place.small_host();
        let (mut links, [(slow, mut slow_guest), (_, mut quick)]) = guests::<2>(&mut host);
        stop(&slow_guest);
        fill(&mut links, slow, len);
        let message = vec![1; len];
        let sending = thread::spawn(move || {
            let all = links.send_to_all(&message, SlowGuest::Wait(Deadline::NEVER));
            (all, links)
        });
        assert_eq!(quick.ask("receive 40000"), format!("{len} bytes"));
        slow_guest.kill();
        let (all, mut links) = within_wait(move || sending.join().unwrap());
        let all = all.unwrap();
        assert_eq!(all.sent, 1);
        assert!(
            matches!(all.missed[..], [(key, Missed::Ended(LinkEnd::PeerDead))] if key == slow),
            "{all:?}"
        );
        assert!(links.remove(slow).is_some());
        is_complete(&links.send_to_all(&vec![1; len], wait()).unwrap(), 1);
        assert_eq!(quick.ask("receive 40000"), format!("{len} bytes"));
    }
}

/// Guests are killed at any time in a stream of messages.
#[test]
fn guests_that_are_killed_in_the_middle_cost_the_others_nothing() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut links, mut guests) = guests::<4>(&mut host);
    for (_, guest) in &mut guests {
        guest.tell("receive-all");
    }
    let mut left = 4;
    for number in 0..2000 {
        if matches!(number, 500 | 1000) {
            guests[number as usize / 500].1.kill();
            left -= 1;
        }
        let len = [INLINE, SEALED, 0, 1000][number as usize % 4];
        let all = links.send_to_all(&pattern::message(number, len), wait()).unwrap();
        assert!(all.sent >= left, "{all:?}");
        for (key, missed) in all.missed {
            assert!(matches!(missed, Missed::Ended(LinkEnd::PeerDead)), "{missed:?}");
            links.remove(key);
        }
    }
    drop(links);
    for at in [0, 3] {
        assert_eq!(guests[at].1.answer(), "2000 Ended(Departed)");
    }
}

#[test]
fn a_message_that_is_too_large_for_one_is_queued_to_nobody() {
    let modest = LinkConfig { max_message: 30_000, ..small() };
    let (mut links, mut ends) = pairs(&[small(), modest, small()]);
    let error = links.send_to_all(&[0; 30_001], wait()).unwrap_err();
    assert!(matches!(error, FanOutError::TooLarge { len: 30_001, max: 30_000 }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("30001") && text.contains("30000"), "{text}");
    for (_, end) in &mut ends {
        assert!(end.try_recv().unwrap().is_none());
    }
    is_complete(&links.send_to_all(&[0; 30_000], wait()).unwrap(), 3);
    // A link that is over sets no limit.
    drop(ends.remove(1));
    let all = links.send_to_all(&[0; 30_001], wait()).unwrap();
    assert_eq!(all.sent, 2);
    assert!(matches!(all.missed[..], [(_, Missed::Ended(LinkEnd::Departed))]), "{all:?}");
}

#[test]
fn a_link_without_sealed_payloads_gets_a_copy() {
    let size_classes = vec![SizeClass { slot_size: 32 << 10, extent_slots: 2, max_extents: 1 }];
    let slots = LinkConfig { sealed_limit: 0, size_classes, ..small() };
    let (mut links, mut ends) = pairs(&[slots, small()]);
    for len in [0, INLINE, 1000, 8 << 10, (8 << 10) + 1, 32 << 10] {
        let message = pattern::message(1, len);
        is_complete(&links.send_to_all(&message, wait()).unwrap(), 2);
        let copied = ends[0].1.recv(WAIT).unwrap().into_sealed().expect_err("it is a copy");
        assert_eq!(copied.to_bytes(), message);
        drop(copied);
        let shared = ends[1].1.recv(WAIT).unwrap();
        assert_eq!(shared.to_bytes(), message);
        assert_eq!(shared.into_sealed().is_ok(), len > 8 << 10, "{len} bytes");
    }
    let error = links.send_to_all(&vec![0; (32 << 10) + 1], wait()).unwrap_err();
    assert!(matches!(error, FanOutError::TooLarge { max: 32_768, .. }), "{error:?}");
    // Its slots are what it runs out of.
    let mut held = Vec::new();
    let copied = loop {
        let all = links.send_to_all(&[3; SEALED], SlowGuest::Drop).unwrap();
        ends[1].1.recv(WAIT).unwrap();
        match all.missed[..] {
            [] => held.push(ends[0].1.recv(WAIT).unwrap().into_owned()),
            [(key, Missed::Dropped)] if key == ends[0].0 => break held.len(),
            _ => panic!("{all:?}"),
        }
    };
    assert_eq!((copied, ends[0].1.missed(), ends[1].1.missed()), (2, 1, 0));
}

/// Copies of small messages cost less than what it takes to share them.
#[test]
fn what_fits_a_slot_is_shared_from_64_kib_on() {
    let config = LinkConfig { sealed_limit: 2, ..LinkConfig::default() };
    let (mut links, mut ends) = pairs(&[config.clone(), config]);
    for len in [16 << 10, (64 << 10) - 1, 64 << 10, 1 << 20, 2 << 20] {
        is_complete(&links.send_to_all(&pattern::message(1, len), wait()).unwrap(), 2);
        for (_, end) in &mut ends {
            let message = end.recv(WAIT).unwrap();
            assert!(pattern::matches(1, &message.to_bytes()));
            assert_eq!(message.into_sealed().is_ok(), len >= 64 << 10, "{len} bytes");
        }
    }
}

#[test]
fn a_guest_that_keeps_all_its_payloads_is_the_slow_one() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut links, [(keeper, mut keeping), (_, mut quick)]) = guests::<2>(&mut host);
    for held in 1..=4 {
        is_complete(&links.send_to_all(&[1; SEALED], wait()).unwrap(), 2);
        assert_eq!(keeping.ask("hold"), format!("held {held}"));
        assert_eq!(quick.ask("receive 40000"), format!("{SEALED} bytes"));
    }
    for missed in 1..=20 {
        let all = links.send_to_all(&[2; SEALED], SlowGuest::Drop).unwrap();
        assert!(matches!(all.missed[..], [(key, Missed::Dropped)] if key == keeper), "{all:?}");
        assert_eq!(keeping.ask("missed"), missed.to_string());
        assert_eq!(quick.ask("receive 40000"), format!("{SEALED} bytes"));
        // What fits inline has room as before.
        is_complete(&links.send_to_all(&[3; INLINE], SlowGuest::Drop).unwrap(), 2);
        for guest in [&mut keeping, &mut quick] {
            assert_eq!(guest.ask("receive 40000"), format!("{INLINE} bytes"));
        }
    }
    assert_eq!(keeping.ask("release"), "released");
    is_complete(&links.send_to_all(&[4; SEALED], SlowGuest::Evict).unwrap(), 2);
    assert_eq!(quick.ask("missed"), "0");
}

#[test]
fn what_nobody_has_room_for_is_dropped_for_all() {
    let (mut links, ends) = pairs(&[small(), small()]);
    for (key, _) in &ends {
        fill(&mut links, *key, SEALED);
    }
    let all = links.send_to_all(&[0; SEALED], SlowGuest::Drop).unwrap();
    assert_eq!((all.sent, all.missed.len()), (0, 2));
    assert!(ends.iter().all(|(_, end)| end.missed() == 1));
}

#[test]
fn an_empty_set_sends_to_nobody() {
    let mut links = LinkSet::new().unwrap();
    for slow in [wait(), SlowGuest::Drop, SlowGuest::Evict] {
        is_complete(&links.send_to_all(&[0; SEALED], slow).unwrap(), 0);
    }
}

#[test]
fn links_on_threads_of_their_own_share_a_payload() {
    let configs = [small(), LinkConfig { sealed_limit: 0, ..small() }, small()];
    let pairs = configs.map(|config| Link::pair(&config).unwrap());
    let (mut lefts, mut rights): (Vec<Link>, Vec<Link>) = pairs.into_iter().unzip();
    for len in [0, 1, INLINE, 129, 8 << 10] {
        let message = pattern::message(8, len);
        let payload = SharedPayload::new(&message).unwrap();
        assert_eq!((payload.len(), payload.is_empty()), (len, len == 0));
        thread::scope(|scope| {
            for left in &mut lefts {
                scope.spawn(|| left.sender.send_shared(&payload, WAIT).unwrap());
            }
        });
        drop(payload);
        let held: Vec<_> = rights.iter_mut().map(|right| right.recv(WAIT).unwrap()).collect();
        assert!(held.iter().all(|held| held.to_bytes() == message), "{len} bytes");
        let sealed = held.into_iter().filter_map(|held| held.into_sealed().ok());
        assert_eq!(sealed.count(), if len > 128 { 2 } else { 0 });
    }
    let payload = SharedPayload::new(&vec![0; (64 << 10) + 1]).unwrap();
    for left in &mut lefts {
        assert!(matches!(left.sender.send_shared(&payload, WAIT), Err(SendError::TooLarge { .. })));
        assert!(matches!(left.sender.try_send_shared(&payload), Err(SendError::TooLarge { .. })));
    }
}

#[test]
fn a_shared_payload_waits_for_room_as_any_other() {
    let (mut left, mut right) = Link::pair(&small()).unwrap();
    let payload = SharedPayload::new(&[1; SEALED]).unwrap();
    let held: Vec<_> = (0..4)
        .map(|_| {
            left.sender.send_shared(&payload, WAIT).unwrap();
            right.recv(WAIT).unwrap().into_owned()
        })
        .collect();
    assert!(matches!(left.sender.try_send_shared(&payload), Err(SendError::Full)));
    let soon = Duration::from_millis(5);
    assert!(matches!(left.sender.send_shared(&payload, soon), Err(SendError::TimedOut)));
    left.sender.count_dropped();
    assert_eq!((left.sender.dropped(), right.missed(), left.missed()), (1, 1, 0));
    let sending = thread::spawn(move || {
        left.sender.send_shared(&payload, WAIT).unwrap();
        left
    });
    drop(held);
    assert_eq!(right.recv(WAIT).unwrap().len(), SEALED);
    let mut left = sending.join().unwrap();
    drop(right);
    let payload = SharedPayload::new(&[1; SEALED]).unwrap();
    let ended = eventually(|| left.sender.try_send_shared(&payload).err());
    assert!(matches!(ended, SendError::Ended(LinkEnd::Departed)), "{ended:?}");
}

/// A guest can claim to have dropped anything; nothing follows from it.
#[test]
fn a_count_that_a_hostile_guest_makes_up_is_a_number_and_nothing_else() {
    let place = Place::new();
    let mut host = place.small_host();
    let path = place.hub();
    let attaching = thread::spawn(move || RawGuest::attach(&path));
    let mut link = host.accept(WAIT).unwrap();
    let mut guest = attaching.join().unwrap();
    for claim in [0, 1, u64::MAX, 7] {
        guest.memory.store64(at::DROPPED, claim);
        assert_eq!(link.missed(), claim);
        guest.send_word(claim);
        assert_eq!(link.recv(WAIT).unwrap().read_u64(0), Some(claim));
    }
    // What the host says stands where the documentation says.
    link.sender.count_dropped();
    assert_eq!(guest.host.load64(at::DROPPED), 1);
    assert!(matches!(link.recv(Deadline::NOW), Err(RecvError::TimedOut)));
}

/// See `limits` of the helper.
#[test]
fn too_many_descriptors_under_way_are_no_guests_fault() {
    let mut helper = peer!("limits", "descriptors-under-way", "");
    assert_eq!(helper.answer(), "ok");
    helper.succeeds();
}
