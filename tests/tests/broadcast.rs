//! Values that a host publishes are read whole or not at all, and whoever misses some knows
//! how many, however far behind it is and whatever becomes of the host.
//!
//! `SHM_TEST_READS=10000000` is the whole form of
//! `a_writer_stopped_and_killed_anywhere_tears_nothing_and_every_loss_is_counted`.

use std::{
    path::{Path, PathBuf},
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use shm_tests::{
    Place, WAIT, amount, eventually,
    pattern::{self, Random},
    peer,
    raw::{RawMemory, RawSocket, topic},
};
use shm_transport::{
    AttachError, BROADCAST, CreateError, GeometryError, Guest, Host, HostBuilder, Link, LinkEnd,
    PublishError, Publisher, Start, Subscriber, SubscriberError, TooLarge, TopicConfig, TopicError,
};

/// A host with these topics, a guest of it, and the host's end of the link.
fn pair(topics: &[(&str, u64, u64)]) -> (Host, Guest, Link) {
    let place = Place::new();
    let builder = topics.iter().fold(Host::builder(), |builder, &(name, slots, max_payload)| {
        builder.topic(name, TopicConfig { slots, max_payload })
    });
    let mut host = place.host(builder);
    let (guest, link) = attach(&mut host);
    (host, guest, link)
}

fn attach(host: &mut Host) -> (Guest, Link) {
    let path = host.path().to_owned();
    let attaching = thread::spawn(move || Guest::attach(path, WAIT).unwrap());
    let link = host.accept(WAIT).unwrap();
    (attaching.join().unwrap(), link)
}

fn publish_numbers(publisher: &mut Publisher, count: u64) {
    for _ in 0..count {
        let number = publisher.published();
        assert_eq!(publisher.publish(&number.to_le_bytes()), Ok(number));
    }
}

/// The next value, which is the number of its position, and how many were lost before it.
fn next_number(subscriber: &mut Subscriber) -> Option<(u64, u64)> {
    let value = subscriber.try_next().unwrap()?;
    assert_eq!(value.payload, value.position.to_le_bytes());
    Some((value.position, value.lost))
}

#[test]
fn each_start_begins_where_it_says() {
    let (host, guest, _link) = pair(&[("numbers", 4, 8)]);
    let mut numbers = host.hub().publisher("numbers").unwrap();
    let starts = [Start::Next, Start::Newest, Start::Oldest];
    let begin = |start| guest.subscribe("numbers", start).unwrap();
    assert_eq!(starts.map(|start| begin(start).position()), [0, 0, 0]);
    let mut early = starts.map(begin);
    publish_numbers(&mut numbers, 2);
    // Who came before the first value gets it, whatever it asked for.
    for subscriber in &mut early {
        assert_eq!(next_number(subscriber), Some((0, 0)));
    }
    publish_numbers(&mut numbers, 8);
    assert_eq!(starts.map(|start| begin(start).position()), [10, 9, 6]);
    let mut late = starts.map(begin);
    let firsts = [None, Some((9, 0)), Some((6, 0))];
    for (subscriber, first) in late.iter_mut().zip(firsts) {
        assert_eq!(next_number(subscriber), first);
        assert_eq!((subscriber.lost(), subscriber.published_so_far()), (0, 10));
    }
    // Moved, it goes on from there, and what it passes over is not lost.
    let [subscriber, ..] = &mut early;
    for (start, first) in starts.into_iter().zip(firsts) {
        subscriber.seek(start);
        assert_eq!(next_number(subscriber), first);
    }
    assert_eq!(subscriber.lost(), 0);
}

#[test]
fn topics_do_not_mix() {
    let names: Vec<String> = (0..256).map(|number| format!("topic {number}")).collect();
    let topics: Vec<_> = names.iter().map(|name| (name.as_str(), 2, 8)).collect();
    let (host, guest, _link) = pair(&topics);
    assert!(guest.topics().eq(names.iter().map(String::as_str)));
    let mut publishers: Vec<_> =
        names.iter().map(|name| host.hub().publisher(name).unwrap()).collect();
    let mut subscribers: Vec<_> =
        names.iter().map(|name| guest.subscribe(name, Start::Next).unwrap()).collect();
    for round in 0..3u64 {
        for (number, publisher) in (0u64..).zip(&mut publishers) {
            let value = pattern::mix(number + 1000 * round).to_le_bytes();
            assert_eq!(publisher.publish(&value), Ok(round));
        }
        for (number, subscriber) in (0u64..).zip(&mut subscribers) {
            let value = subscriber.try_next().unwrap().unwrap();
            let expected = pattern::mix(number + 1000 * round).to_le_bytes();
            assert_eq!((value.position, value.payload), (round, &expected[..]));
            assert_eq!(subscriber.topic(), names[number as usize]);
            assert!(subscriber.try_next().unwrap().is_none());
        }
    }
}

#[test]
fn topics_that_cannot_be_are_refused() {
    let place = Place::new();
    let create = |topics: &[(&str, u64, u64)]| {
        let add = |builder: HostBuilder, &(name, slots, max_payload): &(&str, u64, u64)| {
            builder.topic(name, TopicConfig { slots, max_payload })
        };
        let builder = topics.iter().fold(Host::builder(), add);
        match builder.create(place.hub()) {
            Err(CreateError::Geometry(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    for slots in [0, 3, 1 << 21, u64::MAX] {
        assert_eq!(create(&[("a", slots, 8)]), GeometryError::Slots(slots));
    }
    for max in [(1 << 30) + 1, u64::MAX] {
        assert_eq!(create(&[("a", 1, max)]), GeometryError::Payload(max));
    }
    let long = "x".repeat(65);
    for name in ["", "a\0b", &long, "taken"] {
        assert_eq!(create(&[("taken", 1, 8), (name, 1, 8)]), GeometryError::TopicName(1));
    }
    let many: Vec<String> = (0..257).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), 1, 8)).collect();
    assert_eq!(create(&many), GeometryError::Topics(257));
    assert!(!place.hub().exists());
}

#[test]
fn topics_that_are_not_there_or_taken_are_refused() {
    let (mut host, guest, _link) = pair(&[("numbers", 4, 8)]);
    let unknown = |name: &str| TopicError::Unknown(name.into());
    for name in ["", "number", "numbers ", "numbers\0", BROADCAST] {
        assert_eq!(host.hub().publisher(name).unwrap_err(), unknown(name));
        assert_eq!(guest.subscribe(name, Start::Next).unwrap_err(), unknown(name));
    }
    assert_eq!(host.publish(b"x"), Err(PublishError::Topic(unknown(BROADCAST))));
    let mut first = host.hub().publisher("numbers").unwrap();
    let taken = TopicError::Taken("numbers".into());
    assert_eq!(host.hub().publisher("numbers").unwrap_err(), taken);
    assert_eq!(host.hub().clone().typed_publisher::<u64>("numbers").unwrap_err(), taken);
    publish_numbers(&mut first, 3);
    drop(first);
    // The next goes on where it stopped, on any thread.
    let hub = host.hub().clone();
    let publishing = thread::spawn(move || {
        let mut second = hub.publisher("numbers").unwrap();
        publish_numbers(&mut second, 3);
    });
    publishing.join().unwrap();
    assert_eq!(host.hub().publisher("numbers").unwrap().published(), 6);
    // One of another type lets go of the topic as well.
    let wrong = TopicError::ValueSize { topic: "numbers".into(), found: 8, expected: 4 };
    assert_eq!(host.hub().typed_publisher::<u32>("numbers").unwrap_err(), wrong);
    assert_eq!(guest.subscribe_typed::<u32>("numbers", Start::Next).unwrap_err(), wrong);
    assert!(host.hub().publisher("numbers").is_ok());
}

#[test]
fn of_many_threads_that_want_to_publish_at_once_one_does() {
    let (host, guest, _link) = pair(&[("numbers", 4, 8)]);
    let published = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    if let Ok(mut publisher) = host.hub().publisher("numbers") {
                        publish_numbers(&mut publisher, 2);
                        published.fetch_add(2, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut subscriber = guest.subscribe("numbers", Start::Oldest).unwrap();
        let mut expected = subscriber.position();
        for _ in 0..100_000 {
            if let Some((position, lost)) = next_number(&mut subscriber) {
                assert_eq!(position, expected + lost);
                expected = position + 1;
            }
        }
    });
    let subscriber = guest.subscribe("numbers", Start::Next).unwrap();
    assert_eq!(subscriber.position(), published.load(Ordering::Relaxed));
}

/// Where something is.
type Position = [f64; 3];

#[test]
fn typed_values_are_set_and_got() {
    let place = Place::new();
    let config = TopicConfig::of::<Position>();
    let builder =
        Host::builder().topic("position", config).topic("nothing", TopicConfig::of::<()>());
    let mut host = place.host(builder);
    let (guest, _link) = attach(&mut host);
    let mut position = host.hub().typed_publisher::<Position>("position").unwrap();
    let mut reader = guest.subscribe_typed::<Position>("position", Start::Next).unwrap();
    assert_eq!(reader.get().unwrap(), None);
    assert_eq!(reader.try_next().unwrap(), None);
    let at = |at: u64| [at as f64, -(at as f64), 0.5];
    for number in 0..100 {
        assert_eq!(position.set(&at(number)), number);
        assert_eq!(reader.get().unwrap(), Some(at(number)));
        // Looking at the newest moves nothing.
        assert_eq!(reader.get().unwrap(), Some(at(number)));
        assert_eq!(reader.as_subscriber().position(), number);
        assert_eq!(reader.next(WAIT).unwrap(), at(number));
        assert_eq!(reader.try_next().unwrap(), None);
    }
    assert_eq!(position.published(), 100);
    drop(position);
    // Whatever else somebody publishes there is not taken for a value of the type.
    let mut bytes = host.hub().publisher("position").unwrap();
    bytes.publish(&[1; 23]).unwrap();
    let short =
        |result| matches!(result, Err(SubscriberError::ValueSize { found: 23, expected: 24 }));
    assert!(short(reader.get()));
    assert!(short(reader.next(WAIT).map(Some)));
    bytes.publish(&at(7).map(f64::to_le_bytes).concat()).unwrap();
    assert_eq!(reader.next(WAIT).unwrap(), at(7));
    let mut nothing = host.hub().typed_publisher::<()>("nothing").unwrap();
    let mut heard = guest.subscribe_typed::<()>("nothing", Start::Next).unwrap();
    assert_eq!((nothing.set(&()), nothing.set(&())), (0, 1));
    assert_eq!((heard.try_next().unwrap(), heard.get().unwrap()), (Some(()), Some(())));
    assert_eq!((heard.try_next().unwrap(), heard.try_next().unwrap()), (Some(()), None));
}

#[test]
fn values_of_every_size_come_back_and_larger_ones_are_refused() {
    let (host, guest, _link) = pair(&[("bytes", 4, 1001), ("nothing", 1, 0)]);
    let mut publisher = host.hub().publisher("bytes").unwrap();
    let mut subscriber = guest.subscribe("bytes", Start::Next).unwrap();
    assert_eq!((publisher.max_payload(), subscriber.max_payload()), (1001, 1001));
    for len in (0..=1001).rev() {
        let message = pattern::message(len as u64, len);
        let position = publisher.publish(&message).unwrap();
        let refused = publisher.publish(&vec![0; 1002 + len]);
        assert_eq!(refused, Err(TooLarge { len: 1002 + len as u64, max: 1001 }));
        let newest = subscriber.newest().unwrap().unwrap();
        assert_eq!((newest.position, newest.lost, newest.payload), (position, 0, &message[..]));
        let value = subscriber.next(WAIT).unwrap();
        assert_eq!((value.position, value.lost, value.payload), (position, 0, &message[..]));
    }
    assert_eq!(publisher.published(), 1002);
    let mut publisher = host.hub().publisher("nothing").unwrap();
    let mut subscriber = guest.subscribe("nothing", Start::Next).unwrap();
    for position in 0..5 {
        assert!(subscriber.try_next().unwrap().is_none());
        publisher.publish(&[]).unwrap();
        assert_eq!(publisher.publish(&[0]), Err(TooLarge { len: 1, max: 0 }));
        let value = subscriber.try_next().unwrap().unwrap();
        assert_eq!((value.position, value.payload), (position, &[][..]));
    }
}

#[test]
fn a_host_publishes_to_all_its_guests() {
    let place = Place::new();
    let mut host = place.host(Host::builder().broadcast(TopicConfig::default()));
    assert_eq!(host.publish(b"early"), Ok(0));
    let mut guests: Vec<_> = (0..20).map(|_| attach(&mut host)).collect();
    let mut subscribers: Vec<_> = guests
        .iter()
        .map(|(guest, _)| guest.subscribe(BROADCAST, Start::Oldest).unwrap())
        .collect();
    assert_eq!(host.publish(b"late"), Ok(1));
    let too_large = PublishError::TooLarge(TooLarge { len: 257, max: 256 });
    assert_eq!(host.publish(&[0; 257]), Err(too_large));
    // The host's own publisher of the topic is one like any other.
    assert_eq!(host.hub().publisher(BROADCAST).unwrap_err(), TopicError::Taken(BROADCAST.into()));
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next(WAIT).unwrap().payload, b"early");
        assert_eq!(subscriber.next(WAIT).unwrap().payload, b"late");
    }
    // Messages over the links go their own way.
    for (guest, link) in &mut guests {
        link.send(b"for you alone", WAIT).unwrap();
        assert_eq!(guest.link.recv(WAIT).unwrap().to_bytes(), "for you alone");
    }
    drop(guests.split_off(5));
    host.publish(b"fewer").unwrap();
    for subscriber in &mut subscribers[..5] {
        assert_eq!(subscriber.next(WAIT).unwrap().payload, b"fewer");
    }
}

#[test]
fn a_slow_reader_counts_what_it_loses_exactly() {
    for slots in [1, 2, 4, 64] {
        let (host, guest, _link) = pair(&[("numbers", slots, 8)]);
        let mut numbers = host.hub().publisher("numbers").unwrap();
        publish_numbers(&mut numbers, 3);
        let mut subscriber = guest.subscribe("numbers", Start::Next).unwrap();
        let mut random = Random::new(slots);
        let mut expected = 3;
        for _ in 0..500 {
            let burst = [0, 1, slots - 1, slots, slots + 1, 2 * slots, random.below(500)]
                [random.below(7) as usize];
            publish_numbers(&mut numbers, burst);
            let mut lost = burst.saturating_sub(slots);
            let total = subscriber.lost() + lost;
            // The loss is told with the value after it, and once.
            while let Some((position, before)) = next_number(&mut subscriber) {
                assert_eq!((position, before), (expected + lost, lost));
                expected = position + 1;
                lost = 0;
            }
            assert_eq!((subscriber.lost(), subscriber.position()), (total, numbers.published()));
        }
    }
}

/// Losses are told by whichever call finds the next value, and looking at the newest finds
/// none of them.
#[test]
fn losses_wait_for_the_next_value() {
    let (host, guest, mut link) = pair(&[("numbers", 2, 8)]);
    let mut numbers = host.hub().publisher("numbers").unwrap();
    let mut subscriber = guest.subscribe("numbers", Start::Next).unwrap();
    publish_numbers(&mut numbers, 10);
    let newest = subscriber.newest().unwrap().unwrap();
    assert_eq!((newest.position, newest.lost), (9, 0));
    assert_eq!(subscriber.lost(), 0);
    let value = subscriber.next(WAIT).unwrap();
    assert_eq!((value.position, value.lost), (8, 8));
    assert_eq!(next_number(&mut subscriber), Some((9, 0)));
    // What was published before the end is read or counted after it, too.
    publish_numbers(&mut numbers, 5);
    assert!(link.try_send(b"x").is_ok());
    drop((link, host));
    eventually(|| guest.link.end());
    assert_eq!(next_number(&mut subscriber), Some((13, 3)));
    assert_eq!(next_number(&mut subscriber), Some((14, 0)));
    let end = subscriber.next(WAIT).unwrap_err();
    assert!(matches!(end, SubscriberError::Ended(LinkEnd::Departed)), "{end:?}");
    // The last value stays.
    assert_eq!(subscriber.newest().unwrap().unwrap().payload, 14u64.to_le_bytes());
    assert_eq!(subscriber.lost(), 11);
}

/// A host publishes as fast as it can; threads of several guests read as fast as they can,
/// late, or now and then: each gets whole values in order, and knows of all others.
#[test]
fn readers_of_a_fast_writer_get_whole_values_and_count_the_others() {
    for (slots, max) in [(1, 8), (2, 40), (16, 1000), (1024, 100)] {
        let (host, guest, _link) = pair(&[("values", slots, max)]);
        let mut publisher = host.hub().publisher("values").unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for kind in 0..3 {
                let mut subscriber = guest.subscribe("values", Start::Next).unwrap();
                let stop = &stop;
                scope.spawn(move || {
                    let start = subscriber.position();
                    let (mut received, mut lost) = (0, 0);
                    loop {
                        let last = stop.load(Ordering::Relaxed);
                        if kind == 1 && received % 64 == 0 {
                            thread::sleep(Duration::from_micros(100));
                        }
                        if kind == 2 {
                            thread::yield_now();
                        }
                        match subscriber.try_next().unwrap() {
                            Some(value) => {
                                let position = value.position;
                                let is_whole =
                                    pattern::is_value(position, max as usize, value.payload);
                                assert!(is_whole, "value {position} is torn");
                                received += 1;
                                lost += value.lost;
                                assert_eq!(start + received + lost, position + 1);
                            }
                            None if last => break,
                            None => {}
                        }
                    }
                    assert_eq!(start + received + subscriber.lost(), subscriber.position());
                    assert_eq!(subscriber.position(), subscriber.published_so_far());
                });
            }
            let mut value = vec![0; max as usize];
            for position in 0..100_000 {
                let value = &mut value[..pattern::value_length(position, max as usize)];
                pattern::fill_value(position, value);
                assert_eq!(publisher.publish(value), Ok(position));
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

/// The topic of the processes that publish; see the helper's `publisher`.
const VALUES: &str = "values";
const LARGE: usize = 64 << 10;

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// As fast as it can.
    Follow,
    /// Always the newest, again and again.
    Newest,
    /// From a slot that is about to be overwritten, or is being.
    LapBehind,
}

/// What readers found.
#[derive(Debug, Default)]
struct Tally {
    /// Values copied and checked to the last byte.
    reads: AtomicU64,
    /// Those of them that were the same value again, at a look at the newest.
    again: AtomicU64,
    /// Values whose contents are not those of their position.
    torn: AtomicU64,
    lost: AtomicU64,
    /// Looks at the newest value that gave up.
    busy: AtomicU64,
}

impl Tally {
    fn check(&self, position: u64, payload: &[u8]) {
        if !pattern::is_value(position, LARGE, payload) {
            self.torn.fetch_add(1, Ordering::Relaxed);
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// Follows one host until its end; every loss is accounted for. Returns how many values
/// were published as far as it knows.
fn read(path: &Path, way: Way, ready: &Barrier, tally: &Tally) -> u64 {
    let guest = eventually(|| match Guest::attach(path, WAIT) {
        Ok(guest) => Some(guest),
        // The last host's, which is being replaced.
        Err(AttachError::HostDead(_) | AttachError::HostGone) => None,
        Err(error) => panic!("{error:?}"),
    });
    let mut values = guest.subscribe(VALUES, Start::Oldest).unwrap();
    ready.wait();
    if way == Way::Newest {
        look(&guest, &mut values, tally);
        return values.published_so_far();
    }
    let (mut received, mut lost) = (0, 0);
    loop {
        if way == Way::LapBehind {
            let a_lap = values.position() + 2;
            while values.published_so_far() < a_lap && guest.link.end().is_none() {
                thread::yield_now();
            }
        }
        match values.try_next() {
            Ok(Some(value)) => {
                tally.check(value.position, value.payload);
                received += 1;
                lost += value.lost;
                assert_eq!(received + lost, value.position + 1, "{way:?}: in order");
            }
            // With fewer processors than readers the writer waits for one.
            Ok(None) => thread::yield_now(),
            Err(SubscriberError::Ended(_)) => break,
            Err(error) => panic!("{way:?}: {error:?}"),
        }
    }
    tally.lost.fetch_add(values.lost(), Ordering::Relaxed);
    // Nothing that is left is unread.
    let published = values.published_so_far();
    assert_eq!(received + values.lost(), published, "{way:?}");
    assert_eq!(values.position(), published, "{way:?}");
    assert!(matches!(values.try_next(), Err(SubscriberError::Ended(_))), "{way:?}");
    published
}

fn look(guest: &Guest, values: &mut Subscriber, tally: &Tally) {
    let mut last = None;
    while guest.link.end().is_none() {
        match values.newest() {
            Ok(Some(value)) if last == Some(value.position) => {
                tally.check(value.position, value.payload);
                tally.again.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
            }
            Ok(Some(value)) => {
                assert!(last < Some(value.position), "{last:?}, then {}", value.position);
                tally.check(value.position, value.payload);
                last = Some(value.position);
            }
            Ok(None) => assert_eq!(last, None),
            Err(SubscriberError::Busy) => {
                tally.busy.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    // A host that died in the middle of a value leaves the one before it.
    let left = values.newest().unwrap().map(|value| {
        assert!(pattern::is_value(value.position, LARGE, value.payload));
        value.position
    });
    assert!(left >= last, "{left:?} after {last:?}");
}

/// The memory of the hub at `path`, for reading.
fn hub_memory(path: &Path) -> (RawMemory, u64) {
    let welcome = eventually(|| {
        let socket = RawSocket::try_connect(path)?;
        socket.try_welcomed()
    });
    let size = welcome.geometry.hub;
    let memory = RawMemory::map(std::os::fd::AsFd::as_fd(&welcome.hub), size as usize, false);
    let memory = memory.unwrap();
    let ring = topic::ring(&memory, 0);
    (memory, ring)
}

#[test]
fn a_writer_stopped_and_killed_anywhere_tears_nothing_and_every_loss_is_counted() {
    let target = amount("SHM_TEST_READS", 100_000);
    let place = Place::new();
    let path: PathBuf = place.hub();
    let tally = Tally::default();
    let mut random = Random::new(target);
    let (mut rounds, mut kills, mut stops, mut midway, mut published) = (0, 0, 0, 0, 0);
    while tally.reads.load(Ordering::Relaxed) < target || rounds < 12 || midway == 0 {
        let mut host = peer!("publisher", &path, "2", LARGE.to_string());
        assert_eq!(host.answer(), "host");
        let (memory, ring) = hub_memory(&path);
        let mut remote = peer!("subscriber", &path);
        assert!(remote.answer().starts_with("attached"));
        remote.ask("subscribe values");
        assert_eq!(remote.ask("follow"), "following");
        let ready = Barrier::new(4);
        let is_kill = rounds % 3 != 0;
        thread::scope(|scope| {
            let readers = [Way::Follow, Way::Newest, Way::LapBehind].map(|way| {
                let (path, ready, tally) = (&path, &ready, &tally);
                scope.spawn(move || read(path, way, ready, tally))
            });
            ready.wait();
            // As fast as it can, or so that readers that are not late get most of it.
            let pause = [0, 0, 30, 100][rounds % 4];
            assert_eq!(host.ask(&format!("flood {pause}")), "flooding");
            for _ in 0..random.below(6) {
                thread::sleep(Duration::from_micros(random.below(30_000)));
                host.signal(Signal::SIGSTOP);
                thread::sleep(Duration::from_micros(random.below(5000)));
                // Some die while they are stopped.
                if !is_kill || random.below(8) != 0 {
                    host.signal(Signal::SIGCONT);
                }
                stops += 1;
            }
            thread::sleep(Duration::from_micros(random.below(60_000)));
            let stated = if is_kill {
                host.kill();
                kills += 1;
                let odd =
                    (0..2).filter(|slot| memory.load64(topic::slot(ring, *slot, LARGE)) & 1 != 0);
                midway += odd.count().min(1);
                None
            } else {
                let stated = host.ask("stop").parse::<u64>().expect("a count");
                host.ask("close");
                Some(stated)
            };
            let found = readers.map(|reader| reader.join().unwrap());
            let words = remote.answer();
            let words: Vec<&str> = words.split(' ').collect();
            let [end, received, lost, position, all] = *words else { panic!("{words:?}") };
            let [received, lost, position, all] =
                [received, lost, position, all].map(|word| word.parse::<u64>().expect(word));
            let expected = if is_kill { "Some(PeerDead)" } else { "Some(Departed)" };
            assert_eq!(end, expected);
            assert_eq!((received + lost, position), (all, all));
            tally.reads.fetch_add(received, Ordering::Relaxed);
            tally.lost.fetch_add(lost, Ordering::Relaxed);
            for count in found {
                assert_eq!(count, all, "all readers agree on what was published");
            }
            assert_eq!(stated.unwrap_or(all), all, "and so does the host");
            published += all;
        });
        rounds += 1;
    }
    println!(
        "{rounds} hosts, {published} values of 64 KiB published, {stops} stops, {kills} kills of \
         which {midway} in the middle of a value; {tally:?}"
    );
    assert_eq!(tally.torn.load(Ordering::Relaxed), 0);
}

/// Neither readers that sleep in either way nor what they were sent hold up a host whose
/// guests are stopped: it publishes any number of values.
#[test]
fn stopped_readers_do_not_hold_up_the_writer() {
    let place = Place::new();
    let topic = TopicConfig { slots: 2, max_payload: 40 };
    let mut host = place.host(Host::builder().topic(VALUES, topic));
    let mut publisher = host.hub().publisher(VALUES).unwrap();
    let mut guests = Vec::new();
    for way in ["next-for-ever", "arm", "wait", "follow", "arm"] {
        let mut guest = peer!("subscriber", place.hub());
        let link = host.accept(WAIT).unwrap();
        assert!(guest.answer().starts_with("attached"));
        guest.ask("subscribe values");
        if way == "wait" {
            assert_eq!(guest.ask("arm"), "false");
        }
        guest.tell(way);
        thread::sleep(Duration::from_millis(10));
        guest.stop();
        guests.push((guest, link));
    }
    for position in 0..200_000 {
        let value = pattern::value(position, 40);
        assert_eq!(publisher.publish(&value), Ok(position));
    }
    for (guest, _) in &mut guests {
        guest.go_on();
    }
    // Each has found something.
    assert!(guests[0].0.answer().parse::<u64>().is_ok());
    assert!(["true", "false"].contains(&guests[1].0.answer().as_str()));
    assert_eq!(guests[2].0.answer(), "true");
    assert_eq!(guests[3].0.answer(), "following");
    drop(guests.remove(3).1);
}
