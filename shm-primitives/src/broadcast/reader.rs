use core::fmt;

use super::{BroadcastGeometry, LENGTH, PAYLOAD, Ring, complete, is_after};
use crate::{
    audit,
    memory::{Memory, Offset},
    order::{BELL_SEEN, OWN, SEQLOCK_FIRST, SEQLOCK_LAST},
    seqlock::ATTEMPTS,
};

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
    pub(super) ring: Ring<M>,
    next: u64,
    /// How many values there were when this last looked at the newest.
    known: u64,
    /// The slot of the next one after those.
    behind: Offset,
}

/// Why a value was not copied.
enum NotCopied {
    /// Its slot has this sequence, of another value.
    Other(u64),
    Bad(BadSlot),
}

impl<M: Memory> BroadcastReader<M> {
    /// A reader of the ring at `at`.
    pub fn new(memory: M, at: Offset, geometry: BroadcastGeometry, start: Start) -> Self {
        let ring = Ring::new(memory, at, geometry);
        let mut reader = Self { next: 0, known: 0, behind: ring.slot(0), ring };
        reader.seek(start);
        reader
    }

    /// Moves the cursor. Values that are passed over do not count as lost.
    pub fn seek(&mut self, start: Start) {
        let _decision = audit::decision();
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
        let _decision = audit::decision();
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
        let _decision = audit::decision();
        self.ring.published()
    }

    /// Whether [`next`](Self::next) would find something.
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let _decision = audit::decision();
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
        let _decision = audit::decision();
        let position = self.next;
        match self.copy(position, value) {
            Ok(len) => {
                self.next = position.wrapping_add(1);
                Ok(Step::Value { position, len })
            }
            Err(NotCopied::Other(sequence)) => self.not_there(sequence),
            Err(NotCopied::Bad(bad)) => Err(bad),
        }
    }

    /// Copies the value at `position` to the front of `value`; returns its size.
    #[inline]
    fn copy(&self, position: u64, value: &mut [u8]) -> Result<usize, NotCopied> {
        let wanted = complete(position);
        let slot = self.ring.slot(position);
        let memory = &self.ring.memory;
        // SYNC SEQLOCK_FIRST: the words of this sequence, or of later ones.
        let before = memory.load64(slot, SEQLOCK_FIRST);
        if before != wanted {
            return Err(NotCopied::Other(before));
        }
        let len = memory.load64(slot.plus(LENGTH), OWN);
        // One that is being changed can be anything; if it is not, it is a lie.
        let fits = usize::try_from(len).ok().and_then(|len| value.get_mut(..len));
        let copied = fits.map(|to| memory.load_words(slot.plus(PAYLOAD), to, OWN)).is_some();
        // SYNC SEQLOCK_LAST: if one of the words above is of a later write, the load below
        // sees that write's odd sequence or a later one.
        memory.fence(SEQLOCK_LAST);
        audit::second_look();
        let after = memory.load64(slot, OWN);
        if after != wanted {
            return Err(NotCopied::Other(after));
        }
        if !copied || len > self.ring.geometry.max_payload {
            return Err(NotCopied::Bad(BadSlot { sequence: after, len }));
        }
        Ok(len as usize)
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
        // Another question: the count's slot may be the one that was looked at.
        audit::anew();
        let by_count = self.ring.published().wrapping_sub(slots);
        let oldest = if is_after(by_count, by_slot) { by_count } else { by_slot };
        if !is_after(oldest, self.next) {
            return Err(BadSlot { sequence, len: 0 });
        }
        let lost = oldest.wrapping_sub(self.next);
        self.next = oldest;
        Ok(Step::Lost(lost))
    }

    /// Whether there is a newer value than the one that [`newest`](Self::newest) last returned
    /// or failed to copy. A value that was published never changes: as long as there is none,
    /// a copy of that one is the newest, and nothing need be copied.
    #[inline(always)]
    #[must_use]
    pub fn has_newer(&self) -> bool {
        let _decision = audit::decision();
        self.ring.shows(self.behind, self.known)
    }

    /// Copies the newest value into `value`, which has room for the ring's largest; returns
    /// its position and size, or `None` if nothing was ever published. The cursor stays.
    ///
    /// # Errors
    ///
    /// [`ReadNewestError::Busy`] if each value was overwritten while it was copied, which
    /// takes a writer that is faster than a copy and a ring of few slots;
    /// [`ReadNewestError::Bad`] if the writer broke the protocol.
    pub fn newest(&mut self, value: &mut [u8]) -> Result<Option<(u64, usize)>, ReadNewestError> {
        for _ in 0..ATTEMPTS {
            match self.try_newest(value) {
                Err(ReadNewestError::Busy) => self.ring.memory.relax(),
                result => return result,
            }
        }
        Err(ReadNewestError::Busy)
    }

    /// Like [`newest`](Self::newest), in one attempt: for those who count their attempts.
    ///
    /// # Errors
    ///
    /// [`ReadNewestError::Busy`] if the value was overwritten while it was copied;
    /// [`ReadNewestError::Bad`] if the writer broke the protocol.
    #[inline]
    pub fn try_newest(
        &mut self,
        value: &mut [u8],
    ) -> Result<Option<(u64, usize)>, ReadNewestError> {
        let _decision = audit::decision();
        let Some(position) = self.newest_position() else { return Ok(None) };
        // Another question: whether it is there is decided by its own slot alone.
        audit::anew();
        match self.copy(position, value) {
            Ok(len) => Ok(Some((position, len))),
            Err(NotCopied::Other(_)) => Err(ReadNewestError::Busy),
            Err(NotCopied::Bad(bad)) => Err(ReadNewestError::Bad(bad)),
        }
    }

    /// The position of the newest value, if there is one.
    #[inline(always)]
    fn newest_position(&mut self) -> Option<u64> {
        // As long as nothing follows what was the newest, it still is.
        if self.has_newer() {
            self.look_for_newer();
        }
        self.known.checked_sub(1)
    }

    #[cold]
    fn look_for_newer(&mut self) {
        // Another question: the count's slot may be the one that was looked at.
        audit::anew();
        let published = self.ring.published();
        // `published` may be older than the sequence that was seen: never go back.
        let least = self.known.wrapping_add(1);
        self.known = if is_after(published, least) { published } else { least };
        self.behind = self.ring.slot(self.known);
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
        let _decision = audit::decision();
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
