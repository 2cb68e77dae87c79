//! The ring of a fleet: one order, no torn frame, and nobody held up by the dead.
//!
//! Each frame's payload is its own counter and node, so that a frame that is not the one
//! of its name shows.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use shm_primitives::{
    Memory,
    fleet::{
        FLOOR, FleetFrame, FleetId, LaneWriter, Position, ReadAtError, Ring, RingGeometry, TAIL,
    },
};

use crate::{
    crash::{CrashMem, until_death},
    explore::{Paths, explore_bounded},
    memory::{Area, LoomMem},
    thread,
};

const KIND: u8 = 1;
const PAYLOAD: u64 = 8;
/// Place, sequence, id, head and payload.
const SLOT: u64 = 4 * 8 + PAYLOAD;
const NODES: u64 = 2;
const BOUND: usize = 2;

/// A ring of two frames for two nodes.
fn ring() -> (LoomMem, RingGeometry, Ring<LoomMem>) {
    let geometry = RingGeometry::new(KIND, 2, NODES, PAYLOAD).expect("the smallest ring");
    let mut areas = vec![Area::word64(TAIL), Area::word64(FLOOR)];
    areas.extend((0..2).map(|position| Area::word64(geometry.index(position))));
    for node in 0..NODES as u32 {
        areas.push(Area::word64(geometry.ready(node)));
        let start = geometry.lane(node).bytes();
        areas.push(Area::Words64(start..start + SLOT * geometry.lane_slots()));
    }
    let memory = LoomMem::new(geometry.total_size(), &areas);
    (memory.clone(), geometry, Ring::new(memory, geometry))
}

fn join<M: Memory>(memory: M, geometry: RingGeometry, node: u32) -> LaneWriter<M> {
    LaneWriter::join(memory, geometry, node).expect("a lane that only members wrote")
}

/// Publishes frames `counters` of a node.
fn publish<M: Memory>(lane: &mut LaneWriter<M>, node: u32, counters: impl Iterator<Item = u64>) {
    for counter in counters {
        let payload = counter << 8 | u64::from(node);
        let (kind, version) = (counter as u8, counter as u16 + 1);
        let (id, _) =
            lane.publish(kind, version, &payload.to_le_bytes()).expect("others are not so many");
        assert_eq!(Some(id), FleetId::new(KIND, node, counter));
    }
}

/// The frame is the one of its name.
fn check(frame: &FleetFrame) {
    let counter = frame.id().counter();
    let kind = (frame.kind(), frame.version());
    assert_eq!(kind, (counter as u8, counter as u16 + 1), "of another frame: {}", frame.id());
    let expected = counter << 8 | u64::from(frame.id().node());
    assert_eq!(frame.payload(), expected.to_le_bytes(), "torn: {}", frame.id());
}

fn read_at<M: Memory>(ring: &Ring<M>, position: u64) -> Result<FleetFrame, ReadAtError> {
    let frame = ring.read_at(Position::new(position))?;
    assert_eq!(frame.position().number(), position);
    check(&frame);
    Ok(frame)
}

fn name(frame: &FleetFrame) -> (u32, u64) {
    (frame.id().node(), frame.id().counter())
}

/// The last two positions are there, nothing stands after them, and each node's
/// counters rise. Returns the end.
fn check_after<M: Memory>(ring: &Ring<M>) -> u64 {
    let end = ring.end().number();
    let frames: Vec<_> = (end.saturating_sub(2)..end)
        .map(|position| read_at(ring, position).expect("committed and kept"))
        .collect();
    if let [first, second] = &frames[..]
        && first.id().node() == second.id().node()
    {
        assert!(first.id().counter() < second.id().counter());
    }
    assert_eq!(read_at(ring, end), Err(ReadAtError::NotYet));
    for frame in &frames {
        assert_eq!(ring.read(frame.id()).expect("no damage").as_ref(), Some(frame));
    }
    end
}

/// Two nodes publish two frames each: all four are committed, whoever is first.
pub fn two_publishers() {
    let paths = ["lost an exchange", "this one last", "the other one last", "alternating"];
    explore_bounded("fleet::two_publishers", BOUND, &paths, |paths| {
        let (memory, geometry, ring) = ring();
        let mut mine = join(memory.clone(), geometry, 0);
        let mut others = join(memory.clone(), geometry, 1);
        let publishing = thread::spawn(move || publish(&mut others, 1, 0..2));
        publish(&mut mine, 0, 0..2);
        publishing.join().expect("the other ends");
        assert_eq!(check_after(&ring), 4);
        let last = name(&read_at(&ring, 3).expect("the last one"));
        let before = name(&read_at(&ring, 2).expect("the one before"));
        assert_eq!(last.1, 1, "a node's last frame is the last");
        paths.take(if last.0 == 0 { "this one last" } else { "the other one last" });
        paths.take_if(before.0 != last.0, "alternating");
        paths.take_if(memory.lost_exchanges() > 0, "lost an exchange");
    });
}

/// A publisher comes to a ring that another one has lapped meanwhile.
pub fn lapped_publisher() {
    let paths = ["lost an exchange", "before", "after"];
    explore_bounded("fleet::lapped_publisher", BOUND, &paths, |paths| {
        let (memory, geometry, ring) = ring();
        let mut others = join(memory.clone(), geometry, 1);
        let mut mine = join(memory.clone(), geometry, 0);
        let publishing = thread::spawn(move || publish(&mut others, 1, 0..3));
        publish(&mut mine, 0, 0..1);
        publishing.join().expect("the other ends");
        assert_eq!(check_after(&ring), 4);
        let last = name(&read_at(&ring, 3).expect("the last one"));
        paths.take(if last == (0, 0) { "after" } else { "before" });
        paths.take_if(memory.lost_exchanges() > 0, "lost an exchange");
    });
}

/// A reader comes to a position while its frame is published: it is whole or not there.
pub fn committed_is_whole() {
    let paths = ["not yet", "whole"];
    explore_bounded("fleet::committed_is_whole", 3, &paths, |paths| {
        let (memory, geometry, ring) = ring();
        let mut lane = join(memory, geometry, 0);
        let publishing = thread::spawn(move || publish(&mut lane, 0, 0..1));
        match read_at(&ring, 0) {
            Ok(_) => paths.take("whole"),
            Err(error) => {
                assert_eq!(error, ReadAtError::NotYet);
                paths.take("not yet");
            }
        }
        publishing.join().expect("the publisher ends");
        check_after(&ring);
    });
}

/// A reader copies the frame of a position while its node publishes on, until the frame's
/// slot is written again: the frame is whole or lost, never a later one.
pub fn lapped_reader() {
    let paths = ["whole", "lost"];
    explore_bounded("fleet::lapped_reader", BOUND, &paths, |paths| {
        let (memory, geometry, ring) = ring();
        let mut lane = join(memory, geometry, 0);
        publish(&mut lane, 0, 0..2);
        // The slot of frame 0 is that of frame 3.
        let publishing = thread::spawn(move || publish(&mut lane, 0, 2..4));
        match read_at(&ring, 0) {
            Ok(frame) => {
                assert_eq!(name(&frame), (0, 0));
                paths.take("whole");
            }
            Err(error) => {
                assert!(matches!(error, ReadAtError::Lost { oldest } if oldest.number() > 0));
                paths.take("lost");
            }
        }
        publishing.join().expect("the publisher ends");
        assert_eq!(check_after(&ring), 4);
    });
}

/// The same, where others' frames lap the position before the node comes round: that it
/// is lapped is known to the node by the tail alone.
pub fn reader_lapped_by_another() {
    let paths = ["whole", "lost"];
    // Three threads: one preemption more takes minutes.
    explore_bounded("fleet::reader_lapped_by_another", 1, &paths, |paths| {
        let (memory, geometry, ring) = ring();
        let mut lane = join(memory.clone(), geometry, 0);
        publish(&mut lane, 0, 0..2);
        let mut other = join(memory, geometry, 1);
        let publishing = thread::spawn(move || publish(&mut other, 1, 0..1));
        let reader = ring.clone();
        let of_reader = Arc::clone(paths);
        let reading = thread::spawn(move || match read_at(&reader, 0) {
            Ok(frame) => {
                assert_eq!(name(&frame), (0, 0));
                of_reader.take("whole");
            }
            Err(error) => {
                assert!(matches!(error, ReadAtError::Lost { .. }), "{error:?}");
                of_reader.take("lost");
            }
        });
        publish(&mut lane, 0, 2..4);
        publishing.join().expect("the publisher ends");
        reading.join().expect("the reader ends");
        assert_eq!(check_after(&ring), 5);
    });
}

/// A reader takes the newest while two are published: it sees whole frames, never
/// going back.
pub fn newest() {
    let paths = ["none", "first", "second", "overwritten"];
    explore_bounded("fleet::newest", BOUND, &paths, |paths| {
        let (memory, geometry, ring) = ring();
        let mut lane = join(memory, geometry, 0);
        let publishing = thread::spawn(move || publish(&mut lane, 0, 0..4));
        let mut last = 0;
        for _ in 0..2 {
            match ring.read_newest() {
                Ok(None) => {
                    assert_eq!(last, 0, "back to none");
                    paths.take("none");
                }
                Ok(Some(frame)) => {
                    check(&frame);
                    assert_eq!(name(&frame), (0, frame.position().number()));
                    assert!(frame.position().number() + 1 >= last, "back");
                    last = frame.position().number() + 1;
                    paths.take_if(last == 1, "first");
                    paths.take_if(last == 2, "second");
                }
                Err(error) => panic!("{error}"),
            }
        }
        paths.take_if(last == 4, "overwritten");
        publishing.join().expect("the publisher ends");
        assert_eq!(check_after(&ring), 4);
    });
}

/// A reader looks for a frame by its id while it is published: it is found once it is
/// committed, not before, and its position is then readable.
pub fn by_id() {
    let paths = ["not yet", "by its place", "by the index"];
    explore_bounded("fleet::by_id", 3, &paths, |paths| {
        let (memory, geometry, ring) = ring();
        let mut lane = join(memory.clone(), geometry, 0);
        let publishing = thread::spawn(move || publish(&mut lane, 0, 0..1));
        let id = FleetId::new(KIND, 0, 0).expect("a small id");
        match ring.read(id).expect("no damage") {
            None => paths.take("not yet"),
            Some(frame) => {
                check(&frame);
                assert_eq!(frame.id(), id);
                assert_eq!(read_at(&ring, frame.position().number()).as_ref(), Ok(&frame));
                let place = memory.load64(geometry.place(0, 0), shm_primitives::order::HINT);
                paths.take(if place == 0 { "by the index" } else { "by its place" });
            }
        }
        publishing.join().expect("the publisher ends");
        check_after(&ring);
    });
}

/// A reader looks for a frame that its node died with, uncommitted, while the node's next
/// life writes the slot again: it is never found.
pub fn uncommitted_is_never_found() {
    let paths = ["found the later one", "found neither"];
    explore_bounded("fleet::uncommitted_is_never_found", BOUND, &paths, |paths| {
        let (memory, geometry, ring) = ring();
        let [dying] = CrashMem::new([&memory]);
        let mut lane = join(dying.clone(), geometry, 0);
        // It dies when it has written the frame and is about to load the tail.
        dying.die_in(8);
        let death = until_death(|| publish(&mut lane, 0, 0..1));
        assert!(death.is_none(), "it dies before it commits");
        let old = FleetId::new(KIND, 0, 0).expect("a small id");
        let new = FleetId::new(KIND, 0, 3).expect("a small id");
        let publishing = thread::spawn(move || {
            let mut lane = join(memory, geometry, 0);
            // A lap of slots later, in the same slot.
            publish(&mut lane, 0, 3..4);
        });
        assert_eq!(ring.read(old), Ok(None), "it was never committed");
        match ring.read(new).expect("no damage") {
            Some(frame) => {
                check(&frame);
                paths.take("found the later one");
            }
            None => paths.take("found neither"),
        }
        publishing.join().expect("the publisher ends");
        assert_eq!(check_after(&ring), 1);
    });
}

/// A node dies in each of its operations while another one publishes and reads: nothing
/// that was committed is missing or torn, the other one is not held up, and the node's
/// next life publishes under new names.
pub fn dying_publisher() {
    for n in 0.. {
        let (died, committed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (Arc::clone(&died), Arc::clone(&committed));
        let name = format!("fleet::dying_publisher in operation {n}");
        explore_bounded(&name, BOUND, &[], move |_: &Arc<Paths>| {
            let (memory, geometry, ring) = ring();
            let mut first = join(memory.clone(), geometry, 0);
            publish(&mut first, 0, 0..1);
            drop(first);
            let [own] = CrashMem::new([&memory]);
            let mut lane = join(own.clone(), geometry, 0);
            let mut other = join(memory.clone(), geometry, 1);
            own.die_in(n);
            let counts = (Arc::clone(&counts.0), Arc::clone(&counts.1));
            let publishing = thread::spawn(move || {
                let lives = until_death(|| publish(&mut lane, 0, 1..2)).is_some();
                if !lives {
                    counts.0.fetch_add(1, Ordering::Relaxed);
                }
                lives
            });
            publish(&mut other, 1, 0..1);
            let end = ring.end().number();
            assert!((2..=3).contains(&end));
            for position in end - 2..end {
                match read_at(&ring, position) {
                    Ok(_) => {}
                    Err(error) => assert!(matches!(error, ReadAtError::Lost { .. })),
                }
            }
            let lived = publishing.join().expect("dead or done");
            let end = check_after(&ring);
            assert!(!lived || end == 3, "what was published is committed");
            counts.1.fetch_add(u64::from(!lived && end == 3), Ordering::Relaxed);

            // Its next life.
            let mut lane = join(memory, geometry, 0);
            let dead = FleetId::new(KIND, 0, 1).expect("a small id");
            let was_committed = ring.read(dead) != Ok(None);
            let (id, _) = lane.publish(0, 0, &[]).expect("alone");
            // Its frame was never whole, or it is written again a lap of slots later.
            let counters = if was_committed { [2, 2] } else { [1, 4] };
            assert!(counters.contains(&id.counter()), "{id} after {was_committed}");
            let frame = ring.read(id).expect("no damage").expect("committed");
            assert_eq!(frame.position().number(), end);
            assert_eq!(ring.end().number(), end + 1);
            publish(&mut other, 1, 1..2);
            assert_eq!(ring.end().number(), end + 2);
        });
        if died.load(Ordering::Relaxed) == 0 {
            assert!(n > 12, "publishing has more operations");
            break;
        }
        // The commit is the eleventh operation at the earliest.
        assert!(n >= 10 || committed.load(Ordering::Relaxed) == 0, "committed in operation {n}");
    }
}
