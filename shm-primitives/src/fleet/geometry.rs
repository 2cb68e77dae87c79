//! Where the parts of a fleet's ring lie.
use core::fmt;

use super::id::MAX_NODES;
use crate::{
    header::{HEADER_SIZE, HeaderError, SegmentHeader, SegmentKind},
    memory::{Memory, Offset},
    seqlock::slot_size,
};

/// The next position to be committed, or the one before it: see [`fleet`](super).
pub const TAIL: Offset = Offset::new(HEADER_SIZE as u64);
/// The first position that has not been reset.
pub const FLOOR: Offset = TAIL.plus(LINE);
const READY: Offset = FLOOR.plus(LINE);

/// What different members write apart from each other is this far apart.
const LINE: u64 = 128;
/// Lanes start at pages, so that each is allocated by itself.
const PAGE: u64 = 4096;
/// Id, and kind, version and length in one word, before the payload.
pub(super) const FRAME_HEAD: u64 = 16;
/// The word in front of each slot's seqlock.
const PLACE: u64 = 8;

const MAX_CAPACITY: u64 = 1 << 19;
const MAX_PAYLOAD: u64 = 1 << 20;
/// Address space, not memory: lanes are allocated when their node first publishes.
const MAX_TOTAL: u64 = 1 << 40;

/// Sizes and counts of a ring, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingGeometry {
    kind: u8,
    capacity: u64,
    nodes: u32,
    max_payload: u32,
}

/// Sizes and counts that no ring can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingGeometryError {
    /// The capacity is not a power of two from 2 to 524,288 frames.
    Capacity(u64),
    /// The nodes are not 1 to 1024.
    Nodes(u64),
    /// Payloads larger than 1 MiB.
    MaxPayload(u64),
    /// All together more than 1 TiB of address space.
    Total(u64),
}

impl fmt::Display for RingGeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity(n) => {
                write!(f, "a ring of {n} frames; choose a power of two from 2 to {MAX_CAPACITY}")
            }
            Self::Nodes(n) => write!(f, "a ring for {n} nodes; choose 1 to {MAX_NODES}"),
            Self::MaxPayload(n) => {
                write!(f, "payloads of {n} bytes in a ring; choose at most {MAX_PAYLOAD}")
            }
            Self::Total(n) => write!(
                f,
                "a ring of {n} bytes of address space; choose less capacity, payload or nodes"
            ),
        }
    }
}

impl core::error::Error for RingGeometryError {}

/// Why a segment is not the ring that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingHeaderError {
    /// It is no ring of this release at all.
    Header(HeaderError),
    /// Sizes or counts that no ring has.
    Geometry(RingGeometryError),
    /// Its parts take another size than it has, in bytes.
    Layout {
        /// What they take.
        expected: u64,
        /// What it has.
        found: u64,
    },
}

impl fmt::Display for RingHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::Geometry(error) => write!(f, "impossible geometry: {error}"),
            Self::Layout { expected, found } => {
                write!(f, "a ring of {expected} bytes in a segment of {found}")
            }
        }
    }
}

impl core::error::Error for RingHeaderError {}

const fn up(bytes: u64, to: u64) -> u64 {
    bytes.wrapping_add(to.wrapping_sub(1)) & !to.wrapping_sub(1)
}

impl RingGeometry {
    /// A ring of `kind` that keeps the last `capacity` frames of up to `max_payload`
    /// bytes, by up to `nodes` members.
    ///
    /// # Errors
    ///
    /// Each bound that is not kept has its own.
    pub fn new(
        kind: u8,
        capacity: u64,
        nodes: u64,
        max_payload: u64,
    ) -> Result<Self, RingGeometryError> {
        if !(2..=MAX_CAPACITY).contains(&capacity) || !capacity.is_power_of_two() {
            return Err(RingGeometryError::Capacity(capacity));
        }
        if !(1..=u64::from(MAX_NODES)).contains(&nodes) {
            return Err(RingGeometryError::Nodes(nodes));
        }
        if max_payload > MAX_PAYLOAD {
            return Err(RingGeometryError::MaxPayload(max_payload));
        }
        // Both fit, by the bounds above.
        let geometry =
            Self { kind, capacity, nodes: nodes as u32, max_payload: max_payload as u32 };
        let total = geometry.total_size();
        if total > MAX_TOTAL {
            return Err(RingGeometryError::Total(total));
        }
        Ok(geometry)
    }

    /// Which ring of its fleet it is.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.kind
    }

    /// How many frames it keeps.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How many members it has room for.
    #[must_use]
    pub const fn nodes(&self) -> u32 {
        self.nodes
    }

    /// Bytes in the largest payload.
    #[must_use]
    pub const fn max_payload(&self) -> u32 {
        self.max_payload
    }

    /// Size of the whole segment in bytes.
    #[must_use]
    pub const fn total_size(&self) -> u64 {
        self.lane(self.nodes).bytes()
    }

    /// Size in bytes of what comes before the lanes, and must be allocated before the
    /// segment is used.
    #[must_use]
    pub const fn head_size(&self) -> u64 {
        self.lane(0).bytes()
    }

    /// Slots of a lane: one more than the ring keeps, so that the slot that is written
    /// next is never one that the ring refers to.
    #[must_use]
    pub const fn lane_slots(&self) -> u64 {
        self.capacity.wrapping_add(1)
    }

    /// Size of a lane in bytes, whole pages.
    #[must_use]
    pub const fn lane_size(&self) -> u64 {
        up(self.lane_slots().wrapping_mul(self.slot_size()), PAGE)
    }

    const fn slot_size(&self) -> u64 {
        PLACE.wrapping_add(slot_size(FRAME_HEAD.wrapping_add(self.max_payload as u64)))
    }

    /// Where the index word of a position lies.
    #[must_use]
    pub const fn index(&self, position: u64) -> Offset {
        let ready = up((self.nodes as u64).wrapping_mul(8), LINE);
        READY.plus(ready).plus((position & self.capacity.wrapping_sub(1)).wrapping_mul(8))
    }

    /// Where the word lies that says whether a node's lane is there.
    #[must_use]
    pub const fn ready(&self, node: u32) -> Offset {
        READY.plus((node as u64).wrapping_mul(8))
    }

    /// Where the lane of a node starts.
    #[must_use]
    pub const fn lane(&self, node: u32) -> Offset {
        let index_end = self.index(0).plus(self.capacity.wrapping_mul(8)).bytes();
        Offset::new(up(index_end, PAGE)).plus(self.lane_size().wrapping_mul(node as u64))
    }

    /// Where the word lies that says at which position a slot's frame is.
    #[must_use]
    pub const fn place(&self, node: u32, slot: u64) -> Offset {
        self.lane(node).plus(slot.wrapping_mul(self.slot_size()))
    }

    /// Where a slot's seqlock lies.
    #[must_use]
    pub const fn slot(&self, node: u32, slot: u64) -> Offset {
        self.place(node, slot).plus(PLACE)
    }

    /// The header of a ring's segment.
    #[must_use]
    pub fn header(&self, incarnation: u128) -> SegmentHeader {
        let geometry = [
            u64::from(self.kind),
            self.capacity,
            u64::from(self.nodes),
            u64::from(self.max_payload),
            0,
            0,
        ];
        SegmentHeader {
            kind: SegmentKind::FleetRing,
            total_size: self.total_size(),
            incarnation,
            geometry,
        }
    }

    /// Reads the geometry of a ring's segment.
    ///
    /// # Errors
    ///
    /// If it is none, or says what no ring can be.
    pub fn read<M: Memory>(memory: &M) -> Result<Self, RingHeaderError> {
        let header =
            SegmentHeader::read(memory, SegmentKind::FleetRing).map_err(RingHeaderError::Header)?;
        let [kind, capacity, nodes, max_payload, ..] = header.geometry;
        let geometry = Self::new(kind as u8, capacity, nodes, max_payload)
            .map_err(RingHeaderError::Geometry)?;
        let (expected, found) = (geometry.total_size(), memory.size());
        if expected != found || u64::from(kind as u8) != kind {
            return Err(RingHeaderError::Layout { expected, found });
        }
        Ok(geometry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mapped;

    #[test]
    fn parts_follow_each_other_and_do_not_overlap() {
        for (capacity, nodes, payload) in [(2, 1, 0), (2, 3, 1), (1024, 64, 256), (4096, 1024, 9)] {
            let ring = RingGeometry::new(7, capacity, nodes, payload).unwrap();
            let last = ring.nodes() - 1;
            assert!(ring.ready(0).bytes() >= FLOOR.bytes() + 128);
            assert!(ring.ready(last).bytes() + 8 <= ring.index(0).bytes());
            assert_eq!(ring.index(capacity), ring.index(0));
            assert!(ring.index(capacity - 1).bytes() + 8 <= ring.lane(0).bytes());
            assert_eq!(ring.slot(0, 0).bytes(), ring.place(0, 0).bytes() + 8);
            let end = ring.place(last, capacity).bytes() + ring.slot_size();
            assert!(end <= ring.total_size());
            assert!(ring.place(0, capacity).bytes() + ring.slot_size() <= ring.lane(1).bytes());
            assert!(ring.slot_size() >= 8 + 8 + 16 + payload);
        }
    }

    #[test]
    fn each_impossible_geometry_has_its_own_error() {
        use RingGeometryError as Error;
        let cases = [
            ((0, 1, 1), Error::Capacity(0)),
            ((1, 1, 1), Error::Capacity(1)),
            ((3, 1, 1), Error::Capacity(3)),
            ((1 << 20, 1, 1), Error::Capacity(1 << 20)),
            ((2, 0, 1), Error::Nodes(0)),
            ((2, 1025, 1), Error::Nodes(1025)),
            ((2, 1, u64::MAX), Error::MaxPayload(u64::MAX)),
        ];
        for ((capacity, nodes, payload), error) in cases {
            assert_eq!(RingGeometry::new(0, capacity, nodes, payload), Err(error));
        }
        let large = RingGeometry::new(0, 1 << 19, 1024, 1 << 20);
        assert!(matches!(large, Err(Error::Total(_))));
    }

    #[test]
    fn the_header_says_the_geometry() {
        let geometry = RingGeometry::new(9, 4, 2, 30).unwrap();
        let memory = Mapped::leaked(geometry.total_size());
        geometry.header(5).write(&memory);
        assert_eq!(RingGeometry::read(&memory), Ok(geometry));
        let mut header = geometry.header(5);
        header.geometry[1] = 4096;
        header.write(&memory);
        assert!(matches!(RingGeometry::read(&memory), Err(RingHeaderError::Layout { .. })));
        header.geometry[1] = 5;
        header.write(&memory);
        let error = RingHeaderError::Geometry(RingGeometryError::Capacity(5));
        assert_eq!(RingGeometry::read(&memory), Err(error));
    }
}
