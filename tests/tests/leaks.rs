//! Guests attach, use everything and go, or are killed, many times over: descriptors,
//! mappings and memory of the host are afterwards what they were before.
//!
//! `SHM_TEST_CYCLES=1000000` and `SHM_TEST_KILLS=1000` are the whole forms. All is in one
//! test, because it counts what its whole process holds.

use std::thread;

use shm_tests::{
    Place, WAIT, amount,
    counts::{Holdings, holdings},
    eventually, pattern, peer, small,
};
use shm_transport::{Guest, Host, Link, LinkEnd, LinkSet, RecvError};

#[test]
fn nothing_is_left_of_guests_that_left_or_died() {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(small()).max_guests(8));
    // What is made once and kept: the death watch, and what the runtime keeps.
    threads_come_and_go(&mut host, 8);
    processes_come_and_go(&mut host, 1);
    processes_are_killed(&mut host, 1);
    let before = settled(None);

    threads_come_and_go(&mut host, amount("SHM_TEST_CYCLES", 2000));
    assert_eq!(settled(Some(before)), before, "after cycles of threads");
    processes_come_and_go(&mut host, amount("SHM_TEST_CYCLES", 2000) / 40);
    assert_eq!(settled(Some(before)), before, "after cycles of processes");
    processes_are_killed(&mut host, amount("SHM_TEST_KILLS", 50));
    assert_eq!(settled(Some(before)), before, "after kills");
    pairs_come_and_go(100);
    assert_eq!(settled(Some(before)), before, "after pairs");
    half_attached_guests_go(&mut host, 50);
    assert_eq!(settled(Some(before)), before, "after guests that never attached");
    hosts_come_and_go(50);
    assert_eq!(settled(Some(before)), before, "after hosts");
    messages_and_grants_are_dropped(&mut host);
    assert_eq!(settled(Some(before)), before, "after drops");
    assert!(host.hub().peers().is_empty());
}

/// What is held, once that is `expected` or stays what it is: threads that have just ended
/// may still be about to let go.
fn settled(expected: Option<Holdings>) -> Holdings {
    let mut last = holdings();
    for _ in 0..2000 {
        if Some(last) == expected {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(if expected.is_some() { 1 } else { 50 }));
        let now = holdings();
        if expected.is_none() && now == last {
            break;
        }
        last = now;
    }
    last
}

/// Sends by each way in each direction.
fn use_everything(link: &mut Link) {
    for (number, len) in (0..).zip([10, 1000, 5000, 20_000]) {
        link.send(&pattern::message(number, len), WAIT).unwrap();
    }
}

fn expect_everything(link: &mut Link) {
    for (number, len) in (0..).zip([10, 1000, 5000, 20_000]) {
        let message = link.recv(WAIT).unwrap();
        assert_eq!(message.len(), len);
        assert!(pattern::matches(number, &message.to_bytes()));
    }
}

fn threads_come_and_go(host: &mut Host, cycles: u64) {
    let path = host.path().to_owned();
    let guests = thread::spawn(move || {
        for cycle in 0..cycles {
            let mut guest = Guest::attach(&path, WAIT).unwrap();
            if cycle % 4 == 0 {
                use_everything(&mut guest.link);
                expect_everything(&mut guest.link);
            }
            if cycle % 2 == 0 {
                guest.detach(WAIT).unwrap();
            }
        }
    });
    for cycle in 0..cycles {
        let mut link = host.accept(WAIT).unwrap();
        if cycle % 4 == 0 {
            expect_everything(&mut link);
            use_everything(&mut link);
        }
        assert!(matches!(link.recv(WAIT), Err(RecvError::Ended(LinkEnd::Departed))));
    }
    guests.join().unwrap();
}

fn processes_come_and_go(host: &mut Host, cycles: u64) {
    for _ in 0..cycles {
        let mut guest = peer!("guest", host.path());
        let mut link = host.accept(WAIT).unwrap();
        assert!(guest.answer().starts_with("attached"));
        guest.tell("echo");
        use_everything(&mut link);
        expect_everything(&mut link);
        drop(link);
        assert_eq!(guest.answer(), "Ended(Departed)");
        guest.tell("detach");
        guest.succeeds();
    }
}

fn processes_are_killed(host: &mut Host, kills: u64) {
    for kill in 0..kills {
        let mut guest = peer!("guest", host.path());
        let mut link = host.accept(WAIT).unwrap();
        assert!(guest.answer().starts_with("attached"));
        // Descriptors are on their way in both directions, and messages are held on both
        // sides, when it dies.
        for len in [10, 1000, 5000, 20_000] {
            guest.ask(&format!("send 0 1 {len}"));
        }
        use_everything(&mut link);
        guest.ask("hold");
        guest.ask("hold");
        let held: Vec<_> = (0..kill % 4).map(|_| link.recv(WAIT).unwrap().into_owned()).collect();
        guest.kill();
        if kill % 2 == 0 {
            eventually(|| link.end());
        }
        drop(link);
        drop(held);
    }
}

fn pairs_come_and_go(cycles: u64) {
    for _ in 0..cycles {
        let (mut left, mut right) = Link::pair(&small()).unwrap();
        use_everything(&mut left);
        expect_everything(&mut right);
        use_everything(&mut right);
        let mut set = LinkSet::new().unwrap();
        set.insert(left).unwrap();
        set.wait(&mut Vec::new(), WAIT).unwrap();
    }
}

fn half_attached_guests_go(host: &mut Host, cycles: u64) {
    use shm_tests::raw::{RawSocket, VERSION};
    for cycle in 0..cycles {
        let socket = RawSocket::connect(host.path());
        if cycle % 2 == 0 {
            socket.hello(VERSION, (0, 0)).unwrap();
        }
        assert!(host.try_accept().unwrap().is_none());
        drop(socket);
    }
    eventually(|| {
        assert!(host.try_accept().unwrap().is_none());
        host.hub().peers().is_empty().then_some(())
    });
}

fn hosts_come_and_go(cycles: u64) {
    let place = Place::new();
    for _ in 0..cycles {
        let mut host = place.small_host();
        let path = place.hub();
        let guest = thread::spawn(move || Guest::attach(path, WAIT).unwrap());
        let link = host.accept(WAIT).unwrap();
        let guest = guest.join().unwrap();
        host.hub().say_goodbye();
        drop(host);
        drop((guest, link));
    }
}

fn messages_and_grants_are_dropped(host: &mut Host) {
    let path = host.path().to_owned();
    let attaching = thread::spawn(move || Guest::attach(&path, WAIT).unwrap());
    let mut link = host.accept(WAIT).unwrap();
    let mut guest = attaching.join().unwrap();
    for len in [10, 1000, 5000, 20_000] {
        for _ in 0..50 {
            drop(link.sender.grant(len, WAIT).unwrap());
            link.send(&vec![0; len], WAIT).unwrap();
            drop(guest.link.recv(WAIT).unwrap());
            link.send(&vec![0; len], WAIT).unwrap();
            drop(guest.link.recv(WAIT).unwrap().into_owned());
        }
    }
    assert_eq!(link.sender.slots_in_flight(), 0);
}
