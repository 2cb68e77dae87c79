//! A value of any size that one writer changes and any number of readers copy out,
//! never torn.
//!
//! ```text
//! offset  size  field     written by  published by
//!      0     8  sequence  the writer  SEQLOCK_END (even: stable, odd: being written)
//!      8     n  words     the writer  "
//! ```
//!
//! The words are atomic, so that a reader that overlaps a writer races with nobody; it
//! finds out by the sequence and tries again. The fences follow H.-J. Boehm, "Can
//! seqlocks get along with programming language memory models?" (MSPC 2012).
//!
//! A writer that dies inside [`SeqlockWriter::write`] leaves the sequence odd: readers then get
//! [`Busy`] after a bounded number of attempts, and know from elsewhere that it died.
use alloc::vec::Vec;
use core::fmt;

use crate::{
    audit,
    memory::{Memory, Offset},
    order::{OWN, SEQLOCK_BEGIN, SEQLOCK_END, SEQLOCK_FIRST, SEQLOCK_LAST},
};

/// A value was being changed in every attempt to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the value was being changed in every attempt: try again, or its writer is dead",
        )
    }
}

impl core::error::Error for Busy {}

/// Attempts of a reader before it reports that a value is busy, where nobody says how many.
pub(crate) const ATTEMPTS: u32 = 1000;

/// Bytes that a slot for `len` bytes of value takes in its segment.
#[must_use]
pub const fn slot_size(len: u64) -> u64 {
    (len.wrapping_add(7) & !7).wrapping_add(8)
}

/// The one writer of a seqlock slot.
#[derive(Debug)]
pub struct SeqlockWriter<M: Memory> {
    memory: M,
    at: Offset,
    sequence: u64,
}

impl<M: Memory> SeqlockWriter<M> {
    /// The writer of the slot at `at`. There is one, and the slot is stable or its last
    /// writer is dead.
    pub fn new(memory: M, at: Offset) -> Self {
        let _decision = audit::decision();
        // A predecessor that died while writing left it odd: the next value ends that.
        let sequence = memory.load64(at, OWN).wrapping_add(1) & !1;
        Self { memory, at, sequence }
    }

    /// Changes the value. `value` has the slot's length.
    pub fn write(&mut self, value: &[u8]) {
        self.memory.store64(self.at, self.sequence.wrapping_add(1), OWN);
        // SYNC SEQLOCK_BEGIN: whoever sees one of the words below sees the odd
        // sequence, or a later one, when it looks again.
        self.memory.fence(SEQLOCK_BEGIN);
        self.memory.store_words(self.at.plus(8), value, OWN);
        self.sequence = self.sequence.wrapping_add(2);
        // SYNC SEQLOCK_END: the words are visible with the even sequence.
        self.memory.store64(self.at, self.sequence, SEQLOCK_END);
    }
}

/// A reader of a seqlock slot.
#[derive(Clone, Debug)]
pub struct SeqlockReader<M: Memory> {
    memory: M,
    at: Offset,
}

impl<M: Memory> SeqlockReader<M> {
    /// A reader of the slot at `at`.
    pub fn new(memory: M, at: Offset) -> Self {
        Self { memory, at }
    }

    /// Copies the value into `value`, which has the slot's length, in at most
    /// `attempts` attempts. Returns the number of changes so far.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the value was being changed in each attempt. `value` then holds
    /// nothing of meaning.
    pub fn read(&self, value: &mut [u8], attempts: u32) -> Result<u64, Busy> {
        let _decision = audit::decision();
        for _ in 0..attempts {
            if let Some(sequence) = self.attempt(|words| self.memory.load_words(words, value, OWN))
            {
                return Ok(sequence / 2);
            }
            audit::anew();
            self.memory.relax();
        }
        Err(Busy)
    }

    /// Whether the value is still the one that [`read`](Self::read) returned this
    /// number with. What the caller loaded in between with an acquire was then not
    /// stored after a later write.
    #[must_use]
    pub fn is_still(&self, number: u64) -> bool {
        let _decision = audit::decision();
        audit::second_look();
        self.memory.load64(self.at, OWN) == number.wrapping_mul(2)
    }

    /// Copies, in one attempt, a value that begins with a head of `HEAD` bytes, a multiple of 8:
    /// `room` makes room for the whole value, by its head. Each word is loaded once. Returns the
    /// number of changes so far, too.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the value was being changed.
    pub(crate) fn read_by_head<const HEAD: usize>(
        &self,
        room: impl FnOnce(&[u8; HEAD]) -> Vec<u8>,
    ) -> Result<(u64, Vec<u8>), Busy> {
        let _decision = audit::decision();
        let mut value = Vec::new();
        let sequence = self.attempt(|words| {
            let mut head = [0; HEAD];
            self.memory.load_words(words, &mut head, OWN);
            value = room(&head);
            if let Some((to, rest)) = value.split_first_chunk_mut() {
                *to = head;
                self.memory.load_words(words.plus(HEAD as u64), rest, OWN);
            }
        });
        sequence.map(|sequence| (sequence / 2, value)).ok_or(Busy)
    }

    /// Copies the words from where they start, and returns the sequence if they did not change
    /// meanwhile.
    #[inline(always)]
    fn attempt(&self, copy: impl FnOnce(Offset)) -> Option<u64> {
        // SYNC SEQLOCK_FIRST: the words of this sequence, or of later ones.
        let before = self.memory.load64(self.at, SEQLOCK_FIRST);
        if !before.is_multiple_of(2) {
            return None;
        }
        copy(self.at.plus(8));
        // SYNC SEQLOCK_LAST: if one of the words above is of a later write, the load
        // below sees that write's odd sequence or a later one.
        self.memory.fence(SEQLOCK_LAST);
        audit::second_look();
        let after = self.memory.load64(self.at, OWN);
        (before == after).then_some(before)
    }
}

/// Writes numbers into the bytes of a seqlock slot's value.
pub(crate) fn put(bytes: &mut [u8; 48], words: [u64; 6]) {
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
}

/// Reads numbers out of the bytes of a seqlock slot's value.
pub(crate) fn take(bytes: &[u8; 48]) -> [u64; 6] {
    let mut words = [0; 6];
    for (word, from) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = from.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    words
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;
    use crate::Mapped;

    #[test]
    fn values_of_any_size_come_back() {
        for len in [0usize, 1, 7, 8, 9, 64, 100, 4096] {
            let memory = Mapped::leaked(8 + slot_size(len as u64));
            let at = Offset::new(8);
            let mut writer = SeqlockWriter::new(memory, at);
            let reader = SeqlockReader::new(memory, at);
            let mut read = vec![0; len];
            for round in 1..4u8 {
                let value = vec![round; len];
                writer.write(&value);
                assert_eq!(reader.read(&mut read, 1), Ok(u64::from(round)));
                assert_eq!(read, value);
            }
        }
    }

    #[test]
    fn a_writer_that_died_inside_makes_readers_busy_until_the_next_one_writes() {
        let memory = Mapped::leaked(24);
        let at = Offset::new(0);
        memory.store64(at, 1, OWN);
        let reader = SeqlockReader::new(memory, at);
        let mut value = [0; 16];
        assert_eq!(reader.read(&mut value, 100), Err(Busy));
        SeqlockWriter::new(memory, at).write(&[5; 16]);
        assert_eq!(reader.read(&mut value, 1), Ok(2));
        assert_eq!(value, [5; 16]);
    }
}
