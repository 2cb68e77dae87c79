//! What host and guest say to each other over the socket before a link is there.
//!
//! ```text
//! guest                                    host
//!   Hello: version, ticket      ─────▶       checks credentials, reserves an entry
//!                               ◀─────  Welcome: geometry, descriptors of the hub, of the
//!                                         host's outbox and, if the hub has topics, of a
//!   maps and checks them, makes           socket for subscriptions; or Refusal: why not
//!   and seals its own outbox
//!   Claim: its descriptor       ─────▶       checks the seals, maps, claims the entry
//!                               ◀─────  Admitted; or Refusal
//! ```
//!
//! All numbers are little-endian. A message that is not exactly as described is refused.

use std::time::Duration;

use shm_primitives::{
    header::GeometryError,
    outbox::OutboxGeometry,
    peer::PeerId,
    pool::{MAX_CLASSES, PoolGeometry, SizeClass},
};

use crate::config::LinkGeometry;

/// The version of this protocol.
pub(crate) const VERSION: u32 = 2;
/// The most bytes that a message of the handshake has.
pub(crate) const MAX_MESSAGE: usize = 512;

const HELLO: u64 = u64::from_le_bytes(*b"SHMHELLO");
const WELCOME: u64 = u64::from_le_bytes(*b"SHMWELCM");
const REFUSAL: u64 = u64::from_le_bytes(*b"SHMREFUS");
const CLAIM: u64 = u64::from_le_bytes(*b"SHMCLAIM");
const ADMITTED: u64 = u64::from_le_bytes(*b"SHMADMIT");

/// What a guest says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    /// Whether it makes the host's processors fence before it sleeps.
    pub(crate) fences: bool,
    /// The reservation that it claims; without one it walks in.
    pub(crate) ticket: Option<PeerId>,
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let ticket = self.ticket.unwrap_or(PeerId { index: 0, epoch: 0 });
        let mut out = Writer::default();
        out.u64(HELLO).u32(self.version).u32(self.fences.into());
        out.u32(ticket.index).u32(ticket.epoch);
        out.0
    }

    pub(crate) fn decode(message: &[u8]) -> Option<Self> {
        let mut input = Reader(message);
        input.expect(HELLO)?;
        let (version, fences) = (input.u32()?, input.u32()? != 0);
        let (index, epoch) = (input.u32()?, input.u32()?);
        input.end()?;
        let ticket = (epoch != 0).then_some(PeerId { index, epoch });
        Some(Self { version, fences, ticket })
    }
}

/// What a host answers to a guest that may attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) peer: PeerId,
    pub(crate) incarnation: u128,
    pub(crate) fences: bool,
    /// Size of the hub segment in bytes.
    pub(crate) hub_size: u64,
    /// Whether the hub has topics; then a socket for subscriptions comes as well.
    pub(crate) topics: bool,
    pub(crate) link: LinkGeometry,
}

impl Welcome {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { peer, incarnation, fences, hub_size, topics, link } = self;
        let mut out = Writer::default();
        out.u64(WELCOME).u32((*fences).into()).u32(peer.index).u32(peer.epoch);
        out.u64(*incarnation as u64).u64((*incarnation >> 64) as u64);
        out.u64(*hub_size).u32((*topics).into());
        out.u64(link.outbox.capacity()).u32(link.inline_max).u64(link.max_message);
        out.u64(link.spin.as_nanos().try_into().unwrap_or(u64::MAX));
        out.u32(link.pool.sealed().into()).u32(link.pool.classes().len() as u32);
        for class in link.pool.classes() {
            out.u32(class.slot_size).u32(class.extent_slots).u32(class.max_extents);
        }
        out.0
    }

    /// `None` if it is not a welcome, an error if its sizes are impossible.
    pub(crate) fn decode(message: &[u8]) -> Option<Result<Self, GeometryError>> {
        let mut input = Reader(message);
        input.expect(WELCOME)?;
        let fences = input.u32()? != 0;
        let peer = PeerId { index: input.u32()?, epoch: input.u32()? };
        let incarnation = u128::from(input.u64()?) | u128::from(input.u64()?) << 64;
        let (hub_size, topics) = (input.u64()?, input.u32()? != 0);
        let (capacity, inline_max, max_message) = (input.u64()?, input.u32()?, input.u64()?);
        let spin = Duration::from_nanos(input.u64()?);
        let (sealed, count) = (input.u32()?, input.u32()?);
        let mut classes = Vec::new();
        for _ in 0..count.min(MAX_CLASSES as u32 + 1) {
            let (slot_size, extent_slots, max_extents) = (input.u32()?, input.u32()?, input.u32()?);
            classes.push(SizeClass { slot_size, extent_slots, max_extents });
        }
        input.end()?;
        let sealed = u16::try_from(sealed).ok()?;
        let checked = || {
            let pool = PoolGeometry::new(&classes, sealed)?;
            let outbox = OutboxGeometry::new(capacity, pool.acks())?;
            let link = LinkGeometry::checked(outbox, pool, inline_max, max_message, spin);
            let link = LinkGeometry { asymmetric_fence: fences, ..link };
            Ok(Self { peer, incarnation, fences, hub_size, topics, link })
        };
        Some(checked())
    }
}

/// What a host answers to a guest that may not attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Version(u32),
    NotPermitted,
    HubFull(u32),
    StaleTicket(PeerId),
    /// The host lacks memory or descriptors, or is leaving.
    Unable,
}

impl Refusal {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (code, a, b) = match *self {
            Self::Version(version) => (1, version, 0),
            Self::NotPermitted => (2, 0, 0),
            Self::HubFull(peers) => (3, peers, 0),
            Self::StaleTicket(peer) => (4, peer.index, peer.epoch),
            Self::Unable => (5, 0, 0),
        };
        let mut out = Writer::default();
        out.u64(REFUSAL).u32(code).u32(a).u32(b);
        out.0
    }

    pub(crate) fn decode(message: &[u8]) -> Option<Self> {
        let mut input = Reader(message);
        input.expect(REFUSAL)?;
        let (code, a, b) = (input.u32()?, input.u32()?, input.u32()?);
        input.end()?;
        match code {
            1 => Some(Self::Version(a)),
            2 => Some(Self::NotPermitted),
            3 => Some(Self::HubFull(a)),
            4 => Some(Self::StaleTicket(PeerId { index: a, epoch: b })),
            5 => Some(Self::Unable),
            _ => None,
        }
    }
}

/// What a guest says when it is ready.
pub(crate) fn claim() -> [u8; 8] {
    CLAIM.to_le_bytes()
}

/// What a host answers when the link is there.
pub(crate) fn admitted() -> [u8; 8] {
    ADMITTED.to_le_bytes()
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn expect(&mut self, tag: u64) -> Option<()> {
        (self.u64()? == tag).then_some(())
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinkConfig;

    fn welcome() -> Welcome {
        Welcome {
            peer: PeerId { index: 3, epoch: 4 },
            incarnation: u128::MAX - 5,
            fences: true,
            hub_size: 123,
            topics: true,
            link: LinkGeometry::new(&LinkConfig::default()).unwrap(),
        }
    }

    #[test]
    fn messages_survive_the_wire() {
        for ticket in [None, Some(PeerId { index: 1, epoch: 2 })] {
            let hello = Hello { version: 9, fences: true, ticket };
            assert_eq!(Hello::decode(&hello.encode()), Some(hello));
        }
        let message = welcome().encode();
        assert!(message.len() <= MAX_MESSAGE);
        assert_eq!(Welcome::decode(&message), Some(Ok(welcome())));
        let peer = PeerId { index: 5, epoch: 6 };
        for refusal in [
            Refusal::Version(1),
            Refusal::NotPermitted,
            Refusal::HubFull(2),
            Refusal::StaleTicket(peer),
            Refusal::Unable,
        ] {
            assert_eq!(Refusal::decode(&refusal.encode()), Some(refusal));
        }
    }

    #[test]
    fn cut_lengthened_and_changed_messages_are_refused_or_checked() {
        let message = welcome().encode();
        for len in 0..message.len() {
            assert_eq!(Welcome::decode(&message[..len]), None);
        }
        let mut longer = message.clone();
        longer.push(0);
        assert_eq!(Welcome::decode(&longer), None);
        for at in 0..message.len() {
            for bit in 0..8 {
                let mut changed = message.clone();
                changed[at] ^= 1 << bit;
                // Whatever it says now, it is checked and does no harm.
                let _ = Welcome::decode(&changed);
                let _ = Hello::decode(&changed);
                let _ = Refusal::decode(&changed);
            }
        }
    }
}
