//! How links end: who is told what, when, and what is still received.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use shm_transport::{
    AttachError, CommandExt, Deadline, Guest, Host, Link, LinkConfig, LinkEnd, LinkEvent, LinkSet,
    RecvError, SendError, SizeClass, SpawnError,
};

const WAIT: Duration = Duration::from_secs(20);
/// Far less than any deadline here, far more than a scheduler takes.
const SOON: Duration = Duration::from_secs(10);

/// A host, a guest attached to it in the same process, and the host's end of the link.
fn attached() -> (tempfile::TempDir, Host, Link, Guest) {
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::create(directory.path().join("hub")).unwrap();
    let path = host.path().to_owned();
    let guest = thread::spawn(move || Guest::attach(path, WAIT).unwrap());
    let link = host.accept(WAIT).unwrap();
    (directory, host, link, guest.join().unwrap())
}

#[test]
fn a_set_is_woken_after_its_bell_was_read_by_somebody_else() {
    let (mut left, right) = Link::pair(&LinkConfig::default()).unwrap();
    let mut links = LinkSet::new().unwrap();
    let key = links.insert(right).unwrap();
    let mut events = Vec::new();
    let larger_than_inline = vec![1; left.sender.inline_max() + 1];
    for _ in 0..20 {
        // Announced, and not rung for.
        links.wait(&mut events, Duration::from_millis(1)).unwrap();
        assert_eq!(events, []);
        // Rung for; the bell lies in the socket behind the first extent.
        left.send(&larger_than_inline, WAIT).unwrap();
        links.get_mut(key).unwrap().recv(WAIT).unwrap();
        // The next message must ring again.
        let sender = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            left.send(b"wake", WAIT).unwrap();
            left
        });
        let start = Instant::now();
        while events.is_empty() {
            links.wait(&mut events, WAIT).unwrap();
        }
        assert!(start.elapsed() < SOON);
        assert_eq!(events, [LinkEvent::Ready(key)]);
        left = sender.join().unwrap();
        links.get_mut(key).unwrap().recv(WAIT).unwrap();
    }
}

#[test]
fn nothing_is_received_from_an_evicted_guest() {
    let (_directory, host, mut link, mut guest) = attached();
    for _ in 0..50 {
        guest.link.send(b"too late", WAIT).unwrap();
    }
    assert!(host.hub().evict(link.peer()));
    assert!(matches!(link.recv(WAIT), Err(RecvError::Ended(LinkEnd::Evicted))));
    assert!(matches!(link.send(b"?", WAIT), Err(SendError::Ended(LinkEnd::Evicted))));
    assert!(matches!(guest.link.recv(WAIT), Err(RecvError::Ended(LinkEnd::Evicted))));
    assert!(matches!(guest.link.send(b"?", WAIT), Err(SendError::Ended(LinkEnd::Evicted))));
    assert_eq!(host.hub().peers(), []);
    assert!(!host.hub().evict(link.peer()));
}

#[test]
fn guests_at_the_door_are_turned_away_when_the_host_goes() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::create(directory.path().join("hub")).unwrap();
    let hub = host.hub().clone();
    let path = host.path().to_owned();
    let guest = thread::spawn(move || Guest::attach(path, Deadline::NEVER).map(drop));
    // It is connected when the listener has something to accept; nobody does.
    thread::sleep(Duration::from_millis(100));
    drop(host);
    let error = guest.join().unwrap().unwrap_err();
    assert!(matches!(error, AttachError::HostGone | AttachError::NoHost(_)), "{error}");
    // The hub's handle lives on, and holds nothing back.
    assert_eq!(hub.peers(), []);
}

#[test]
fn a_welcomed_guest_is_turned_away_when_the_host_goes() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::create(directory.path().join("hub")).unwrap();
    let hub = host.hub().clone();
    // A child that never says anything waits at the door, with an entry of its own.
    let mut child = Command::new("sleep").arg("60").spawn_guest(host.hub()).unwrap();
    assert!(host.try_accept().unwrap().is_none());
    assert_eq!(hub.peers().len(), 1);
    drop(host);
    assert_eq!(hub.peers(), []);
    child.child.kill().unwrap();
    child.child.wait().unwrap();
    let error = Command::new("sleep").spawn_guest(&hub).unwrap_err();
    assert!(matches!(error, SpawnError::HostLeaving), "{error}");
}

#[test]
fn one_command_starts_several_guests() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::create(directory.path().join("hub")).unwrap();
    let mut command = Command::new("true");
    for _ in 0..3 {
        let mut guest = command.spawn_guest(host.hub()).unwrap();
        assert!(guest.child.wait().unwrap().success());
    }
    // Started without a host, it inherits nothing and is told nothing.
    assert!(command.status().unwrap().success());
}

#[test]
fn a_guest_that_leaves_because_the_host_does_departs_and_is_not_dead() {
    let (_directory, host, mut link, mut guest) = attached();
    host.hub().say_goodbye();
    assert!(guest.host_is_leaving());
    assert!(matches!(guest.link.recv(WAIT), Err(RecvError::Ended(LinkEnd::Departed))));
    drop(guest);
    assert!(matches!(link.recv(WAIT), Err(RecvError::Ended(LinkEnd::Departed))));
    let statistics = host.hub().statistics();
    assert_eq!((statistics.departed, statistics.died), (1, 0));
}

#[test]
fn two_sides_that_detach_do_not_wait_for_each_other() {
    let (mut left, mut right) = Link::pair(&LinkConfig::default()).unwrap();
    left.send(b"unread", WAIT).unwrap();
    right.send(b"unread", WAIT).unwrap();
    let start = Instant::now();
    let other = thread::spawn(move || right.detach(Deadline::NEVER));
    assert!(left.detach(Deadline::NEVER).is_err());
    assert!(other.join().unwrap().is_err());
    assert!(start.elapsed() < SOON);
}

#[test]
fn a_detach_succeeds_when_the_peer_has_read_everything() {
    let (mut left, mut right) = Link::pair(&LinkConfig::default()).unwrap();
    for _ in 0..100 {
        left.send(b"all of it", WAIT).unwrap();
    }
    let reader = thread::spawn(move || {
        for _ in 0..100 {
            right.recv(WAIT).unwrap();
        }
        assert!(matches!(right.recv(WAIT), Err(RecvError::Ended(LinkEnd::Departed))));
    });
    left.detach(WAIT).unwrap();
    reader.join().unwrap();
}

#[test]
fn a_sender_on_a_full_ring_learns_of_the_peers_goodbye() {
    let config = LinkConfig { ring_capacity: 256, ..LinkConfig::default() };
    let (mut left, right) = Link::pair(&config).unwrap();
    while left.try_send(b"full").is_ok() {}
    let start = Instant::now();
    let leaver = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        // Nobody reads what the other side sent, so this side's goodbye is all there is.
        drop(right);
    });
    let error = left.send(b"more", Deadline::NEVER).unwrap_err();
    assert!(matches!(error, SendError::Ended(LinkEnd::Departed)), "{error}");
    assert!(start.elapsed() < SOON);
    leaver.join().unwrap();
}

#[test]
fn what_no_slot_and_no_sealed_payload_can_carry_is_too_large() {
    let size_classes = vec![SizeClass { slot_size: 16 << 10, extent_slots: 1, max_extents: 1 }];
    let config = LinkConfig { sealed_limit: 0, size_classes, ..LinkConfig::default() };
    let (mut left, _right) = Link::pair(&config).unwrap();
    assert_eq!(left.sender.max_message(), 16 << 10);
    left.send(&[0; 16 << 10], WAIT).unwrap();
    let error = left.send(&[0; (16 << 10) + 1], Deadline::NEVER).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { len: 16385, max: 16384 }), "{error}");

    let none = LinkConfig { sealed_limit: 0, size_classes: vec![], ..LinkConfig::default() };
    let (mut left, _right) = Link::pair(&none).unwrap();
    assert_eq!(left.sender.max_message(), left.sender.inline_max() as u64);
    let too_large = vec![0; left.sender.inline_max() + 1];
    assert!(matches!(left.try_send(&too_large), Err(SendError::TooLarge { .. })));
}

#[test]
fn of_two_guests_with_one_ticket_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::create(directory.path().join("hub")).unwrap();
    for _ in 0..20 {
        let reservation = host.hub().reserve().unwrap();
        let ticket = reservation.ticket();
        let guests = [(); 2].map(|()| {
            let path = host.path().to_owned();
            thread::spawn(move || Guest::builder().ticket(ticket).attach(path, WAIT))
        });
        let link = host.accept(WAIT).unwrap();
        assert_eq!(link.peer(), ticket);
        while guests.iter().any(|guest| !guest.is_finished()) {
            assert!(host.accept(Duration::from_millis(1)).is_err());
        }
        let results = guests.map(|guest| guest.join().unwrap());
        let refused = |result: &Result<Guest, AttachError>| matches!(result, Err(AttachError::StaleTicket(peer)) if *peer == ticket);
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        assert_eq!(results.iter().filter(|result| refused(result)).count(), 1, "{results:?}");
    }
}

#[test]
fn whoever_is_told_of_an_end_finds_it_counted() {
    for count in 1..50 {
        let (_directory, host, mut link, guest) = attached();
        let watcher = thread::spawn(move || {
            assert!(matches!(link.recv(WAIT), Err(RecvError::Ended(LinkEnd::Departed))));
            assert_eq!(host.hub().statistics().departed, 1, "in round {count}");
        });
        drop(guest);
        watcher.join().unwrap();
    }
}
