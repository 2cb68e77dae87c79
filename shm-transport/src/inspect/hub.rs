use shm_primitives::{
    Mapped,
    broadcast::published,
    header::{Goodbye, HeaderError, SegmentHeader, SegmentKind, goodbye_of},
    hub::{HubGeometry, HubStatistics, Statistics},
    peer::{PeerError, PeerState, PeerTable},
    seqlock::Busy,
};

use crate::{hub::PeerEntry, os::memory::Segment};

/// The memory of a hub, seen from outside.
#[derive(Debug)]
pub struct HubView {
    segment: Segment,
    incarnation: u128,
    geometry: HubGeometry,
    table: PeerTable<Mapped>,
}

/// A topic of a hub, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Values that it keeps.
    pub slots: u64,
    /// The largest value, in bytes.
    pub max_payload: u64,
    /// Values published so far.
    pub published: u64,
}

impl HubView {
    pub(super) fn new(segment: Segment) -> Result<Self, HeaderError> {
        let memory = segment.mapped();
        let incarnation = SegmentHeader::read(&memory, SegmentKind::Hub)?.incarnation;
        let geometry = HubGeometry::check(&memory, incarnation)?;
        let table = geometry.peer_table(memory);
        Ok(Self { segment, incarnation, geometry, table })
    }

    /// The random number that its host drew for it.
    #[must_use]
    pub fn incarnation(&self) -> u128 {
        self.incarnation
    }

    /// Its size, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.geometry.total_size()
    }

    /// How many guests it has room for.
    #[must_use]
    pub fn max_guests(&self) -> u32 {
        self.table.len()
    }

    /// Whether its host has said goodbye.
    #[must_use]
    pub fn goodbye(&self) -> bool {
        matches!(goodbye_of(&self.segment.mapped()), Some(Goodbye::Graceful | Goodbye::Evicted))
    }

    /// The host's counts.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the host died while it changed them, or changes them all the time.
    pub fn statistics(&self) -> Result<HubStatistics, Busy> {
        Statistics::new(self.segment.mapped()).get()
    }

    /// The entries of the peer table that are in use, and those that no host writes so.
    pub fn peers(&self) -> impl Iterator<Item = Result<PeerEntry, (u32, PeerError)>> {
        (0..self.table.len()).filter_map(|index| match self.table.state(index) {
            Ok((_, PeerState::Empty)) => None,
            Ok((id, state)) => {
                let details = self.table.details(index).unwrap_or_default();
                Some(Ok(PeerEntry { id, state, details }))
            }
            Err(error) => Some(Err((index, error))),
        })
    }

    /// Its topics.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicView> {
        let memory = self.segment.mapped();
        let view = |topic: &shm_primitives::hub::Topic| TopicView {
            name: topic.name.clone(),
            slots: topic.ring.slots(),
            max_payload: topic.ring.max_payload(),
            published: published(&memory, topic.at),
        };
        self.geometry.topics().iter().map(view).collect()
    }
}
