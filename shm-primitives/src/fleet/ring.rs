//! Reading a ring: at a position, by id, the newest.
use core::fmt;

use super::{
    frame::{self, FleetFrame, Head},
    geometry::{FLOOR, FRAME_HEAD, RingGeometry, TAIL},
    id::FleetId,
    word::{self, Entry, Position, Seat},
};
use crate::{
    audit,
    memory::Memory,
    order::{FLEET_COMMITTED, FLEET_PLACE_SEEN, FLEET_TAIL, FLEET_TAIL_SEEN, HINT, OWN},
    seqlock::{Busy, SeqlockReader},
};

/// How often a reader begins again because others were faster, before it says so.
const ATTEMPTS: u32 = 1000;

/// Why there is no frame at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadAtError {
    /// Nothing is committed there yet.
    NotYet,
    /// It was there and is not any more.
    Lost {
        /// The oldest position that may still be read.
        oldest: Position,
    },
    /// What stands there is no member's.
    Corrupt(CorruptFleet),
}

impl fmt::Display for ReadAtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet => f.write_str("nothing is published at this position yet: try later"),
            Self::Lost { oldest } => write!(
                f,
                "the frame of this position is overwritten or reset: go on at {oldest}, and read \
                 more often or configure a larger capacity"
            ),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl core::error::Error for ReadAtError {}

/// What no member of a fleet writes stands in a ring: something else wrote there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptFleet {
    /// Where it was noticed.
    pub position: Position,
}

impl fmt::Display for CorruptFleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the ring is damaged at position {}: some process wrote over it; unlink it, and let \
             all members open it anew",
            self.position
        )
    }
}

impl core::error::Error for CorruptFleet {}

/// What every member can do with a ring: read and reset it.
#[derive(Clone, Debug)]
pub struct Ring<M: Memory> {
    memory: M,
    geometry: RingGeometry,
}

impl<M: Memory> Ring<M> {
    /// The ring in `memory`, which begins as zeroes and the header.
    pub fn new(memory: M, geometry: RingGeometry) -> Self {
        Self { memory, geometry }
    }

    /// Its sizes and counts.
    #[must_use]
    pub fn geometry(&self) -> &RingGeometry {
        &self.geometry
    }

    pub(super) fn memory(&self) -> &M {
        &self.memory
    }

    /// The tail: the next position to be committed, or the one before it.
    pub(super) fn tail(&self) -> Position {
        // SYNC FLEET_TAIL: with it, all index words of positions before it.
        Position::new(self.memory.load64(TAIL, FLEET_TAIL_SEEN))
    }

    /// Moves the tail on from a position that the caller saw committed, unless somebody
    /// else did.
    pub(super) fn move_tail(&self, from: Position) {
        let next = from.plus(1).number();
        // SYNC FLEET_TAIL: all positions before `next` are committed, and seen to be
        // by whoever sees it. An exchange that fails was somebody else's, who saw the
        // same.
        self.memory.exchange64(TAIL, from.number(), next, FLEET_TAIL);
    }

    /// The index word where a position belongs, and what it says of the position.
    pub(super) fn entry(&self, position: Position) -> (u64, Entry) {
        // SYNC FLEET_COMMIT: with a committed position, the content of its frame.
        let word = self.memory.load64(self.geometry.index(position.number()), FLEET_COMMITTED);
        (word, word::decode(&self.geometry, word, position))
    }

    /// The position after the newest committed one.
    #[must_use]
    pub fn end(&self) -> Position {
        let _decision = audit::decision();
        let tail = self.tail();
        match self.entry(tail) {
            // Its publisher has not moved the tail on yet, or died before it.
            (_, Entry::Here(_) | Entry::Later) => tail.plus(1),
            _ => tail,
        }
    }

    /// The first position that has not been [reset](Self::reset).
    #[must_use]
    pub fn floor(&self) -> Position {
        let _decision = audit::decision();
        Position::new(self.memory.load64(FLOOR, HINT))
    }

    /// The oldest position that may still be read. It may be overwritten at any time.
    #[must_use]
    pub fn oldest(&self) -> Position {
        let _decision = audit::decision();
        self.end().minus(self.geometry.capacity()).max(self.floor())
    }

    /// Lets all that is committed now be gone. Returns the first position that stays.
    ///
    /// It is one store, so it is done or not done, whoever dies; ids and positions go
    /// on growing. A publisher that is active meanwhile comes before it or after it.
    pub fn reset(&self) -> Position {
        let _decision = audit::decision();
        let end = self.end();
        loop {
            let floor = self.memory.load64(FLOOR, HINT);
            // Each failure is another member's reset, which moved it on; so this ends.
            if floor >= end.number() || self.memory.exchange64(FLOOR, floor, end.number(), HINT) {
                return Position::new(floor).max(end);
            }
            audit::anew();
        }
    }

    /// Copies the frame at a position. It never waits and never tries twice.
    ///
    /// # Errors
    ///
    /// [`ReadAtError::NotYet`] and [`ReadAtError::Lost`] say why there is none.
    pub fn read_at(&self, position: Position) -> Result<FleetFrame, ReadAtError> {
        let _decision = audit::decision();
        let lost = |least: Position| {
            // Another question: where to go on.
            audit::anew();
            Err(ReadAtError::Lost { oldest: self.oldest().max(least) })
        };
        let (tail, floor) = (self.tail(), self.floor());
        if position < floor {
            return lost(floor);
        }
        if position > tail {
            return Err(ReadAtError::NotYet);
        }
        let next = position.plus(1);
        if tail.since(position) > self.geometry.capacity() {
            return lost(next);
        }
        let corrupt = Err(ReadAtError::Corrupt(CorruptFleet { position }));
        let (word, seat) = match self.entry(position) {
            (word, Entry::Here(seat)) => (word, seat),
            (_, Entry::Later) => return lost(next),
            (_, Entry::Before) if position == tail => return Err(ReadAtError::NotYet),
            _ => return corrupt,
        };
        // A slot that is being written is one that the index no longer refers to.
        let Ok((_, id, head, value)) = self.copy(seat) else { return lost(next) };
        // Had one of the words copied been of a later frame, the index would have
        // changed before, and SEQLOCK_FIRST would let this load see it.
        audit::second_look();
        if self.memory.load64(self.geometry.index(position.number()), OWN) != word {
            return lost(next);
        }
        if self.is_of(seat, id) && u64::from(head.len) <= u64::from(self.geometry.max_payload()) {
            Ok(FleetFrame::new(id, position, head, value))
        } else {
            corrupt
        }
    }

    /// Copies the newest committed frame; none if there is none since the last
    /// [reset](Self::reset).
    ///
    /// # Errors
    ///
    /// [`ReadAtError::Lost`] if others overwrote it in each of many attempts, which
    /// takes a ring of a few frames; and [`ReadAtError::Corrupt`].
    pub fn read_newest(&self) -> Result<Option<FleetFrame>, ReadAtError> {
        let _decision = audit::decision();
        let mut last = Ok(None);
        for _ in 0..ATTEMPTS {
            audit::anew();
            let end = self.end();
            if end.number() == 0 || end <= self.floor() {
                return Ok(None);
            }
            // Another question: whether it is there is decided for itself.
            audit::anew();
            last = match self.read_at(end.minus(1)) {
                Err(lost @ ReadAtError::Lost { .. }) => Err(lost),
                other => return other.map(Some),
            };
            self.memory.relax();
        }
        last
    }

    /// Copies the frame of this name, if it is committed and still there.
    ///
    /// A node that publishes rarely keeps its frames longer in its lane than the index
    /// does: they are found by id until the lane's slot is written again.
    ///
    /// # Errors
    ///
    /// [`CorruptFleet`] if something else wrote over the ring.
    pub fn read(&self, id: FleetId) -> Result<Option<FleetFrame>, CorruptFleet> {
        let _decision = audit::decision();
        let node = id.node();
        // Memory that is not there yet must not be touched: there may be none for it.
        if id.kind() != self.geometry.kind()
            || node >= self.geometry.nodes()
            || self.memory.load64(self.geometry.ready(node), HINT) == 0
        {
            return Ok(None);
        }
        let slot = slot_of(&self.geometry, id.counter());
        let seat = Seat { node, slot };
        for _ in 0..ATTEMPTS {
            let Ok((changes, found, head, value)) = self.copy(seat) else {
                // Being written, or its writer died there: of what is in it nothing is
                // committed and in the index.
                return Ok(None);
            };
            if changes == 0 || found != id {
                return Ok(None);
            }
            // SYNC FLEET_PLACE: with the place, the tail beyond it.
            let place = self.memory.load64(self.geometry.place(node, slot), FLEET_PLACE_SEEN);
            let position = match place.checked_sub(1) {
                Some(position) => Some(Position::new(position)),
                None => self.find(seat),
            };
            // Place and index were those of this frame if the slot still holds it.
            let reader = SeqlockReader::new(self.memory.clone(), self.geometry.slot(node, slot));
            if !reader.is_still(changes) {
                self.memory.relax();
                audit::anew();
                continue;
            }
            return match position {
                Some(position) if position < self.floor() => Ok(None),
                Some(position) if head.len <= self.geometry.max_payload() => {
                    Ok(Some(FleetFrame::new(id, position, head, value)))
                }
                Some(position) => Err(CorruptFleet { position }),
                None => Ok(None),
            };
        }
        Ok(None)
    }

    /// The position at which the index refers to a seat.
    pub(super) fn find(&self, seat: Seat) -> Option<Position> {
        let (tail, capacity) = (self.tail(), self.geometry.capacity());
        // The word of the tail is that of the oldest position until the tail is committed.
        let first = tail.minus(capacity.wrapping_sub(1));
        (first.number()..=tail.number()).map(Position::new).find_map(|position| {
            match self.entry(position) {
                (_, Entry::Here(found)) if found == seat => Some(position),
                (word, Entry::Before)
                    if position == tail && word::seat(&self.geometry, word) == Some(seat) =>
                {
                    Some(position.minus(capacity))
                }
                _ => None,
            }
        })
    }

    /// Copies the content of a slot, with the number of its changes so far.
    pub(super) fn copy(
        &self,
        seat: Seat,
    ) -> Result<(u64, FleetId, Head, alloc::vec::Vec<u8>), Busy> {
        let at = self.geometry.slot(seat.node, seat.slot);
        let reader = SeqlockReader::new(self.memory.clone(), at);
        let (changes, value) = reader.read_by_head(|head: &[u8; FRAME_HEAD as usize]| {
            // What is larger is seen by the caller, if the slot did not change meanwhile.
            let len = frame::parse(head).map_or(0, |(_, head)| head.len);
            frame::buffer(len.min(self.geometry.max_payload()))
        })?;
        let (id, head) = frame::parse(&value).ok_or(Busy)?;
        Ok((changes, id, head, value))
    }

    fn is_of(&self, seat: Seat, id: FleetId) -> bool {
        id.kind() == self.geometry.kind()
            && id.node() == seat.node
            && slot_of(&self.geometry, id.counter()) == seat.slot
    }
}

/// The slot that a node's frame of this counter is in.
pub(super) fn slot_of(geometry: &RingGeometry, counter: u64) -> u64 {
    counter.checked_rem(geometry.lane_slots()).unwrap_or(0)
}
