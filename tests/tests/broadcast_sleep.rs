//! Subscribers sleep until there is something to read: on the topic's bell, or on a
//! descriptor. Every value wakes all of them, and so does every end.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        PollFd, PollFlags, Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
        poll,
    },
};
use shm_tests::{
    Place, WAIT, eventually,
    pattern::{self, Random},
    peer,
    process::Peer,
    small, within_wait,
};
use shm_transport::{
    Deadline, Guest, Host, Link, LinkConfig, LinkEnd, Publisher, Start, Subscriber,
    SubscriberError, TopicConfig,
};

const VALUES: &str = "values";
const MAX: usize = 40;
const SOON: Duration = Duration::from_millis(20);

fn host(place: &Place, spin: Duration) -> (Host, Publisher) {
    let topic = TopicConfig { slots: 4, max_payload: MAX as u64 };
    let config = LinkConfig { spin, ..small() };
    let host = place.host(Host::builder().link(config).topic(VALUES, topic).topic("other", topic));
    let publisher = host.hub().publisher(VALUES).unwrap();
    (host, publisher)
}

fn attach(host: &mut Host) -> (Guest, Link) {
    let path = host.path().to_owned();
    let attaching = thread::spawn(move || Guest::attach(path, WAIT).unwrap());
    let link = host.accept(WAIT).unwrap();
    (attaching.join().unwrap(), link)
}

fn publish(publisher: &mut Publisher) -> u64 {
    let position = publisher.published();
    publisher.publish(&pattern::value(position, MAX)).unwrap()
}

fn is_readable(subscriber: &mut Subscriber, wait: Duration) -> bool {
    let timeout = Timespec::try_from(wait).unwrap();
    let descriptor = subscriber.descriptor().unwrap();
    poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&timeout)) == Ok(1)
}

/// In each round a value is published when all have reported the last: at about the time that
/// they go to sleep. A wake-up that is lost leaves one asleep, which the round then misses.
fn rounds(ways: &[&str], spin: Duration, count: u64) {
    const THREADS: u64 = 2;
    let place = Place::new();
    let (mut host, mut publisher) = host(&place, spin);
    let mut guests: Vec<(Peer, Link)> = Vec::new();
    for way in ways {
        let mut guest = peer!("subscriber", place.hub());
        let link = host.accept(WAIT).unwrap();
        assert!(guest.answer().starts_with("attached"));
        (0..THREADS).for_each(|_| assert_eq!(guest.ask("subscribe values"), "subscribed"));
        guest.tell(&format!("{way} {THREADS} {count}"));
        guests.push((guest, link));
    }
    let mut random = Random::new(count);
    for round in 0..count {
        if random.below(8) == 0 {
            thread::sleep(Duration::from_micros(random.below(1000)));
        }
        (0..random.below(10_000)).for_each(|_| std::hint::spin_loop());
        assert_eq!(publish(&mut publisher), round);
        for (_, link) in &mut guests {
            for _ in 0..THREADS {
                let report = link.recv(WAIT).expect("all are woken").to_bytes();
                assert_eq!(report, round.to_le_bytes()[..]);
            }
        }
    }
    for (guest, _) in &mut guests {
        assert_eq!(guest.answer(), "reported");
    }
}

#[test]
fn no_wake_up_of_a_sleeping_reader_is_lost() {
    rounds(&["sleep"; 3], Duration::ZERO, 1000);
}

#[test]
fn no_wake_up_of_a_reader_that_polls_a_while_first_is_lost() {
    rounds(&["sleep"; 3], Duration::from_micros(20), 1000);
}

#[test]
fn no_wake_up_of_a_descriptor_is_lost() {
    rounds(&["poll"; 3], Duration::ZERO, 1000);
}

#[test]
fn readers_that_sleep_in_different_ways_do_not_take_each_others_wake_ups() {
    rounds(&["poll", "sleep", "poll", "sleep"], Duration::ZERO, 1000);
}

#[test]
fn one_value_wakes_all_who_sleep() {
    let place = Place::new();
    let (mut host, mut publisher) = host(&place, Duration::ZERO);
    let guests: Vec<_> = (0..12).map(|_| attach(&mut host)).collect();
    thread::scope(|scope| {
        let sleeping: Vec<_> = guests
            .iter()
            .flat_map(|guest| [guest; 3])
            .map(|(guest, _)| {
                let mut values = guest.subscribe(VALUES, Start::Next).unwrap();
                let mut other = guest.subscribe("other", Start::Next).unwrap();
                // Nothing is published there.
                assert!(!other.arm().unwrap());
                scope.spawn(move || {
                    assert_eq!(values.next(Deadline::NEVER).unwrap().position, 0);
                    assert!(!is_readable(&mut other, Duration::ZERO), "of another topic");
                })
            })
            .collect();
        thread::sleep(SOON);
        publish(&mut publisher);
        sleeping.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn sleeping_ends_at_the_deadline() {
    let place = Place::new();
    let (mut host, mut publisher) = host(&place, Duration::ZERO);
    let (guest, _link) = attach(&mut host);
    let mut values = guest.subscribe(VALUES, Start::Next).unwrap();
    for wait in [Duration::ZERO, Duration::from_nanos(1), SOON] {
        let start = Instant::now();
        assert!(matches!(values.next(wait), Err(SubscriberError::TimedOut)));
        assert!(start.elapsed() >= wait);
        assert!(matches!(values.next(start), Err(SubscriberError::TimedOut)));
    }
    publish(&mut publisher);
    assert_eq!(values.next(Deadline::NOW).unwrap().position, 0);
    // A publisher that goes is not the end: there may be another.
    drop(publisher);
    assert!(matches!(values.next(SOON), Err(SubscriberError::TimedOut)));
    let mut publisher = host.hub().publisher(VALUES).unwrap();
    let sleeping = thread::spawn(move || values.next(WAIT).map(|value| value.position).unwrap());
    thread::sleep(SOON);
    publish(&mut publisher);
    assert_eq!(sleeping.join().unwrap(), 1);
}

#[test]
fn arming_says_what_is_there_already_and_a_descriptor_what_comes() {
    let place = Place::new();
    let (mut host, mut publisher) = host(&place, Duration::ZERO);
    let (guest, _link) = attach(&mut host);
    let mut values = guest.subscribe(VALUES, Start::Next).unwrap();
    for round in 0..200u64 {
        if round % 2 == 0 {
            assert!(!values.arm().unwrap());
            publish(&mut publisher);
            assert!(is_readable(&mut values, WAIT), "round {round}");
        } else {
            publish(&mut publisher);
            assert!(values.arm().unwrap(), "round {round}");
        }
        assert_eq!(values.try_next().unwrap().unwrap().position, round);
        assert!(values.try_next().unwrap().is_none());
    }
}

#[test]
fn many_descriptors_are_waited_for_with_epoll() {
    let place = Place::new();
    let names: Vec<String> = (0..32).map(|number| number.to_string()).collect();
    let config = TopicConfig { slots: 2, max_payload: 8 };
    let builder = names.iter().fold(Host::builder(), |b, name| b.topic(name, config));
    let mut host = place.host(builder);
    let (guest, _link) = attach(&mut host);
    let mut publishers: Vec<_> =
        names.iter().map(|name| host.hub().publisher(name).unwrap()).collect();
    let all = epoll::create(CreateFlags::CLOEXEC).unwrap();
    let mut subscribers = Vec::new();
    for (number, name) in (0u64..).zip(&names) {
        let mut subscriber = guest.subscribe(name, Start::Next).unwrap();
        let data = EventData::new_u64(number);
        epoll::add(&all, subscriber.descriptor().unwrap(), data, EventFlags::IN).unwrap();
        assert!(!subscriber.arm().unwrap());
        subscribers.push(subscriber);
    }
    let mut random = Random::new(1);
    let publishing = thread::spawn(move || {
        for number in 0..2000u64 {
            let which = random.below(32) as usize;
            publishers[which].publish(&number.to_le_bytes()).unwrap();
            if random.below(4) == 0 {
                thread::sleep(Duration::from_micros(random.below(100)));
            }
        }
        let counts: Vec<u64> = publishers.iter().map(Publisher::published).collect();
        (publishers, counts)
    });
    // Whatever is published last in each topic is found.
    let end = Instant::now() + WAIT;
    loop {
        let finished = publishing.is_finished();
        let mut ready = Vec::with_capacity(64);
        let timeout = Timespec::try_from(SOON).unwrap();
        let _ = epoll::wait(&all, spare_capacity(&mut ready), Some(&timeout));
        for event in &ready {
            let epoll::Event { data, .. } = *event;
            let subscriber = &mut subscribers[data.u64() as usize];
            loop {
                while subscriber.try_next().unwrap().is_some() {}
                if !subscriber.arm().unwrap() {
                    break;
                }
            }
        }
        if finished && ready.is_empty() {
            break;
        }
        assert!(Instant::now() < end);
    }
    let (_publishers, counts) = publishing.join().unwrap();
    let positions: Vec<u64> = subscribers.iter().map(Subscriber::position).collect();
    assert_eq!(positions, counts);
}

/// How sleeping readers are told of an end.
fn ends(act: impl Fn(Host, Link), expected: LinkEnd) {
    for round in 0..20u64 {
        let place = Place::new();
        let (mut host, publisher) = host(&place, Duration::ZERO);
        let (guest, link) = attach(&mut host);
        let begin = || guest.subscribe(VALUES, Start::Next).unwrap();
        let (mut first, mut second, mut armed, mut late) = (begin(), begin(), begin(), begin());
        assert!(!armed.arm().unwrap());
        let sleeping = thread::spawn(move || first.next(Deadline::NEVER).map(|v| v.position));
        let timed = thread::spawn(move || second.next(WAIT).map(|v| v.position));
        let polling = thread::spawn(move || {
            assert!(is_readable(&mut armed, WAIT));
            eventually(|| armed.try_next().map(|v| v.map(|v| v.position)).transpose())
        });
        // Some are about to sleep, some have not asked yet, some sleep.
        thread::sleep(Duration::from_micros(400 * round));
        drop(publisher);
        act(host, link);
        let found = late.next(WAIT).map(|value| value.position);
        let results = within_wait(move || {
            [sleeping.join().unwrap(), timed.join().unwrap(), polling.join().unwrap(), found]
        });
        for result in results {
            let is_expected =
                matches!(&result, Err(SubscriberError::Ended(end)) if *end == expected);
            assert!(is_expected, "round {round}: {result:?}, not {expected:?}");
        }
    }
}

#[test]
fn sleeping_readers_are_told_that_the_host_left() {
    ends(
        |host, link| {
            drop(link);
            drop(host);
        },
        LinkEnd::Departed,
    );
}

#[test]
fn sleeping_readers_are_told_of_the_hosts_goodbye() {
    ends(
        |host, link| {
            host.hub().say_goodbye();
            drop((host, link));
        },
        LinkEnd::Departed,
    );
}

#[test]
fn sleeping_readers_are_told_of_their_eviction() {
    ends(
        |host, link| {
            assert!(host.hub().evict(link.peer()));
            drop((host, link));
        },
        LinkEnd::Evicted,
    );
}

#[test]
fn sleeping_readers_are_told_that_their_own_link_was_dropped() {
    let place = Place::new();
    let (mut host, _publisher) = host(&place, Duration::ZERO);
    for round in 0..20u64 {
        let (guest, _link) = attach(&mut host);
        let begin = || guest.subscribe(VALUES, Start::Next).unwrap();
        let (mut first, mut armed) = (begin(), begin());
        let sleeping = thread::spawn(move || first.next(Deadline::NEVER).map(|v| v.position));
        assert!(!armed.arm().unwrap());
        thread::sleep(Duration::from_micros(200 * round));
        drop(guest);
        let result = within_wait(move || sleeping.join().unwrap());
        assert!(matches!(result, Err(SubscriberError::Ended(_))), "{result:?}");
        assert!(is_readable(&mut armed, WAIT));
        assert!(matches!(armed.try_next(), Err(SubscriberError::Ended(_))));
        assert!(matches!(armed.arm(), Ok(true) | Err(SubscriberError::Ended(_))));
    }
}

#[test]
fn sleeping_readers_are_told_that_the_host_was_killed() {
    let place = Place::new();
    for round in 0..10 {
        let mut host = peer!("publisher", place.hub(), "4", MAX.to_string());
        assert_eq!(host.answer(), "host");
        let guest = Guest::attach(place.hub(), WAIT).unwrap();
        assert_eq!(host.ask("publish 3"), "3");
        let begin = || guest.subscribe(VALUES, Start::Oldest).unwrap();
        let (mut first, mut armed) = (begin(), begin());
        let sleeping = thread::spawn(move || {
            for position in 0..3 {
                assert_eq!(first.next(Deadline::NEVER).unwrap().position, position);
            }
            first.next(Deadline::NEVER).map(|value| value.position)
        });
        armed.seek(Start::Next);
        assert!(!armed.arm().unwrap());
        if round % 2 == 0 {
            host.stop();
        }
        thread::sleep(Duration::from_millis(round));
        host.kill();
        let result = within_wait(move || sleeping.join().unwrap());
        assert!(matches!(result, Err(SubscriberError::Ended(LinkEnd::PeerDead))), "{result:?}");
        assert!(is_readable(&mut armed, WAIT));
        let result = within_wait(move || armed.next(Deadline::NEVER).map(|v| v.position));
        assert!(matches!(result, Err(SubscriberError::Ended(LinkEnd::PeerDead))), "{result:?}");
    }
}

/// A host is stopped while a reader goes to sleep again and again, and arms its descriptor
/// in the end. However much it had to say, the descriptor shows what is published later.
#[test]
fn a_descriptor_that_is_armed_while_the_host_is_stopped_is_heard() {
    let place = Place::new();
    let mut host = peer!("publisher", place.hub(), "4", MAX.to_string());
    assert_eq!(host.answer(), "host");
    let guest = Guest::attach(place.hub(), WAIT).unwrap();
    let mut values = guest.subscribe(VALUES, Start::Next).unwrap();
    assert!(!values.arm().unwrap());
    for calls in [0, 10, 1000] {
        host.stop();
        for _ in 0..calls {
            let slept = values.next(Duration::from_micros(1));
            assert!(matches!(slept, Err(SubscriberError::TimedOut)), "{slept:?}");
        }
        let is_there = values.arm().unwrap();
        host.go_on();
        thread::sleep(SOON);
        host.ask("publish 1");
        assert!(is_there || is_readable(&mut values, WAIT), "after {calls} calls");
        assert!(values.try_next().unwrap().is_some());
        assert!(values.try_next().unwrap().is_none());
    }
}

/// A host that is stopped when a reader first sleeps is waited for like any other, up to the
/// reader's deadline; when it goes on, the reader sleeps and is woken.
#[test]
fn a_reader_that_first_sleeps_while_the_host_is_stopped_is_served_later() {
    let place = Place::new();
    let mut host = peer!("publisher", place.hub(), "4", MAX.to_string());
    assert_eq!(host.answer(), "host");
    let guest = Guest::attach(place.hub(), WAIT).unwrap();
    let mut values = guest.subscribe(VALUES, Start::Next).unwrap();
    host.stop();
    for _ in 0..3 {
        let slept = values.next(SOON);
        assert!(matches!(slept, Err(SubscriberError::TimedOut)), "{slept:?}");
    }
    host.go_on();
    let sleeping = thread::spawn(move || values.next(WAIT).map(|value| value.position));
    thread::sleep(SOON);
    host.ask("publish 1");
    let found = sleeping.join().unwrap();
    assert!(matches!(found, Ok(0)), "{found:?}");
}

/// Who is dropped while it is armed, or while others of its guest sleep, takes nothing from
/// them.
#[test]
fn dropped_subscribers_take_no_wake_ups_with_them() {
    let place = Place::new();
    let (mut host, mut publisher) = host(&place, Duration::ZERO);
    let (guest, _link) = attach(&mut host);
    let mut stays = guest.subscribe(VALUES, Start::Next).unwrap();
    for round in 0..200 {
        let mut goes: Vec<_> =
            (0..3).map(|_| guest.subscribe(VALUES, Start::Next).unwrap()).collect();
        for subscriber in &mut goes {
            assert!(!subscriber.arm().unwrap());
        }
        assert!(!stays.arm().unwrap());
        if round % 2 == 0 {
            drop(goes);
            publish(&mut publisher);
        } else {
            publish(&mut publisher);
            drop(goes);
        }
        assert!(is_readable(&mut stays, WAIT));
        assert_eq!(stays.next(WAIT).unwrap().position, round);
    }
}

/// A host wakes 256 subscribers of a guest. Those that are dropped make room for others.
#[test]
fn dropped_subscribers_make_room_for_others() {
    let place = Place::new();
    let (mut host, _publisher) = host(&place, Duration::ZERO);
    let (guest, _link) = attach(&mut host);
    let armed = || -> Result<Subscriber, SubscriberError> {
        let mut subscriber = guest.subscribe(VALUES, Start::Next).unwrap();
        subscriber.arm().map(|_| subscriber)
    };
    for round in 0..60 {
        let mut all = Vec::new();
        for number in 0..256 {
            let subscriber = armed();
            assert!(subscriber.is_ok(), "round {round}, number {number}: {subscriber:?}");
            all.extend(subscriber);
        }
        assert!(matches!(armed(), Err(SubscriberError::Refused)));
    }
}

/// Whoever asks first after the end is told how the link ended, as all others are.
#[test]
fn a_reader_that_arms_after_its_eviction_is_told_of_that() {
    let place = Place::new();
    let (mut host, _publisher) = host(&place, Duration::ZERO);
    for round in 0..50 {
        let (guest, link) = attach(&mut host);
        let mut values = guest.subscribe(VALUES, Start::Next).unwrap();
        assert!(host.hub().evict(link.peer()));
        let found = values.arm();
        let is_told = matches!(found, Err(SubscriberError::Ended(LinkEnd::Evicted)));
        assert!(is_told, "round {round}: {found:?}");
    }
}
