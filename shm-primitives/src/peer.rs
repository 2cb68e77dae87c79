//! The host's table of peers, in the [hub segment](crate::hub).
//!
//! A peer entry is two cache lines, written by the host alone:
//!
//! ```text
//! offset  size  field                                            published by
//!      0     8  state word: epoch << 8 | state                   PEER_CHANGE
//!      8    56  details in a seqlock slot: pid, start time,      seqlock
//!               heartbeat, ring sizes
//! ```
//!
//! State and epoch change in one compare-and-swap, so two of the host's threads never
//! both win an entry and a ticket of an earlier life never claims a later one:
//!
//! ```text
//!            reserve: epoch + 1           claim             say goodbye
//!   empty ─────────────────────▶ reserved ───▶ attached ─────────────────▶ goodbye
//!     ▲                              │             │                          │
//!     └────────── release ───────────┴─────────────┴──────────────────────────┘
//! ```
use core::{fmt, str::FromStr};

use crate::{
    audit,
    memory::{Memory, Offset},
    order::{PEER_CHANGE, PEER_SEEN},
    seqlock::{ATTEMPTS, Busy, SeqlockReader, SeqlockWriter, put, slot_size, take},
};

/// Size of an entry in bytes.
pub(crate) const ENTRY_SIZE: u64 = 128;
const DETAILS: u64 = 8;
const DETAIL_BYTES: usize = 48;
const _: () = assert!(DETAILS + slot_size(DETAIL_BYTES as u64) <= ENTRY_SIZE);
/// What a peer entry is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerState {
    /// Nobody has it.
    Empty,
    /// Kept for a guest that has not come yet.
    Reserved,
    /// A guest is attached.
    Attached,
    /// Its guest is leaving; the host still drains what it sent.
    Goodbye,
}

/// An entry of the peer table in one of its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId {
    /// The number of the entry.
    pub index: u32,
    /// Which life of the entry; never 0.
    pub epoch: u32,
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.epoch)
    }
}

/// Text that is not a peer's number, such as `3.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePeerIdError;

impl fmt::Display for ParsePeerIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a peer: expected its entry and epoch, such as 3.1")
    }
}

impl core::error::Error for ParsePeerIdError {}

impl FromStr for PeerId {
    type Err = ParsePeerIdError;

    fn from_str(text: &str) -> Result<Self, ParsePeerIdError> {
        let (index, epoch) = text.split_once('.').ok_or(ParsePeerIdError)?;
        match (index.parse(), epoch.parse()) {
            (Ok(index), Ok(epoch)) if epoch != 0 => Ok(Self { index, epoch }),
            _ => Err(ParsePeerIdError),
        }
    }
}

/// What the host knows of an attached guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerDetails {
    /// Its process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot: with the pid it names one
    /// process for ever.
    pub start_time: u64,
    /// Its signs of life that the host has seen so far.
    pub heartbeat: u64,
    /// Capacity of the ring from the host to it, in bytes.
    pub to_guest: u64,
    /// Capacity of the ring from it to the host, in bytes.
    pub to_host: u64,
}

/// Why an entry does not change as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerError {
    /// No entry is empty.
    Full {
        /// Entries in the table.
        peers: u32,
    },
    /// The entry is in a later life, or in a state that does not allow it.
    Stale {
        /// What was asked for.
        peer: PeerId,
    },
    /// The table has no such entry.
    Unknown {
        /// What was asked for.
        peer: PeerId,
    },
    /// A state word that no host writes.
    Corrupt {
        /// The word.
        word: u64,
    },
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { peers } => {
                write!(f, "all {peers} peer entries are taken: detach a guest or configure more")
            }
            Self::Stale { peer } => {
                write!(f, "peer {peer} is gone or already claimed: reserve a new one")
            }
            Self::Unknown { peer } => write!(f, "there is no peer {peer} in this hub"),
            Self::Corrupt { word } => write!(f, "peer entry with impossible state {word:#x}"),
        }
    }
}

impl core::error::Error for PeerError {}

/// Epoch and state, as they stand in an entry's state word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StateWord {
    epoch: u32,
    state: PeerState,
}

impl StateWord {
    const fn encode(self) -> u64 {
        let state = match self.state {
            PeerState::Empty => 0,
            PeerState::Reserved => 1,
            PeerState::Attached => 2,
            PeerState::Goodbye => 3,
        };
        (self.epoch as u64) << 8 | state
    }

    const fn decode(word: u64) -> Result<Self, PeerError> {
        let epoch = (word >> 8) as u32;
        let state = match word as u8 {
            _ if word >> 40 != 0 => return Err(PeerError::Corrupt { word }),
            0 => PeerState::Empty,
            1 if epoch != 0 => PeerState::Reserved,
            2 if epoch != 0 => PeerState::Attached,
            3 if epoch != 0 => PeerState::Goodbye,
            _ => return Err(PeerError::Corrupt { word }),
        };
        Ok(Self { epoch, state })
    }
}

/// The peer table of a hub segment. The host changes it, from any of its threads;
/// guests and tools read it.
#[derive(Clone, Debug)]
pub struct PeerTable<M: Memory> {
    memory: M,
    at: Offset,
    peers: u32,
}

impl<M: Memory> PeerTable<M> {
    pub(crate) fn new(memory: M, at: Offset, peers: u32) -> Self {
        Self { memory, at, peers }
    }

    /// Entries in the table.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.peers
    }

    /// Never: a table has at least one entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers == 0
    }

    /// State and life of entry `index`.
    ///
    /// # Errors
    ///
    /// [`PeerError::Unknown`] beyond the table, [`PeerError::Corrupt`] for a state that
    /// no host writes.
    pub fn state(&self, index: u32) -> Result<(PeerId, PeerState), PeerError> {
        let _decision = audit::decision();
        let (_, word) = self.load(index)?;
        Ok((PeerId { index, epoch: word.epoch }, word.state))
    }

    /// Takes an empty entry, in its next life.
    ///
    /// # Errors
    ///
    /// [`PeerError::Full`] if none is empty; losing a race for one only means trying
    /// the next.
    pub fn reserve(&self) -> Result<PeerId, PeerError> {
        let _decision = audit::decision();
        for index in 0..self.peers {
            let (at, word) = self.load(index)?;
            if word.state != PeerState::Empty {
                continue;
            }
            let epoch = word.epoch.wrapping_add(1).max(1);
            let next = StateWord { epoch, state: PeerState::Reserved };
            if self.memory.exchange64(at, word.encode(), next.encode(), PEER_CHANGE) {
                return Ok(PeerId { index, epoch });
            }
        }
        Err(PeerError::Full { peers: self.peers })
    }

    /// Turns a reservation into an attachment.
    ///
    /// # Errors
    ///
    /// [`PeerError::Stale`] if the reservation was released or claimed before.
    pub fn claim(&self, peer: PeerId) -> Result<(), PeerError> {
        self.change(peer, |state| (state == PeerState::Reserved).then_some(PeerState::Attached))
    }

    /// Records that the guest is leaving.
    ///
    /// # Errors
    ///
    /// [`PeerError::Stale`] if it is not attached.
    pub fn say_goodbye(&self, peer: PeerId) -> Result<(), PeerError> {
        self.change(peer, |state| (state == PeerState::Attached).then_some(PeerState::Goodbye))
    }

    /// Takes a reservation back that nobody has claimed.
    ///
    /// # Errors
    ///
    /// [`PeerError::Stale`] if it was claimed or released before.
    pub fn cancel(&self, peer: PeerId) -> Result<(), PeerError> {
        self.change(peer, |state| (state == PeerState::Reserved).then_some(PeerState::Empty))
    }

    /// Makes the entry empty, whatever it is used for in this life. Of several callers
    /// one succeeds.
    ///
    /// # Errors
    ///
    /// [`PeerError::Stale`] if this life is over already.
    pub fn release(&self, peer: PeerId) -> Result<(), PeerError> {
        self.change(peer, |state| (state != PeerState::Empty).then_some(PeerState::Empty))
    }

    /// Records what is known of a guest. The caller is the only one to do so for this
    /// entry at this time.
    pub fn describe(&self, peer: PeerId, details: &PeerDetails) {
        let Ok(at) = self.at(peer.index) else { return };
        let mut bytes = [0; DETAIL_BYTES];
        let PeerDetails { pid, start_time, heartbeat, to_guest, to_host } = *details;
        put(&mut bytes, [pid.into(), start_time, heartbeat, to_guest, to_host, 0]);
        SeqlockWriter::new(self.memory.clone(), at.plus(DETAILS)).write(&bytes);
    }

    /// What is known of the guest in entry `index`, as one consistent snapshot.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the host is changing it all the time, or died while it did.
    pub fn details(&self, index: u32) -> Result<PeerDetails, Busy> {
        let at = self.at(index).map_err(|_| Busy)?;
        let mut bytes = [0; DETAIL_BYTES];
        SeqlockReader::new(self.memory.clone(), at.plus(DETAILS)).read(&mut bytes, ATTEMPTS)?;
        let [pid, start_time, heartbeat, to_guest, to_host, _] = take(&bytes);
        Ok(PeerDetails { pid: pid as u32, start_time, heartbeat, to_guest, to_host })
    }

    fn change(
        &self,
        peer: PeerId,
        to: impl Fn(PeerState) -> Option<PeerState>,
    ) -> Result<(), PeerError> {
        let _decision = audit::decision();
        // Each lost exchange means that another thread advanced this life, which has
        // three steps.
        for _ in 0..4 {
            let (at, word) = self.load(peer.index)?;
            let next = if word.epoch == peer.epoch { to(word.state) } else { None };
            let Some(state) = next else { break };
            let next = StateWord { epoch: word.epoch, state };
            // SYNC PEER_CHANGE
            if self.memory.exchange64(at, word.encode(), next.encode(), PEER_CHANGE) {
                return Ok(());
            }
            audit::anew();
        }
        Err(PeerError::Stale { peer })
    }

    fn load(&self, index: u32) -> Result<(Offset, StateWord), PeerError> {
        let at = self.at(index)?;
        // SYNC PEER_SEEN
        Ok((at, StateWord::decode(self.memory.load64(at, PEER_SEEN))?))
    }

    fn at(&self, index: u32) -> Result<Offset, PeerError> {
        if index < self.peers {
            Ok(self.at.plus(u64::from(index).wrapping_mul(ENTRY_SIZE)))
        } else {
            Err(PeerError::Unknown { peer: PeerId { index, epoch: 0 } })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::{Mapped, hub::HubGeometry, order::OWN};

    fn with_table(peers: u64, test: impl FnOnce(PeerTable<Mapped>)) {
        let geometry = HubGeometry::new(peers, []).unwrap();
        let memory = Mapped::leaked(geometry.total_size());
        geometry.initialise(&memory, 1);
        assert_eq!(HubGeometry::check(&memory, 1).as_ref(), Ok(&geometry));
        test(geometry.peer_table(memory));
    }

    #[test]
    fn a_peer_goes_through_its_life_and_the_entry_is_used_again() {
        with_table(1, |table| {
            for epoch in 1..100 {
                let peer = table.reserve().unwrap();
                assert_eq!(peer, PeerId { index: 0, epoch });
                assert_eq!(table.reserve(), Err(PeerError::Full { peers: 1 }));
                table.claim(peer).unwrap();
                assert_eq!(table.claim(peer), Err(PeerError::Stale { peer }));
                assert_eq!(table.state(0), Ok((peer, PeerState::Attached)));
                table.say_goodbye(peer).unwrap();
                table.release(peer).unwrap();
                assert_eq!(table.release(peer), Err(PeerError::Stale { peer }));
            }
        });
    }

    #[test]
    fn a_stale_epoch_is_refused() {
        with_table(2, |table| {
            let old = table.reserve().unwrap();
            table.release(old).unwrap();
            let new = table.reserve().unwrap();
            assert_eq!(new.index, old.index);
            assert_eq!(table.claim(old), Err(PeerError::Stale { peer: old }));
            assert_eq!(table.release(old), Err(PeerError::Stale { peer: old }));
            table.claim(new).unwrap();
            let beyond = PeerId { index: 2, epoch: 1 };
            assert!(matches!(table.claim(beyond), Err(PeerError::Unknown { .. })));
        });
    }

    #[test]
    fn a_peer_is_written_and_read() {
        let peer = PeerId { index: 3, epoch: 17 };
        assert_eq!(std::format!("{peer}").parse(), Ok(peer));
        for text in ["", "3", "3.", ".1", "3.0", "3.1.1", "-1.1", "a.b"] {
            assert_eq!(text.parse::<PeerId>(), Err(ParsePeerIdError));
        }
    }

    #[test]
    fn only_an_unclaimed_reservation_is_cancelled() {
        with_table(1, |table| {
            let peer = table.reserve().unwrap();
            table.cancel(peer).unwrap();
            assert_eq!(table.cancel(peer), Err(PeerError::Stale { peer }));
            let peer = table.reserve().unwrap();
            table.claim(peer).unwrap();
            assert_eq!(table.cancel(peer), Err(PeerError::Stale { peer }));
        });
    }

    #[test]
    fn an_unknown_state_is_corrupt_and_never_empty() {
        with_table(1, |table| {
            for word in [4, 255, 1, 2, 3, 1 << 40, u64::MAX] {
                table.memory.store64(table.at, word, OWN);
                assert_eq!(table.state(0), Err(PeerError::Corrupt { word }));
                assert_eq!(table.reserve(), Err(PeerError::Corrupt { word }));
            }
        });
    }

    #[test]
    fn details_come_back() {
        with_table(3, |table| {
            let peers: Vec<_> = (0..3).map(|_| table.reserve().unwrap()).collect();
            for peer in &peers {
                let details = PeerDetails {
                    pid: 100 + peer.index,
                    start_time: u64::MAX,
                    heartbeat: 3,
                    to_guest: 4,
                    to_host: 5,
                };
                table.describe(*peer, &details);
                assert_eq!(table.details(peer.index), Ok(details));
            }
        });
    }
}
