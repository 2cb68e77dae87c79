//! The words of a ring's index, and the positions that they stand for.
use core::fmt;

use super::geometry::RingGeometry;

/// The place of a frame in the total order of its ring, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The position of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The position `frames` further on.
    #[must_use]
    pub const fn plus(self, frames: u64) -> Self {
        Self(self.0.wrapping_add(frames))
    }

    /// The position `frames` before, or the first one.
    #[must_use]
    pub const fn minus(self, frames: u64) -> Self {
        Self(self.0.saturating_sub(frames))
    }

    /// How many frames there are from `earlier` to here; 0 if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the frame of a position is: its node's lane, and the slot there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) node: u32,
    pub(super) slot: u64,
}

/// What stands in an index word, compared with a position that belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The position is committed.
    Here(Seat),
    /// The position one lap before, or nothing in the first lap: this one is free.
    Before,
    /// An older one: the word was loaded by somebody who knows little yet.
    Older,
    /// A later position of the same word is committed.
    Later,
    /// What no member writes.
    Foreign,
}

const LAP_SHIFT: u32 = 32;
const NODE_SHIFT: u32 = 22;
const SLOT_SHIFT: u32 = 2;
const NODE_MASK: u64 = 0x3ff;
const SLOT_MASK: u64 = 0xf_ffff;
/// Makes every word differ from an empty one.
const MARK: u64 = 1;

/// ```text
///  63      32 31     22 21          2 1  0
/// ┌──────────┬─────────┬─────────────┬────┐
/// │  lap 32  │ node 10 │   slot 20   │ 01 │
/// └──────────┴─────────┴─────────────┴────┘
/// ```
pub(super) fn encode(geometry: &RingGeometry, position: Position, seat: Seat) -> u64 {
    u64::from(lap(geometry, position)) << LAP_SHIFT
        | u64::from(seat.node) << NODE_SHIFT
        | seat.slot << SLOT_SHIFT
        | MARK
}

/// Which word of the index this is a seat in, whatever the lap.
pub(super) fn seat(geometry: &RingGeometry, word: u64) -> Option<Seat> {
    let seat = Seat {
        node: (word >> NODE_SHIFT & NODE_MASK) as u32,
        slot: word >> SLOT_SHIFT & SLOT_MASK,
    };
    let honest =
        word & 3 == MARK && seat.node < geometry.nodes() && seat.slot < geometry.lane_slots();
    honest.then_some(seat)
}

/// What `word`, loaded from the index where `position` belongs, says of it.
pub(super) fn decode(geometry: &RingGeometry, word: u64, position: Position) -> Entry {
    if word == 0 {
        let first_lap = position.number() < geometry.capacity();
        return if first_lap { Entry::Before } else { Entry::Older };
    }
    let Some(seat) = seat(geometry, word) else { return Entry::Foreign };
    let tag = (word >> LAP_SHIFT) as u32;
    // Laps are counted modulo 2³²: the nearer way round is meant.
    match tag.wrapping_sub(lap(geometry, position)) as i32 {
        0 => Entry::Here(seat),
        -1 => Entry::Before,
        behind if behind < 0 => Entry::Older,
        _ => Entry::Later,
    }
}

fn lap(geometry: &RingGeometry, position: Position) -> u32 {
    // The capacity is a power of two.
    (position.number() >> geometry.capacity().trailing_zeros()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_tells_its_position_from_those_of_other_laps() {
        let geometry = RingGeometry::new(0, 4, 1024, 8).unwrap();
        let seat = Seat { node: 1023, slot: 4 };
        for number in [0, 3, 4, 1000, (4 << 32) - 1, 4 << 32, (4 << 32) + 3] {
            let position = Position::new(number);
            let word = encode(&geometry, position, seat);
            assert_eq!(decode(&geometry, word, position), Entry::Here(seat));
            assert_eq!(decode(&geometry, word, position.plus(4)), Entry::Before);
            assert_eq!(decode(&geometry, word, position.plus(8)), Entry::Older);
            if number >= 4 {
                assert_eq!(decode(&geometry, word, position.minus(4)), Entry::Later);
            }
        }
        assert_eq!(decode(&geometry, 0, Position::new(3)), Entry::Before);
        assert_eq!(decode(&geometry, 0, Position::new(4)), Entry::Older);
    }

    #[test]
    fn words_that_no_member_writes_are_foreign() {
        let geometry = RingGeometry::new(0, 4, 3, 8).unwrap();
        for word in [2, 3, u64::MAX, 3 << NODE_SHIFT | MARK, 5 << SLOT_SHIFT | MARK] {
            assert_eq!(decode(&geometry, word, Position::new(0)), Entry::Foreign, "{word:#x}");
        }
    }
}
