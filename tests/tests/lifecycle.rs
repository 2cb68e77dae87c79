//! Guests come and go, hosts come and go, on purpose: every way in, every way out, what
//! each side is told, and that entries and paths are free again afterwards.

use std::{
    collections::HashSet,
    os::fd::AsFd,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shm_tests::{
    Place, WAIT, eventually, pattern, peer, peer_command,
    process::Peer,
    raw::{RawGuest, RawSocket},
};
use shm_transport::{
    AcceptError, AttachError, CommandExt, Deadline, DetachError, Guest, Host, Link, LinkEnd,
    LinkEvent, LinkSet, PeerState, RecvError, SendError, SpawnError,
};

const SOON: Duration = Duration::from_millis(20);

fn ended(result: Result<impl Sized, RecvError>) -> LinkEnd {
    match result {
        Err(RecvError::Ended(end)) => end,
        Err(error) => panic!("{error:?} instead of an end"),
        Ok(_) => panic!("a message instead of an end"),
    }
}

/// A guest process and the host's link to it.
fn attach(host: &mut Host) -> (Peer, Link) {
    let mut guest = peer!("guest", host.path());
    let link = host.accept(WAIT).unwrap();
    assert_eq!(guest.answer(), format!("attached {}", link.peer()));
    assert_eq!(link.peer_pid(), guest.pid());
    (guest, link)
}

#[test]
fn a_guest_walks_in_by_path_and_detaches() {
    let place = Place::new();
    let mut host = place.small_host();
    assert_eq!(host.path(), place.hub());
    assert!(host.try_accept().unwrap().is_none());
    assert!(matches!(host.accept(SOON), Err(AcceptError::TimedOut)));
    let (mut guest, mut link) = attach(&mut host);
    assert_eq!(guest.ask("send 0 3 100"), "sent");
    for number in 0..3 {
        assert!(pattern::matches(number, &link.recv(WAIT).unwrap().to_bytes()));
    }
    assert_eq!(guest.ask("detach"), "Ok(())");
    assert_eq!(ended(link.recv(WAIT)), LinkEnd::Departed);
    guest.succeeds();
}

#[test]
fn a_spawned_guest_attaches_over_its_inherited_socket() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut command = peer_command!("inherited");
    Peer::prepare(&mut command);
    let spawned = command.spawn_guest(host.hub()).unwrap();
    assert_eq!(host.hub().peers()[0].state, PeerState::Reserved);
    let mut link = host.accept(WAIT).unwrap();
    assert_eq!(link.peer(), spawned.peer);
    assert_eq!(link.peer_pid(), spawned.child.id());
    let mut guest = Peer::adopt(spawned.child);
    assert_eq!(guest.answer(), format!("attached {}", link.peer()));
    guest.tell("echo");
    link.send(b"inherited?", WAIT).unwrap();
    assert_eq!(link.recv(WAIT).unwrap().to_bytes(), "inherited?");
    drop(link);
    assert_eq!(guest.answer(), "Ended(Departed)");
}

#[test]
fn a_process_that_nobody_spawned_inherits_nothing() {
    let mut guest = peer!("inherited");
    let answer = guest.answer();
    assert!(answer.starts_with("error NotSpawned") && answer.contains("spawn_guest"), "{answer}");
    // A descriptor that is something else is not taken for the socket.
    for number in ["0", "1", "2", "77", "-1", "x"] {
        let mut command = peer_command!("inherited");
        command.env("SHM_TRANSPORT_SOCKET", number);
        assert!(Peer::start(&mut command).answer().starts_with("error NotSpawned"));
    }
}

#[test]
fn a_spawned_process_that_dies_before_it_attaches_frees_its_entry() {
    let place = Place::new();
    let mut host = place.host(Host::builder().max_guests(1));
    for _ in 0..3 {
        let mut spawned = Command::new("true").spawn_guest(host.hub()).unwrap();
        let full = Command::new("true").spawn_guest(host.hub());
        assert!(matches!(full, Err(SpawnError::Peer(_))), "{full:?}");
        spawned.child.wait().unwrap();
        eventually(|| {
            assert!(host.try_accept().unwrap().is_none());
            host.hub().peers().is_empty().then_some(())
        });
    }
    let missing = Command::new("/nonexistent/program").spawn_guest(host.hub());
    assert!(matches!(missing, Err(SpawnError::Os(_))), "{missing:?}");
    assert!(host.hub().peers().is_empty());
}

/// Each child inherits its own socket and no other descriptor, also when one command
/// starts several and others are attached already.
#[test]
fn a_child_inherits_its_own_socket_and_nothing_else() {
    let place = Place::new();
    let mut host = place.small_host();
    let (_guest, _link) = attach(&mut host);
    let others: usize = peer!("descriptors").answer().parse().unwrap();
    let mut command = peer_command!("descriptors");
    Peer::prepare(&mut command);
    let mut counts: Vec<usize> = Vec::new();
    for _ in 0..3 {
        let spawned = command.spawn_guest(host.hub()).unwrap();
        counts.push(Peer::adopt(spawned.child).answer().parse().unwrap());
    }
    assert_eq!(counts, [others + 1; 3], "{others} of every child's own");
}

#[test]
fn a_reservation_is_claimed_by_its_ticket() {
    let place = Place::new();
    let mut host = place.host(Host::builder().max_guests(2));
    let first = host.hub().reserve().unwrap();
    let second = host.hub().reserve().unwrap();
    // Both entries are kept: nobody walks in.
    let mut refused = peer!("guest", place.hub());
    let answer = answer_of(&mut refused, &mut host);
    assert!(answer.starts_with("error HubFull { peers: 2 }"), "{answer}");
    let mut guest = peer!("guest", place.hub(), second.ticket().to_string());
    let link = host.accept(WAIT).unwrap();
    assert_eq!(link.peer(), second.ticket());
    assert_eq!(guest.answer(), format!("attached {}", second.ticket()));
    // A claimed reservation can be dropped; the guest stays.
    drop(second);
    assert_eq!(host.hub().peers().len(), 2);
    assert_eq!(link.end(), None);
    drop(first);
    assert_eq!(host.hub().peers().len(), 1);
}

/// The answer of a guest that the host does not let in, while it accepts.
fn answer_of(guest: &mut Peer, host: &mut Host) -> String {
    eventually(|| {
        assert!(host.try_accept().unwrap().is_none());
        guest.answer_within(Duration::from_millis(5))
    })
}

#[test]
fn a_ticket_that_was_used_or_released_is_refused() {
    let place = Place::new();
    let mut host = place.host(Host::builder().max_guests(1));
    let released = host.hub().reserve().unwrap().ticket();
    let reservation = host.hub().reserve().unwrap();
    let ticket = reservation.ticket();
    assert_eq!(released.index, ticket.index);
    assert_ne!(released.epoch, ticket.epoch);
    let mut zombie = peer!("guest", place.hub(), released.to_string());
    let answer = answer_of(&mut zombie, &mut host);
    assert!(answer.starts_with("error StaleTicket"), "{answer}");
    assert!(answer.contains(&released.to_string()) && answer.contains("new one"), "{answer}");

    let mut guest = peer!("guest", place.hub(), ticket.to_string());
    let link = host.accept(WAIT).unwrap();
    assert!(guest.answer().starts_with("attached"));
    let mut again = peer!("guest", place.hub(), ticket.to_string());
    assert!(answer_of(&mut again, &mut host).starts_with("error StaleTicket"));
    assert_eq!(link.end(), None);
    for foreign in ["0.9", "1.1", "4000000000.1"] {
        let mut guest = peer!("guest", place.hub(), foreign);
        assert!(answer_of(&mut guest, &mut host).starts_with("error StaleTicket"));
    }
}

/// A ticket that two guests show at once lets one of them in.
#[test]
fn of_two_guests_with_one_ticket_one_is_attached() {
    let place = Place::new();
    let mut host = place.small_host();
    let ticket = host.hub().reserve().unwrap();
    let number = ticket.ticket();
    let path = place.hub();
    let raw = thread::spawn(move || {
        let guests = [(); 2].map(|()| {
            let socket = RawSocket::connect(&path);
            socket.hello(shm_tests::raw::VERSION, (number.index, number.epoch)).unwrap();
            socket
        });
        guests.map(|socket| socket.receive(WAIT).unwrap().descriptors.len())
    });
    let end = Instant::now() + WAIT;
    while !raw.is_finished() {
        assert!(host.try_accept().unwrap().is_none());
        assert!(Instant::now() < end);
    }
    assert_eq!(raw.join().unwrap(), [2, 2]);
    // Neither claimed it, so it is still to be had.
    let mut guest = peer!("guest", place.hub(), number.to_string());
    let link = host.accept(WAIT).unwrap();
    assert_eq!(link.peer(), number);
    assert!(guest.answer().starts_with("attached"));
}

#[test]
fn a_full_hub_says_how_many_it_takes_and_takes_the_next_when_one_goes() {
    let place = Place::new();
    let mut host = place.host(Host::builder().max_guests(3));
    let mut guests: Vec<_> = (0..3).map(|_| attach(&mut host)).collect();
    let mut refused = peer!("guest", place.hub());
    let answer = answer_of(&mut refused, &mut host);
    assert!(
        answer.starts_with("error HubFull { peers: 3 }") && answer.contains("all 3"),
        "{answer}"
    );
    assert_eq!(host.hub().statistics().refused, 1);
    let (mut guest, mut link) = guests.pop().unwrap();
    guest.ask("detach");
    assert_eq!(ended(link.recv(WAIT)), LinkEnd::Departed);
    drop(link);
    let (_guest, link) = attach(&mut host);
    assert_eq!((link.peer().index, link.peer().epoch), (2, 2));
}

#[test]
fn what_a_guest_sent_before_it_detached_is_received_before_its_end() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    for len in [10, 1000, 20_000] {
        assert_eq!(guest.ask(&format!("send 0 2 {len}")), "sent");
    }
    guest.tell("detach");
    // It waits until all of it is read.
    assert_eq!(guest.answer_within(SOON), None);
    eventually(|| (link.end() == Some(LinkEnd::Departed)).then_some(()));
    for len in [10, 1000, 20_000] {
        for number in 0..2 {
            let message = link.recv(Deadline::NOW).unwrap();
            assert_eq!(message.len(), len);
            assert!(pattern::matches(number, &message.to_bytes()));
        }
    }
    assert_eq!(ended(link.recv(WAIT)), LinkEnd::Departed);
    assert_eq!(guest.answer(), "Ok(())");
    assert!(matches!(link.send(b"x", WAIT), Err(SendError::Ended(LinkEnd::Departed))));
}

#[test]
fn what_a_guest_sent_before_it_was_dropped_is_received_before_its_end() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    for len in [10, 1000, 20_000] {
        assert_eq!(guest.ask(&format!("send 0 2 {len}")), "sent");
    }
    assert_eq!(guest.ask("drop"), "dropped");
    guest.succeeds();
    // Its process is gone, and all that it sent is there.
    for len in [10, 1000, 20_000] {
        for number in 0..2 {
            let message = link.recv(WAIT).unwrap();
            assert_eq!(message.len(), len);
            assert!(pattern::matches(number, &message.to_bytes()));
        }
    }
    assert_eq!(ended(link.recv(WAIT)), LinkEnd::Departed);
    eventually(|| (host.hub().statistics().departed == 1).then_some(()));
}

#[test]
fn a_detach_that_nobody_reads_ends_at_its_deadline() {
    let (mut left, mut right) = Link::pair(&shm_tests::small()).unwrap();
    left.send(b"unread", WAIT).unwrap();
    assert!(matches!(left.detach(SOON), Err(DetachError::TimedOut)));
    // It is sent all the same.
    assert_eq!(right.recv(WAIT).unwrap().to_bytes(), "unread");
    assert_eq!(ended(right.recv(WAIT)), LinkEnd::Departed);
}

#[test]
fn a_host_says_goodbye_and_each_guest_first_receives_what_was_sent() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut guests: Vec<_> = (0..3).map(|_| attach(&mut host)).collect();
    for (_, link) in &mut guests {
        for number in 0..5 {
            link.send(&pattern::message(number, 100), WAIT).unwrap();
        }
    }
    assert_eq!(guests[0].0.ask("leaving"), "false");
    host.hub().say_goodbye();
    for (guest, _) in &mut guests {
        assert_eq!(guest.ask("leaving"), "true");
        assert_eq!(guest.ask("receive-all"), "5 Ended(Departed)");
        assert_eq!(guest.ask("send 0 1 1"), "Ended(Departed)");
    }
    let mut late = peer!("guest", place.hub());
    assert!(answer_of(&mut late, &mut host).starts_with("error HostGone"));
}

#[test]
fn a_dropped_host_is_followed_by_a_new_one_at_the_same_path() {
    let place = Place::new();
    let mut incarnations = HashSet::new();
    for _ in 0..5 {
        let mut host = place.small_host();
        assert!(place.hub().exists());
        let (mut guest, mut link) = attach(&mut host);
        assert_eq!(link.peer().epoch, 1);
        incarnations.insert(guest.pid());
        drop(host);
        assert!(!place.hub().exists());
        assert!(!place.file("hub.lock").exists());
        // Its links go on.
        link.send(&pattern::message(0, 10), WAIT).unwrap();
        assert_eq!(guest.ask("receive 10000"), "10 bytes");
        assert_eq!(guest.ask("send 0 1 10"), "sent");
        assert_eq!(link.recv(WAIT).unwrap().len(), 10);
        drop(link);
        assert_eq!(guest.ask("receive 10000"), "Ended(Departed)");
        assert!(matches!(Guest::attach(place.hub(), SOON), Err(AttachError::NoHost(_))));
    }
    assert_eq!(incarnations.len(), 5);
}

#[test]
fn an_evicted_guest_is_told_so_and_its_entry_is_used_again() {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(shm_tests::small()).max_guests(1));
    for epoch in 1..4 {
        let (mut guest, mut link) = attach(&mut host);
        assert_eq!(link.peer().epoch, epoch);
        assert_eq!(guest.ask("send 0 2 10"), "sent");
        link.send(b"before", WAIT).unwrap();
        assert!(host.hub().evict(link.peer()));
        // The entry is free at once, whoever still holds the link.
        assert!(host.hub().peers().is_empty());
        assert!(!host.hub().evict(link.peer()), "it is gone");
        // What was under way ends with it.
        assert_eq!(ended(link.recv(WAIT)), LinkEnd::Evicted);
        assert!(matches!(link.send(b"x", WAIT), Err(SendError::Ended(LinkEnd::Evicted))));
        // It is told at once, but for a message that it had in hand already.
        if guest.ask("receive 10000") == "6 bytes" {
            assert_eq!(guest.ask("receive 10000"), "Ended(Evicted)");
        }
        assert_eq!(guest.ask("send 0 1 1"), "Ended(Evicted)");
        assert_eq!(guest.ask("detach"), "Err(Ended(Evicted))");
        assert_eq!(host.hub().statistics().evicted, u64::from(epoch));
    }
}

#[test]
fn a_guest_is_evicted_while_it_waits() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut receiving, link) = attach(&mut host);
    receiving.tell("receive-for-ever");
    let (mut sending, other) = attach(&mut host);
    sending.tell("send-for-ever 100");
    assert_eq!(sending.answer_within(SOON), None);
    host.hub().evict(link.peer());
    host.hub().evict(other.peer());
    assert_eq!(receiving.answer(), "0 Ended(Evicted)");
    assert_eq!(sending.answer(), "Ended(Evicted)");
}

/// An evicted guest that goes on writing into its memory has no effect.
#[test]
fn an_evicted_guest_that_goes_on_writing_is_seen_by_nobody() {
    let place = Place::new();
    let mut host = place.small_host();
    let path = place.hub();
    let attaching = thread::spawn(move || RawGuest::attach(&path));
    let mut link = host.accept(WAIT).unwrap();
    let mut guest = attaching.join().unwrap();
    guest.send_word(1);
    guest.send_word(2);
    assert_eq!(link.recv(WAIT).unwrap().read_u64(0), Some(1));
    assert!(host.hub().evict(link.peer()));
    let (_next, mut next) = attach(&mut host);
    let mut drained = 0;
    for number in 3..200 {
        if guest.has_room() {
            guest.send_word(number);
        }
        match link.recv(Deadline::NOW) {
            Ok(_) => drained += 1,
            Err(error) => assert_eq!(ended(Err::<(), _>(error)), LinkEnd::Evicted),
        }
    }
    assert!(drained <= 1024 / 16, "{drained} messages of an evicted guest were received");
    assert!(next.try_recv().unwrap().is_none());
}

/// Once the end was reported, it stays: a guest that writes afterwards is not heard again.
#[test]
fn after_the_end_was_reported_nothing_is_received() {
    let place = Place::new();
    let mut host = place.small_host();
    let path = place.hub();
    let attaching = thread::spawn(move || RawGuest::attach(&path));
    let mut link = host.accept(WAIT).unwrap();
    let mut guest = attaching.join().unwrap();
    assert!(host.hub().evict(link.peer()));
    assert_eq!(ended(link.recv(WAIT)), LinkEnd::Evicted);
    guest.send_word(1);
    assert_eq!(ended(link.recv(WAIT)), LinkEnd::Evicted);
}

#[test]
fn an_evicted_guest_is_killed_if_asked_for() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    assert!(host.hub().evict_and_kill(link.peer()));
    assert!(!guest.wait().success());
    assert_eq!(ended(link.recv(WAIT)), LinkEnd::Evicted);
    assert!(host.hub().peers().is_empty());
    // A reservation is evicted, too.
    let reservation = host.hub().reserve().unwrap();
    assert!(host.hub().evict_and_kill(reservation.ticket()));
    assert!(host.hub().peers().is_empty());
}

#[test]
fn host_and_guests_see_the_same_peers_and_statistics() {
    let place = Place::new();
    let mut host = place.host(Host::builder().max_guests(4).link(shm_tests::small()));
    let (mut first, link) = attach(&mut host);
    let (mut second, other) = attach(&mut host);
    let reservation = host.hub().reserve().unwrap();
    let peers = host.hub().peers();
    assert_eq!(peers.len(), 3);
    for (entry, link) in peers.iter().zip([&link, &other]) {
        assert_eq!((entry.id, entry.state), (link.peer(), PeerState::Attached));
        assert_eq!(entry.details.pid, link.peer_pid());
        assert_eq!((entry.details.to_guest, entry.details.to_host), (1024, 1024));
        assert_ne!(entry.details.start_time, 0);
    }
    assert_eq!((peers[2].id, peers[2].state), (reservation.ticket(), PeerState::Reserved));
    for guest in [&mut first, &mut second] {
        assert_eq!(guest.ask("peers"), format!("{peers:?}"));
    }
    for beats in 1..4 {
        assert_eq!(first.ask("beat"), "0");
        assert_eq!(link.peer_heartbeat(), beats);
        assert_eq!(host.hub().peers()[0].details.heartbeat, beats);
    }
    link.beat();
    assert_eq!(first.ask("beat"), "1");

    second.ask("detach");
    eventually(|| (host.hub().statistics().departed == 1).then_some(()));
    drop(other);
    drop(reservation);
    assert_eq!(host.hub().peers().len(), 1);
    let statistics = host.hub().statistics();
    assert_eq!((statistics.attached, statistics.departed, statistics.died), (2, 1, 0));
    assert_eq!(first.ask("statistics"), format!("Ok({statistics:?})"));
}

/// A guest that said goodbye keeps its entry, marked so, until it or the host is done.
#[test]
fn a_leaving_guest_is_shown_as_such() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    guest.ask("send 0 1 10");
    guest.tell("detach");
    eventually(|| link.end());
    assert_eq!(host.hub().peers()[0].state, PeerState::Goodbye);
    assert_eq!(link.recv(WAIT).unwrap().len(), 10);
    assert_eq!(guest.answer(), "Ok(())");
    guest.succeeds();
    eventually(|| host.hub().peers().is_empty().then_some(()));
}

#[test]
fn a_set_tells_which_of_many_links_are_ready() {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(shm_tests::small()));
    let mut set = LinkSet::new().unwrap();
    let mut events = Vec::new();
    let mut guests: Vec<Peer> = (0..8).map(|_| peer!("guest", place.hub())).collect();
    let mut keys = Vec::new();
    let end = Instant::now() + WAIT;
    while keys.len() < guests.len() {
        assert!(Instant::now() < end);
        set.wait_with(&mut host, &mut events, WAIT).unwrap();
        keys.extend(events.iter().map(|event| match event {
            LinkEvent::Attached(key) => *key,
            event => panic!("{event:?}"),
        }));
    }
    assert_eq!(set.len(), 8);
    for guest in &mut guests {
        assert!(guest.answer().starts_with("attached"));
    }
    // Which link is whose.
    let key_of = |set: &mut LinkSet, pid| {
        set.iter_mut().find(|(_, link)| link.peer_pid() == pid).map(|(key, _)| key).unwrap()
    };
    for round in 0..20 {
        let talking: Vec<usize> = (0..8)
            .filter(|n| pattern::mix(round * 8 + n).is_multiple_of(3))
            .map(|n| n as usize)
            .collect();
        for n in &talking {
            guests[*n].tell(&format!("send {round} 1 100"));
        }
        let mut heard = Vec::new();
        while heard.len() < talking.len() {
            assert!(Instant::now() < end);
            set.wait(&mut events, WAIT).unwrap();
            for event in &events {
                let LinkEvent::Ready(key) = *event else { panic!("{event:?}") };
                let link = set.get_mut(key).unwrap();
                let message = link.try_recv().unwrap().expect("it is ready");
                assert!(pattern::matches(round, &message.to_bytes()));
                drop(message);
                heard.push(link.peer_pid());
            }
        }
        for n in &talking {
            assert!(heard.contains(&guests[*n].pid()));
            assert_eq!(guests[*n].answer(), "sent");
        }
        set.wait(&mut events, Deadline::NOW).unwrap();
        assert!(events.is_empty());
    }
    // A link that is not drained is reported again.
    guests[0].ask("send 0 2 10");
    let key = key_of(&mut set, guests[0].pid());
    for left in [2, 1] {
        for _ in 0..3 {
            set.wait(&mut events, WAIT).unwrap();
            assert_eq!(events, [LinkEvent::Ready(key)], "{left} left");
        }
        assert_eq!(set.get_mut(key).unwrap().recv(WAIT).unwrap().len(), 10);
    }
    // An end is reported like a message, and so is one by a kill.
    let key = key_of(&mut set, guests[1].pid());
    guests[1].ask("detach");
    set.wait(&mut events, WAIT).unwrap();
    assert_eq!(events, [LinkEvent::Ready(key)]);
    assert_eq!(ended(set.get_mut(key).unwrap().try_recv()), LinkEnd::Departed);
    assert!(set.remove(key).is_some());
    assert!(set.get_mut(key).is_none() && set.remove(key).is_none());
    let key = key_of(&mut set, guests[2].pid());
    guests[2].kill();
    set.wait(&mut events, WAIT).unwrap();
    assert_eq!(events, [LinkEvent::Ready(key)]);
    assert_eq!(ended(set.get_mut(key).unwrap().try_recv()), LinkEnd::PeerDead);
}

/// A wait on a set ends with an event or at its deadline, not because of a ring of the
/// bell for a message that was received in the meantime.
#[test]
fn a_set_waits_until_its_deadline_if_nothing_is_ready() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, link) = attach(&mut host);
    let mut set = LinkSet::new().unwrap();
    let key = set.insert(link).unwrap();
    let mut events = Vec::new();
    set.wait(&mut events, SOON).unwrap();
    assert!(events.is_empty());
    assert_eq!(guest.ask("send 0 1 10"), "sent");
    assert_eq!(set.get_mut(key).unwrap().recv(WAIT).unwrap().len(), 10);
    let (start, wait) = (Instant::now(), Duration::from_millis(300));
    set.wait(&mut events, wait).unwrap();
    assert!(events.is_empty());
    assert!(start.elapsed() >= wait, "it returned after {:?} with nothing", start.elapsed());
}

fn is_readable(fd: impl AsFd, wait: Duration) -> bool {
    let timeout = Timespec::try_from(wait).unwrap();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

#[test]
fn a_links_descriptor_becomes_readable_when_a_message_comes() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach(&mut host);
    for number in 0..50 {
        assert!(link.receiver.arm());
        assert!(!is_readable(&link, Duration::ZERO));
        guest.tell(&format!("send {number} 1 100"));
        assert!(is_readable(&link, WAIT), "message {number} did not wake");
        link.receiver.disarm();
        assert!(pattern::matches(number, &link.try_recv().unwrap().unwrap().to_bytes()));
        assert!(!is_readable(&link, Duration::ZERO));
        assert_eq!(guest.answer(), "sent");
        // What is there already is not waited for.
        assert_eq!(guest.ask("send 7 1 10"), "sent");
        assert!(!link.receiver.arm());
        assert!(link.recv(WAIT).is_ok());
    }
    assert!(link.receiver.arm());
    guest.kill();
    assert!(is_readable(&link, WAIT), "a death did not wake");
    link.receiver.disarm();
    assert_eq!(ended(link.try_recv()), LinkEnd::PeerDead);
}

#[test]
fn a_hosts_descriptor_becomes_readable_when_a_guest_comes() {
    let place = Place::new();
    let mut host = place.small_host();
    assert!(!is_readable(&host, Duration::ZERO));
    let mut guest = peer!("guest", place.hub());
    let end = Instant::now() + WAIT;
    let link = loop {
        assert!(is_readable(&host, WAIT) && Instant::now() < end);
        if let Some(link) = host.try_accept().unwrap() {
            break link;
        }
    };
    assert!(guest.answer().starts_with("attached"));
    drop(link);
}

#[test]
fn many_guests_attach_at_once_and_each_has_its_own_link() {
    let place = Place::new();
    let mut host = place.host(Host::builder().max_guests(100));
    let path = place.hub();
    let guests: Vec<_> = (0..100)
        .map(|number: u64| {
            let path = path.clone();
            thread::spawn(move || {
                let mut guest = Guest::attach(path, WAIT).unwrap();
                guest.link.send(&pattern::message(number, 64), WAIT).unwrap();
                let answer = guest.link.recv(WAIT).unwrap().to_bytes();
                assert!(pattern::matches(number, &answer));
                guest.detach(WAIT).unwrap();
            })
        })
        .collect();
    let mut links: Vec<Link> = (0..100).map(|_| host.accept(WAIT).unwrap()).collect();
    let peers: HashSet<_> = links.iter().map(Link::peer).collect();
    assert_eq!(peers.len(), 100);
    for link in &mut links {
        let message = link.recv(WAIT).unwrap().to_bytes();
        link.send(&message, WAIT).unwrap();
    }
    for guest in guests {
        guest.join().unwrap();
    }
}
