//! Processes are killed, stopped and forked at the worst of times. Who waits for a dead one
//! is told, after it has received what was committed; who only seems dead is waited for;
//! and nothing of the dead one stays in use.

use std::{thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shm_tests::{Place, WAIT, counts, eventually, pattern, peer, process::Peer, within_wait};
use shm_transport::{
    AttachError, Deadline, Guest, Host, Link, LinkEnd, LinkEvent, LinkSet, RecvError, SendError,
};

const SOON: Duration = Duration::from_millis(20);

fn attach(host: &mut Host) -> (Peer, Link) {
    let mut guest = peer!("guest", host.path());
    let link = host.accept(WAIT).unwrap();
    assert_eq!(guest.answer(), format!("attached {}", link.peer()));
    (guest, link)
}

fn is_dead<T>(result: &Result<T, RecvError>) -> bool {
    matches!(result, Err(RecvError::Ended(LinkEnd::PeerDead)))
}

#[test]
fn a_host_that_waits_to_receive_for_ever_is_told_of_a_kill() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    let waiting = thread::spawn(move || {
        let result = link.recv(Deadline::NEVER).map(drop);
        (result, link)
    });
    thread::sleep(SOON);
    guest.kill();
    let (result, mut link) = within_wait(move || waiting.join().unwrap());
    assert!(is_dead(&result), "{result:?}");
    assert!(matches!(link.send(b"x", WAIT), Err(SendError::Ended(LinkEnd::PeerDead))));
    eventually(|| (host.hub().statistics().died == 1).then_some(()));
    eventually(|| host.hub().peers().is_empty().then_some(()));
}

#[test]
fn what_a_killed_guest_had_sent_is_received_before_its_death_is_reported() {
    let place = Place::new();
    let mut host = place.small_host();
    for (len, count) in [(10, 40), (1000, 4), (8000, 2), (20_000, 4)] {
        let (mut guest, mut link) = attach(&mut host);
        assert_eq!(guest.ask(&format!("send 0 {count} {len}")), "sent");
        guest.kill();
        eventually(|| link.end());
        for number in 0..count {
            let message = link.recv(Deadline::NEVER).unwrap();
            assert_eq!(message.len(), len);
            assert!(pattern::matches(number, &message.to_bytes()), "message {number}");
        }
        assert!(is_dead(&link.recv(Deadline::NEVER)));
        assert!(is_dead(&link.try_recv()));
    }
}

#[test]
fn a_host_that_waits_to_send_for_ever_is_told_of_a_kill() {
    let place = Place::new();
    let mut host = place.small_host();
    // Blocked by the ring, by slots, by sealed payloads.
    for len in [100, 1000, 20_000] {
        let (mut guest, mut link) = attach(&mut host);
        let message = vec![1; len];
        while link.try_send(&message).is_ok() {}
        let waiting = thread::spawn(move || link.send(&message, Deadline::NEVER));
        thread::sleep(SOON);
        guest.kill();
        let result = within_wait(move || waiting.join().unwrap());
        assert!(matches!(result, Err(SendError::Ended(LinkEnd::PeerDead))), "{result:?}");
    }
}

#[test]
fn a_host_that_only_polls_is_told_of_a_kill() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    assert!(link.try_recv().unwrap().is_none());
    guest.kill();
    let end = eventually(|| match link.try_recv() {
        Ok(None) => None,
        Err(RecvError::Ended(end)) => Some(end),
        other => panic!("{other:?}"),
    });
    assert_eq!(end, LinkEnd::PeerDead);
}

#[test]
fn a_host_that_only_sends_is_told_of_a_kill() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    guest.kill();
    let end = eventually(|| match link.try_send(b"x") {
        Ok(()) | Err(SendError::Full) => None,
        Err(SendError::Ended(end)) => Some(end),
        other => panic!("{other:?}"),
    });
    assert_eq!(end, LinkEnd::PeerDead);
}

#[test]
fn a_host_that_waits_for_many_links_is_told_which_died() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut set = LinkSet::new().unwrap();
    let mut guests = Vec::new();
    for _ in 0..4 {
        let (guest, link) = attach(&mut host);
        guests.push((guest, set.insert(link).unwrap()));
    }
    let mut events = Vec::new();
    while let Some((mut guest, key)) = guests.pop() {
        let killing = thread::spawn(move || {
            thread::sleep(SOON);
            guest.kill();
        });
        while events.is_empty() {
            set.wait(&mut events, WAIT).unwrap();
        }
        assert_eq!(events, [LinkEvent::Ready(key)]);
        assert!(is_dead(&set.get_mut(key).unwrap().try_recv()));
        set.remove(key);
        events.clear();
        killing.join().unwrap();
    }
}

#[test]
fn a_guest_that_waits_to_receive_is_told_that_its_host_was_killed() {
    let place = Place::new();
    let mut host = peer!("host", place.hub());
    assert_eq!(host.answer(), "host");
    host.tell("accept");
    let mut guest = Guest::attach(place.hub(), WAIT).unwrap();
    assert_eq!(host.answer(), "accepted 1");
    assert_eq!(host.ask("send 5 100"), "sent");
    host.kill();
    let result = within_wait(move || {
        for number in 0..5 {
            let message = guest.link.recv(Deadline::NEVER).unwrap();
            assert!(pattern::matches(number, &message.to_bytes()));
        }
        guest.link.recv(Deadline::NEVER).map(drop)
    });
    assert!(is_dead(&result), "{result:?}");
}

#[test]
fn a_guest_that_waits_to_send_is_told_that_its_host_was_killed() {
    let place = Place::new();
    let mut host = peer!("host", place.hub());
    assert_eq!(host.answer(), "host");
    host.tell("accept");
    let mut guest = Guest::attach(place.hub(), WAIT).unwrap();
    assert_eq!(host.answer(), "accepted 1");
    let waiting = thread::spawn(move || {
        loop {
            if let Err(error) = guest.link.send(&[1; 100], Deadline::NEVER) {
                break error;
            }
        }
    });
    thread::sleep(SOON);
    host.kill();
    let error = within_wait(move || waiting.join().unwrap());
    assert!(matches!(error, SendError::Ended(LinkEnd::PeerDead)), "{error:?}");
}

#[test]
fn guests_of_a_killed_host_attach_to_the_next_at_the_same_path() {
    let place = Place::new();
    for _ in 0..5 {
        let mut host = peer!("host", place.hub());
        assert_eq!(host.answer(), "host");
        host.tell("accept");
        let mut guest = Guest::attach(place.hub(), WAIT).unwrap();
        assert_eq!(host.answer(), "accepted 1");
        host.kill();
        assert!(is_dead(&guest.link.recv(WAIT)));
        // What it left is recognised for what it is, and replaced by the next.
        assert!(place.hub().exists());
        let error = Guest::attach(place.hub(), WAIT).unwrap_err();
        assert!(matches!(error, AttachError::HostDead(_)), "{error:?}");
    }
    let mut host = place.small_host();
    let (mut guest, _link) = attach(&mut host);
    assert_eq!(guest.ask("send 0 1 1"), "sent");
}

/// A host that was killed is replaced even while a child that it forked still lives.
#[test]
fn a_killed_host_with_a_living_child_is_replaced() {
    let place = Place::new();
    let mut host = peer!("host", place.hub());
    assert_eq!(host.answer(), "host");
    let child = Sleeper::new(&host.ask("fork"));
    host.kill();
    let error = Guest::attach(place.hub(), Duration::from_millis(200)).map(drop).unwrap_err();
    let next = Host::create(place.hub());
    drop(child);
    assert!(next.is_ok(), "{next:?}; a guest: {error:?}");
}

/// A forked child that is killed at the end of its test.
struct Sleeper(i32);

impl Sleeper {
    fn new(pid: &str) -> Self {
        Self(pid.parse().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0), Signal::SIGKILL);
    }
}

/// The socket of a dead guest stays open in a child that it forked, which hides its death
/// from everyone who watches the socket. The process itself is watched.
#[test]
fn a_dead_guest_is_noticed_though_a_child_holds_its_socket() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    let answer = guest.ask("fork");
    let (pid, mappings) = answer.split_once(' ').unwrap();
    let child = Sleeper::new(pid);
    // Nor has the child any of the shared memory.
    assert_eq!(mappings, "0");
    assert!(counts::sockets_of(pid) > 0, "the child holds the socket");
    assert_eq!(guest.ask("send 0 3 100"), "sent");
    guest.kill();
    let result = within_wait(move || {
        for number in 0..3 {
            assert!(pattern::matches(number, &link.recv(Deadline::NEVER).unwrap().to_bytes()));
        }
        link.recv(Deadline::NEVER).map(drop)
    });
    assert!(is_dead(&result), "{result:?}");
    eventually(|| host.hub().peers().is_empty().then_some(()));
    assert!(counts::sockets_of(&child.0.to_string()) > 0);
}

/// The same for the host: its guests watch its process.
#[test]
fn a_dead_host_is_noticed_though_a_child_holds_its_sockets() {
    let place = Place::new();
    let mut host = peer!("host", place.hub());
    assert_eq!(host.answer(), "host");
    host.tell("accept");
    let mut guest = Guest::attach(place.hub(), WAIT).unwrap();
    assert_eq!(host.answer(), "accepted 1");
    let _child = Sleeper::new(&host.ask("fork"));
    host.kill();
    let result = within_wait(move || guest.link.recv(Deadline::NEVER).map(drop));
    assert!(is_dead(&result), "{result:?}");
}

#[test]
fn a_stopped_guest_is_not_dead_and_goes_on_later() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    guest.tell("echo");
    link.send(b"running", WAIT).unwrap();
    assert_eq!(link.recv(WAIT).unwrap().to_bytes(), "running");
    for round in 0..3u64 {
        guest.signal(Signal::SIGSTOP);
        // What it has in hand may still come; then it is silent, and not dead.
        assert!(matches!(link.recv(SOON), Err(RecvError::TimedOut)));
        let sent = (0..).take_while(|n| link.try_send(&pattern::message(*n, 100)).is_ok()).count();
        assert!(sent > 0);
        assert!(matches!(link.send(&[0; 100], SOON), Err(SendError::TimedOut)));
        assert!(matches!(link.recv(SOON), Err(RecvError::TimedOut)));
        assert_eq!(link.end(), None, "round {round}");
        guest.signal(Signal::SIGCONT);
        for number in 0..sent as u64 {
            assert!(pattern::matches(number, &link.recv(WAIT).unwrap().to_bytes()));
        }
    }
    // A stopped guest that is killed is dead.
    guest.signal(Signal::SIGSTOP);
    guest.kill();
    assert!(is_dead(&link.recv(WAIT)));
}

#[test]
fn slots_that_a_dead_guest_held_do_not_go_missing() {
    let place = Place::new();
    let mut host = place.host(Host::builder().max_guests(1).link(shm_tests::small()));
    for _ in 0..8 {
        let (mut guest, mut link) = attach(&mut host);
        // It holds every slot and payload that there is, and some are on their way.
        for len in [1000, 1000, 20_000, 20_000] {
            link.send(&vec![0; len], WAIT).unwrap();
            assert!(guest.ask("hold").starts_with("held"));
        }
        for len in [1000, 8000, 8000, 20_000, 20_000] {
            link.send(&vec![0; len], WAIT).unwrap();
        }
        assert_eq!(link.sender.slots_in_flight(), 9);
        guest.kill();
        assert!(is_dead(&link.recv(WAIT)));
    }
    let (mut guest, mut link) = attach(&mut host);
    guest.tell("echo");
    for len in [1000, 5000, 20_000].repeat(10) {
        link.send(&vec![3; len], WAIT).unwrap();
        assert_eq!(link.recv(WAIT).unwrap().len(), len);
    }
    eventually(|| (link.sender.slots_in_flight() == 0).then_some(()));
}

/// A guest dies in the middle of whatever it does, many times: what arrives is a prefix of
/// what it sent, whole and in order.
#[test]
fn a_guest_killed_at_any_moment_leaves_a_prefix_of_what_it_sent() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut random = pattern::Random::new(5);
    let mut received = 0;
    for _ in 0..30 {
        let batch = [1, 5][random.below(2) as usize];
        let mut guest = peer!("send", place.hub(), "100000000", batch.to_string());
        let mut link = host.accept(WAIT).unwrap();
        let wait = Duration::from_micros(random.below(20_000));
        let killing = thread::spawn(move || {
            thread::sleep(wait);
            guest.kill();
        });
        let mut number = 0;
        let end = loop {
            match link.recv(WAIT) {
                Ok(message) => {
                    assert_eq!(message.len(), pattern::length(number, 128));
                    assert!(pattern::matches(number, &message.to_bytes()), "message {number}");
                    number += 1;
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(end, RecvError::Ended(LinkEnd::PeerDead)), "{end:?}");
        received += number;
        killing.join().unwrap();
    }
    assert!(received > 0);
}

/// The kernel has no number for a process that cannot be seen from here, and a pidfd all the same.
#[test]
fn a_death_in_another_pid_namespace_is_seen_from_both_sides() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut inside = peer!("guest-in-namespace", host.path());
    let answer = inside.answer();
    if answer != "inside 1" {
        println!("not shown: {answer}");
        return;
    }
    let mut link = host.accept(WAIT).unwrap();
    assert_eq!(inside.answer(), format!("attached {}", link.peer()));
    assert!(![0, 1, inside.pid()].contains(&link.peer_pid()), "its number as it is here");
    assert_eq!(inside.ask("peer-pid"), "0", "the host's number as it is there");
    assert_eq!(inside.ask("send 0 3 20000"), "sent");
    inside.kill();
    for number in 0..3 {
        assert!(pattern::matches(number, &link.recv(WAIT).unwrap().to_bytes()));
    }
    assert!(is_dead(&link.recv(Deadline::NEVER).map(drop)));

    let other = Place::new();
    let mut outside = peer!("host", other.hub());
    assert_eq!(outside.answer(), "host");
    let mut inside = peer!("guest-in-namespace", other.hub());
    assert_eq!(inside.answer(), "inside 1");
    assert_eq!(outside.ask("accept"), "accepted 1");
    assert!(inside.answer().starts_with("attached"));
    inside.tell("receive-for-ever");
    thread::sleep(SOON);
    outside.kill();
    let answer = inside.answer();
    assert!(answer.contains("PeerDead"), "{answer}");
}
