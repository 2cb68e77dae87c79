//! A guest that abuses what wakes its subscribers harms itself only: the host publishes, and
//! wakes the subscribers of others. A host that lies about its topics, or writes anything
//! into them, is found out or at worst believed: its guests neither panic nor hang.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use shm_primitives::broadcast::BroadcastWriter;
use shm_tests::{
    Place, WAIT,
    counts::sockets_of,
    eventually,
    pattern::{self, Random},
    peer,
    process::Peer,
    raw::{RawGuest, RawSocket, memory, topic},
    raw_host::RawHost,
};
use shm_transport::{
    AttachError, Deadline, Guest, HeaderError, LinkEnd, Start, Subscriber, SubscriberError,
};

const VALUES: &str = "values";
const MAX: usize = 40;
/// Subscribers of a guest that a host wakes; see the documentation of `Subscriber`.
const MOST: usize = 256;

/// A host in a process of its own with one honest guest.
struct Hub {
    place: Place,
    host: Peer,
    honest: Subscriber,
    guest: Guest,
    published: u64,
}

impl Hub {
    fn new() -> Self {
        let place = Place::new();
        let mut host = peer!("publisher", place.hub(), "64", MAX.to_string());
        assert_eq!(host.answer(), "host");
        let guest = Guest::attach(place.hub(), WAIT).unwrap();
        let mut honest = guest.subscribe(VALUES, Start::Next).unwrap();
        // Whether it sleeps or not later on, the host has a socket for it.
        honest.descriptor().unwrap();
        let mut hub = Self { place, host, honest, guest, published: 0 };
        hub.check_honest();
        hub
    }

    fn hostile(&self) -> RawGuest {
        RawGuest::attach(&self.place.hub())
    }

    /// The honest guest is woken for what is published, by bell and by descriptor, and new
    /// ones are served.
    fn check_honest(&mut self) {
        for _ in 0..3 {
            thread::scope(|scope| {
                let sleeping = scope.spawn(|| self.honest.next(WAIT).unwrap().position);
                assert_eq!(self.host.ask("publish 1"), (self.published + 1).to_string());
                assert_eq!(sleeping.join().unwrap(), self.published);
            });
            self.published += 1;
        }
        let mut fresh = self.guest.subscribe(VALUES, Start::Newest).unwrap();
        let value = fresh.next(WAIT).unwrap();
        assert!(pattern::is_value(self.published - 1, MAX, value.payload));
        while fresh.arm().unwrap() {
            while fresh.try_next().unwrap().is_some() {}
        }
        assert!(self.host.is_running());
    }

    /// How many sockets the host has, once it has let go of links that have ended.
    fn sockets(&mut self) -> usize {
        self.host.ask("links");
        sockets_of(&self.host.pid().to_string())
    }

    /// The same, once it stays.
    fn settled(&mut self) -> usize {
        let mut last = 0;
        eventually(|| {
            thread::sleep(Duration::from_millis(50));
            let before = std::mem::replace(&mut last, self.sockets());
            (last == before).then_some(last)
        })
    }

    /// It comes to have `count`.
    fn comes_to(&mut self, count: usize) {
        let end = Instant::now() + WAIT;
        while self.sockets() != count {
            assert!(Instant::now() < end, "{} sockets, not {count}", self.sockets());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A request for a subscription: the topic, and a number that the answer repeats.
fn request(topic: u32) -> [u8; 8] {
    let mut message = [7; 8];
    message[..4].copy_from_slice(&topic.to_le_bytes());
    message
}

/// Asks for a subscription; what the host gives.
fn ask(guest: &RawGuest, topic: u32) -> Option<RawSocket> {
    let control = guest.control.as_ref().expect("the hub has topics");
    control.send(&request(topic), &[]).unwrap();
    let answer = control.receive(WAIT).expect("an answer");
    assert_eq!(answer.message, request(topic));
    let mut descriptors = answer.descriptors.into_iter();
    let socket = descriptors.next().map(RawSocket::from);
    assert!(descriptors.next().is_none());
    socket
}

fn sleep(position: u64, how: u8) -> [u8; 9] {
    let mut message = [how; 9];
    message[..8].copy_from_slice(&position.to_le_bytes());
    message
}

#[test]
fn a_guest_speaks_the_documented_protocol_by_hand() {
    let mut hub = Hub::new();
    let guest = hub.hostile();
    let socket = ask(&guest, 0).unwrap();
    socket.send(&sleep(hub.published, 1), &[]).unwrap();
    assert!(socket.receive(Duration::from_millis(20)).is_none(), "nothing is there yet");
    assert!(rustix::io::write(&socket, &sleep(hub.published, 1)).is_ok(), "it is served");
    hub.check_honest();
    assert_eq!(socket.receive(WAIT).unwrap().message, [0]);
    socket.send(&sleep(0, 1), &[]).unwrap();
    assert_eq!(socket.receive(WAIT).unwrap().message, [0], "something is there");
}

#[test]
fn topics_that_are_not_there_are_not_subscribed_to() {
    let mut hub = Hub::new();
    let guest = hub.hostile();
    let before = hub.settled();
    for topic in [2, 3, 255, 256, 1 << 16, i32::MAX as u32, u32::MAX] {
        assert!(ask(&guest, topic).is_none(), "topic {topic}");
    }
    hub.comes_to(before);
    assert!(ask(&guest, 1).is_some());
    hub.check_honest();
}

#[test]
fn a_guest_that_asks_for_subscriptions_without_end_gets_only_so_many() {
    let mut hub = Hub::new();
    let guest = hub.hostile();
    let before = hub.settled();
    let mut held: Vec<RawSocket> = Vec::new();
    for number in 0..4 * MOST as u32 {
        held.extend(ask(&guest, number % 2));
        assert!(held.len() <= MOST);
    }
    assert_eq!(held.len(), MOST);
    hub.comes_to(before + MOST);
    hub.check_honest();
    // Those that are given back are there again.
    held.truncate(100);
    hub.comes_to(before + 100);
    assert!(ask(&guest, 0).is_some());
    drop((guest, held));
    // The guest's link and its control socket are gone as well.
    hub.comes_to(before - 2);
    hub.check_honest();
}

#[test]
fn a_guest_that_asks_and_does_not_listen_costs_only_so_much() {
    let mut hub = Hub::new();
    let before = hub.settled();
    let guest = hub.hostile();
    let control = guest.control.as_ref().unwrap();
    for _ in 0..100_000 {
        // Full is as good.
        let _ = control.send(&request(0), &[]);
    }
    assert!(hub.settled() <= before + MOST + 3);
    hub.check_honest();
    drop(guest);
    hub.comes_to(before);
    hub.check_honest();
}

#[test]
fn guests_that_say_something_else_are_served_no_longer() {
    let mut hub = Hub::new();
    let before = hub.settled();
    let extra = memory(4096);
    let long = vec![0; 3000];
    let garbage: [(&[u8], usize); 8] = [
        (&[0], 0),
        (&[0; 3], 0),
        (&[0; 5], 0),
        (&[0; 8], 1),
        (&long, 0),
        (&long, 60),
        (&[0; 4], 10),
        (&[0; 4], 60),
    ];
    for (message, count) in garbage {
        let guest = hub.hostile();
        let socket = ask(&guest, 0).unwrap();
        let control = guest.control.as_ref().unwrap();
        control.send(message, &vec![extra.as_fd(); count]).unwrap();
        assert!(control.receive(WAIT).is_none(), "{} bytes: it is hung up on", message.len());
        assert!(socket.receive(WAIT).is_none(), "and so are its subscribers");
        hub.check_honest();
        // Over a subscription's own socket, that alone is.
        let guest = hub.hostile();
        let (socket, other) = (ask(&guest, 0).unwrap(), ask(&guest, 0).unwrap());
        socket.send(message, &vec![extra.as_fd(); count]).unwrap();
        assert!(socket.receive(WAIT).is_none(), "{} bytes: it is hung up on", message.len());
        other.send(&sleep(0, 1), &[]).unwrap();
        assert!(other.receive(WAIT).is_some());
        hub.check_honest();
    }
    hub.comes_to(before);
}

/// Positions of any value, ways of sleeping that there are not, floods of both, and wakes
/// that nobody fetches.
#[test]
fn a_guest_that_floods_its_subscriptions_harms_no_other() {
    let mut hub = Hub::new();
    let before = hub.settled();
    let mut random = Random::new(9);
    for round in 0..4 {
        let guest = hub.hostile();
        let mut sockets: Vec<RawSocket> = (0..64).filter_map(|n| ask(&guest, n % 2)).collect();
        assert_eq!(sockets.len(), 64);
        let end = Instant::now() + Duration::from_millis(300);
        let mut calls = 0;
        while Instant::now() < end || calls < 2000 {
            calls += 1;
            let position =
                [0, u64::MAX, hub.published, 1 << 63, random.next()][random.below(5) as usize];
            let socket = &sockets[random.below(64) as usize];
            let how = random.below(2) as u8;
            // Full is as good, and so is hung up on.
            let _ = socket.send(&sleep(position, how), &[]);
            if round % 2 == 1 && calls % 100 == 0 {
                let _ = socket.send(&sleep(position, 2 + how), &[]);
            }
            if calls % 200 == 0 {
                hub.check_honest();
            }
            if round > 1 && calls % 500 == 0 {
                let place = random.below(64) as usize;
                if let Some(new) = ask(&guest, 0) {
                    sockets[place] = new;
                }
            }
        }
        hub.check_honest();
    }
    hub.comes_to(before);
}

/// The time that the host's watch has run, in nanoseconds.
fn watch_time(host: &Peer) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap();
    let watch = tasks.map(|task| task.unwrap().path()).find(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "shm-watch")
    });
    let times = fs::read_to_string(watch.unwrap().join("schedstat")).unwrap();
    times.split(' ').next().and_then(|time| time.parse().ok()).unwrap()
}

/// A message with more descriptors than the host has room for cannot be taken from the socket.
/// It keeps nobody busy there: the host's watch runs only when something happens.
#[test]
fn descriptors_that_the_host_has_no_room_for_do_not_keep_it_busy() {
    let mut hub = Hub::new();
    let guest = hub.hostile();
    let socket = ask(&guest, 0).unwrap();
    assert_eq!(hub.host.ask("scarce 3"), "scarce");
    let extra = memory(4096);
    let control = guest.control.as_ref().unwrap();
    // The host may hang up on both when it has seen the control socket's.
    for socket in [&socket, control] {
        socket.send(&[0; 4], &[extra.as_fd(); 30]).unwrap();
    }
    let (before, start) = (watch_time(&hub.host), Instant::now());
    thread::sleep(Duration::from_millis(500));
    let (busy, elapsed) = (watch_time(&hub.host) - before, start.elapsed());
    assert!(hub.host.ask("publish 1").parse::<u64>().is_ok());
    assert_eq!(hub.host.ask("plenty"), "plenty");
    let share = 100 * u128::from(busy) / elapsed.as_nanos();
    assert!(share < 5, "the watch was busy for {share} % of {elapsed:?}");
}

// A hostile host.

fn lies(name: &str, change: impl Fn(&RawHost)) {
    let place = Place::new();
    let mut host = RawHost::new(&[("first", 4, 40), ("second", 8, 8)]);
    change(&host);
    match host.let_in(&place.hub(), true) {
        Err(AttachError::Segment(HeaderError::Geometry(_) | HeaderError::TotalSize { .. })) => {}
        other => panic!("{name}: {:?}", other.map(drop)),
    }
}

#[test]
fn a_hub_whose_directory_lies_is_refused() {
    let place = Place::new();
    let mut honest = RawHost::new(&[("first", 4, 40), ("second", 8, 8)]);
    let guest = honest.let_in(&place.hub(), true).unwrap();
    assert_eq!(guest.topics().collect::<Vec<_>>(), ["first", "second"]);
    let wrong = [0, 1, 3, 7, 64, 4096, 1 << 20, 1 << 30, 1 << 31, 1 << 40, 1 << 63, u64::MAX];
    // A largest payload that takes the same room is no lie.
    for (what, at, from) in [("slots", 64, 0), ("payload", 72, 4), ("ring", 80, 0)] {
        for word in wrong.into_iter().skip(from) {
            for index in 0..2 {
                lies(&format!("{what} {word:#x} of {index}"), |host| {
                    host.hub.store64(topic::entry(&host.hub, index) + at, word);
                });
            }
        }
    }
    for word in [0, u64::MAX, 0xff, u64::from_le_bytes(*b"first\0\0x")] {
        lies(&format!("name {word:#x}"), |host| {
            host.hub.store64(topic::entry(&host.hub, 1), word);
        });
    }
    lies("the same name twice", |host| {
        let name = host.hub.load64(topic::entry(&host.hub, 0));
        host.hub.store64(topic::entry(&host.hub, 1), name);
    });
    // Peers, topics, and where the parts lie.
    for at in [48, 56, 64, 72, 80, 88] {
        for word in [0, 1, 3, 127, 256, 257, 1 << 16, 1 << 57, 1 << 63, u64::MAX] {
            lies(&format!("header word {at} is {word:#x}"), |host| {
                // What an honest host says there.
                let is_true = host.hub.load64(at) == word;
                host.hub.store64(at, if is_true { word ^ 5 } else { word });
            });
        }
    }
}

#[test]
fn topics_that_the_welcome_does_not_know_of_are_refused() {
    let place = Place::new();
    let is_refused = |result: Result<Guest, AttachError>| {
        assert!(
            matches!(result, Err(AttachError::Segment(_) | AttachError::Descriptor(_))),
            "{:?}",
            result.map(drop)
        );
    };
    is_refused(RawHost::new(&[("first", 4, 40)]).let_in(&place.hub(), false));
    is_refused(RawHost::new(&[]).let_in(&place.hub(), true));
    let guest = RawHost::new(&[]).let_in(&place.hub(), false).unwrap();
    assert_eq!(guest.topics().count(), 0);
}

/// All calls of a subscriber return, whatever stands in the ring.
fn exercise(guest: &Guest, subscriber: &mut Subscriber) {
    for _ in 0..20 {
        match subscriber.try_next() {
            Ok(Some(value)) => assert!(value.payload.len() <= MAX),
            Ok(None) => break,
            Err(SubscriberError::Corrupt(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    match subscriber.newest() {
        Ok(Some(value)) => assert!(value.payload.len() <= MAX),
        Ok(None) | Err(SubscriberError::Busy | SubscriberError::Corrupt(_)) => {}
        Err(error) => panic!("{error:?}"),
    }
    for start in [Start::Next, Start::Newest, Start::Oldest] {
        let mut fresh = guest.subscribe("first", start).unwrap();
        let _ = (fresh.position(), fresh.published_so_far(), fresh.lost());
        let _ = fresh.try_next().map(drop);
        subscriber.seek(start);
        let _ = subscriber.try_next().map(drop);
    }
}

#[test]
fn rings_full_of_garbage_are_errors_or_nothing() {
    let place = Place::new();
    let mut host = RawHost::new(&[("first", 4, MAX as u64), ("second", 2, 8)]);
    let guest = host.let_in(&place.hub(), true).unwrap();
    let mut first = guest.subscribe("first", Start::Next).unwrap();
    let ring = topic::ring(&host.hub, 0);
    let words = (topic::slot(ring, 4, MAX) - ring) / 8;
    let mut random = Random::new(4);
    for _ in 0..20_000 {
        let near = random.below(12);
        let word = [0, near, near | 1, u64::MAX - near, (1 << 63) + near, random.next()]
            [random.below(6) as usize];
        let at = match random.below(4) {
            0 => ring,
            1 => topic::slot(ring, random.below(4), MAX),
            2 => topic::slot(ring, random.below(4), MAX) + 8,
            _ => ring + 8 * random.below(words),
        };
        host.hub.store64(at, word);
        exercise(&guest, &mut first);
    }
    // Lengths that are none are errors of their own, again and again.
    let ring = topic::ring(&host.hub, 1);
    let mut second = guest.subscribe("second", Start::Next).unwrap();
    host.hub.store64(topic::slot(ring, 0, 8), 2);
    for length in [9, 4096, 1 << 63, u64::MAX] {
        host.hub.store64(topic::slot(ring, 0, 8) + 8, length);
        for _ in 0..3 {
            let found = second.try_next().map(drop);
            assert!(matches!(found, Err(SubscriberError::Corrupt(bad)) if bad.len == length));
            let found = second.next(Deadline::NEVER).map(drop);
            assert!(matches!(found, Err(SubscriberError::Corrupt(_))), "{found:?}");
            assert!(matches!(second.newest(), Err(SubscriberError::Corrupt(_))));
        }
    }
    // Mended, it goes on.
    let entry = &host.topics[1];
    host.hub.store64(topic::slot(ring, 0, 8), 0);
    host.hub.store64(ring, 0);
    let mut writer = BroadcastWriter::new(host.mapped(), entry.at, entry.ring);
    writer.publish(b"mended").unwrap();
    assert_eq!(second.next(WAIT).unwrap().payload, b"mended");
}

/// A host that overwrites without end, from another thread, with garbage that looks right:
/// whatever is read returns.
#[test]
fn a_host_that_scribbles_all_the_time_holds_nobody_up() {
    let place = Place::new();
    let mut host = RawHost::new(&[("first", 4, MAX as u64)]);
    let guest = host.let_in(&place.hub(), true).unwrap();
    let mut first = guest.subscribe("first", Start::Next).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let ring = topic::ring(&host.hub, 0);
            let mut random = Random::new(8);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // Always a lap or more ahead, by whatever was read.
                let sequence = host.hub.load64(topic::slot(ring, 0, MAX)) + 2 * random.below(9);
                for slot in 0..4 {
                    host.hub.store64(topic::slot(ring, slot, MAX), sequence + 2 * slot);
                    host.hub.store64(topic::slot(ring, slot, MAX) + 8, random.below(50));
                }
                host.hub.store64(ring, sequence / 2);
            }
        });
        for _ in 0..5000 {
            exercise(&guest, &mut first);
            match first.next(Duration::from_micros(10)) {
                Ok(_) | Err(SubscriberError::TimedOut | SubscriberError::Corrupt(_)) => {}
                // This host answers no question.
                Err(SubscriberError::Refused | SubscriberError::Os(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Answers to a subscription that are none are refused, and no reader waits for ever.
#[test]
fn answers_that_are_none_are_errors() {
    for (answer, count) in [(&[][..], 0), (&[0; 8], 0), (&[9; 8], 0), (&[0; 400], 1), (&[0], 30)] {
        let place = Place::new();
        let mut host = RawHost::new(&[("first", 4, MAX as u64)]);
        let guest = host.let_in(&place.hub(), true).unwrap();
        let mut first = guest.subscribe("first", Start::Next).unwrap();
        let extra: OwnedFd = memory(4096);
        let control = host.control.take().unwrap();
        let answering = thread::spawn(move || {
            let question = control.receive(WAIT).unwrap();
            assert_eq!(question.message, [0; 8], "the first topic, the first request");
            if !answer.is_empty() {
                control.send(answer, &vec![extra.as_fd(); count]).unwrap();
            }
            // And it hangs up.
        });
        let found = first.next(WAIT).map(drop);
        let is_error = matches!(
            found,
            Err(SubscriberError::Refused | SubscriberError::Ended(_) | SubscriberError::Os(_))
        );
        assert!(is_error, "{answer:?}: {found:?}");
        answering.join().unwrap();
        host.hang_up();
        eventually(|| guest.link.end());
        let found = first.next(Deadline::NEVER).map(drop);
        assert!(matches!(found, Err(SubscriberError::Ended(LinkEnd::PeerDead))), "{found:?}");
    }
}
