//! Subscribers come, sleep and go, their guests die and are evicted, many times over:
//! descriptors, mappings and memory of both sides are afterwards what they were before.
//!
//! `SHM_TEST_CYCLES=1000000` is the whole form. All is in one test, because it counts what
//! its whole process holds.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicI64, Ordering},
    thread,
    time::Duration,
};

use shm_tests::{
    Place, WAIT, amount,
    counts::{Holdings, holdings},
    eventually, pattern, peer, small,
};
use shm_transport::{Deadline, Guest, Host, Link, LinkEnd, Publisher, Start, TopicConfig};

/// Counts bytes that are allocated.
struct Counting;

static BYTES: AtomicI64 = AtomicI64::new(0);

// SAFETY: all is left to the system's allocator; a count beside it changes nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VALUES: &str = "values";

#[test]
fn nothing_is_left_of_subscribers_that_left_or_died() {
    let place = Place::new();
    let topic = TopicConfig { slots: 4, max_payload: 4000 };
    let builder = Host::builder().link(small()).max_guests(8);
    let mut host = place.host(builder.topic(VALUES, topic).topic("idle", topic));
    let mut publisher = host.hub().publisher(VALUES).unwrap();
    let cycles = amount("SHM_TEST_CYCLES", 2000);
    // What is made once and kept.
    subscribers_come_and_go(&mut host, &mut publisher, 100);
    processes_are_killed(&mut host, &mut publisher, 2);
    guests_are_evicted(&mut host, 5);
    let before = settled(None);

    subscribers_come_and_go(&mut host, &mut publisher, cycles);
    assert_eq!(settled(Some(before)), before, "after subscribers");
    guests_are_evicted(&mut host, cycles / 20);
    assert_eq!(settled(Some(before)), before, "after evictions");
    guests_come_and_go(&mut host, &mut publisher, cycles / 10);
    assert_eq!(settled(Some(before)), before, "after guests");
    processes_are_killed(&mut host, &mut publisher, 20);
    assert_eq!(settled(Some(before)), before, "after kills");
    hosts_come_and_go(50);
    assert_eq!(settled(Some(before)), before, "after hosts");
    processes_keep_nothing(&mut host);

    // Those who sleep where nothing is ever published leave nothing behind either.
    let bytes = BYTES.load(Ordering::Relaxed);
    subscribers_arm_in_vain(&mut host, 5 * cycles);
    settled(Some(before));
    let kept = BYTES.load(Ordering::Relaxed) - bytes;
    let few = 20_000;
    assert!(kept < few, "{kept} bytes are kept of {} subscribers that are gone", 5 * cycles);
}

/// What is held, once that is `expected` or stays what it is.
fn settled(expected: Option<Holdings>) -> Holdings {
    let mut last = holdings();
    for _ in 0..2000 {
        if Some(last) == expected {
            break;
        }
        thread::sleep(Duration::from_millis(if expected.is_some() { 1 } else { 50 }));
        let now = holdings();
        if expected.is_none() && now == last {
            break;
        }
        last = now;
    }
    last
}

fn attach(host: &mut Host) -> (Guest, Link) {
    let path = host.path().to_owned();
    let attaching = thread::spawn(move || Guest::attach(path, WAIT).unwrap());
    let link = host.accept(WAIT).unwrap();
    (attaching.join().unwrap(), link)
}

fn publish(publisher: &mut Publisher) {
    let position = publisher.published();
    publisher.publish(&pattern::value(position, 4000)).unwrap();
}

fn subscribers_come_and_go(host: &mut Host, publisher: &mut Publisher, cycles: u64) {
    let (guest, _link) = attach(host);
    for cycle in 0..cycles {
        let mut values = guest.subscribe(VALUES, Start::Next).unwrap();
        match cycle % 4 {
            0 => assert!(values.next(Duration::from_micros(100)).is_err()),
            1 => assert!(!values.arm().unwrap()),
            2 => assert!(values.descriptor().is_ok()),
            _ => {
                publish(publisher);
                assert!(values.next(WAIT).is_ok());
            }
        }
    }
}

fn subscribers_arm_in_vain(host: &mut Host, cycles: u64) {
    let (guest, _link) = attach(host);
    for _ in 0..cycles {
        assert!(!guest.subscribe("idle", Start::Next).unwrap().arm().unwrap());
    }
}

fn guests_come_and_go(host: &mut Host, publisher: &mut Publisher, cycles: u64) {
    for cycle in 0..cycles {
        let (guest, link) = attach(host);
        let begin = || guest.subscribe(VALUES, Start::Next).unwrap();
        let mut subscribers = [begin(), begin(), begin()];
        assert!(!subscribers[0].arm().unwrap());
        assert!(subscribers[1].next(Duration::from_micros(50)).is_err());
        if cycle % 2 == 0 {
            publish(publisher);
        }
        if cycle % 3 == 0 {
            drop(guest);
            drop(subscribers);
            drop(link);
        } else {
            drop(link);
            drop(subscribers);
            drop(guest);
        }
    }
}

fn guests_are_evicted(host: &mut Host, cycles: u64) {
    for _ in 0..cycles {
        let (guest, link) = attach(host);
        let mut values = guest.subscribe(VALUES, Start::Next).unwrap();
        let mut armed = guest.subscribe(VALUES, Start::Next).unwrap();
        assert!(!armed.arm().unwrap());
        let sleeping = thread::spawn(move || values.next(Deadline::NEVER).map(drop));
        assert!(host.hub().evict(link.peer()));
        assert!(sleeping.join().unwrap().is_err());
    }
}

fn processes_are_killed(host: &mut Host, publisher: &mut Publisher, kills: u64) {
    for kill in 0..kills {
        let mut guest = peer!("subscriber", host.path());
        let link = host.accept(WAIT).unwrap();
        assert!(guest.answer().starts_with("attached"));
        for _ in 0..20 {
            guest.ask("subscribe values");
            guest.ask("arm");
        }
        // It is asleep in both ways.
        guest.tell("next-for-ever");
        thread::sleep(Duration::from_millis(kill % 4));
        guest.kill();
        if kill % 2 == 0 {
            assert_eq!(eventually(|| link.end()), LinkEnd::PeerDead);
        }
        if kill % 3 == 0 {
            publish(publisher);
        }
        drop(link);
    }
}

fn hosts_come_and_go(cycles: u64) {
    let place = Place::new();
    for _ in 0..cycles {
        let mut host = place.host(Host::builder().broadcast(TopicConfig::default()));
        let (guest, link) = attach(&mut host);
        let mut values = guest.subscribe(shm_transport::BROADCAST, Start::Next).unwrap();
        assert!(!values.arm().unwrap());
        host.publish(b"x").unwrap();
        drop((host, link));
        assert!(values.next(WAIT).is_ok());
        assert!(values.next(WAIT).is_err());
    }
}

/// A guest in a process of its own has what it had before, too.
fn processes_keep_nothing(host: &mut Host) {
    let mut guest = peer!("subscriber", host.path());
    let mut links = vec![host.accept(WAIT).unwrap()];
    assert!(guest.answer().starts_with("attached"));
    let mut cycle = |guest: &mut shm_tests::process::Peer, links: &mut Vec<Link>| {
        for _ in 0..20 {
            guest.ask("subscribe values");
            guest.ask("arm");
        }
        guest.ask("drop");
        guest.tell("again");
        links.push(host.accept(WAIT).unwrap());
        assert_eq!(guest.answer(), "again");
        drop(links.remove(0));
        guest.ask("drop");
        guest.ask("descriptors")
    };
    let before = cycle(&mut guest, &mut links);
    for _ in 0..20 {
        // Threads that close what others made may still be about to.
        eventually(|| (cycle(&mut guest, &mut links) == before).then_some(()));
    }
}
