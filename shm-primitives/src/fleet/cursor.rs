//! Following a ring.

use super::{
    frame::FleetFrame,
    ring::{CorruptFleet, ReadAtError, Ring},
    word::Position,
};
use crate::memory::Memory;

/// How often a cursor begins again because others overwrote what it was to read.
const ATTEMPTS: u32 = 1000;

/// Where a cursor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the oldest frame that is there.
    Oldest,
    /// At the newest frame that is there.
    Newest,
    /// At the first frame to come.
    Next,
    /// At a position.
    Position(Position),
}

/// What a cursor came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Next {
    /// How many committed frames between the last one and this one were overwritten or
    /// reset before the cursor came to them.
    pub lost: u64,
    /// The frame.
    pub frame: FleetFrame,
}

/// A reader's own place in a ring. Nobody else knows of it, and it holds up nobody.
#[derive(Clone, Debug)]
pub struct Cursor {
    next: Position,
    /// Lost since the last frame.
    untold: u64,
    lost: u64,
}

impl Cursor {
    /// A cursor that starts at `from`.
    pub fn new<M: Memory>(ring: &Ring<M>, from: Start) -> Self {
        let next = match from {
            Start::Oldest => ring.oldest(),
            Start::Newest => ring.end().minus(1).max(ring.floor()),
            Start::Next => ring.end(),
            Start::Position(position) => position,
        };
        Self { next, untold: 0, lost: 0 }
    }

    /// The position that comes next.
    #[must_use]
    pub fn position(&self) -> Position {
        self.next
    }

    /// How many frames it lost in all.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The next frame, and how many were lost before it; none if there is none yet.
    ///
    /// # Errors
    ///
    /// [`CorruptFleet`] if something else wrote over the ring. The cursor stays.
    pub fn next<M: Memory>(&mut self, ring: &Ring<M>) -> Result<Option<Next>, CorruptFleet> {
        // A cursor that loses each time is told so later: what it lost stays counted.
        for _ in 0..ATTEMPTS {
            match ring.read_at(self.next) {
                Ok(frame) => {
                    let lost = core::mem::take(&mut self.untold);
                    self.next = self.next.plus(1);
                    return Ok(Some(Next { lost, frame }));
                }
                Err(ReadAtError::NotYet) => return Ok(None),
                Err(ReadAtError::Lost { oldest }) => {
                    // All positions between were committed, one after the other.
                    let lost = oldest.since(self.next);
                    self.untold = self.untold.wrapping_add(lost);
                    self.lost = self.lost.wrapping_add(lost);
                    self.next = self.next.max(oldest);
                }
                Err(ReadAtError::Corrupt(corrupt)) => return Err(corrupt),
            }
        }
        Ok(None)
    }
}
