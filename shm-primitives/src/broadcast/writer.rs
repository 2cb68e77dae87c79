use core::fmt;

use super::{AWAITED, BroadcastGeometry, LENGTH, PAYLOAD, PUBLISHED, Ring, complete};
use crate::{
    audit,
    memory::{Memory, Offset},
    order::{HINT, OWN, SEQLOCK_BEGIN, SEQLOCK_END, WAKE_FENCE},
};

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
        let _decision = audit::decision();
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
    /// [`Alarm::ring`](super::Alarm::ring) and wake those that wait for the bell.
    #[inline(always)]
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let _decision = audit::decision();
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
