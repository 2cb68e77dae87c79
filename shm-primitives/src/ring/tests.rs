use std::{collections::VecDeque, vec, vec::Vec};

use super::*;
use crate::{
    Frame, Mapped, Memory, Offset,
    frame::{BadFrame, footprint},
    order::OWN,
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
