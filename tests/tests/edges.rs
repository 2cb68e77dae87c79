//! Sizes and counts at their edges, each with what must come of it: how a message travels,
//! or which error there is; and that link and hub work afterwards.

use std::thread;

use shm_tests::{Place, WAIT, pattern};
use shm_transport::{
    AttachError, CreateError, Deadline, GeometryError, Guest, Host, Link, LinkConfig, SendError,
    SizeClass, Start, TopicConfig,
    fleet::{Fleet, RingConfig},
};

const RING: usize = 1 << 10;
const HALF: usize = RING / 2;
/// As much as goes inline: half the ring, less a frame's header.
const INLINE: usize = HALF - 8;
const SMALL: usize = 1 << 10;
const LARGE: usize = 8 << 10;
const MOST: usize = 64 << 10;

fn config() -> LinkConfig {
    let class =
        |slot_size, extent_slots, max_extents| SizeClass { slot_size, extent_slots, max_extents };
    LinkConfig {
        ring_capacity: RING as u64,
        inline_limit: Some(u32::MAX),
        size_classes: vec![class(SMALL as u32, 2, 1), class(LARGE as u32, 2, 1)],
        sealed_limit: 2,
        max_message: MOST as u64,
        ..LinkConfig::default()
    }
}

/// How a message came, which its memory tells: only a sealed one can be kept as such, and
/// only one in a slot or sealed is in flight while it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Inline,
    Slot,
    Sealed,
}

/// What becomes of a message of some size.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Comes(Way),
    /// Refused as larger than this.
    TooLarge(u64),
}

use Expected::{Comes, TooLarge};
use Way::{Inline, Sealed, Slot};

/// Sends so many bytes by `send` and by a grant, and looks how they come.
fn message(config: &LinkConfig, len: usize, expected: Expected) {
    let (mut left, mut right) = Link::pair(config).unwrap();
    match expected {
        Comes(way) => {
            let content = pattern::message(len as u64, len);
            for by_grant in [false, true] {
                if by_grant {
                    let mut grant = left.sender.grant(len, WAIT).unwrap();
                    assert_eq!(grant.len(), len);
                    grant.copy_from_slice(&content);
                    grant.commit().unwrap();
                } else {
                    left.send(&content, WAIT).unwrap();
                }
                let message = right.recv(WAIT).unwrap();
                assert_eq!(message.to_bytes(), content);
                let in_flight = left.sender.slots_in_flight() > 0;
                let came = match (message.into_sealed().is_ok(), in_flight) {
                    (true, true) => Sealed,
                    (false, true) => Slot,
                    (false, false) => Inline,
                    (true, false) => panic!("sealed, and not in flight"),
                };
                assert_eq!(came, way);
            }
        }
        TooLarge(most) => {
            let is_refused = |error: SendError| {
                let right = matches!(error, SendError::TooLarge { len: l, max } if l == len as u64 && max == most);
                assert!(right, "{error:?}");
            };
            // Only the length counts: nobody has so many bytes to give.
            is_refused(left.sender.try_grant(len).map(drop).unwrap_err());
            is_refused(left.sender.grant(len, WAIT).map(drop).unwrap_err());
            if len <= 2 * MOST {
                is_refused(left.send(&vec![0; len], WAIT).unwrap_err());
            }
        }
    }
    assert_eq!(left.sender.slots_in_flight(), 0);
    for (len, number) in [0, 1, 100, SMALL, LARGE, MOST].into_iter().zip(0..) {
        let len = len.min(usize::try_from(left.sender.max_message()).unwrap());
        left.send(&pattern::message(number, len), WAIT).unwrap();
        assert!(pattern::matches(number, &right.recv(WAIT).unwrap().to_bytes()));
    }
    assert!(right.try_recv().unwrap().is_none());
}

#[test]
fn messages_at_the_edges_of_each_way_travel_by_it_or_are_refused() {
    let whole = config();
    let no_sealed = LinkConfig { sealed_limit: 0, ..config() };
    let ring_only = LinkConfig { size_classes: Vec::new(), ..no_sealed.clone() };
    let nothing = LinkConfig { max_message: 0, ..config() };
    let any = LinkConfig { max_message: u64::MAX, ..config() };
    let never_inline = LinkConfig { inline_limit: Some(0), ..config() };
    let one_inline = LinkConfig { inline_limit: Some(1), ..config() };
    let beyond = u32::MAX as usize;
    let most = MOST as u64;
    let cases = [
        ("0", &whole, 0, Comes(Inline)),
        ("1", &whole, 1, Comes(Inline)),
        ("a word less one", &whole, 7, Comes(Inline)),
        ("a word", &whole, 8, Comes(Inline)),
        ("a word and one", &whole, 9, Comes(Inline)),
        ("half a line, with its header", &whole, 24, Comes(Inline)),
        ("half a line and one", &whole, 25, Comes(Inline)),
        ("a line, with its header", &whole, 56, Comes(Inline)),
        ("a line and one", &whole, 57, Comes(Inline)),
        ("half the ring less its header, less one", &whole, INLINE - 1, Comes(Inline)),
        ("half the ring less its header", &whole, INLINE, Comes(Inline)),
        ("half the ring less its header, and one", &whole, INLINE + 1, Comes(Slot)),
        ("half the ring less one", &whole, HALF - 1, Comes(Slot)),
        ("half the ring", &whole, HALF, Comes(Slot)),
        ("half the ring and one", &whole, HALF + 1, Comes(Slot)),
        ("the ring less one", &whole, RING - 1, Comes(Slot)),
        ("the smaller class", &whole, SMALL, Comes(Slot)),
        ("the smaller class and one", &whole, SMALL + 1, Comes(Slot)),
        ("the larger class less one", &whole, LARGE - 1, Comes(Slot)),
        ("the larger class", &whole, LARGE, Comes(Slot)),
        ("the larger class and one", &whole, LARGE + 1, Comes(Sealed)),
        ("the largest message less one", &whole, MOST - 1, Comes(Sealed)),
        ("the largest message", &whole, MOST, Comes(Sealed)),
        ("the largest message and one", &whole, MOST + 1, TooLarge(most)),
        ("2^32 - 1", &whole, beyond, TooLarge(most)),
        ("2^32", &whole, beyond + 1, TooLarge(most)),
        ("the largest length less one", &whole, isize::MAX as usize, TooLarge(most)),
        ("the largest number", &whole, usize::MAX, TooLarge(most)),
        ("0 where nothing is largest", &nothing, 0, Comes(Inline)),
        ("1 where nothing is largest", &nothing, 1, TooLarge(0)),
        ("the larger class, without sealed", &no_sealed, LARGE, Comes(Slot)),
        ("the larger class and one, without sealed", &no_sealed, LARGE + 1, TooLarge(LARGE as u64)),
        ("all that goes inline, and nothing else does", &ring_only, INLINE, Comes(Inline)),
        ("one more, where nothing else does", &ring_only, INLINE + 1, TooLarge(INLINE as u64)),
        (
            "the largest number, where nothing else does",
            &ring_only,
            usize::MAX,
            TooLarge(INLINE as u64),
        ),
        ("1 MiB, where no size is too large", &any, 1 << 20, Comes(Sealed)),
        ("0, where nothing goes inline", &never_inline, 0, Comes(Inline)),
        ("1, where nothing goes inline", &never_inline, 1, Comes(Slot)),
        ("1, where one byte goes inline", &one_inline, 1, Comes(Inline)),
        ("2, where one byte goes inline", &one_inline, 2, Comes(Slot)),
    ];
    println!("{} sizes", cases.len());
    for (name, config, len, expected) in cases {
        println!("{name}: {len} bytes, {expected:?}");
        message(config, len, expected);
    }
}

/// What is too large for this machine is an error of the system, and the link goes on.
#[test]
fn a_message_that_no_machine_has_room_for_is_refused_by_the_system() {
    let config = LinkConfig { max_message: u64::MAX, ..config() };
    for len in [1 << 60, isize::MAX as usize, usize::MAX] {
        let (mut left, mut right) = Link::pair(&config).unwrap();
        let refused = left.sender.grant(len, WAIT).map(drop).unwrap_err();
        assert!(matches!(refused, SendError::Os(_) | SendError::TooLarge { .. }), "{refused:?}");
        assert_eq!(left.sender.slots_in_flight(), 0);
        left.send(b"on", WAIT).unwrap();
        assert_eq!(right.recv(WAIT).unwrap().to_bytes(), "on");
    }
}

/// As many guests as the hub has room for attach, and one more is told how many there are.
fn guests(room: usize) {
    let place = Place::new();
    let small = LinkConfig { ring_capacity: 64, size_classes: Vec::new(), ..config() };
    let mut host = place.host(Host::builder().max_guests(room).link(small));
    let path = place.hub();
    let attaching = thread::spawn(move || {
        let guests: Vec<Guest> = (0..room).map(|_| Guest::attach(&path, WAIT).unwrap()).collect();
        let refused = Guest::attach(&path, WAIT).map(drop).unwrap_err();
        assert!(
            matches!(refused, AttachError::HubFull { peers } if peers as usize == room),
            "{refused:?}"
        );
        guests
    });
    let mut links: Vec<Link> = (0..room).map(|_| host.accept(WAIT).unwrap()).collect();
    while !attaching.is_finished() {
        assert!(host.try_accept().unwrap().is_none());
    }
    let mut guests = attaching.join().unwrap();
    assert_eq!(host.hub().peers().len(), room);
    for (number, (link, guest)) in (0..).zip(links.iter_mut().zip(&mut guests)) {
        link.send(&pattern::message(number, 8), WAIT).unwrap();
        assert!(pattern::matches(number, &guest.link.recv(WAIT).unwrap().to_bytes()));
    }
    // The last place is used again.
    drop((links.pop(), guests.pop()));
    let path = place.hub();
    let again = thread::spawn(move || Guest::attach(path, WAIT).unwrap());
    let mut link = host.accept(WAIT).unwrap();
    link.send(b"you again?", WAIT).unwrap();
    assert_eq!(again.join().unwrap().link.recv(WAIT).unwrap().to_bytes(), "you again?");
}

#[test]
fn a_hub_has_room_for_as_many_guests_as_it_says_and_for_no_more() {
    let place = Place::new();
    for room in [0, (1 << 16) + 1, u32::MAX as usize, usize::MAX] {
        let refused = Host::builder().max_guests(room).create(place.hub()).map(drop).unwrap_err();
        let is_named = matches!(
            refused,
            CreateError::Geometry(GeometryError::Peers(peers)) if peers == room as u64
        );
        assert!(is_named, "{refused:?}");
    }
    drop(Host::builder().max_guests(1 << 16).create(place.hub()).unwrap());
    for room in [1, 2, 255, 256] {
        println!("{room} guests");
        guests(room);
    }
}

#[test]
fn values_at_the_edges_of_a_topic_are_published_whole_or_refused() {
    let values = [(0, 0), (1, 1), (7, 8), (64, 64), (65, 64), (0, 64), (usize::MAX, 1 << 20)];
    for (len, max) in values {
        let place = Place::new();
        let topic = TopicConfig { slots: 1, max_payload: max };
        let mut host = place.host(Host::builder().topic("topic", topic));
        let path = place.hub();
        let attaching = thread::spawn(move || Guest::attach(path, WAIT).unwrap());
        let _link = host.accept(WAIT).unwrap();
        let guest = attaching.join().unwrap();
        let mut subscriber = guest.subscribe("topic", Start::Oldest).unwrap();
        let mut publisher = host.hub().publisher("topic").unwrap();
        let len = len.min(2 << 20);
        let value = pattern::message(1, len);
        let published = publisher.publish(&value);
        assert_eq!(published.is_ok(), len as u64 <= max, "{len} of {max}");
        if published.is_err() {
            assert!(subscriber.try_next().unwrap().is_none());
            publisher.publish(&value[..max as usize]).unwrap();
        }
        let expected = &value[..len.min(max as usize)];
        assert_eq!(subscriber.next(WAIT).unwrap().payload, expected);
    }
}

#[test]
fn frames_at_the_edges_of_a_fleet_are_published_whole_or_refused() {
    for (len, max) in [(0, 0), (1, 0), (1, 1), (255, 256), (256, 256), (257, 256), (1 << 20, 256)] {
        let place = Place::in_memory();
        let fleet = Fleet::builder().directory(place.file("fleets")).nodes(1).join("f", 0).unwrap();
        let ring = fleet.ring(0, &RingConfig { capacity: 2, max_payload: max }).unwrap();
        let payload = pattern::message(1, len);
        let published = ring.publish(0, 0, &payload);
        assert_eq!(published.is_ok(), len as u64 <= u64::from(max), "{len} of {max}");
        if published.is_err() {
            assert!(ring.read_newest().unwrap().is_none());
            ring.publish(0, 0, &payload[..max as usize]).unwrap();
        }
        let frame = ring.read_newest().unwrap().unwrap();
        assert_eq!(frame.payload(), &payload[..len.min(max as usize)]);
    }
}

#[test]
fn durations_at_the_edges_are_deadlines() {
    let (mut left, mut right) = Link::pair(&config()).unwrap();
    for wait in [std::time::Duration::ZERO, std::time::Duration::from_nanos(1)] {
        assert!(right.recv(wait).is_err());
    }
    for wait in [std::time::Duration::MAX, std::time::Duration::from_secs(u64::MAX / 4)] {
        left.send(b"in time", Deadline::from(wait)).unwrap();
        assert_eq!(right.recv(wait).unwrap().to_bytes(), "in time");
    }
}
