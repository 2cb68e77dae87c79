//! The hub segment: what a host tells all its guests and every tool.
//!
//! ```text
//! offset  size  field       written by  read by        published by
//!      0   128  header      the host    guests, tools  before handing over; GOODBYE_SAY
//!    128   128  statistics  the host    guests, tools  seqlock
//!    256  128·n peer table  the host    guests, tools  PEER_CHANGE, seqlock
//! ```
//!
//! The peer table is described in [`peer`](crate::peer). Only the host can write here:
//! guests get the segment sealed against writing. When a host dies inside a change the
//! segment dies with it; its guests see the death.
use crate::{
    header::{GeometryError, HeaderError, SegmentHeader, SegmentKind},
    memory::{Memory, Offset},
    peer::{ENTRY_SIZE, PeerTable},
    seqlock::{ATTEMPTS, Busy, SeqlockReader, SeqlockWriter, put, slot_size, take},
};

const STATISTICS: Offset = Offset::new(128);
const PEER_TABLE: Offset = Offset::new(256);
const STATISTIC_BYTES: usize = 48;
const MAX_PEERS: u64 = 1 << 16;

const _: () = assert!(STATISTICS.bytes() + slot_size(STATISTIC_BYTES as u64) <= PEER_TABLE.bytes());

/// The checked size of a hub segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubGeometry {
    peers: u32,
}

impl HubGeometry {
    /// A hub with a table of `peers` entries.
    ///
    /// # Errors
    ///
    /// [`GeometryError::Peers`] if they are not 1 to 65,536.
    pub const fn new(peers: u64) -> Result<Self, GeometryError> {
        if peers == 0 || peers > MAX_PEERS {
            return Err(GeometryError::Peers(peers));
        }
        Ok(Self { peers: peers as u32 })
    }

    /// Entries in the peer table.
    #[must_use]
    pub const fn peers(&self) -> u32 {
        self.peers
    }

    /// Size of the hub segment in bytes.
    #[must_use]
    pub const fn total_size(&self) -> u64 {
        PEER_TABLE.plus((self.peers as u64).wrapping_mul(ENTRY_SIZE)).bytes()
    }

    /// The peer table of a hub of this size.
    #[must_use]
    pub fn peer_table<M: Memory>(&self, memory: M) -> PeerTable<M> {
        PeerTable::new(memory, PEER_TABLE, self.peers)
    }

    /// Makes zeroed memory of [`total_size`](Self::total_size) a hub, before anybody
    /// else sees it.
    pub fn initialise<M: Memory>(&self, memory: &M, incarnation: u128) {
        let geometry = [PEER_TABLE.bytes(), self.peers.into(), STATISTICS.bytes(), 0, 0, 0];
        let total_size = self.total_size();
        SegmentHeader { kind: SegmentKind::Hub, total_size, incarnation, geometry }.write(memory);
    }

    /// Reads and checks the geometry of a hub that a host made.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] says what is wrong with it.
    pub fn check<M: Memory>(memory: &M, incarnation: u128) -> Result<Self, HeaderError> {
        let header = SegmentHeader::read(memory, SegmentKind::Hub)?;
        if header.incarnation != incarnation {
            return Err(HeaderError::Incarnation { found: header.incarnation });
        }
        let [table, peers, statistics, a, b, c] = header.geometry;
        let checked = Self::new(peers)?;
        let lies = table == PEER_TABLE.bytes()
            && statistics == STATISTICS.bytes()
            && (a | b | c) == 0
            && header.total_size == checked.total_size();
        if lies { Ok(checked) } else { Err(GeometryError::Layout.into()) }
    }
}

/// Counts over the life of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubStatistics {
    /// Guests that attached.
    pub attached: u64,
    /// Guests that said goodbye.
    pub departed: u64,
    /// Guests that died.
    pub died: u64,
    /// Guests that were evicted.
    pub evicted: u64,
    /// Guests that broke the protocol.
    pub corrupt: u64,
    /// Guests that were refused.
    pub refused: u64,
}

/// The host's counts in a hub segment. The host changes them; guests and tools read them.
#[derive(Clone, Debug)]
pub struct Statistics<M: Memory> {
    memory: M,
}

impl<M: Memory> Statistics<M> {
    /// The counts of a hub segment.
    pub fn new(memory: M) -> Self {
        Self { memory }
    }

    /// Publishes the host's counts. The caller is the only one to do so at this time.
    pub fn set(&self, statistics: &HubStatistics) {
        let mut bytes = [0; STATISTIC_BYTES];
        let HubStatistics { attached, departed, died, evicted, corrupt, refused } = *statistics;
        put(&mut bytes, [attached, departed, died, evicted, corrupt, refused]);
        SeqlockWriter::new(self.memory.clone(), STATISTICS).write(&bytes);
    }

    /// The host's counts, as one consistent snapshot.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the host is changing them all the time, or died while it did.
    pub fn get(&self) -> Result<HubStatistics, Busy> {
        let mut bytes = [0; STATISTIC_BYTES];
        SeqlockReader::new(self.memory.clone(), STATISTICS).read(&mut bytes, ATTEMPTS)?;
        let [attached, departed, died, evicted, corrupt, refused] = take(&bytes);
        Ok(HubStatistics { attached, departed, died, evicted, corrupt, refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mapped;

    #[test]
    fn statistics_come_back() {
        let geometry = HubGeometry::new(3).unwrap();
        let memory = Mapped::leaked(geometry.total_size());
        geometry.initialise(&memory, 1);
        assert_eq!(HubGeometry::check(&memory, 1), Ok(geometry));
        let counts = Statistics::new(memory);
        let statistics =
            HubStatistics { attached: 1, departed: 2, died: 3, evicted: 4, corrupt: 5, refused: 6 };
        counts.set(&statistics);
        assert_eq!(counts.get(), Ok(statistics));
    }

    #[test]
    fn bad_sizes_are_refused() {
        for peers in [0, MAX_PEERS + 1, u64::MAX] {
            assert_eq!(HubGeometry::new(peers), Err(GeometryError::Peers(peers)));
        }
        assert!(HubGeometry::new(MAX_PEERS).is_ok());
    }
}
