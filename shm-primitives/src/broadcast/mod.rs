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
mod alarm;
mod reader;
mod writer;

pub use alarm::Alarm;
pub use reader::{BadSlot, BroadcastReader, ReadNewestError, Start, Step};
pub use writer::{BroadcastWriter, TooLarge};

use crate::{
    audit,
    header::GeometryError,
    memory::{Memory, Offset},
    order::HINT,
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
        self.shows(self.slot(position), position)
    }

    /// Whether `slot`, which is that of `position`, holds the value at it or a later one.
    #[inline(always)]
    fn shows(&self, slot: Offset, position: u64) -> bool {
        let sequence = self.memory.load64(slot, HINT);
        is_after(sequence.wrapping_add(1), complete(position))
    }

    fn published(&self) -> u64 {
        let published = self.memory.load64(self.at.plus(PUBLISHED), HINT);
        // The writer may be between its two stores, or have died there.
        let next = self.memory.load64(self.slot(published), HINT);
        published.wrapping_add((next == complete(published)).into())
    }
}

/// How many values were published in the ring at `at`, as its writer says: a hint, one behind at
/// times.
pub fn published<M: Memory>(memory: &M, at: Offset) -> u64 {
    let _decision = audit::decision();
    memory.load64(at.plus(PUBLISHED), HINT)
}

/// The sequence of a slot that holds the value at `position`.
#[inline(always)]
const fn complete(position: u64) -> u64 {
    position.wrapping_mul(2).wrapping_add(2)
}

/// Whether free-running count `a` is after `b`.
#[inline(always)]
const fn is_after(a: u64, b: u64) -> bool {
    a.wrapping_sub(b) as i64 > 0
}

#[cfg(test)]
mod tests;
