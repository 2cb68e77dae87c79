//! One writer, any number of readers that each follow it with a private cursor.
//!
//! A ring of seqlock slots. Value `n`, counted from 0, lies in slot `n mod slots`, and the
//! slot's sequence says which value it holds: `2n + 1` while `n` is being written, `2n + 2`
//! when it is there.
//!
//! ```text
//! offset   size  field      written by           read by          published by
//!      0      8  published  the writer           readers          a hint
//!    128      8  awaited    the writer's process the writer       fence pair
//!    136      4  bell       the writer's process sleeping readers BELL_RING
//!    256    s·n  slots, each
//!      0      8    sequence the writer           readers          SEQLOCK_END
//!      8      8    length   the writer           readers          "
//!     16      p    payload  the writer           readers          "
//! ```
//!
//! `n` is the number of slots, `p` the largest payload rounded up to 8, `s` is `16 + p`
//! rounded up to 64.
//!
//! Readers write nothing, so they cannot hold up the writer. One that falls behind finds a
//! later value in the slot of the one it wants: it learns how many it has lost, exactly, and
//! goes on with the oldest that is left.
//!
//! A writer that dies before the even sequence leaves the value unpublished, and its slot is
//! then empty: the value that it held was the oldest. After that store the value is there,
//! with `published` one behind; readers look one further than it says.
//!
//! Nobody waits here. A reader that wants to sleep has the writer's process set `awaited`
//! (see [`BroadcastWriter::is_awaited`]), reads the bell before that, and waits for the bell
//! to change.
use core::fmt;

use crate::{
    header::GeometryError,
    memory::{Memory, Offset},
    order::{
        BELL_RING, BELL_SEEN, HINT, OWN, SEQLOCK_BEGIN, SEQLOCK_END, SEQLOCK_FIRST, SEQLOCK_LAST,
        SLEEP_FENCE, WAKE_FENCE,
    },
    seqlock::ATTEMPTS,
};

const PUBLISHED: u64 = 0;
const AWAITED: u64 = 128;
const BELL: u64 = 136;
const SLOTS: u64 = 256;
const LENGTH: u64 = 8;
const PAYLOAD: u64 = 16;
const LINE: u64 = 64;

const MAX_SLOTS: u64 = 1 << 20;
const MAX_PAYLOAD: u64 = 1 << 30;

/// The checked size of a broadcast ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BroadcastGeometry {
    slots: u64,
    max_payload: u64,
}

impl BroadcastGeometry {
    /// A ring of `slots` values of up to `max_payload` bytes each.
    ///
    /// # Errors
    ///
    /// [`GeometryError::Slots`] if they are not a power of two from 1 to 1,048,576,
    /// [`GeometryError::Payload`] if it is more than 1 GiB.
    pub const fn new(slots: u64, max_payload: u64) -> Result<Self, GeometryError> {
        if !slots.is_power_of_two() || slots > MAX_SLOTS {
            return Err(GeometryError::Slots(slots));
        }
        if max_payload > MAX_PAYLOAD {
            return Err(GeometryError::Payload(max_payload));
        }
        Ok(Self { slots, max_payload })
    }

    /// How many values are retained.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        self.slots
    }

    /// The largest value, in bytes.
    #[must_use]
    pub const fn max_payload(&self) -> u64 {
        self.max_payload
    }

    /// Bytes that the ring takes in its segment.
    #[must_use]
    pub const fn size(&self) -> u64 {
        SLOTS.wrapping_add(self.slots.wrapping_mul(self.stride()))
    }

    const fn stride(&self) -> u64 {
        PAYLOAD.wrapping_add(self.max_payload).next_multiple_of(LINE)
    }
}

/// A ring in a segment, as both sides address it.
#[derive(Clone, Debug)]
struct Ring<M: Memory> {
    memory: M,
    at: Offset,
    geometry: BroadcastGeometry,
    stride: u64,
}

impl<M: Memory> Ring<M> {
    fn new(memory: M, at: Offset, geometry: BroadcastGeometry) -> Self {
        Self { memory, at, geometry, stride: geometry.stride() }
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> Offset {
        let index = position & self.geometry.slots.wrapping_sub(1);
        self.at.plus(SLOTS.wrapping_add(index.wrapping_mul(self.stride)))
    }

    fn bell(&self) -> Offset {
        self.at.plus(BELL)
    }

    /// Whether the value at `position` is there, or was.
    #[inline(always)]
    fn is_ready(&self, position: u64) -> bool {
        let sequence = self.memory.load64(self.slot(position), HINT);
        is_after(sequence.wrapping_add(1), complete(position))
    }

    fn published(&self) -> u64 {
        let published = self.memory.load64(self.at.plus(PUBLISHED), HINT);
        // The writer may be between its two stores, or have died there.
        let next = self.memory.load64(self.slot(published), HINT);
        published.wrapping_add((next == complete(published)).into())
    }
}

/// The sequence of a slot that holds the value at `position`.
#[inline(always)]
const fn complete(position: u64) -> u64 {
    position.wrapping_mul(2).wrapping_add(2)
}

/// A value that is larger than the ring's largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Its size in bytes.
    pub len: u64,
    /// The largest, in bytes.
    pub max: u64,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, max } = self;
        write!(f, "a value of {len} bytes; this ring takes up to {max}: configure it larger")
    }
}

impl core::error::Error for TooLarge {}

/// The one writer of a ring.
#[derive(Debug)]
pub struct BroadcastWriter<M: Memory> {
    ring: Ring<M>,
    next: u64,
}

impl<M: Memory> BroadcastWriter<M> {
    /// The writer of the ring at `at`. There is one at a time; it goes on where its
    /// predecessor in this process stopped.
    pub fn new(memory: M, at: Offset, geometry: BroadcastGeometry) -> Self {
        let ring = Ring::new(memory, at, geometry);
        let next = ring.published();
        // One that died between its two stores left `published` one behind. No further than
        // that: readers look one further than it says, not two.
        ring.memory.store64(ring.at.plus(PUBLISHED), next, HINT);
        Self { ring, next }
    }

    /// Publishes a value; returns its position.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if it is larger than the ring's largest.
    #[inline]
    pub fn publish(&mut self, value: &[u8]) -> Result<u64, TooLarge> {
        let len = value.len() as u64;
        let Ring { memory, at, geometry, .. } = &self.ring;
        if len > geometry.max_payload {
            return Err(TooLarge { len, max: geometry.max_payload });
        }
        let position = self.next;
        let slot = self.ring.slot(position);
        let sequence = complete(position);
        memory.store64(slot, sequence.wrapping_sub(1), OWN);
        // SYNC SEQLOCK_BEGIN: whoever sees one of the words below sees the odd sequence,
        // or a later one, when it looks again.
        memory.fence(SEQLOCK_BEGIN);
        memory.store64(slot.plus(LENGTH), len, OWN);
        memory.store_words(slot.plus(PAYLOAD), value, OWN);
        // SYNC SEQLOCK_END: the words are visible with the even sequence.
        memory.store64(slot, sequence, SEQLOCK_END);
        self.next = position.wrapping_add(1);
        memory.store64(at.plus(PUBLISHED), self.next, HINT);
        Ok(position)
    }

    /// To be called after publishing: whether a reader sleeps, or is about to. Then call
    /// [`Alarm::ring`] and wake those that wait for the bell.
    #[inline(always)]
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let Ring { memory, at, .. } = &self.ring;
        // SYNC WAKE_FENCE: either this load sees what `Alarm::set` stored, or the look at
        // the sequence after it sees what was published here.
        memory.fence_light(WAKE_FENCE);
        memory.load64(at.plus(AWAITED), OWN) != 0
    }

    /// How many values were published.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.next
    }
}

/// The writer's process's side of readers that sleep. Any one thread of it at a time uses it.
#[derive(Debug)]
pub struct Alarm<M: Memory> {
    ring: Ring<M>,
}

impl<M: Memory> Alarm<M> {
    /// The alarm of the ring at `at`.
    pub fn new(memory: M, at: Offset, geometry: BroadcastGeometry) -> Self {
        Self { ring: Ring::new(memory, at, geometry) }
    }

    /// Makes the writer see that a reader, which has read everything before `position`, is
    /// about to sleep. Returns whether it need not, because that value is there: the caller
    /// then rings.
    #[must_use]
    pub fn set(&self, position: u64) -> bool {
        let Ring { memory, at, .. } = &self.ring;
        memory.store64(at.plus(AWAITED), 1, OWN);
        // SYNC SLEEP_FENCE: see `is_awaited`.
        memory.fence_heavy(SLEEP_FENCE);
        // The word that the reader looks at, not `published`: a reader that sees the bell rung
        // for this look then sees no less than it did.
        self.ring.is_ready(position)
    }

    /// Rings for everybody who sleeps: the next value is not awaited any more.
    pub fn ring(&self) {
        let Ring { memory, at, .. } = &self.ring;
        memory.store64(at.plus(AWAITED), 0, OWN);
        // SYNC BELL_RING: what was published is visible to whoever sees the new count.
        memory.add32(self.ring.bell(), 1, BELL_RING);
    }

    /// Where the bell is.
    #[must_use]
    pub fn bell(&self) -> Offset {
        self.ring.bell()
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next value that is published.
    #[default]
    Next,
    /// With the newest that is there, or the next if there is none.
    Newest,
    /// With the oldest that is retained, or the next if there is none.
    Oldest,
}

/// What a reader found at its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet: the reader has seen everything.
    Nothing,
    /// A value, copied to the front of the buffer.
    Value {
        /// Its position.
        position: u64,
        /// Its size in bytes.
        len: usize,
    },
    /// So many values were overwritten before they were read. The cursor is at the oldest
    /// that is left.
    Lost(u64),
}

/// The writer broke the protocol: no honest one leaves this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSlot {
    /// The slot's sequence.
    pub sequence: u64,
    /// The length that it claims, in bytes.
    pub len: u64,
}

impl fmt::Display for BadSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence, len } = self;
        write!(f, "a broadcast slot with sequence {sequence} and length {len}, which is impossible")
    }
}

impl core::error::Error for BadSlot {}

/// A reader of a ring: a cursor of its own over memory that it only reads.
#[derive(Clone, Debug)]
pub struct BroadcastReader<M: Memory> {
    ring: Ring<M>,
    next: u64,
}

impl<M: Memory> BroadcastReader<M> {
    /// A reader of the ring at `at`.
    pub fn new(memory: M, at: Offset, geometry: BroadcastGeometry, start: Start) -> Self {
        let mut reader = Self { ring: Ring::new(memory, at, geometry), next: 0 };
        reader.seek(start);
        reader
    }

    /// Moves the cursor. Values that are passed over do not count as lost.
    pub fn seek(&mut self, start: Start) {
        let published = self.ring.published();
        self.next = match start {
            Start::Next => published,
            Start::Newest => published.saturating_sub(1),
            Start::Oldest => published.saturating_sub(self.ring.geometry.slots),
        };
    }

    /// Moves the cursor to the newest value, or leaves it where it is if it has seen that;
    /// returns how many values are passed over.
    pub fn catch_up(&mut self) -> u64 {
        let newest = self.ring.published().wrapping_sub(1);
        if !is_after(newest, self.next) {
            return 0;
        }
        let passed_over = newest.wrapping_sub(self.next);
        self.next = newest;
        passed_over
    }

    /// The position of the value that is read next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// How many values were published, or one less while one is being published.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.ring.published()
    }

    /// Whether [`next`](Self::next) would find something.
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ring.is_ready(self.next)
    }

    /// Copies the value at the cursor into `value`, which has room for the ring's largest,
    /// and moves on.
    ///
    /// # Errors
    ///
    /// [`BadSlot`] if the writer broke the protocol.
    #[inline]
    pub fn next(&mut self, value: &mut [u8]) -> Result<Step, BadSlot> {
        let (position, wanted) = (self.next, complete(self.next));
        let slot = self.ring.slot(position);
        let memory = &self.ring.memory;
        // SYNC SEQLOCK_FIRST: the words of this sequence, or of later ones.
        let before = memory.load64(slot, SEQLOCK_FIRST);
        if before != wanted {
            return self.not_there(before);
        }
        let len = memory.load64(slot.plus(LENGTH), OWN);
        // A length that is being changed can be anything; if it is not, it is a lie.
        let fits = usize::try_from(len).ok().and_then(|len| value.get_mut(..len));
        let copied = fits.map(|to| memory.load_words(slot.plus(PAYLOAD), to, OWN)).is_some();
        // SYNC SEQLOCK_LAST: if one of the words above is of a later write, the load below
        // sees that write's odd sequence or a later one.
        memory.fence(SEQLOCK_LAST);
        let after = memory.load64(slot, OWN);
        if after != wanted {
            return self.not_there(after);
        }
        if !copied || len > self.ring.geometry.max_payload {
            return Err(BadSlot { sequence: after, len });
        }
        self.next = position.wrapping_add(1);
        Ok(Step::Value { position, len: len as usize })
    }

    #[cold]
    fn not_there(&mut self, sequence: u64) -> Result<Step, BadSlot> {
        if !is_after(sequence, complete(self.next)) {
            return Ok(Step::Nothing);
        }
        // The slot holds, or is about to hold, a value a lap or more further on. Those
        // behind it, all but one lap, are gone. The writer may be further yet.
        let slots = self.ring.geometry.slots;
        let holds = sequence.wrapping_sub(1) / 2;
        let by_slot = holds.wrapping_add(1).wrapping_sub(slots);
        let by_count = self.ring.published().wrapping_sub(slots);
        let oldest = if is_after(by_count, by_slot) { by_count } else { by_slot };
        if !is_after(oldest, self.next) {
            return Err(BadSlot { sequence, len: 0 });
        }
        let lost = oldest.wrapping_sub(self.next);
        self.next = oldest;
        Ok(Step::Lost(lost))
    }

    /// Copies the newest value into `value`, which has room for the ring's largest; returns
    /// its position and size, or `None` if nothing was ever published. The cursor stays.
    ///
    /// # Errors
    ///
    /// [`ReadNewestError::Busy`] if each value was overwritten while it was copied, which
    /// takes a writer that is faster than a copy and a ring of few slots;
    /// [`ReadNewestError::Bad`] if the writer broke the protocol.
    pub fn newest(&self, value: &mut [u8]) -> Result<Option<(u64, usize)>, ReadNewestError> {
        let mut reader = self.clone();
        for _ in 0..ATTEMPTS {
            reader.seek(Start::Newest);
            match reader.next(value).map_err(ReadNewestError::Bad)? {
                Step::Value { position, len } => return Ok(Some((position, len))),
                Step::Nothing if self.ring.published() == 0 => return Ok(None),
                Step::Nothing | Step::Lost(_) => self.ring.memory.relax(),
            }
        }
        Err(ReadNewestError::Busy)
    }

    /// Where the bell is, for a reader that sleeps.
    #[must_use]
    pub fn bell(&self) -> Offset {
        self.ring.bell()
    }

    /// What the bell shows. Read before the writer's process is told; then check once more,
    /// and sleep only while the bell still shows this.
    #[must_use]
    pub fn bell_seen(&self) -> u32 {
        // SYNC BELL_SEEN: what was published before the rings counted here is visible to
        // the check that follows.
        self.ring.memory.load32(self.ring.bell(), BELL_SEEN)
    }
}

/// Why the newest value was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadNewestError {
    /// Each was overwritten while it was copied.
    Busy,
    /// The writer broke the protocol.
    Bad(BadSlot),
}

impl fmt::Display for ReadNewestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str(
                "each value was overwritten while it was copied: try again, or configure more slots",
            ),
            Self::Bad(bad) => bad.fmt(f),
        }
    }
}

impl core::error::Error for ReadNewestError {}

/// Whether free-running count `a` is after `b`.
#[inline(always)]
const fn is_after(a: u64, b: u64) -> bool {
    a.wrapping_sub(b) as i64 > 0
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::Mapped;

    fn ring(slots: u64, max: u64) -> (Mapped, Offset, BroadcastGeometry) {
        let geometry = BroadcastGeometry::new(slots, max).unwrap();
        (Mapped::leaked(128 + geometry.size()), Offset::new(128), geometry)
    }

    /// What a reader finds until there is nothing more: values read, and how many were lost.
    fn drain(reader: &mut BroadcastReader<Mapped>) -> (Vec<u64>, u64) {
        let (mut values, mut lost, mut value) = (Vec::new(), 0, [0; 8]);
        loop {
            match reader.next(&mut value).unwrap() {
                Step::Nothing => return (values, lost),
                Step::Lost(count) => lost += count,
                Step::Value { position, len } => {
                    assert_eq!((len, u64::from_le_bytes(value)), (8, position));
                    values.push(position);
                }
            }
        }
    }

    #[test]
    fn a_reader_gets_what_is_left_and_counts_what_is_not() {
        for slots in [1, 2, 4, 16] {
            let (memory, at, geometry) = ring(slots, 8);
            let mut writer = BroadcastWriter::new(memory, at, geometry);
            let mut reader = BroadcastReader::new(memory, at, geometry, Start::Next);
            let mut published = 0u64;
            for burst in [0, 1, slots - 1, slots, slots + 1, 3 * slots + 1, 7] {
                assert!(!reader.is_ready());
                for _ in 0..burst {
                    assert_eq!(writer.publish(&published.to_le_bytes()), Ok(published));
                    published += 1;
                }
                assert_eq!(reader.is_ready(), burst > 0);
                let lost = burst.saturating_sub(slots);
                let expected = (published - burst + lost..published).collect();
                assert_eq!(drain(&mut reader), (expected, lost));
            }
        }
    }

    #[test]
    fn late_readers_begin_where_they_ask() {
        let (memory, at, geometry) = ring(4, 8);
        let begin = |start| BroadcastReader::new(memory, at, geometry, start).position();
        for start in [Start::Next, Start::Newest, Start::Oldest] {
            assert_eq!(begin(start), 0);
        }
        let mut writer = BroadcastWriter::new(memory, at, geometry);
        for n in 0u64..10 {
            writer.publish(&n.to_le_bytes()).unwrap();
        }
        assert_eq!([Start::Next, Start::Newest, Start::Oldest].map(begin), [10, 9, 6]);
        // A writer that goes on elsewhere goes on where the first stopped.
        assert_eq!(BroadcastWriter::new(memory, at, geometry).publish(&[0; 8]), Ok(10));
    }

    #[test]
    fn a_value_whose_writer_stopped_between_its_two_stores_counts() {
        let (memory, at, geometry) = ring(2, 8);
        let mut writer = BroadcastWriter::new(memory, at, geometry);
        writer.publish(&0u64.to_le_bytes()).unwrap();
        memory.store64(at, 0, OWN);
        let reader = BroadcastReader::new(memory, at, geometry, Start::Next);
        assert_eq!((reader.position(), reader.published()), (1, 1));
        assert_eq!(reader.newest(&mut [0; 8]), Ok(Some((0, 8))));
    }

    #[test]
    fn writers_that_stop_there_one_after_the_other_lose_no_value() {
        let (memory, at, geometry) = ring(2, 8);
        for n in 0u64..3 {
            let mut writer = BroadcastWriter::new(memory, at, geometry);
            let found = memory.load64(at, OWN);
            assert_eq!(writer.publish(&n.to_le_bytes()), Ok(n));
            memory.store64(at, found, OWN);
        }
        let reader = BroadcastReader::new(memory, at, geometry, Start::Next);
        assert_eq!(reader.position(), 3);
    }

    #[test]
    fn values_of_any_size_come_back_and_larger_ones_are_refused() {
        let (memory, at, geometry) = ring(2, 100);
        let mut writer = BroadcastWriter::new(memory, at, geometry);
        let mut reader = BroadcastReader::new(memory, at, geometry, Start::Next);
        let mut value = vec![0; 100];
        assert_eq!(reader.newest(&mut value), Ok(None));
        for len in 0..=100 {
            writer.publish(&vec![len as u8; len]).unwrap();
            let step = Step::Value { position: len as u64, len };
            assert_eq!(reader.next(&mut value), Ok(step));
            assert_eq!(value[..len], vec![len as u8; len]);
            assert_eq!(reader.newest(&mut value), Ok(Some((len as u64, len))));
        }
        assert_eq!(writer.publish(&[0; 101]), Err(TooLarge { len: 101, max: 100 }));
    }

    #[test]
    fn a_slot_that_is_being_written_is_nothing_yet_or_lost() {
        let (memory, at, geometry) = ring(2, 8);
        let mut writer = BroadcastWriter::new(memory, at, geometry);
        let mut reader = BroadcastReader::new(memory, at, geometry, Start::Next);
        let slot = reader.ring.slot(0);
        memory.store64(slot, 1, OWN);
        assert!(!reader.is_ready());
        assert_eq!(reader.next(&mut [0; 8]), Ok(Step::Nothing));
        for n in 0u64..2 {
            writer.publish(&n.to_le_bytes()).unwrap();
        }
        // Value 2 is being written over value 0: its writer may never finish.
        memory.store64(slot, 5, OWN);
        assert_eq!(drain(&mut reader), (vec![1], 1));
        assert_eq!(reader.newest(&mut [0; 8]), Ok(Some((1, 8))));
    }

    #[test]
    fn what_no_honest_writer_leaves_is_an_error_or_bounded() {
        let (memory, at, geometry) = ring(2, 8);
        let start = |start| BroadcastReader::new(memory, at, geometry, start);
        let mut reader = start(Start::Next);
        let slot = reader.ring.slot(0);
        memory.store64(slot, 2, OWN);
        memory.store64(slot.plus(LENGTH), u64::MAX, OWN);
        assert_eq!(reader.next(&mut [0; 8]), Err(BadSlot { sequence: 2, len: u64::MAX }));
        memory.store64(slot.plus(LENGTH), 9, OWN);
        assert_eq!(reader.next(&mut [0; 64]), Err(BadSlot { sequence: 2, len: 9 }));
        memory.store64(slot, 4, OWN);
        assert!(reader.next(&mut [0; 8]).is_err());
        for published in [0, 1, u64::MAX / 2, u64::MAX] {
            memory.store64(at, published, OWN);
            for sequence in [0, 1, 2, 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
                memory.store64(slot, sequence, OWN);
                for from in [Start::Next, Start::Newest, Start::Oldest] {
                    let mut reader = start(from);
                    let _ =
                        (reader.next(&mut [0; 8]), reader.newest(&mut [0; 8]), reader.is_ready());
                }
            }
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for slots in [0, 3, MAX_SLOTS * 2, u64::MAX] {
            assert_eq!(BroadcastGeometry::new(slots, 8), Err(GeometryError::Slots(slots)));
        }
        let max = MAX_PAYLOAD + 1;
        assert_eq!(BroadcastGeometry::new(1, max), Err(GeometryError::Payload(max)));
        assert!(BroadcastGeometry::new(MAX_SLOTS, MAX_PAYLOAD).is_ok());
    }

    #[test]
    fn an_alarm_is_seen_once_and_not_set_in_vain() {
        let (memory, at, geometry) = ring(2, 8);
        let mut writer = BroadcastWriter::new(memory, at, geometry);
        let reader = BroadcastReader::new(memory, at, geometry, Start::Next);
        let alarm = Alarm::new(memory, at, geometry);
        let seen = reader.bell_seen();
        assert!(!writer.is_awaited());
        assert!(!alarm.set(0));
        writer.publish(&[1]).unwrap();
        assert!(writer.is_awaited());
        alarm.ring();
        assert!(!writer.is_awaited());
        assert_ne!(reader.bell_seen(), seen);
        assert!(alarm.set(0));
        assert!(!alarm.set(1));
    }
}
