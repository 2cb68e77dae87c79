//! Who is in a fleet: a segment with an entry for each node.
//!
//! ```text
//! offset        size  field                                              published by
//!      0         128  segment header
//!    128 + 128n   56  member: pid, start time, incarnation, when joined  seqlock
//!    192 + 128n    8  heartbeat                                          itself
//! ```
//!
//! An entry is written by its node's member alone, when it joins; whether that member
//! lives is not said here but by a lock of the kernel. A member that dies while it
//! writes its entry leaves it busy until the next member of that node writes it.

use super::id::MAX_NODES;
use crate::{
    audit,
    header::{HEADER_SIZE, HeaderError, SegmentHeader, SegmentKind},
    memory::{Memory, Offset},
    order::{HINT, OWN},
    seqlock::{Busy, SeqlockReader, SeqlockWriter, put, slot_size, take},
};

const ENTRY: u64 = 128;
const HEARTBEAT: u64 = 64;
const _: () = assert!(slot_size(48) <= HEARTBEAT);
const ATTEMPTS: u32 = 1000;

/// What a member says of itself when it joins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberDetails {
    /// Its process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot.
    pub start_time: u64,
    /// Drawn at random when it joined: names this life of the node for ever.
    pub incarnation: u128,
    /// When it joined, in nanoseconds since 1970.
    pub joined: u64,
}

/// The table of a fleet's members.
#[derive(Clone, Debug)]
pub struct Members<M: Memory> {
    memory: M,
    nodes: u32,
}

impl<M: Memory> Members<M> {
    /// Size of a table for `nodes` nodes, in bytes.
    #[must_use]
    pub const fn size(nodes: u32) -> u64 {
        (HEADER_SIZE as u64).wrapping_add((nodes as u64).wrapping_mul(ENTRY))
    }

    /// The header of a new table, of 1 to 1024 nodes.
    #[must_use]
    pub fn header(nodes: u32, incarnation: u128) -> SegmentHeader {
        SegmentHeader {
            kind: SegmentKind::FleetMembers,
            total_size: Self::size(nodes),
            incarnation,
            geometry: [u64::from(nodes), 0, 0, 0, 0, 0],
        }
    }

    /// The table in `memory`, and the incarnation of its fleet.
    ///
    /// # Errors
    ///
    /// If it is none of this release.
    pub fn read(memory: M) -> Result<(Self, u128), HeaderError> {
        let header = SegmentHeader::read(&memory, SegmentKind::FleetMembers)?;
        let [nodes, ..] = header.geometry;
        let claimed = Self::size(nodes.min(u64::from(u32::MAX)) as u32);
        let actual = memory.size();
        if !(1..=u64::from(MAX_NODES)).contains(&nodes) || claimed != actual {
            return Err(HeaderError::TotalSize { claimed, actual });
        }
        Ok((Self { memory, nodes: nodes as u32 }, header.incarnation))
    }

    /// How many nodes the fleet has room for.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    fn entry(&self, node: u32) -> Option<Offset> {
        let at = u64::from(HEADER_SIZE).wrapping_add(u64::from(node).wrapping_mul(ENTRY));
        (node < self.nodes).then_some(Offset::new(at))
    }

    /// Writes the entry of one's own node.
    pub fn enter(&self, node: u32, details: &MemberDetails) {
        let Some(at) = self.entry(node) else { return };
        let MemberDetails { pid, start_time, incarnation, joined } = *details;
        let mut value = [0; 48];
        let (low, high) = (incarnation as u64, (incarnation >> 64) as u64);
        put(&mut value, [u64::from(pid), start_time, low, high, joined, 0]);
        SeqlockWriter::new(self.memory.clone(), at).write(&value);
    }

    /// What the last member of a node said of itself; none if there was none yet.
    ///
    /// # Errors
    ///
    /// [`Busy`] while a new member writes the entry, or after it died there.
    pub fn details(&self, node: u32) -> Result<Option<MemberDetails>, Busy> {
        let Some(at) = self.entry(node) else { return Ok(None) };
        let mut value = [0; 48];
        if SeqlockReader::new(self.memory.clone(), at).read(&mut value, ATTEMPTS)? == 0 {
            return Ok(None);
        }
        let [pid, start_time, low, high, joined, _] = take(&value);
        let incarnation = u128::from(low) | u128::from(high) << 64;
        Ok(Some(MemberDetails { pid: pid as u32, start_time, incarnation, joined }))
    }

    /// Counts one's own heartbeat on, and returns it.
    pub fn beat(&self, node: u32) -> u64 {
        let _decision = audit::decision();
        let Some(at) = self.entry(node) else { return 0 };
        let at = at.plus(HEARTBEAT);
        let beat = self.memory.load64(at, OWN).wrapping_add(1);
        self.memory.store64(at, beat, HINT);
        beat
    }

    /// The heartbeat of a node. It goes on growing through all its lives.
    #[must_use]
    pub fn heartbeat(&self, node: u32) -> u64 {
        let _decision = audit::decision();
        self.entry(node).map_or(0, |at| self.memory.load64(at.plus(HEARTBEAT), HINT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mapped;

    #[test]
    fn entries_come_back_and_heartbeats_grow() {
        let memory = Mapped::leaked(Members::<Mapped>::size(3));
        Members::<Mapped>::header(3, 7).write(&memory);
        let (members, incarnation) = Members::read(memory).unwrap();
        assert_eq!((members.nodes(), incarnation), (3, 7));
        for node in 0..3 {
            assert_eq!(members.details(node), Ok(None));
            let pid = node + 10;
            let details =
                MemberDetails { pid, start_time: 4, incarnation: u128::MAX - 1, joined: 6 };
            members.enter(node, &details);
            assert_eq!(members.details(node), Ok(Some(details)));
            assert_eq!((members.beat(node), members.beat(node)), (1, 2));
            assert_eq!(members.heartbeat(node), 2);
        }
        assert_eq!((members.details(3), members.beat(3), members.heartbeat(3)), (Ok(None), 0, 0));
    }

    #[test]
    fn a_table_of_no_nodes_or_another_size_is_refused() {
        for nodes in [0, 2, 4, 1 << 20] {
            let memory = Mapped::leaked(Members::<Mapped>::size(3));
            let mut header = Members::<Mapped>::header(nodes, 7);
            header.total_size = memory.size();
            header.write(&memory);
            let read = Members::read(memory).map(|_| ());
            assert!(matches!(read, Err(HeaderError::TotalSize { .. })), "{nodes}");
        }
    }
}
