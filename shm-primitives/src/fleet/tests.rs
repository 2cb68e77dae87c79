//! A fleet's ring in one thread: orders, laps, loss, and each state that a death leaves.

use std::{format, vec, vec::Vec};

use crate::{
    Mapped, Memory, Offset,
    fleet::{
        Cursor, FleetId, LaneError, LaneWriter, Position, PublishError, ReadAtError, Ring,
        RingGeometry, Start, TAIL,
    },
    order::OWN,
};

const KIND: u8 = 0x2a;

fn ring(capacity: u64, nodes: u64) -> (Mapped, RingGeometry, Ring<Mapped>) {
    let geometry = RingGeometry::new(KIND, capacity, nodes, 40).unwrap();
    let memory = Mapped::leaked(geometry.total_size());
    (memory, geometry, Ring::new(memory, geometry))
}

fn publish(lane: &mut LaneWriter<Mapped>, text: &str) -> (FleetId, Position) {
    lane.publish(1, 2, text.as_bytes()).unwrap()
}

fn text_at(ring: &Ring<Mapped>, position: u64) -> Result<Vec<u8>, ReadAtError> {
    ring.read_at(Position::new(position)).map(|frame| frame.payload().to_vec())
}

#[test]
fn frames_are_found_by_position_by_id_and_as_the_newest() {
    let (memory, geometry, ring) = ring(4, 3);
    assert_eq!(ring.read_newest(), Ok(None));
    assert_eq!(text_at(&ring, 0), Err(ReadAtError::NotYet));
    let mut lanes: Vec<_> =
        (0..3).map(|node| LaneWriter::join(memory, geometry, node).unwrap()).collect();
    for round in 0..50u64 {
        let node = (round * 7 % 3) as usize;
        let text = format!("frame {round}");
        let (id, position) = publish(&mut lanes[node], &text);
        assert_eq!((id.kind(), id.node() as usize), (KIND, node));
        assert_eq!(position.number(), round);
        for frame in
            [ring.read(id), Ok(ring.read_newest().unwrap()), Ok(ring.read_at(position).ok())]
        {
            let frame = frame.unwrap().unwrap();
            assert_eq!((frame.id(), frame.position()), (id, position));
            assert_eq!((frame.kind(), frame.version()), (1, 2));
            assert_eq!(frame.payload(), text.as_bytes());
            assert_eq!(frame.into_payload(), text.as_bytes());
        }
        assert_eq!(text_at(&ring, round + 1), Err(ReadAtError::NotYet));
        assert_eq!(text_at(&ring, round + 9), Err(ReadAtError::NotYet));
        for kept in round.saturating_sub(3)..=round {
            assert_eq!(text_at(&ring, kept).unwrap(), format!("frame {kept}").as_bytes());
        }
        if round >= 4 {
            let oldest = Position::new(round - 3);
            assert_eq!(text_at(&ring, round - 4), Err(ReadAtError::Lost { oldest }));
            assert_eq!(text_at(&ring, 0), Err(ReadAtError::Lost { oldest }));
        }
    }
}

#[test]
fn names_that_no_frame_has_find_nothing() {
    let (memory, geometry, ring) = ring(2, 2);
    let mut lane = LaneWriter::join(memory, geometry, 0).unwrap();
    let id = |kind, node, counter| FleetId::new(kind, node, counter).unwrap();
    assert_eq!(ring.read(id(KIND, 0, 0)), Ok(None), "nothing is published");
    for number in 0..5 {
        assert_eq!(publish(&mut lane, "x").0.counter(), number);
    }
    let others = [(KIND, 0, 1), (KIND, 0, 5), (KIND, 1, 4), (KIND, 9, 4), (1, 0, 4)];
    for (kind, node, counter) in others {
        assert_eq!(ring.read(id(kind, node, counter)), Ok(None));
    }
    assert!(ring.read(id(KIND, 0, 4)).unwrap().is_some());
}

#[test]
fn payloads_of_all_lengths_come_back_and_larger_ones_are_refused() {
    let (memory, geometry, ring) = ring(2, 1);
    let mut lane = LaneWriter::join(memory, geometry, 0).unwrap();
    for len in (0..=40).chain((0..=40).rev()) {
        let payload = vec![len as u8; len];
        let (id, _) = lane.publish(0, 0, &payload).unwrap();
        assert_eq!(ring.read(id).unwrap().unwrap().payload(), payload);
    }
    let refused = lane.publish(0, 0, &[0; 41]);
    assert_eq!(refused, Err(PublishError::TooLarge { len: 41, max: 40 }));
    assert_eq!(publish(&mut lane, "").0.counter(), 82, "a refused frame has no name");
}

#[test]
fn a_cursor_counts_exactly_what_it_lost() {
    let (memory, geometry, ring) = ring(8, 2);
    let mut lane = LaneWriter::join(memory, geometry, 1).unwrap();
    let mut cursor = Cursor::new(&ring, Start::Oldest);
    assert_eq!(cursor.next(&ring), Ok(None));
    let (mut published, mut seen, mut lost) = (0u64, 0, 0);
    for burst in [1, 3, 8, 9, 20, 0, 17, 8] {
        for _ in 0..burst {
            publish(&mut lane, &format!("{published}"));
            published += 1;
        }
        while let Some(next) = cursor.next(&ring).unwrap() {
            lost += next.lost;
            assert_eq!(next.frame.payload(), format!("{}", seen + lost).as_bytes());
            seen += 1;
        }
        assert_eq!(seen + lost, published);
        assert_eq!(cursor.lost(), lost);
    }
    assert_eq!(lost, 1 + 12 + 9);

    let start = |from| Cursor::new(&ring, from).next(&ring).unwrap().map(|next| next.frame);
    assert_eq!(start(Start::Oldest).unwrap().position().number(), published - 8);
    assert_eq!(start(Start::Newest).unwrap().position().number(), published - 1);
    assert_eq!(start(Start::Next), None);
    assert_eq!(start(Start::Position(Position::new(60))).unwrap().payload(), b"60");
}

#[test]
fn a_reset_takes_all_that_is_committed_and_nothing_else() {
    let (memory, geometry, ring) = ring(4, 1);
    let mut lane = LaneWriter::join(memory, geometry, 0).unwrap();
    let mut cursor = Cursor::new(&ring, Start::Oldest);
    let (old, _) = publish(&mut lane, "old");
    publish(&mut lane, "old, too");
    assert_eq!(ring.reset().number(), 2);
    assert_eq!(ring.reset().number(), 2);
    assert_eq!(ring.read(old), Ok(None));
    assert_eq!(ring.read_newest(), Ok(None));
    assert_eq!(text_at(&ring, 1), Err(ReadAtError::Lost { oldest: Position::new(2) }));
    assert_eq!(cursor.next(&ring), Ok(None));
    assert_eq!(Cursor::new(&ring, Start::Newest).next(&ring), Ok(None));
    let (new, position) = publish(&mut lane, "new");
    assert_eq!((new.counter(), position.number()), (2, 2), "names and positions go on");
    let next = cursor.next(&ring).unwrap().unwrap();
    assert_eq!((next.lost, next.frame.id()), (2, new));
    assert_eq!(ring.oldest(), position);
}

#[test]
fn a_node_that_comes_back_goes_on_after_its_last_name() {
    let (memory, geometry, ring) = ring(4, 2);
    let mut last = None;
    for life in 0..30 {
        let mut lane = LaneWriter::join(memory, geometry, 0).unwrap();
        for _ in 0..life % 7 {
            let (id, _) = publish(&mut lane, "x");
            assert_eq!(id.counter(), last.map_or(0, |last| last + 1));
            last = Some(id.counter());
            assert!(ring.read(id).unwrap().is_some());
        }
    }
    let no = LaneWriter::join(memory, geometry, 2).map(|_| ());
    assert_eq!(no, Err(LaneError::NoSuchNode { node: 2, nodes: 2 }));
}

/// A memory whose writer dies in one of its operations: from then on nothing is stored.
#[derive(Clone)]
struct Dying {
    memory: Mapped,
    left: std::rc::Rc<core::cell::Cell<u64>>,
}

impl Dying {
    fn lives(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

impl Memory for Dying {
    fn size(&self) -> u64 {
        self.memory.size()
    }
    fn load32(&self, at: Offset, order: crate::Order) -> u32 {
        self.memory.load32(at, order)
    }
    fn store32(&self, _: Offset, _: u32, _: crate::Order) {
        unreachable!("a ring has no such words");
    }
    fn add32(&self, _: Offset, _: u32, _: crate::Order) -> u32 {
        unreachable!("a ring has no such words");
    }
    fn load64(&self, at: Offset, order: crate::Order) -> u64 {
        self.memory.load64(at, order)
    }
    fn store64(&self, at: Offset, value: u64, order: crate::Order) {
        if self.lives() {
            self.memory.store64(at, value, order);
        }
    }
    fn exchange64(&self, at: Offset, current: u64, new: u64, order: crate::Order) -> bool {
        // Told that it is done, so that the dead one does not go round for ever.
        !self.lives() || self.memory.exchange64(at, current, new, order)
    }
    fn read(&self, _: Offset, _: &mut [u8]) {
        unreachable!("a ring has no payload but words");
    }
    fn write(&self, _: Offset, _: &[u8]) {
        unreachable!("a ring has no payload but words");
    }
    fn fence(&self, order: crate::Order) {
        self.memory.fence(order);
    }
    fn relax(&self) {}
}

/// Deaths of node 0 in a row, each in one of the stores of a publication or of its
/// joining, with `between` frames of node 1 after each.
#[test]
fn whatever_a_death_leaves_the_next_life_repeats_no_name_and_loses_no_frame() {
    let stores = 14;
    for between in [0, 1, 3, 4, 5, 9] {
        for first in 0..=stores {
            for second in 0..=stores {
                lives(&[first, second, stores, second, first], between);
            }
        }
    }
}

fn lives(deaths: &[u64], between: u64) {
    let (memory, geometry, ring) = ring(4, 2);
    let mut other = LaneWriter::join(memory, geometry, 1).unwrap();
    let mut cursor = Cursor::new(&ring, Start::Oldest);
    let mut last = [None; 2];
    let mut position = 0;
    let mut follow = || {
        while let Some(next) = cursor.next(&ring).unwrap() {
            position += next.lost;
            assert_eq!(next.frame.position().number(), position);
            position += 1;
            let id = next.frame.id();
            assert_eq!(next.frame.payload(), format!("{}", id.counter()).as_bytes());
            let last = &mut last[id.node() as usize];
            assert!(last.is_none_or(|last| last < id.counter()), "{id} after {last:?}");
            *last = Some(id.counter());
            assert_eq!(ring.read(id).unwrap().as_ref(), Some(&next.frame));
        }
        position
    };
    for (number, death) in deaths.iter().enumerate() {
        let left = std::rc::Rc::new(core::cell::Cell::new(u64::MAX));
        let dying = Dying { memory, left: left.clone() };
        // Some die in their first publication, some in a later one, some while joining.
        left.set(if number % 3 == 2 { *death % 4 } else { u64::MAX });
        let mut lane = LaneWriter::join(dying, geometry, 0).unwrap();
        for _ in 0..number {
            let counter = lane.next;
            lane.publish(0, 0, format!("{counter}").as_bytes()).unwrap();
            follow();
        }
        left.set(left.get().min(*death));
        let counter = lane.next;
        lane.publish(0, 0, format!("{counter}").as_bytes()).unwrap();
        // What is not committed is not found, what is, is.
        let id = FleetId::new(KIND, 0, counter).unwrap();
        let at_end = ring.end().number() > 0 && ring.read_newest().unwrap().unwrap().id() == id;
        assert_eq!(ring.read(id).unwrap().is_some(), at_end, "death in store {death}");
        for step in 0..between {
            let counter = other.next;
            other.publish(0, 0, format!("{counter}").as_bytes()).unwrap();
            if step == 0 || number % 2 == 0 {
                follow();
            }
        }
    }
    assert_eq!(follow(), ring.end().number(), "each position was read or counted as lost");
}

#[test]
fn a_word_that_no_member_wrote_is_reported_by_readers_and_publishers() {
    let (memory, geometry, ring) = ring(4, 1);
    let mut lane = LaneWriter::join(memory, geometry, 0).unwrap();
    publish(&mut lane, "x");
    memory.store64(geometry.index(0), u64::MAX, OWN);
    memory.store64(geometry.index(1), u64::MAX, OWN);
    assert!(matches!(text_at(&ring, 0), Err(ReadAtError::Corrupt(_))));
    assert!(Cursor::new(&ring, Start::Oldest).next(&ring).is_err());
    assert!(matches!(lane.publish(0, 0, b""), Err(PublishError::Corrupt(_))));
    memory.store64(TAIL, u64::MAX, OWN);
    assert!(matches!(lane.publish(0, 0, b""), Err(PublishError::Corrupt(_))));
    memory.store64(geometry.slot(0, 0).plus(8), u64::MAX, OWN);
    assert!(matches!(LaneWriter::join(memory, geometry, 0), Err(LaneError::Corrupt { slot: 0 })));
}
