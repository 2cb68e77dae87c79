//! Where things lie in an outbox: layout only.
//!
//! An outbox is the segment that one side of a link, its *owner*, writes and the other
//! side, the *peer*, maps read-only.
//!
//! ```text
//! offset  size  field        written by                 read by       published by
//!      0   128  header       creator; goodbye: owner    peer          GOODBYE_SAY
//!    128     8  head         owner's sending half       tools         a hint
//!    256     8  tail         owner's receiving half     peer's sender TAIL_PUBLISH
//!    384     8  data sleep   owner's receiving half     peer's sender fence pair
//!    392     8  space sleep  owner's sending half       peer, any     fence pair
//!    512     4  data bell    owner's sending half       peer's receiver BELL_RING
//!    516     4  space bell   owner, any thread          peer's sender BELL_RING
//!    640     8  heartbeat    owner                      peer          a hint
//!    648     8  dropped      owner's sending half       peer          a hint
//!    768   4·n  acks         owner, whoever held a slot peer's sender ACK_PUBLISH
//!      r     c  ring         owner's sending half       peer's receiver FRAME_PUBLISH
//! ```
//!
//! `tail`, the acks and the sleep words speak about the *peer's* outbox: `tail` is how
//! far the owner has read the peer's ring, ack `n` counts how often it has returned
//! slot `n` of the peer's pool. `n` is the number of those slots, `c` the capacity of
//! the ring, and `r` is `768 + 4·n` rounded up to 128.
use crate::{
    audit,
    header::{GeometryError, HEADER_SIZE, HeaderError, SegmentHeader, SegmentKind},
    memory::{Memory, Offset},
    order::HINT,
};

/// How far the owner has written its own ring, in bytes since the beginning.
pub const HEAD: Offset = Offset::new(128);
/// How far the owner has read the peer's ring, in bytes since the beginning.
pub const TAIL: Offset = Offset::new(256);
/// The sleep word of the owner's receiving half.
pub const DATA_SLEEP: Offset = Offset::new(384);
/// The sleep word of the owner's sending half.
pub const SPACE_SLEEP: Offset = Offset::new(392);
/// The owner rings this bell when it has published a frame and the peer sleeps.
pub const DATA_BELL: Offset = Offset::new(512);
/// The owner rings this bell when it has made space and the peer sleeps.
pub const SPACE_BELL: Offset = Offset::new(516);
/// Counts signs of life of the owner.
pub const HEARTBEAT: Offset = Offset::new(640);
/// Counts the messages that the owner's sending half dropped instead of waiting for room
/// for them: see [`say_dropped`].
pub const DROPPED: Offset = Offset::new(648);

const ACKS: Offset = Offset::new(768);
/// Control words that different threads write lie this far apart: two cache lines,
/// because processors fetch them in pairs.
pub const APART: u64 = 128;

const MIN_RING: u64 = 64;
const MAX_RING: u64 = 1 << 30;
const MAX_ACKS: u32 = 17 << 16;

const _: () = assert!(HEAD.bytes() >= HEADER_SIZE as u64);
const _: () = assert!(HEAD.bytes().is_multiple_of(APART) && TAIL.bytes().is_multiple_of(APART));
const _: () = assert!(TAIL.bytes() - HEAD.bytes() >= APART);
const _: () = assert!(DATA_SLEEP.bytes() - TAIL.bytes() >= APART);
const _: () = assert!(DATA_BELL.bytes() - DATA_SLEEP.bytes() >= APART);
const _: () = assert!(HEARTBEAT.bytes() - DATA_BELL.bytes() >= APART);
// Both are rarely written.
const _: () = assert!(DROPPED.bytes() - HEARTBEAT.bytes() == 8);
const _: () = assert!(ACKS.bytes() - HEARTBEAT.bytes() >= APART);

/// Tells the peer how many messages were dropped so far.
///
/// The sending half says it before it publishes its next frame. So a peer that has a frame
/// knows of all that were dropped before it, by `FRAME_PUBLISH`.
pub fn say_dropped<M: Memory>(own: &M, total: u64) {
    own.store64(DROPPED, total, HINT);
}

/// How many messages the owner of an outbox has dropped so far, by its own account.
pub fn dropped_by<M: Memory>(peer: &M) -> u64 {
    let _decision = audit::decision();
    peer.load64(DROPPED, HINT)
}

/// The checked sizes of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxGeometry {
    capacity: u64,
    acks: u32,
}

impl OutboxGeometry {
    /// An outbox with a ring of `capacity` bytes and `acks` release acks, one for each
    /// slot that the peer can ever have.
    ///
    /// # Errors
    ///
    /// [`GeometryError`] if `capacity` is not a power of two from 64 B to 1 GiB, or
    /// there are more acks than 17 classes of 65,536 slots need.
    pub const fn new(capacity: u64, acks: u32) -> Result<Self, GeometryError> {
        if !capacity.is_power_of_two() || capacity < MIN_RING || capacity > MAX_RING {
            return Err(GeometryError::RingCapacity(capacity));
        }
        if acks > MAX_ACKS {
            return Err(GeometryError::Acks(acks as u64));
        }
        Ok(Self { capacity, acks })
    }

    /// Capacity of the ring in bytes.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Number of release acks.
    #[must_use]
    pub const fn acks(&self) -> u32 {
        self.acks
    }

    /// Where the ring starts.
    #[must_use]
    pub const fn ring(&self) -> Offset {
        let acks_end = ACKS.plus((self.acks as u64).wrapping_mul(4)).bytes();
        Offset::new(acks_end.wrapping_add(APART - 1) & !(APART - 1))
    }

    /// Where ack `number` stands; `None` if there is no such ack.
    #[must_use]
    pub const fn ack(&self, number: u32) -> Option<Offset> {
        if number < self.acks { Some(ACKS.plus((number as u64).wrapping_mul(4))) } else { None }
    }

    /// Size of the whole outbox in bytes.
    #[must_use]
    pub const fn total_size(&self) -> u64 {
        self.ring().plus(self.capacity).bytes()
    }

    /// Makes zeroed memory of [`total_size`](Self::total_size) an outbox, before
    /// anybody else sees it.
    pub fn initialise<M: Memory>(&self, memory: &M, incarnation: u128) {
        let geometry =
            [self.ring().bytes(), self.capacity, ACKS.bytes(), u64::from(self.acks), 0, 0];
        let total_size = self.total_size();
        SegmentHeader { kind: SegmentKind::Outbox, total_size, incarnation, geometry }
            .write(memory);
    }

    /// Reads and checks the geometry of an outbox that somebody else made.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] says what is wrong with it.
    pub fn check<M: Memory>(memory: &M, incarnation: u128) -> Result<Self, HeaderError> {
        let _decision = audit::decision();
        let header = SegmentHeader::read(memory, SegmentKind::Outbox)?;
        if header.incarnation != incarnation {
            return Err(HeaderError::Incarnation { found: header.incarnation });
        }
        let [ring, capacity, acks_at, acks, zero, also_zero] = header.geometry;
        let acks = u32::try_from(acks).map_err(|_| GeometryError::Acks(acks))?;
        let checked = Self::new(capacity, acks)?;
        let lies = ring == checked.ring().bytes()
            && acks_at == ACKS.bytes()
            && zero == 0
            && also_zero == 0
            && header.total_size == checked.total_size();
        if lies { Ok(checked) } else { Err(GeometryError::Layout.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mapped, order::OWN};

    #[test]
    fn sizes_at_and_beyond_the_bounds() {
        for capacity in [0, 1, 63, 65, 96, 1 << 31, u64::MAX] {
            assert_eq!(
                OutboxGeometry::new(capacity, 0),
                Err(GeometryError::RingCapacity(capacity))
            );
        }
        assert!(OutboxGeometry::new(64, 0).is_ok());
        assert!(OutboxGeometry::new(1 << 30, MAX_ACKS).is_ok());
        assert!(OutboxGeometry::new(64, MAX_ACKS + 1).is_err());
    }

    #[test]
    fn the_parts_do_not_overlap() {
        for acks in [0, 1, 31, 32, 33, 5000] {
            let geometry = OutboxGeometry::new(256, acks).unwrap();
            if acks > 0 {
                let last = geometry.ack(acks - 1).unwrap();
                assert!(last.plus(4) <= geometry.ring());
            }
            assert_eq!(geometry.ack(acks), None);
            assert_eq!(geometry.ring().bytes() % APART, 0);
            assert_eq!(geometry.total_size(), geometry.ring().bytes() + 256);
        }
    }

    #[test]
    fn a_geometry_that_contradicts_itself_is_refused() {
        let geometry = OutboxGeometry::new(256, 32).unwrap();
        let memory = Mapped::leaked(geometry.total_size());
        geometry.initialise(&memory, 7);
        assert_eq!(OutboxGeometry::check(&memory, 7), Ok(geometry));
        assert_eq!(OutboxGeometry::check(&memory, 8), Err(HeaderError::Incarnation { found: 7 }));
        for word in 48..96 {
            if word % 8 == 0 {
                let at = Offset::new(word);
                let old = memory.load64(at, OWN);
                for bad in [old + 1, old ^ (1 << 63), u64::MAX] {
                    memory.store64(at, bad, OWN);
                    assert!(matches!(
                        OutboxGeometry::check(&memory, 7),
                        Err(HeaderError::Geometry(_))
                    ));
                }
                memory.store64(at, old, OWN);
            }
        }
        assert_eq!(OutboxGeometry::check(&memory, 7), Ok(geometry));
    }
}
