//! What stands at offset 0 of a segment.
//!
//! ```text
//! offset  size  field           written by           when
//!      0     8  magic           creator              before the segment is handed over
//!      8     4  layout version  creator              "
//!     12     4  header size     creator              "
//!     16     8  total size      creator              "
//!     24     4  kind            creator              "
//!     28     4  zero            creator              "
//!     32    16  incarnation     creator              "
//!     48    48  geometry        creator              "
//!     96     4  goodbye         owner of the segment  once, when it leaves
//!    100    28  zero
//! ```
//!
//! Nobody sees a segment before its header is complete: it has no name, and its
//! descriptor is passed on afterwards. Only `goodbye` changes later. A crash before
//! that store leaves the segment without a goodbye: its owner is then *dead*, not
//! *gone*.
use core::fmt;

use crate::{
    audit,
    memory::{Memory, Offset},
    order::{GOODBYE_SAY, GOODBYE_SEEN, OWN},
};

/// The first eight bytes of every segment: `SHMLINK` and a zero.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SHMLINK\0");
/// The version of all layouts of this crate. Any change of one changes it.
pub const LAYOUT_VERSION: u32 = 3;
/// Size of the header in bytes.
pub const HEADER_SIZE: u32 = 128;

const MAGIC_AT: Offset = Offset::new(0);
const VERSION_AT: Offset = Offset::new(8);
const HEADER_SIZE_AT: Offset = Offset::new(12);
const TOTAL_SIZE_AT: Offset = Offset::new(16);
const KIND_AT: Offset = Offset::new(24);
const INCARNATION_AT: Offset = Offset::new(32);
const GEOMETRY_AT: Offset = Offset::new(48);
const GOODBYE_AT: Offset = Offset::new(96);
const GEOMETRY_WORDS: usize = 6;

const _: () = assert!(GEOMETRY_AT.bytes() + 8 * GEOMETRY_WORDS as u64 <= GOODBYE_AT.bytes());
const _: () = assert!(GOODBYE_AT.bytes() + 4 <= HEADER_SIZE as u64);

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentKind {
    /// What one side of a link writes: see [`outbox`](crate::outbox).
    Outbox,
    /// What a host tells all its guests: see [`hub`](crate::hub).
    Hub,
    /// What a process counts of its links: see [`ledger`](crate::ledger).
    Ledger,
    /// A ring of a fleet: see [`fleet`](crate::fleet).
    FleetRing,
    /// Who is in a fleet.
    FleetMembers,
}

impl SegmentKind {
    const fn code(self) -> u32 {
        match self {
            SegmentKind::Outbox => 1,
            SegmentKind::Hub => 2,
            SegmentKind::Ledger => 3,
            SegmentKind::FleetRing => 16,
            SegmentKind::FleetMembers => 17,
        }
    }
}

/// How the owner of a segment left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Goodbye {
    /// It will send and receive nothing more; what it sent is complete.
    Graceful,
    /// It has thrown the reader of this word out.
    Evicted,
}

/// The fields of a segment header that never change, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// What the segment is for.
    pub kind: SegmentKind,
    /// Size of the whole segment in bytes.
    pub total_size: u64,
    /// A random number drawn by the host that made the segment.
    pub incarnation: u128,
    /// Sizes and counts; the meaning depends on `kind`.
    pub geometry: [u64; GEOMETRY_WORDS],
}

/// Why a segment is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// Smaller than its own header.
    TooSmall {
        /// Bytes.
        size: u64,
    },
    /// The first eight bytes are something else: not a segment of this library.
    Magic {
        /// What stands there.
        found: u64,
    },
    /// Another layout version.
    Version {
        /// Its version; ours is [`LAYOUT_VERSION`].
        found: u32,
    },
    /// Another header size.
    HeaderSize {
        /// What it says; ours is [`HEADER_SIZE`].
        found: u32,
    },
    /// It says another size than it has.
    TotalSize {
        /// What it says, in bytes.
        claimed: u64,
        /// What it has, in bytes.
        actual: u64,
    },
    /// A segment of another kind than expected.
    Kind {
        /// The kind's number.
        found: u32,
    },
    /// A segment of another host, or of an earlier life of this one.
    Incarnation {
        /// What stands there.
        found: u128,
    },
    /// Sizes or counts that are out of bounds or contradict each other.
    Geometry(GeometryError),
}

/// Sizes or counts that no segment can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GeometryError {
    /// A ring's capacity is not a power of two from 64 B to 1 GiB.
    RingCapacity(u64),
    /// More acks than the slots that a link can have.
    Acks(u64),
    /// Peers are not 1 to 65,536.
    Peers(u64),
    /// More than 16 size classes.
    Classes(u64),
    /// A size class whose slots are not a multiple of 64 bytes, from 64 B to 1 GiB.
    SlotSize(u64),
    /// A size class that is not larger than the one before it.
    SlotOrder(u64),
    /// A size class with no slots, or with more than 65,536.
    SlotCount(u64),
    /// Slots of a broadcast ring are not a power of two from 1 to 1,048,576.
    Slots(u64),
    /// The largest value of a broadcast ring is more than 1 GiB.
    Payload(u64),
    /// More than 256 topics.
    Topics(u64),
    /// A topic whose name is not 1 to 64 bytes of UTF-8, or is another's too. The number is
    /// the topic's place in the configuration, counted from 0.
    TopicName(u64),
    /// The parts do not lie where their sizes put them.
    Layout,
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RingCapacity(n) => {
                write!(f, "a ring of {n} bytes; choose a power of two from 64 to 1073741824")
            }
            Self::Acks(n) => write!(f, "{n} acks are more than a link's slots can be"),
            Self::Peers(n) => write!(f, "a table of {n} peers; choose 1 to 65536"),
            Self::Classes(n) => write!(f, "{n} size classes; choose at most 16"),
            Self::SlotSize(n) => {
                write!(f, "slots of {n} bytes; choose a multiple of 64 from 64 to 1073741824")
            }
            Self::SlotOrder(n) => write!(
                f,
                "slots of {n} bytes after a class that is not smaller; list classes by rising size"
            ),
            Self::SlotCount(n) => write!(f, "{n} slots in a class; choose 1 to 65536 in all"),
            Self::Slots(n) => {
                write!(f, "{n} broadcast slots; choose a power of two from 1 to 1048576")
            }
            Self::Payload(n) => {
                write!(f, "broadcast values of {n} bytes; choose at most 1073741824")
            }
            Self::Topics(n) => write!(f, "{n} topics; choose at most 256"),
            Self::TopicName(n) => {
                write!(f, "topic {n} has no name of 1 to 64 bytes of its own; give it one")
            }
            Self::Layout => {
                f.write_str("the parts of the segment do not lie where their sizes put them")
            }
        }
    }
}

impl core::error::Error for GeometryError {}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { size } => {
                write!(f, "a segment of {size} bytes is smaller than its {HEADER_SIZE}-byte header")
            }
            Self::Magic { found } => {
                write!(f, "not a segment of this library: it starts with {found:#018x}")
            }
            Self::Version { found } => write!(
                f,
                "layout version {found}, ours is {LAYOUT_VERSION}: use the same release on both sides"
            ),
            Self::HeaderSize { found } => {
                write!(f, "a header of {found} bytes, ours has {HEADER_SIZE}")
            }
            Self::TotalSize { claimed, actual } => {
                write!(f, "the segment says {claimed} bytes and has {actual}")
            }
            Self::Kind { found } => write!(f, "a segment of unexpected kind {found}"),
            Self::Incarnation { found } => {
                write!(f, "a segment of another host or of an earlier life of it ({found:#034x})")
            }
            Self::Geometry(error) => write!(f, "impossible geometry: {error}"),
        }
    }
}

impl core::error::Error for HeaderError {}

impl From<GeometryError> for HeaderError {
    fn from(error: GeometryError) -> Self {
        Self::Geometry(error)
    }
}

impl SegmentHeader {
    /// Writes the header into a new segment, before anybody else sees it.
    pub fn write<M: Memory>(&self, memory: &M) {
        memory.store64(MAGIC_AT, MAGIC, OWN);
        memory.store32(VERSION_AT, LAYOUT_VERSION, OWN);
        memory.store32(HEADER_SIZE_AT, HEADER_SIZE, OWN);
        memory.store64(TOTAL_SIZE_AT, self.total_size, OWN);
        memory.store32(KIND_AT, self.kind.code(), OWN);
        memory.store64(INCARNATION_AT, self.incarnation as u64, OWN);
        memory.store64(INCARNATION_AT.plus(8), (self.incarnation >> 64) as u64, OWN);
        for (at, word) in geometry_words().zip(self.geometry) {
            memory.store64(at, word, OWN);
        }
    }

    /// Reads a header and checks all that does not depend on the geometry's meaning.
    ///
    /// # Errors
    ///
    /// Each kind of refusal is its own [`HeaderError`].
    pub fn read<M: Memory>(memory: &M, kind: SegmentKind) -> Result<Self, HeaderError> {
        let _decision = audit::decision();
        let actual = memory.size();
        if actual < u64::from(HEADER_SIZE) {
            return Err(HeaderError::TooSmall { size: actual });
        }
        let magic = memory.load64(MAGIC_AT, OWN);
        if magic != MAGIC {
            return Err(HeaderError::Magic { found: magic });
        }
        let version = memory.load32(VERSION_AT, OWN);
        if version != LAYOUT_VERSION {
            return Err(HeaderError::Version { found: version });
        }
        let header_size = memory.load32(HEADER_SIZE_AT, OWN);
        if header_size != HEADER_SIZE {
            return Err(HeaderError::HeaderSize { found: header_size });
        }
        let claimed = memory.load64(TOTAL_SIZE_AT, OWN);
        if claimed != actual {
            return Err(HeaderError::TotalSize { claimed, actual });
        }
        let found = memory.load32(KIND_AT, OWN);
        if found != kind.code() {
            return Err(HeaderError::Kind { found });
        }
        let low = memory.load64(INCARNATION_AT, OWN);
        let high = memory.load64(INCARNATION_AT.plus(8), OWN);
        let mut geometry = [0; GEOMETRY_WORDS];
        for (at, word) in geometry_words().zip(&mut geometry) {
            *word = memory.load64(at, OWN);
        }
        Ok(Self {
            kind,
            total_size: claimed,
            incarnation: u128::from(low) | u128::from(high) << 64,
            geometry,
        })
    }
}

fn geometry_words() -> impl Iterator<Item = Offset> {
    (0..GEOMETRY_WORDS as u64).map(|n| GEOMETRY_AT.plus(n.wrapping_mul(8)))
}

/// Says goodbye in one's own segment, after everything else that was written there.
pub fn say_goodbye<M: Memory>(own: &M, goodbye: Goodbye) {
    let word = match goodbye {
        Goodbye::Graceful => 1,
        Goodbye::Evicted => 2,
    };
    own.store32(GOODBYE_AT, word, GOODBYE_SAY);
}

/// Whether the owner of a segment said goodbye. A word that no honest owner writes
/// counts as a graceful goodbye: it, too, ends the link.
#[inline]
pub fn goodbye_of<M: Memory>(peer: &M) -> Option<Goodbye> {
    let _decision = audit::decision();
    match peer.load32(GOODBYE_AT, GOODBYE_SEEN) {
        0 => None,
        2 => Some(Goodbye::Evicted),
        _ => Some(Goodbye::Graceful),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mapped;

    const HEADER: SegmentHeader = SegmentHeader {
        kind: SegmentKind::Outbox,
        total_size: 4096,
        incarnation: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
        geometry: [1, 2, 3, 4, 5, 6],
    };

    fn with_segment(test: impl FnOnce(&Mapped)) {
        let memory = Mapped::leaked(4096);
        HEADER.write(&memory);
        test(&memory);
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        with_segment(|memory| {
            assert_eq!(SegmentHeader::read(memory, SegmentKind::Outbox), Ok(HEADER));
        });
    }

    #[test]
    fn each_refusal_is_its_own_error() {
        type Break = fn(&Mapped);
        let cases: [(Break, HeaderError); 5] = [
            (|m| m.store64(MAGIC_AT, 7, OWN), HeaderError::Magic { found: 7 }),
            (|m| m.store32(VERSION_AT, 99, OWN), HeaderError::Version { found: 99 }),
            (|m| m.store32(HEADER_SIZE_AT, 64, OWN), HeaderError::HeaderSize { found: 64 }),
            (
                |m| m.store64(TOTAL_SIZE_AT, u64::MAX, OWN),
                HeaderError::TotalSize { claimed: u64::MAX, actual: 4096 },
            ),
            (|m| m.store32(KIND_AT, 2, OWN), HeaderError::Kind { found: 2 }),
        ];
        for (spoil, error) in cases {
            with_segment(|memory| {
                spoil(memory);
                assert_eq!(SegmentHeader::read(memory, SegmentKind::Outbox), Err(error));
            });
        }
        let memory = Mapped::leaked(64);
        assert_eq!(
            SegmentHeader::read(&memory, SegmentKind::Hub),
            Err(HeaderError::TooSmall { size: 64 })
        );
    }

    #[test]
    fn a_goodbye_is_seen() {
        with_segment(|memory| {
            assert_eq!(goodbye_of(memory), None);
            say_goodbye(memory, Goodbye::Graceful);
            assert_eq!(goodbye_of(memory), Some(Goodbye::Graceful));
            say_goodbye(memory, Goodbye::Evicted);
            assert_eq!(goodbye_of(memory), Some(Goodbye::Evicted));
        });
    }
}
