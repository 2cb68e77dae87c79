//! What a host shares with all its guests, and knows of them.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use shm_primitives::{
    Mapped,
    header::{Goodbye, say_goodbye},
    hub::{HubGeometry, HubStatistics, Statistics},
    peer::{PeerDetails, PeerError, PeerId, PeerState, PeerTable},
};

use crate::{
    broadcast::{Publisher, TypedPublisher, Value, attendant::Attendant, topic::TopicCore},
    config::LinkGeometry,
    credentials::CredentialsPolicy,
    door::Door,
    error::{LinkEnd, TopicError},
    link::core::{LinkCore, Registration},
    os::{fence, memory::Segment},
};

/// The host's own view of its hub. Clones are handles to the same hub, for any thread.
#[derive(Clone, Debug)]
pub struct Hub(pub(crate) Arc<HubCore>);

pub(crate) struct HubCore {
    pub(crate) segment: Segment,
    pub(crate) descriptor: OwnedFd,
    pub(crate) geometry: HubGeometry,
    pub(crate) incarnation: u128,
    pub(crate) link: LinkGeometry,
    pub(crate) policy: CredentialsPolicy,
    pub(crate) table: PeerTable<Mapped>,
    pub(crate) door: Door,
    pub(crate) topics: Vec<Arc<TopicCore>>,
    /// The process that made it.
    owner: u32,
    state: Mutex<State>,
}

struct State {
    statistics: HubStatistics,
    links: Vec<Option<(PeerId, Weak<LinkCore>)>>,
}

impl fmt::Debug for HubCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statistics = self.state().statistics;
        f.debug_struct("Hub").field("statistics", &statistics).finish_non_exhaustive()
    }
}

/// One entry of the peer table, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerEntry {
    /// Entry and epoch.
    pub id: PeerId,
    /// What it is used for.
    pub state: PeerState,
    /// What the host knows of its guest.
    pub details: PeerDetails,
}

/// All entries of a table that are in use.
pub(crate) fn entries_in_use(table: &PeerTable<Mapped>) -> Vec<PeerEntry> {
    (0..table.len())
        .filter_map(|index| {
            let (id, state) = table.state(index).ok()?;
            let details = table.details(index).unwrap_or_default();
            (state != PeerState::Empty).then_some(PeerEntry { id, state, details })
        })
        .collect()
}

impl Hub {
    /// Keeps an entry for a guest that comes later, so that it finds a place. The guest
    /// attaches with the reservation's [`ticket`](Reservation::ticket).
    ///
    /// # Errors
    ///
    /// [`PeerError::Full`] if all entries are taken.
    pub fn reserve(&self) -> Result<Reservation, PeerError> {
        let peer = self.0.table.reserve()?;
        Ok(Reservation { hub: Some(self.clone()), peer })
    }

    /// Throws a guest out. Its link ends on both sides at once, with what was under way,
    /// its entry is free, and whatever it still writes is seen by nobody. Returns whether
    /// it was there.
    pub fn evict(&self, peer: PeerId) -> bool {
        self.0.evict(peer, false)
    }

    /// Throws a guest out and kills its process. Returns whether it was there.
    pub fn evict_and_kill(&self, peer: PeerId) -> bool {
        self.0.evict(peer, true)
    }

    /// All peers that are reserved, attached or leaving.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerEntry> {
        self.0.note_heartbeats();
        entries_in_use(&self.0.table)
    }

    /// Counts since the host began.
    #[must_use]
    pub fn statistics(&self) -> HubStatistics {
        self.0.state().statistics
    }

    /// The publisher of a topic, of which there is one at a time.
    ///
    /// # Errors
    ///
    /// [`TopicError::Unknown`] if the host was not configured with the topic,
    /// [`TopicError::Taken`] while another publisher of it is in use.
    pub fn publisher(&self, topic: &str) -> Result<Publisher, TopicError> {
        Publisher::new(&self.0, topic)
    }

    /// The publisher of a topic whose values are of one type.
    ///
    /// # Errors
    ///
    /// As [`publisher`](Self::publisher), and [`TopicError::ValueSize`] if the topic is
    /// configured for values of another size.
    pub fn typed_publisher<T: Value>(&self, topic: &str) -> Result<TypedPublisher<T>, TopicError> {
        TypedPublisher::new(self.publisher(topic)?)
    }

    /// Says goodbye to all guests: each receives what was sent to it, then learns that
    /// the host is leaving. New guests are refused from now on.
    ///
    /// What is sent to a guest after this may not be received.
    pub fn say_goodbye(&self) {
        say_goodbye(&self.0.segment.mapped(), Goodbye::Graceful);
        self.0.close_door();
        for link in self.0.links() {
            link.say_goodbye();
        }
        for topic in &self.0.topics {
            topic.wake_all();
        }
    }
}

/// The descriptor that is readable when somebody wants to come in.
impl AsFd for HubCore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.door.epoll.as_fd()
    }
}

impl HubCore {
    pub(crate) fn new(
        (segment, descriptor): (Segment, OwnedFd),
        geometry: HubGeometry,
        incarnation: u128,
        link: LinkGeometry,
        policy: CredentialsPolicy,
        door: Door,
    ) -> Self {
        // The guests' readers do not fence; the alarm of those that sleep is this process's.
        let segment = if fence::register() { segment.with_asymmetric_fence() } else { segment };
        let table = geometry.peer_table(segment.mapped());
        let topic = |topic| Arc::new(TopicCore::new(topic, segment.clone()));
        let topics = geometry.topics().iter().map(topic).collect();
        let links = (0..geometry.peers()).map(|_| None).collect();
        let state = Mutex::new(State { statistics: HubStatistics::default(), links });
        let owner = std::process::id();
        Self {
            segment,
            descriptor,
            geometry,
            incarnation,
            link,
            policy,
            table,
            door,
            topics,
            owner,
            state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the statistics, here and where guests and tools see them.
    pub(crate) fn count(&self, change: impl FnOnce(&mut HubStatistics)) {
        let mut state = self.state();
        change(&mut state.statistics);
        Statistics::new(self.segment.mapped()).set(&state.statistics);
    }

    /// Records the link of an attached guest.
    pub(crate) fn attached(&self, peer: PeerId, link: &Arc<LinkCore>) {
        if let Some(place) = self.state().links.get_mut(peer.index as usize) {
            *place = Some((peer, Arc::downgrade(link)));
        }
        self.count(|statistics| statistics.attached += 1);
    }

    fn links(&self) -> Vec<Arc<LinkCore>> {
        self.state().links.iter().flatten().filter_map(|(_, link)| link.upgrade()).collect()
    }

    fn evict(&self, peer: PeerId, kill: bool) -> bool {
        let place = self.state().links.get(peer.index as usize).cloned().flatten();
        match place {
            Some((there, link)) if there == peer => {
                let link = link.upgrade();
                link.inspect(|link| link.evict(kill)).is_some()
            }
            _ => self.table.cancel(peer).is_ok(),
        }
    }

    fn note_heartbeats(&self) {
        let state = self.state();
        for (peer, link) in state.links.iter().flatten() {
            if let (Some(link), Ok(details)) = (link.upgrade(), self.table.details(peer.index)) {
                let heartbeat = link.peer_beats();
                self.table.describe(*peer, &PeerDetails { heartbeat, ..details });
            }
        }
    }

    /// Frees an entry that nobody has claimed.
    pub(crate) fn cancel(&self, peer: PeerId) {
        // A forked child has none of the memory.
        if self.owner == std::process::id() {
            // Stale if it was claimed.
            let _ = self.table.cancel(peer);
        }
    }

    /// Frees an entry.
    pub(crate) fn release(&self, peer: PeerId) {
        let mut state = self.state();
        if let Some(place) = state.links.get_mut(peer.index as usize)
            && place.as_ref().is_some_and(|(there, _)| *there == peer)
        {
            *place = None;
        }
        // Stale if another thread was faster.
        let _ = self.table.release(peer);
    }
}

/// The host's side of an entry in the peer table, held by the entry's link.
#[derive(Debug)]
pub(crate) struct HubEntry {
    pub(crate) hub: Arc<HubCore>,
    pub(crate) peer: PeerId,
    /// Who wakes the guest's subscribers; none if the hub has no topics.
    pub(crate) attendant: Option<Arc<Attendant>>,
}

impl Registration for HubEntry {
    fn ended(&self, end: LinkEnd) {
        self.hub.count(|statistics| match end {
            LinkEnd::Departed => statistics.departed += 1,
            LinkEnd::PeerDead => statistics.died += 1,
            LinkEnd::Evicted => statistics.evicted += 1,
            LinkEnd::Corrupt(_) => statistics.corrupt += 1,
        });
        if end == LinkEnd::Departed {
            // Stale if the entry was released already.
            let _ = self.hub.table.say_goodbye(self.peer);
        } else {
            self.release();
        }
    }

    fn release(&self) {
        if let Some(attendant) = &self.attendant {
            attendant.dismiss();
        }
        self.hub.release(self.peer);
    }
}

/// An entry that is kept for one guest. Dropping it before the guest has attached frees
/// the entry.
#[derive(Debug)]
pub struct Reservation {
    /// `None` when somebody else has taken it over.
    hub: Option<Hub>,
    peer: PeerId,
}

impl Reservation {
    /// What the guest shows to claim the entry, as text or as it is.
    #[must_use]
    pub fn ticket(&self) -> PeerId {
        self.peer
    }

    /// Leaves it to whoever cancels or claims it from here on.
    pub(crate) fn leave(mut self) {
        self.hub = None;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(hub) = &self.hub {
            hub.0.cancel(self.peer);
        }
    }
}
