use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    vec,
    vec::Vec,
};

use super::*;
use crate::{
    Frame, Mapped, Memory, Offset,
    frame::{BadFrame, footprint},
    order::{OWN, Order},
    outbox::{OutboxGeometry, TAIL},
    pool::SlotId,
};

struct Ring {
    producer: Producer<Mapped>,
    consumer: Consumer<Mapped>,
    producers: Mapped,
    consumers: Mapped,
    geometry: OutboxGeometry,
}

impl Ring {
    fn new(capacity: u64) -> Self {
        let geometry = OutboxGeometry::new(capacity, 0).unwrap();
        let [producers, consumers] = [0, 1].map(|_| Mapped::leaked(geometry.total_size()));
        Self {
            producer: Producer::new(producers, consumers, &geometry),
            consumer: Consumer::new(consumers, producers, &geometry),
            producers,
            consumers,
            geometry,
        }
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let entry = self.consumer.next().unwrap()?;
        let mut bytes = vec![0; entry.len() as usize];
        self.consumer.read(&entry, 0, &mut bytes);
        self.consumer.release();
        Some(bytes)
    }

    fn word(&self, index: u64) -> Offset {
        self.geometry.ring().plus(index)
    }
}

#[test]
fn messages_come_out_as_they_went_in() {
    let mut ring = Ring::new(256);
    for len in [0, 1, 7, 8, 9, 64, 120] {
        let message = vec![len as u8; len];
        ring.producer.push(&message).unwrap();
        assert_eq!(ring.pop(), Some(message));
        assert_eq!(ring.pop(), None);
    }
}

#[test]
fn an_empty_ring_takes_its_largest_frame_everywhere() {
    for capacity in [64, 128, 256] {
        let mut ring = Ring::new(capacity);
        let largest = vec![7; ring.producer.largest_inline() as usize];
        assert_eq!(footprint(largest.len() as u32), capacity / 2);
        for _ in 0..capacity {
            ring.producer.push(&largest).unwrap();
            assert_eq!(ring.pop().as_ref(), Some(&largest));
            ring.producer.push(&[]).unwrap();
            assert_eq!(ring.pop(), Some(vec![]));
        }
    }
}

#[test]
fn a_frame_above_half_the_capacity_is_refused() {
    let mut ring = Ring::new(64);
    assert!(ring.producer.grant(24).is_ok());
    for len in [25, 64, u32::MAX] {
        let error = ring.producer.grant(len).unwrap_err();
        assert_eq!(error, GrantError::TooLarge { len: len.into(), max: 24 });
    }
}

#[test]
fn a_full_ring_says_so_and_goes_on_when_read() {
    let mut ring = Ring::new(64);
    let mut sent = 0u8;
    while ring.producer.push(&[sent]).is_ok() {
        sent += 1;
    }
    // 16 bytes a frame, and the cleared header behind the last.
    assert_eq!(sent, 3);
    assert_eq!(ring.producer.push(&[9]), Err(GrantError::Full));
    assert_eq!(ring.pop(), Some(vec![0]));
    ring.producer.push(&[9]).unwrap();
    for message in [1, 2, 9] {
        assert_eq!(ring.pop(), Some(vec![message]));
    }
}

#[test]
fn staged_frames_are_seen_together_or_not_at_all() {
    let mut ring = Ring::new(256);
    for round in 0..50u8 {
        ring.producer.stage(&[round]).unwrap();
        ring.producer.stage(&[round, round]).unwrap();
        assert!(!ring.consumer.is_ready());
        if round % 3 == 0 {
            ring.producer.abort();
            ring.producer.publish();
            assert_eq!(ring.pop(), None);
        } else {
            ring.producer.publish();
            assert_eq!(ring.pop(), Some(vec![round]));
            assert_eq!(ring.pop(), Some(vec![round, round]));
        }
    }
}

#[test]
fn a_dropped_grant_did_nothing() {
    let mut ring = Ring::new(64);
    let grant = ring.producer.grant(8).unwrap();
    let at = grant.payload();
    drop(grant);
    ring.producers.write(at, &[0xff; 8]);
    ring.producer.publish();
    assert_eq!(ring.pop(), None);
    ring.producer.push(b"x").unwrap();
    assert_eq!(ring.pop(), Some(b"x".to_vec()));
}

#[test]
fn a_grant_may_be_committed_short() {
    let mut ring = Ring::new(64);
    for used in [0, 1, 8, 9, 24, 25] {
        let grant = ring.producer.grant(24).unwrap();
        ring.producers.write(grant.payload(), &[5; 24]);
        grant.commit(used);
        ring.producer.publish();
        assert_eq!(ring.pop(), Some(vec![5; used.min(24) as usize]));
    }
}

#[test]
fn reads_beyond_the_end_of_an_entry_find_nothing() {
    let mut ring = Ring::new(64);
    ring.producer.push(b"12345").unwrap();
    let entry = ring.consumer.next().unwrap().unwrap();
    for (from, count) in [(0, 4), (3, 2), (5, 0), (6, 0), (1 << 20, 0), (u32::MAX, 0)] {
        assert_eq!(ring.consumer.read(&entry, from, &mut [0; 4]), count);
    }
}

#[test]
fn references_pass_without_payload() {
    let mut ring = Ring::new(64);
    for index in 0..100 {
        let frame = Frame::Slot { slot: SlotId { class: 2, index }, len: 77 };
        ring.producer.stage_reference(frame).unwrap();
        ring.producer.publish();
        let entry = ring.consumer.next().unwrap().unwrap();
        ring.consumer.release();
        assert_eq!((entry.frame(), entry.len()), (frame, 0));
    }
}

#[test]
fn a_tail_that_lies_is_corrupt() {
    for lie in [1 << 31, (1 << 32) - 1, u64::MAX, 48 + 8] {
        let mut ring = Ring::new(64);
        for _ in 0..3 {
            ring.producer.push(&[0]).unwrap();
        }
        ring.consumers.store64(TAIL, lie, OWN);
        assert_eq!(ring.producer.push(&[0]), Err(GrantError::Corrupt { tail: lie }));
        // The truth is accepted again: the lie changed nothing.
        ring.consumers.store64(TAIL, 16, OWN);
        ring.producer.push(&[0]).unwrap();
        // Going back is a lie too.
        ring.consumers.store64(TAIL, 8, OWN);
        assert_eq!(ring.producer.push(&[0]), Err(GrantError::Corrupt { tail: 8 }));
    }
}

#[test]
fn headers_that_lie_are_corrupt_and_touch_nothing() {
    let cases = [
        (0, 77, CorruptRing::Frame(BadFrame(77))),
        (0, Frame::Padding.encode(), CorruptRing::Padding),
        (0, Frame::Inline { len: 25 }.encode(), CorruptRing::Length { len: 25 }),
        (0, Frame::Inline { len: u32::MAX }.encode(), CorruptRing::Length { len: u32::MAX }),
        // Within half the capacity, but beyond the end of the ring.
        (48, Frame::Inline { len: 16 }.encode(), CorruptRing::Length { len: 16 }),
        // Padding with nothing behind it, or with padding behind it.
        (48, Frame::Padding.encode(), CorruptRing::Padding),
    ];
    for (at, word, error) in cases {
        let mut ring = Ring::new(64);
        for _ in 0..at / 16 {
            ring.producer.push(&[0]).unwrap();
            ring.pop().unwrap();
        }
        ring.producers.store64(ring.word(0), if at == 0 { word } else { 0 }, OWN);
        ring.producers.store64(ring.word(at), word, OWN);
        assert_eq!(ring.consumer.next().unwrap_err(), error);
        assert!(ring.consumer.is_ready());
        assert_eq!(ring.consumer.next().unwrap_err(), error);
    }
    let mut ring = Ring::new(64);
    for _ in 0..3 {
        ring.producer.push(&[0]).unwrap();
        ring.pop().unwrap();
    }
    ring.producers.store64(ring.word(48), Frame::Padding.encode(), OWN);
    ring.producers.store64(ring.word(0), Frame::Padding.encode(), OWN);
    assert_eq!(ring.consumer.next().unwrap_err(), CorruptRing::Padding);
}

#[derive(Clone, Debug)]
enum Step {
    Stage(u8),
    Publish,
    Abort,
    Take,
    Release,
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let step = prop_oneof![
        4 => (0..40u8).prop_map(Step::Stage),
        3 => Just(Step::Publish),
        1 => Just(Step::Abort),
        4 => Just(Step::Take),
        3 => Just(Step::Release),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest::proptest! {
    /// Against a plain queue: any sequence of operations, at any position of the ring.
    #[test]
    fn a_ring_is_a_queue(steps in steps(), shift in 0..60u64) {
        let mut ring = Ring::new(64);
        for _ in 0..shift {
            ring.producer.push(&[]).unwrap();
            ring.pop().unwrap();
        }
        let (mut staged, mut queue) = (Vec::new(), VecDeque::new());
        let mut value = 0u8;
        for step in steps {
            match step {
                Step::Stage(len) => {
                    value = value.wrapping_add(1);
                    let message = vec![value; len as usize];
                    match ring.producer.stage(&message) {
                        Ok(()) => staged.push(message),
                        Err(GrantError::TooLarge { .. }) => assert!(len > 24),
                        Err(GrantError::Full) => assert!(!staged.is_empty() || !queue.is_empty()
                            || ring.consumer.released != ring.consumer.position),
                        Err(error) => panic!("{error}"),
                    }
                }
                Step::Publish => {
                    ring.producer.publish();
                    queue.extend(staged.drain(..));
                }
                Step::Abort => {
                    ring.producer.abort();
                    staged.clear();
                }
                Step::Take => {
                    let taken = ring.consumer.next().unwrap().map(|entry| {
                        let mut bytes = vec![0; entry.len() as usize];
                        ring.consumer.read(&entry, 0, &mut bytes);
                        bytes
                    });
                    assert_eq!(taken, queue.pop_front());
                }
                Step::Release => {
                    ring.consumer.release();
                }
            }
        }
    }
}

/// Counts how often each 64-bit word is loaded.
#[derive(Clone, Debug)]
struct Counting {
    memory: Mapped,
    loads: Rc<RefCell<BTreeMap<u64, u32>>>,
}

impl Memory for Counting {
    fn size(&self) -> u64 {
        self.memory.size()
    }
    fn load32(&self, at: Offset, order: Order) -> u32 {
        self.memory.load32(at, order)
    }
    fn store32(&self, at: Offset, value: u32, order: Order) {
        self.memory.store32(at, value, order);
    }
    fn add32(&self, at: Offset, value: u32, order: Order) -> u32 {
        self.memory.add32(at, value, order)
    }
    fn load64(&self, at: Offset, order: Order) -> u64 {
        *self.loads.borrow_mut().entry(at.bytes()).or_default() += 1;
        self.memory.load64(at, order)
    }
    fn store64(&self, at: Offset, value: u64, order: Order) {
        self.memory.store64(at, value, order);
    }
    fn exchange64(&self, at: Offset, current: u64, new: u64, order: Order) -> bool {
        self.memory.exchange64(at, current, new, order)
    }
    fn read(&self, at: Offset, to: &mut [u8]) {
        self.memory.read(at, to);
    }
    fn write(&self, at: Offset, from: &[u8]) {
        self.memory.write(at, from);
    }
    fn fence(&self, order: Order) {
        self.memory.fence(order);
    }
    fn relax(&self) {
        self.memory.relax();
    }
}

#[derive(Clone, Debug)]
enum Sent {
    Inline(u8),
    Reference(u16),
}

fn sent() -> impl proptest::strategy::Strategy<Value = Vec<(Sent, bool, bool)>> {
    use proptest::prelude::*;
    let frame = prop_oneof![(0..100u8).prop_map(Sent::Inline), (0..9u16).prop_map(Sent::Reference)];
    proptest::collection::vec((frame, any::<bool>(), any::<bool>()), 1..300)
}

proptest::proptest! {
    /// By [`Consumer::next_inline`] where that is enough, and by [`Consumer::next`], each
    /// frame comes once, and each header word is loaded once. At most an eighth of the ring is
    /// kept, and nothing when nothing is left.
    #[test]
    fn both_ways_of_taking_see_the_same_frames_and_load_each_header_once(frames in sent()) {
        let geometry = OutboxGeometry::new(256, 0).unwrap();
        let [producers, consumers] = [0, 1].map(|_| Mapped::leaked(geometry.total_size()));
        let loads = Rc::<RefCell<BTreeMap<u64, u32>>>::default();
        let counting = Counting { memory: producers, loads: Rc::clone(&loads) };
        let own = Counting { memory: consumers, loads: Rc::default() };
        let mut producer = Producer::new(producers, consumers, &geometry);
        let mut consumer = Consumer::new(own, counting, &geometry);
        let mut queue = VecDeque::new();
        for (number, (frame, take, inline)) in frames.into_iter().enumerate() {
            let message;
            let frame = match frame {
                Sent::Inline(len) => {
                    message = vec![number as u8; len.into()];
                    match producer.push(&message) {
                        Ok(()) => Some((Frame::Inline { len: len.into() }, message)),
                        Err(error) => { assert_eq!(error, GrantError::Full); None }
                    }
                }
                Sent::Reference(index) => {
                    let frame = Frame::Sealed { index };
                    let sent = producer.stage_reference(frame);
                    producer.publish();
                    sent.is_ok().then_some((frame, vec![]))
                }
            };
            let take = take || frame.is_none();
            queue.extend(frame);
            if !take {
                continue;
            }
            loop {
                loads.borrow_mut().clear();
                let before = consumer.ahead != 0;
                let quickly = if inline { consumer.next_inline() } else { None };
                let quick = quickly.is_some();
                let Some(entry) = quickly.or_else(|| consumer.next().unwrap()) else { break };
                let (frame, message) = queue.pop_front().unwrap();
                assert_eq!(entry.frame(), frame);
                // Padding has a header, too.
                let most = if before { 1 } else { 2 };
                let counts = loads.borrow().clone();
                assert!(counts.len() <= most && counts.values().all(|&n| n == 1), "{counts:?}");
                assert!(!quick || counts.len() <= 1, "{counts:?}");
                assert!(!quick || matches!(frame, Frame::Inline { .. }));
                let mut bytes = vec![0; message.len()];
                assert_eq!(consumer.read(&entry, 0, &mut bytes), message.len());
                assert_eq!(bytes, message);
                let released = consumer.release();
                let kept = consumer.position.since(consumer.released);
                assert_eq!(released, kept == 0);
                assert!(kept < 256 / 8);
                assert_eq!(producer.is_drained().unwrap(), queue.is_empty());
            }
            assert!(queue.is_empty());
        }
    }

    /// Whatever stands there, it is an inline frame that fits, or left to
    /// [`Consumer::next`].
    #[test]
    fn what_is_not_an_inline_frame_is_left_to_the_other_way(word: u64, kind in 0..3u64, at in 0..8u64) {
        let word = match kind { 0 => word, 1 => word << 32 | 1, _ => (word & 0xff) << 32 | 1 };
        let at = 8 * at;
        let corrupt = || {
            let mut ring = Ring::new(64);
            for _ in 0..at / 8 {
                ring.producer.push(&[]).unwrap();
                ring.pop().unwrap();
            }
            ring.producers.store64(ring.word(at), word, OWN);
            ring
        };
        let (mut quick, mut slow) = (corrupt(), corrupt());
        let taken = quick.consumer.next_inline().map(|entry| (entry.frame(), entry.payload()));
        let expected = slow.consumer.next();
        if let Some(taken) = taken {
            let expected = expected.unwrap().unwrap();
            assert_eq!(taken, (expected.frame(), expected.payload()));
            assert_eq!(quick.consumer.position, slow.consumer.position);
        } else {
            let inline = expected.as_ref().is_ok_and(|entry| {
                entry.is_some_and(|entry| matches!(entry.frame(), Frame::Inline { .. }))
            });
            assert!(!inline);
            let entry = |next: Result<Option<Entry>, _>| {
                next.map(|entry| entry.map(|entry| (entry.frame(), entry.payload())))
            };
            assert_eq!(entry(quick.consumer.next()), entry(expected));
        }
    }
}

/// Two rings, of which one is used by [`Producer::push`] and one by stage and publish.
#[test]
fn a_push_at_once_writes_what_a_staged_one_does_at_every_position() {
    for start in 0..16 {
        for used in 0..16 {
            for len in 0..=60 {
                let [mut at_once, mut staged] = [(); 2].map(|()| Ring::new(128));
                for ring in [&mut at_once, &mut staged] {
                    for _ in 0..start {
                        ring.producer.push(&[]).unwrap();
                        ring.pop().unwrap();
                    }
                    // What stays in the ring.
                    for _ in 0..used {
                        let _ = ring.producer.push(&[]);
                    }
                }
                let message = vec![0xaa; len];
                let did = at_once.producer.push_at_once(&message);
                let one = if did { Ok(()) } else { at_once.producer.push(&message) };
                let other = staged.producer.stage(&message).map(|()| staged.producer.publish());
                assert_eq!(one, other, "{len} bytes at {start}, {used} in use");
                let bytes = [&at_once, &staged].map(|ring| {
                    let mut bytes = vec![0; ring.geometry.total_size() as usize];
                    ring.producers.read(Offset::new(0), &mut bytes);
                    bytes
                });
                assert!(bytes[0] == bytes[1], "{len} bytes at {start}, {used} in use");
            }
        }
    }
}

#[test]
fn a_push_at_once_does_nothing_while_frames_are_staged() {
    let mut ring = Ring::new(128);
    ring.producer.stage(&[1]).unwrap();
    assert!(!ring.producer.push_at_once(&[2]));
    assert_eq!(ring.pop(), None);
    ring.producer.push(&[2]).unwrap();
    assert_eq!([ring.pop(), ring.pop()], [Some(vec![1]), Some(vec![2])]);
}
