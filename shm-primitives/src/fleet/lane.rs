//! Publishing in a ring, through one's own lane.
use alloc::vec::Vec;
use core::fmt;

use super::{
    frame::{self, Head},
    geometry::RingGeometry,
    id::{FleetId, MAX_COUNTER},
    ring::{CorruptFleet, Ring, slot_of},
    word::{self, Entry, Position, Seat},
};
use crate::{
    audit,
    memory::Memory,
    order::{FLEET_COMMIT, FLEET_PLACE, HINT, OWN},
    seqlock::{SeqlockReader, SeqlockWriter},
};

/// How often others may be first before a publisher says so. Each time one of them has
/// published.
const ATTEMPTS: u32 = 1 << 20;
/// The place of a frame that is not committed, or whose publisher died right after.
const NOWHERE: u64 = 0;

/// Why a frame was not published. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// Larger than the ring's largest payload.
    TooLarge {
        /// Bytes in the payload.
        len: usize,
        /// The most that the ring carries, as configured.
        max: u32,
    },
    /// Others published first in each of a million attempts.
    Busy,
    /// The node has used all its counters.
    Exhausted,
    /// Something else wrote over the ring.
    Corrupt(CorruptFleet),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max } => write!(
                f,
                "a payload of {len} bytes; this ring carries up to {max}: publish it in parts or \
                 configure a larger max_payload"
            ),
            Self::Busy => f.write_str("others published first in every attempt: try again"),
            Self::Exhausted => f.write_str("this node has no counters left: join as another one"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl core::error::Error for PublishError {}

/// Why a lane cannot be taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneError {
    /// The ring has no such node.
    NoSuchNode {
        /// What was asked for.
        node: u32,
        /// Nodes are numbered from 0 to one less than this.
        nodes: u32,
    },
    /// What no member writes stands in a slot of the lane.
    Corrupt {
        /// The slot.
        slot: u64,
    },
}

impl fmt::Display for LaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchNode { node, nodes } => {
                write!(f, "there is no node {node} in a ring of {nodes}: choose a smaller one")
            }
            Self::Corrupt { slot } => write!(
                f,
                "the lane is damaged in slot {slot}: some process wrote over it; unlink the ring, \
                 and let all members open it anew"
            ),
        }
    }
}

impl core::error::Error for LaneError {}

/// The one writer of a node's lane.
#[derive(Debug)]
pub struct LaneWriter<M: Memory> {
    ring: Ring<M>,
    node: u32,
    /// The counter of the next frame.
    next: u64,
    value: Vec<u8>,
}

impl<M: Memory> LaneWriter<M> {
    /// Takes up the lane of a node, whose memory is there. The caller knows that no
    /// other writer of it lives.
    ///
    /// # Errors
    ///
    /// If there is no such node, or if something else wrote over its lane.
    pub fn join(memory: M, geometry: RingGeometry, node: u32) -> Result<Self, LaneError> {
        let _decision = audit::decision();
        let nodes = geometry.nodes();
        if node >= nodes {
            return Err(LaneError::NoSuchNode { node, nodes });
        }
        let ring = Ring::new(memory, geometry);
        let ready = geometry.ready(node);
        // A counter, one more than it, that the lane has got to.
        let reached = ring.memory().load64(ready, OWN).saturating_sub(1);
        let next = match newest(&ring, node)? {
            Some(counter) => reached.max(following(&ring, node, counter)),
            None => reached,
        };
        // Before the slot is written: if we die inside it, its old counter is lost, and
        // with it how far the lane had got.
        ring.memory().store64(ready, next.wrapping_add(1), OWN);
        Ok(Self { ring, node, next, value: Vec::new() })
    }

    /// The ring that the lane belongs to.
    #[must_use]
    pub fn ring(&self) -> &Ring<M> {
        &self.ring
    }

    /// Publishes a frame; returns its name and its place in the order of the ring.
    ///
    /// Nobody is waited for: each repetition is one in which another member published.
    ///
    /// # Errors
    ///
    /// As [`PublishError`] says. Nothing was published then.
    pub fn publish(
        &mut self,
        kind: u8,
        version: u16,
        payload: &[u8],
    ) -> Result<(FleetId, Position), PublishError> {
        let _decision = audit::decision();
        let geometry = *self.ring.geometry();
        let max = geometry.max_payload();
        let len = match u32::try_from(payload.len()) {
            Ok(len) if len <= max => len,
            _ => return Err(PublishError::TooLarge { len: payload.len(), max }),
        };
        let id =
            FleetId::new(geometry.kind(), self.node, self.next).ok_or(PublishError::Exhausted)?;
        let seat = Seat { node: self.node, slot: slot_of(&geometry, self.next) };
        let memory = self.ring.memory();
        let place = geometry.place(seat.node, seat.slot);
        // Before the sequence is even again, so that nobody takes the old frame's place
        // for this one's.
        memory.store64(place, NOWHERE, OWN);
        frame::stage(&mut self.value, id, Head { kind, version, len }, payload);
        SeqlockWriter::new(memory.clone(), geometry.slot(seat.node, seat.slot)).write(&self.value);
        let position = commit(&self.ring, seat)?;
        self.ring.move_tail(position);
        // SYNC FLEET_PLACE: whoever sees the place sees the tail beyond it.
        memory.store64(place, position.number().wrapping_add(1), FLEET_PLACE);
        self.next = self.next.wrapping_add(1);
        Ok((id, position))
    }
}

/// Gives the frame at `seat` the next position.
fn commit<M: Memory>(ring: &Ring<M>, seat: Seat) -> Result<Position, PublishError> {
    for _ in 0..ATTEMPTS {
        let tail = ring.tail();
        match ring.entry(tail) {
            // Committed by somebody who has not moved the tail on yet, or died before it.
            (_, Entry::Here(_)) => ring.move_tail(tail),
            (word, Entry::Before) => {
                let new = word::encode(ring.geometry(), tail, seat);
                let at = ring.geometry().index(tail.number());
                // SYNC FLEET_COMMIT: the frame is whole for whoever sees the word. From
                // the exact word of the lap before: a member that slept here for long
                // finds another word and commits nothing.
                if ring.memory().exchange64(at, word, new, FLEET_COMMIT) {
                    return Ok(tail);
                }
            }
            // Others were faster by a lap, and then the tail has moved.
            _ => {
                audit::second_look();
                if ring.tail() == tail {
                    return Err(PublishError::Corrupt(CorruptFleet { position: tail }));
                }
            }
        }
        audit::anew();
    }
    Err(PublishError::Busy)
}

/// The largest counter in a node's lane, whatever became of its frame. A slot that its
/// writer died in was never committed.
fn newest<M: Memory>(ring: &Ring<M>, node: u32) -> Result<Option<u64>, LaneError> {
    let geometry = ring.geometry();
    let mut newest = None;
    for slot in 0..geometry.lane_slots() {
        let mut head = frame::buffer(0);
        let reader = SeqlockReader::new(ring.memory().clone(), geometry.slot(node, slot));
        let Ok(1..) = reader.read(&mut head, 1) else { continue };
        let Some((id, _)) = frame::parse(&head) else { continue };
        if id.kind() != geometry.kind()
            || id.node() != node
            || slot_of(geometry, id.counter()) != slot
        {
            return Err(LaneError::Corrupt { slot });
        }
        newest = newest.max(Some(id.counter()));
    }
    Ok(newest)
}

/// The counter to go on with after a lane's newest frame.
///
/// If that frame is committed, the next one. If it is not known to be, the one a whole
/// lap of slots later, which is in the same slot: the frame was never committed, or its
/// node died before it stored the place and the index has lapped it since. The slot can
/// be written again in both cases, and no name is given twice.
fn following<M: Memory>(ring: &Ring<M>, node: u32, counter: u64) -> u64 {
    let geometry = ring.geometry();
    let seat = Seat { node, slot: slot_of(geometry, counter) };
    let place = geometry.place(node, seat.slot);
    if ring.memory().load64(place, HINT) != NOWHERE {
        return counter.wrapping_add(1);
    }
    match ring.find(seat) {
        Some(position) => {
            // What its node died before.
            // SYNC FLEET_PLACE: the tail may not be beyond it yet.
            ring.move_tail(position);
            ring.memory().store64(place, position.number().wrapping_add(1), FLEET_PLACE);
            counter.wrapping_add(1)
        }
        None => counter.wrapping_add(geometry.lane_slots()).min(MAX_COUNTER.wrapping_add(1)),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
