//! Defects that earlier systems of this kind had, as schedules that ours survives. Those
//! that are not here are elsewhere, by what they are about:
//!
//! | defect | test |
//! |---|---|
//! | messages delivered twice | `stream`, `death::a_guest_killed_at_any_moment_leaves_a_prefix_of_what_it_sent` |
//! | a wild index is used, the host panics | `hostile_programs` (`everything`, `index-jumps`), `hostile::a_tail_beyond_what_was_sent_or_going_back_ends_the_link` |
//! | a malformed frame stalls the link | `hostile::frames_that_nobody_honest_writes_end_the_link` |
//! | a sender spins for ever | `death::a_host_that_waits_to_send_for_ever_is_told_of_a_kill` |
//! | slots leak, the pool drains | `death::slots_that_a_dead_guest_held_do_not_go_missing`, `leaks` |
//! | committed messages lost | `death::what_a_killed_guest_had_sent_is_received_before_its_death_is_reported` |
//! | foreign slots | `hostile::references_to_slots_*` |
//! | sizes overflow | `errors::impossible_sizes_are_refused_before_anything_is_made` |
//! | a zombie claims the next guest's entry | `lifecycle::a_ticket_that_was_used_or_released_is_refused` |
//! | a victim file is truncated | `errors::files_and_links_at_the_path_are_left_alone` |
//! | resized memory | `hostile_programs` (`resizes`, `removes-pages`, `writes-by-*`) |
//! | death unseen | `death::a_dead_guest_is_noticed_though_a_child_holds_its_socket`, `lifecycle::a_child_inherits_its_own_socket_and_nothing_else` |
//! | a passed descriptor is trusted | `hostile::descriptors_that_are_not_*` |
//! | an orphan writes on | `death::a_dead_guest_is_noticed_though_a_child_holds_its_socket` |

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use shm_tests::{
    Place, WAIT, eventually, pattern, peer,
    raw::{RawGuest, at, inline, slot},
    small, within_wait,
};
use shm_transport::{
    AttachError, CreateError, Deadline, Guest, Host, Link, LinkConfig, LinkEnd, PeerId, Receiver,
    RecvError, Sender,
};

fn attach_by_hand(host: &mut Host) -> (RawGuest, Link) {
    let path = host.path().to_owned();
    let guest = thread::spawn(move || RawGuest::attach(&path));
    let link = host.accept(WAIT).unwrap();
    (guest.join().unwrap(), link)
}

/// A frame's length was checked, and then read again. Here the header changes all the
/// time, between words that are each valid.
#[test]
fn double_fetch_of_a_frame_header() {
    let place = Place::new();
    let mut host = place.small_host();
    for words in [[inline(8), inline(120)], [inline(100), slot(0, 0, 1024)], [inline(64), 0]] {
        let (mut guest, mut link) = attach_by_hand(&mut host);
        let stop = Arc::new(AtomicBool::new(false));
        let flipping = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let at = guest.frame_at();
                guest.publish(words[0], 128);
                while !stop.load(Ordering::Relaxed) {
                    guest.memory.store64(at, words[1]);
                    guest.memory.store64(at, words[0]);
                }
                guest
            }
        });
        // Whatever it was when it was looked at, it stays that.
        match link.recv(Duration::from_millis(200)) {
            Ok(message) => {
                for _ in 0..1000 {
                    let len = message.len();
                    assert!(len == 8 || len == 120 || len == 100 || len == 64, "{len}");
                    assert_eq!(message.to_bytes().len(), len);
                }
            }
            // It may never catch the frame: nobody rings for one that comes and goes.
            Err(RecvError::TimedOut | RecvError::Ended(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
        stop.store(true, Ordering::Relaxed);
        flipping.join().unwrap();
    }
}

/// An empty ring refused a frame for ever: more than half the capacity, at a position from
/// which it fits neither before the end nor behind it.
#[test]
fn empty_ring_refuses_a_frame_for_ever() {
    for capacity in [64, 128, 256, 1024] {
        let inline_limit = Some(u32::MAX);
        let config = LinkConfig { ring_capacity: capacity, inline_limit, ..small() };
        let largest = config.inline_max() as usize;
        assert_eq!(largest as u64, capacity / 2 - 8);
        for shift in 0..capacity / 8 {
            let (mut left, mut right) = Link::pair(&config).unwrap();
            // Each empty message takes one word.
            for _ in 0..shift {
                left.send(&[], WAIT).unwrap();
                assert!(right.recv(WAIT).unwrap().is_empty());
            }
            for len in [largest, largest - 1, 1, largest] {
                left.try_send(&vec![1; len]).unwrap();
                assert_eq!(right.recv(WAIT).unwrap().len(), len);
            }
            // What is larger goes another way.
            left.try_send(&vec![1; largest + 1]).unwrap();
            assert_eq!(right.recv(WAIT).unwrap().len(), largest + 1);
        }
    }
}

/// Two writers of one ring: handles cannot be cloned, and each is used by one thread.
#[test]
fn two_writers_alias() {
    trait Otherwise {
        const CLONES: bool = false;
    }
    impl<T: ?Sized> Otherwise for T {}
    struct Probe<T>(std::marker::PhantomData<T>);
    impl<T: Clone> Probe<T> {
        const CLONES: bool = true;
    }
    let clones = [Probe::<Sender>::CLONES, Probe::<Receiver>::CLONES, Probe::<Link>::CLONES];
    assert_eq!(clones, [false; 3]);
    assert_eq!([Probe::<u8>::CLONES], [true], "the probe works");
    fn moves<T: Send>() {}
    moves::<Sender>();
    moves::<Receiver>();
    moves::<Link>();
}

/// Two frees of one slot: the second frees nothing, and the slot is handed out once.
#[test]
fn slot_pushed_twice() {
    let place = Place::new();
    let mut host = place.small_host();
    let (guest, mut link) = attach_by_hand(&mut host);
    let first = link.sender.grant(1000, WAIT).unwrap().as_ptr();
    link.send(&[1; 1000], WAIT).unwrap();
    for _ in 0..10 {
        guest.memory.store32(at::ACKS, 1);
        assert_eq!(link.sender.slots_in_flight(), 0);
    }
    // Sent again: the old ack means nothing, and all four slots are different.
    for sent in 1..=4 {
        link.send(&[sent; 1000], WAIT).unwrap();
    }
    guest.memory.store32(at::ACKS, 1);
    assert_eq!(link.sender.slots_in_flight(), 4);
    // None of the four is granted again: this one is of the larger class.
    let grant = link.sender.grant(1000, WAIT).unwrap();
    assert_ne!(grant.as_ptr(), first);
}

/// The host still reads the slot of a dead guest while the next guest comes and writes.
#[test]
fn use_after_free_of_a_dead_guests_slot() {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(small()).max_guests(1));
    let mut held = Vec::new();
    for round in 0..5 {
        let mut guest = peer!("guest", place.hub());
        let mut link = host.accept(WAIT).unwrap();
        assert!(guest.answer().starts_with("attached"));
        for len in [1000, 5000, 20_000] {
            assert_eq!(guest.ask(&format!("send {round} 1 {len}")), "sent");
            held.push((round, len, link.recv(WAIT).unwrap().into_owned()));
        }
        guest.kill();
        assert!(matches!(link.recv(WAIT), Err(RecvError::Ended(LinkEnd::PeerDead))));
        drop(link);
        for (number, len, message) in &held {
            assert_eq!(message.len(), *len);
            assert!(pattern::matches(*number, &message.to_bytes()));
        }
    }
}

/// An entry that said goodbye never became empty, so a table was full after as many
/// guests as it has entries.
#[test]
fn table_fills_up() {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(small()).max_guests(1));
    for epoch in 1..40 {
        let path = place.hub();
        let guest = thread::spawn(move || {
            let mut guest = Guest::attach(path, WAIT).unwrap();
            guest.link.send(b"hello", WAIT).unwrap();
            guest.detach(WAIT).unwrap();
        });
        let mut link = host.accept(WAIT).unwrap();
        assert_eq!(link.peer(), PeerId { index: 0, epoch });
        assert!(link.recv(WAIT).is_ok());
        assert!(link.recv(WAIT).is_err());
        guest.join().unwrap();
        // The host keeps its link until after the guest is gone.
        eventually(|| host.hub().peers().is_empty().then_some(()));
    }
}

/// Losing one race for an entry was reported as a full table.
#[test]
fn losing_one_race_reads_as_no_free_slot() {
    let place = Place::new();
    let host = place.host(Host::builder().max_guests(64));
    for _ in 0..50 {
        let hub = host.hub();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..8).map(|_| hub.reserve().unwrap()).collect::<Vec<_>>()))
                .collect();
            let all: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
            let different: std::collections::HashSet<_> =
                all.iter().map(|reservation| reservation.ticket().index).collect();
            assert_eq!(different.len(), 64);
            assert!(hub.reserve().is_err());
        });
        assert!(hub.peers().is_empty());
    }
}

/// A heartbeat of 0 counted as stale from birth, one of 2⁶⁴ − 1 as never stale.
#[test]
fn stale_at_birth_or_never_stale() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach_by_hand(&mut host);
    for beats in [0, u64::MAX, 1, u64::MAX - 1, 0] {
        guest.memory.store64(at::HEARTBEAT, beats);
        assert_eq!(link.peer_heartbeat(), beats);
        assert_eq!(host.hub().peers()[0].details.heartbeat, beats);
        assert_eq!(link.end(), None);
        guest.send_word(beats);
        assert_eq!(link.recv(WAIT).unwrap().read_u64(0), Some(beats));
    }
}

/// Guests that raced with the making of a segment saw it half made. Here hosts come and go
/// while guests attach all the time: each gets in or is told that nobody is there.
#[test]
fn half_built_segment_seen() {
    let place = Place::new();
    let stop = Arc::new(AtomicBool::new(false));
    let guests: Vec<_> = (0..2)
        .map(|_| {
            let (path, stop) = (place.hub(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut attached = 0;
                while !stop.load(Ordering::Relaxed) {
                    match Guest::attach(&path, WAIT) {
                        Ok(guest) => {
                            attached += 1;
                            let _ = (guest.peers(), guest.statistics());
                        }
                        Err(
                            AttachError::NoHost(_)
                            | AttachError::HostDead(_)
                            | AttachError::HostGone,
                        ) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
                attached
            })
        })
        .collect();
    let end = Instant::now() + WAIT;
    let mut hosts = 0;
    while hosts < 300 {
        assert!(Instant::now() < end);
        let mut host = place.small_host();
        if hosts % 3 == 0 {
            let _ = host.accept(Duration::from_millis(20));
        }
        hosts += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let attached: u32 = guests.into_iter().map(|guest| guest.join().unwrap()).sum();
    assert!(attached > 0, "nobody ever raced");
}

/// The old owner's drop deleted the new owner's file. Here a cleaner removes what the
/// first host made, a second one takes its place, and then the first goes.
#[test]
fn old_owners_drop_deletes_the_new_file() {
    let place = Place::new();
    let first = place.small_host();
    for entry in fs::read_dir(place.file("")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let mut second = place.small_host();
    drop(first);
    assert!(place.hub().exists());
    let third = Host::create(place.hub());
    assert!(matches!(third, Err(CreateError::HostExists(_))), "the second was stolen: {third:?}");
    let path = place.hub();
    let guest = thread::spawn(move || Guest::attach(path, WAIT).map(drop));
    second.accept(WAIT).unwrap();
    guest.join().unwrap().unwrap();
}

/// A peer that was gone killed the sender by a signal.
#[test]
fn sigpipe() {
    let place = Place::new();
    let mut process = peer!("limits", "broken-pipe", place.hub());
    assert_eq!(process.answer(), "ok");
    process.succeeds();
}

/// Two waiters drained one doorbell, and one of them slept on. Here both halves of a link
/// sleep at once, and each is woken by what it waits for.
#[test]
fn two_waiters_drain_one_doorbell() {
    let (left, right) = Link::pair(&small()).unwrap();
    let (mut sender, mut receiver) = left.split();
    let (mut other_sender, mut other_receiver) = right.split();
    for round in 0..100 {
        while sender.try_send(&[1; 100]).is_ok() {}
        let sending = thread::spawn(move || {
            sender.send(&[2; 100], Deadline::NEVER).unwrap();
            sender
        });
        let receiving = thread::spawn(move || {
            receiver.recv(Deadline::NEVER).unwrap();
            receiver
        });
        if round % 2 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        // Data for the one, then room for the other.
        other_sender.send(b"data", WAIT).unwrap();
        receiver = within_wait(move || receiving.join().unwrap());
        drop(other_receiver.recv(WAIT).unwrap());
        while !sending.is_finished() {
            if other_receiver.try_recv().unwrap().is_none() {
                thread::yield_now();
            }
        }
        sender = within_wait(move || sending.join().unwrap());
        while other_receiver.try_recv().unwrap().is_some() {}
    }
}

/// Leases of large payloads were never released: descriptors ran out after 503.
#[test]
fn descriptors_run_out() {
    let place = Place::new();
    let mut process = peer!("limits", "payloads", place.hub());
    assert_eq!(process.answer(), "ok");
}

/// A reference to memory that was never handed over was waited for. Here it ends the link
/// at once, whatever the deadline.
#[test]
fn unknown_id_waited_for() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach_by_hand(&mut host);
    guest.publish(slot(0, 0, 10), 8);
    let result = within_wait(move || link.recv(Deadline::NEVER).map(drop));
    assert!(matches!(result, Err(RecvError::Ended(LinkEnd::Corrupt(_)))), "{result:?}");
}
