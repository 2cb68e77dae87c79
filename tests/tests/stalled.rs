//! Guests that are stopped: they are reported stalled and never dead, and one that was
//! evicted meanwhile has no effect when it comes back.
//!
//! `SHM_TEST_STALL_SECONDS=60` and `SHM_TEST_EVICTIONS=1000` are the whole forms.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shm_tests::{
    Place, WAIT, amount, eventually, pattern, peer,
    process::Peer,
    raw::{RawGuest, at},
};
use shm_transport::{
    Deadline, Heartbeat, Host, Link, LinkConfig, LinkEnd, PeerState, RecvError, SendError, Vitality,
};

const SOON: Duration = Duration::from_millis(20);
/// Far more than a guest needs for a beat on a busy machine, far less than it is stopped.
const PATIENCE: Duration = Duration::from_millis(500);

fn attach(host: &mut Host) -> (Peer, Link) {
    let mut guest = peer!("guest", host.path());
    let link = host.accept(WAIT).unwrap();
    assert_eq!(guest.answer(), format!("attached {}", link.peer()));
    (guest, link)
}

fn is_beating(observer: &mut Heartbeat) -> Option<()> {
    match observer.look(PATIENCE) {
        Vitality::Beating => Some(()),
        Vitality::Stalled { .. } => None,
        ended => panic!("{ended:?}"),
    }
}

#[test]
fn a_stopped_guest_is_reported_stalled_and_never_dead() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    let (mut other, mut next) = attach(&mut host);
    assert_eq!(guest.ask("keep-beating"), "beating");
    other.tell("echo");
    let made = Instant::now();
    let mut observer = link.heartbeat();
    eventually(|| is_beating(&mut observer));
    let sent = 5;
    guest.stop();
    for number in 0..sent {
        link.send(&pattern::message(number, 100), WAIT).unwrap();
    }
    let stop = Duration::from_secs(amount("SHM_TEST_STALL_SECONDS", 2));
    // A beat that came just before the stop is seen now.
    let _ = observer.look(PATIENCE);
    let (start, mut reported) = (Instant::now(), None);
    loop {
        let is_over = start.elapsed() >= stop;
        match observer.look(PATIENCE) {
            Vitality::Beating => assert_eq!(reported, None, "it beats while it is stopped"),
            Vitality::Stalled { stood_still } => {
                assert!(stood_still >= PATIENCE && Some(stood_still) > reported);
                assert!(stood_still <= made.elapsed(), "{stood_still:?}");
                reported = Some(stood_still);
            }
            ended => panic!("a stopped guest is {ended:?}"),
        }
        // Nothing else takes it for dead, and nobody else is held up.
        assert!(matches!(link.recv(SOON), Err(RecvError::TimedOut)));
        assert_eq!(link.end(), None);
        assert_eq!(host.hub().peers()[0].state, PeerState::Attached);
        assert_eq!(host.hub().statistics().died, 0);
        next.send(b"unharmed", WAIT).unwrap();
        assert_eq!(next.recv(WAIT).unwrap().to_bytes(), "unharmed");
        if is_over {
            break;
        }
    }
    let reported = reported.expect("it was reported");
    println!("stopped for {stop:?}, reported stalled for {reported:?}");
    assert!(reported >= stop, "{reported:?} of {stop:?}");
    guest.go_on();
    eventually(|| is_beating(&mut observer));
    // What was sent meanwhile is there, and it goes on as if nothing had been.
    for number in 0..sent {
        assert_eq!(guest.ask("receive 10000"), "100 bytes", "message {number}");
    }
    assert_eq!(guest.ask("send 0 1 10"), "sent");
    assert_eq!(link.recv(WAIT).unwrap().len(), 10);
    assert_eq!(link.end(), None);
}

#[test]
fn a_killed_guest_is_reported_dead_and_not_stalled() {
    let place = Place::new();
    let mut host = place.small_host();
    for is_stopped in [false, true] {
        let (mut guest, link) = attach(&mut host);
        let mut observer = link.heartbeat();
        if is_stopped {
            guest.signal(Signal::SIGSTOP);
            thread::sleep(PATIENCE);
            assert!(matches!(observer.look(PATIENCE), Vitality::Stalled { .. }));
        }
        guest.kill();
        let end = eventually(|| match observer.look(PATIENCE) {
            Vitality::Ended(end) => Some(end),
            _ => None,
        });
        assert_eq!(end, LinkEnd::PeerDead);
        // It tells the same when the link is gone.
        drop(link);
        assert_eq!(observer.look(PATIENCE), Vitality::Ended(LinkEnd::PeerDead));
        observer.beat();
    }
}

/// "Stale at birth, or never stale: heartbeat 0 at attach; the peer writes 2⁶⁴−1."
#[test]
fn a_guest_is_not_stale_at_birth_and_no_count_makes_it_look_alive() {
    let long = Duration::from_secs(3600);
    let place = Place::new();
    let mut host = place.small_host();
    let path = place.hub();
    let attaching = thread::spawn(move || RawGuest::attach(&path));
    let link = host.accept(WAIT).unwrap();
    let guest = attaching.join().unwrap();
    let mut observer = link.heartbeat();
    // It has never given a sign of life, and patience has only begun.
    assert_eq!(observer.look(long), Vitality::Beating);
    for count in [u64::MAX, 0, 1, u64::MAX / 2, u64::MAX] {
        thread::sleep(SOON);
        assert!(matches!(observer.look(SOON), Vitality::Stalled { .. }), "before {count}");
        guest.memory.store64(at::HEARTBEAT, count);
        // A change is a sign of life, whichever way; a count that stands still is none.
        assert_eq!(observer.look(long), Vitality::Beating);
        thread::sleep(SOON);
        assert!(
            matches!(observer.look(SOON), Vitality::Stalled { stood_still } if stood_still >= SOON)
        );
    }
    assert_eq!(link.end(), None);
}

#[test]
fn each_side_observes_the_other_and_an_observer_outlives_its_link() {
    let (left, right) = Link::pair(&LinkConfig::default()).unwrap();
    let (mut of_right, mut of_left) = (left.heartbeat(), right.heartbeat());
    let (sender, receiver) = right.split();
    thread::sleep(SOON);
    assert!(matches!(of_right.look(SOON), Vitality::Stalled { .. }));
    of_left.beat();
    assert_eq!(of_right.look(WAIT), Vitality::Beating);
    assert_eq!(left.peer_heartbeat(), 1);
    left.beat();
    assert_eq!(of_left.look(WAIT), Vitality::Beating);
    drop((sender, receiver));
    assert_eq!(of_left.look(WAIT), Vitality::Ended(LinkEnd::Departed));
    assert_eq!(of_right.look(WAIT), Vitality::Ended(LinkEnd::Departed));
}

/// A guest is stopped wherever it is in the middle of a stream, evicted, and continued when
/// its entry is the next guest's.
#[test]
fn an_evicted_guest_that_comes_back_has_no_effect() {
    let place = Place::new();
    let mut host = place.host(Host::builder().max_guests(1).link(shm_tests::small()));
    let rounds = amount("SHM_TEST_EVICTIONS", 20);
    for round in 1..=rounds {
        let (mut zombie, mut old) = attach(&mut host);
        let len = [100, 1000, 20_000][round as usize % 3];
        zombie.tell(&format!("send-for-ever {len}"));
        for _ in 0..1 + pattern::mix(round) % 300 {
            assert_eq!(old.recv(WAIT).unwrap().len(), len);
        }
        zombie.stop();
        assert!(host.hub().evict(old.peer()));
        assert!(matches!(old.recv(WAIT), Err(RecvError::Ended(LinkEnd::Evicted))));
        let (mut guest, mut link) = attach(&mut host);
        assert_eq!(link.peer().index, old.peer().index);
        assert_ne!(link.peer().epoch, old.peer().epoch);
        guest.tell("echo");
        let mut exchange = |numbers: std::ops::Range<u64>| {
            for number in numbers {
                let message = pattern::message(number, pattern::length(number, 20_000));
                link.send(&message, WAIT).unwrap();
                assert!(pattern::matches(number, &link.recv(WAIT).unwrap().to_bytes()));
            }
        };
        exchange(0..10);
        zombie.go_on();
        exchange(10..30);
        // It is told, and all that it tries fails with the same.
        assert_eq!(zombie.answer(), "Ended(Evicted)");
        exchange(30..40);
        assert_eq!(zombie.ask("send 0 1 1"), "Ended(Evicted)");
        let received = zombie.ask("receive 10000");
        assert_eq!(received, "Ended(Evicted)");
        zombie.ask("beat");
        // Unless the host had read everything before.
        let detached = zombie.ask("detach");
        assert!(["Err(Ended(Evicted))", "Ok(())"].contains(&&*detached), "{detached}");
        zombie.succeeds();
        exchange(40..50);
        // Nobody has seen any of it.
        assert!(matches!(old.recv(Deadline::NOW), Err(RecvError::Ended(LinkEnd::Evicted))));
        assert!(matches!(old.send(b"x", WAIT), Err(SendError::Ended(LinkEnd::Evicted))));
        drop(old);
        assert_eq!(link.peer_heartbeat(), 0);
        assert!(link.try_recv().unwrap().is_none());
        let peers = host.hub().peers();
        assert_eq!(
            (peers.len(), peers[0].id, peers[0].state),
            (1, link.peer(), PeerState::Attached)
        );
        let statistics = host.hub().statistics();
        assert_eq!((statistics.evicted, statistics.died, statistics.corrupt), (round, 0, 0));
        // The entry is free for the next round.
        drop(link);
        assert_eq!(guest.answer(), "Ended(Departed)");
        guest.tell("detach");
        guest.succeeds();
        eventually(|| host.hub().peers().is_empty().then_some(()));
    }
    println!("{rounds} guests evicted while they were stopped");
}
