//! The hub segment: what a host tells all its guests and every tool.
//!
//! ```text
//! offset  size  field       written by  read by        published by
//!      0   128  header      the host    guests, tools  before handing over; GOODBYE_SAY
//!    128   128  statistics  the host    guests, tools  seqlock
//!    256  128·n peer table  the host    guests, tools  PEER_CHANGE, seqlock
//!         128·t topics      the host    guests, tools  before handing over
//!               broadcast   the host    guests, tools  seqlock
//! ```
//!
//! The peer table of `n` entries is described in [`peer`](crate::peer). Each of the `t`
//! topics has an entry in the directory, and its ring, described in
//! [`broadcast`](crate::broadcast), behind it:
//!
//! ```text
//! offset  size  field of a topic's entry
//!      0    64  name, UTF-8, filled up with zeros
//!     64     8  slots
//!     72     8  largest payload in bytes
//!     80     8  offset of its ring in the hub segment
//! ```
//!
//! Only the host can write here: guests get the segment sealed against writing. When a host
//! dies inside a change the segment dies with it; its guests see the death.
use alloc::{string::String, vec::Vec};

use crate::{
    audit,
    broadcast::BroadcastGeometry,
    header::{GeometryError, HeaderError, SegmentHeader, SegmentKind},
    memory::{Memory, Offset},
    order::OWN,
    outbox::APART,
    peer::{ENTRY_SIZE, PeerTable},
    seqlock::{ATTEMPTS, Busy, SeqlockReader, SeqlockWriter, put, slot_size, take},
};

const STATISTICS: Offset = Offset::new(128);
const PEER_TABLE: Offset = Offset::new(256);
const STATISTIC_BYTES: usize = 48;
const MAX_PEERS: u64 = 1 << 16;

const TOPIC_ENTRY: u64 = 128;
const TOPIC_NAME: usize = 64;
const TOPIC_SLOTS: u64 = 64;
const TOPIC_PAYLOAD: u64 = 72;
const TOPIC_RING: u64 = 80;
const MAX_TOPICS: u64 = 256;

const _: () = assert!(STATISTICS.bytes() + slot_size(STATISTIC_BYTES as u64) <= PEER_TABLE.bytes());
const _: () = assert!(TOPIC_RING + 8 <= TOPIC_ENTRY && TOPIC_NAME as u64 <= TOPIC_SLOTS);

/// A broadcast ring of a hub, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Where its ring lies in the hub segment.
    pub at: Offset,
    /// The size of its ring.
    pub ring: BroadcastGeometry,
}

/// The checked size of a hub segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubGeometry {
    peers: u32,
    topics: Vec<Topic>,
    total_size: u64,
}

impl HubGeometry {
    /// A hub with a table of `peers` entries and a broadcast ring for each of `topics`.
    ///
    /// # Errors
    ///
    /// [`GeometryError::Peers`] if the peers are not 1 to 65,536, [`GeometryError::Topics`] if
    /// there are more than 256, [`GeometryError::TopicName`] if a name is empty, longer than 64
    /// bytes or not its own.
    pub fn new<'a>(
        peers: u64,
        topics: impl IntoIterator<Item = (&'a str, BroadcastGeometry)>,
    ) -> Result<Self, GeometryError> {
        if peers == 0 || peers > MAX_PEERS {
            return Err(GeometryError::Peers(peers));
        }
        let mut placed: Vec<Topic> = Vec::new();
        for (name, ring) in topics {
            let count = placed.len() as u64;
            if count >= MAX_TOPICS {
                return Err(GeometryError::Topics(count.wrapping_add(1)));
            }
            let taken = placed.iter().any(|topic| topic.name == name);
            if name.is_empty() || name.len() > TOPIC_NAME || name.contains('\0') || taken {
                return Err(GeometryError::TopicName(count));
            }
            placed.push(Topic { name: name.into(), at: PEER_TABLE, ring });
        }
        let mut end = topic_entry(peers, placed.len() as u64);
        for topic in &mut placed {
            topic.at = end;
            end = end.plus(topic.ring.size().next_multiple_of(APART));
        }
        Ok(Self { peers: peers as u32, topics: placed, total_size: end.bytes() })
    }

    /// Entries in the peer table.
    #[must_use]
    pub const fn peers(&self) -> u32 {
        self.peers
    }

    /// The topics.
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// Size of the hub segment in bytes.
    #[must_use]
    pub const fn total_size(&self) -> u64 {
        self.total_size
    }

    /// The peer table of a hub of this size.
    #[must_use]
    pub fn peer_table<M: Memory>(&self, memory: M) -> PeerTable<M> {
        PeerTable::new(memory, PEER_TABLE, self.peers)
    }

    /// Makes zeroed memory of [`total_size`](Self::total_size) a hub, before anybody
    /// else sees it.
    pub fn initialise<M: Memory>(&self, memory: &M, incarnation: u128) {
        let topics = self.topics.len() as u64;
        let geometry = [PEER_TABLE.bytes(), self.peers.into(), STATISTICS.bytes(), topics, 0, 0];
        let total_size = self.total_size();
        SegmentHeader { kind: SegmentKind::Hub, total_size, incarnation, geometry }.write(memory);
        for (index, topic) in (0u64..).zip(&self.topics) {
            let entry = topic_entry(self.peers.into(), index);
            memory.store_words(entry, topic.name.as_bytes(), OWN);
            memory.store64(entry.plus(TOPIC_SLOTS), topic.ring.slots(), OWN);
            memory.store64(entry.plus(TOPIC_PAYLOAD), topic.ring.max_payload(), OWN);
            memory.store64(entry.plus(TOPIC_RING), topic.at.bytes(), OWN);
        }
    }

    /// Reads and checks the geometry of a hub that a host made.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] says what is wrong with it.
    pub fn check<M: Memory>(memory: &M, incarnation: u128) -> Result<Self, HeaderError> {
        let _decision = audit::decision();
        let header = SegmentHeader::read(memory, SegmentKind::Hub)?;
        if header.incarnation != incarnation {
            return Err(HeaderError::Incarnation { found: header.incarnation });
        }
        let [table, peers, statistics, topics, a, b] = header.geometry;
        if peers > MAX_PEERS {
            return Err(GeometryError::Peers(peers).into());
        }
        if topics > MAX_TOPICS {
            return Err(GeometryError::Topics(topics).into());
        }
        if topic_entry(peers, topics).bytes() > memory.size() {
            return Err(GeometryError::Layout.into());
        }
        let (mut found, mut places) = (Vec::new(), Vec::new());
        for index in 0..topics {
            let entry = topic_entry(peers, index);
            let mut name = [0; TOPIC_NAME];
            memory.load_words(entry, &mut name, OWN);
            let name = core::str::from_utf8(&name).map_err(|_| GeometryError::TopicName(index))?;
            let slots = memory.load64(entry.plus(TOPIC_SLOTS), OWN);
            let max_payload = memory.load64(entry.plus(TOPIC_PAYLOAD), OWN);
            places.push(Offset::new(memory.load64(entry.plus(TOPIC_RING), OWN)));
            let ring = BroadcastGeometry::new(slots, max_payload)?;
            found.push((String::from(name.trim_end_matches('\0')), ring));
        }
        let checked = Self::new(peers, found.iter().map(|(name, ring)| (name.as_str(), *ring)))?;
        let lies = table == PEER_TABLE.bytes()
            && statistics == STATISTICS.bytes()
            && (a | b) == 0
            && header.total_size == checked.total_size()
            && checked.topics.iter().map(|topic| topic.at).eq(places);
        if lies { Ok(checked) } else { Err(GeometryError::Layout.into()) }
    }
}

/// Where a topic's entry in the directory lies; behind the last of them lie the rings.
const fn topic_entry(peers: u64, index: u64) -> Offset {
    PEER_TABLE.plus(peers.wrapping_mul(ENTRY_SIZE)).plus(index.wrapping_mul(TOPIC_ENTRY))
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
        let geometry = HubGeometry::new(3, []).unwrap();
        let memory = Mapped::leaked(geometry.total_size());
        geometry.initialise(&memory, 1);
        assert_eq!(HubGeometry::check(&memory, 1).as_ref(), Ok(&geometry));
        let counts = Statistics::new(memory);
        let statistics =
            HubStatistics { attached: 1, departed: 2, died: 3, evicted: 4, corrupt: 5, refused: 6 };
        counts.set(&statistics);
        assert_eq!(counts.get(), Ok(statistics));
    }

    fn ring(slots: u64, max_payload: u64) -> BroadcastGeometry {
        BroadcastGeometry::new(slots, max_payload).unwrap()
    }

    #[test]
    fn topics_come_back_and_lie_apart() {
        let long = "x".repeat(TOPIC_NAME);
        let topics = [("a", ring(2, 100)), ("prices", ring(1024, 8)), (&long, ring(1, 0))];
        let geometry = HubGeometry::new(3, topics).unwrap();
        let memory = Mapped::leaked(geometry.total_size());
        geometry.initialise(&memory, 1);
        assert_eq!(HubGeometry::check(&memory, 1), Ok(geometry.clone()));
        let mut end = topic_entry(3, 3);
        for topic in geometry.topics() {
            assert!(topic.at >= end && topic.at.bytes().is_multiple_of(APART));
            end = topic.at.plus(topic.ring.size());
        }
        assert!(end.bytes() <= geometry.total_size());
        // Whatever word of the directory is changed, it is seen.
        for word in (topic_entry(3, 0).bytes()..topic_entry(3, 3).bytes()).step_by(8) {
            let at = Offset::new(word);
            let before = memory.load64(at, OWN);
            for wrong in [0, 1, 0xff, u64::MAX] {
                memory.store64(at, wrong, OWN);
                let checked = HubGeometry::check(&memory, 1);
                assert!(
                    checked != Ok(geometry.clone()) || wrong == before || at.bytes() % 128 > 80
                );
            }
            memory.store64(at, before, OWN);
        }
    }

    #[test]
    fn bad_sizes_and_names_are_refused() {
        for peers in [0, MAX_PEERS + 1, u64::MAX] {
            assert_eq!(HubGeometry::new(peers, []), Err(GeometryError::Peers(peers)));
        }
        assert!(HubGeometry::new(MAX_PEERS, []).is_ok());
        let long = "x".repeat(TOPIC_NAME + 1);
        for name in ["", "a\0", &long, "taken"] {
            let topics = [("taken", ring(1, 1)), (name, ring(1, 1))];
            assert_eq!(HubGeometry::new(1, topics), Err(GeometryError::TopicName(1)));
        }
        let names: Vec<String> = (0..=MAX_TOPICS).map(|n| std::format!("{n}")).collect();
        let topics = names.iter().map(|name| (name.as_str(), ring(1, 1)));
        assert_eq!(HubGeometry::new(1, topics), Err(GeometryError::Topics(MAX_TOPICS + 1)));
    }
}
