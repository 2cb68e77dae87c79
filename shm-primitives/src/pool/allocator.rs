use alloc::{boxed::Box, vec::Vec};

use super::geometry::{PoolGeometry, SEALED, SlotId};
use crate::{
    audit, header::GeometryError, memory::Memory, order::ACK_SEEN, outbox::OutboxGeometry,
};

/// No slot is free for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// The smallest fitting class that may still grow by an extent; `None` if all that
    /// fit are as large as they get.
    pub may_grow: Option<u8>,
}

#[derive(Clone, Debug)]
struct ClassState {
    slots: u32,
    extents: u32,
    /// Free slots; the one freed last is on top, because it is still in the caches.
    free: Vec<u16>,
    /// Sent and not known to be acked; the one sent last is on top.
    in_flight: Vec<u16>,
    first_ack: u32,
    /// The slot that was sent so many before the next one is the warmest to use again: 1 is
    /// the last. Writing where another processor has just read is slower than writing where
    /// it read a little earlier, so two slots take turns, as long as both stay in the caches.
    apart: usize,
}

/// The largest slots of which two take turns, in bytes: with a message's own buffers at both
/// ends, four of them fit into a second-level cache of 2 MiB.
const TAKING_TURNS: u32 = 256 << 10;

/// The sender's private allocator over the slots of its outbox.
#[derive(Debug)]
pub struct SlotAllocator<M: Memory> {
    peer: M,
    acks: OutboxGeometry,
    geometry: PoolGeometry,
    classes: Vec<ClassState>,
    sealed: ClassState,
    /// How often each slot was sent, by ack number.
    sent: Box<[u32]>,
}

impl<M: Memory> SlotAllocator<M> {
    /// The allocator for a pool of `geometry`, whose receiver owns outbox `peer` with
    /// `peer_geometry`. It starts without extents.
    ///
    /// # Errors
    ///
    /// [`GeometryError::Acks`] if the peer's outbox has another number of acks than the
    /// pool needs.
    pub fn new(
        geometry: &PoolGeometry,
        peer: M,
        peer_geometry: &OutboxGeometry,
    ) -> Result<Self, GeometryError> {
        if peer_geometry.acks() != geometry.acks() {
            return Err(GeometryError::Acks(peer_geometry.acks().into()));
        }
        let state = |class: u8| ClassState {
            slots: 0,
            extents: 0,
            free: Vec::new(),
            in_flight: Vec::new(),
            first_ack: geometry.first_ack(class),
            apart: match geometry.class(class) {
                Some(class) if class.slot_size <= TAKING_TURNS => 2,
                _ => 1,
            },
        };
        let mut sealed = state(SEALED);
        sealed.add(geometry.sealed().into());
        Ok(Self {
            peer,
            acks: *peer_geometry,
            classes: (0..SEALED).zip(geometry.classes()).map(|(class, _)| state(class)).collect(),
            sealed,
            sent: geometry.counts(),
            geometry: geometry.clone(),
        })
    }

    /// The pool's sizes.
    #[must_use]
    pub fn geometry(&self) -> &PoolGeometry {
        &self.geometry
    }

    /// A free slot of at least `len` bytes: from the smallest class that fits, else
    /// from the next larger one that has one.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] if none is free; a class that may grow comes before the use of a
    /// larger one.
    pub fn allocate(&mut self, len: u64) -> Result<SlotId, Exhausted> {
        let _decision = audit::decision();
        let fitting = (0..SEALED)
            .zip(self.geometry.classes())
            .zip(&mut self.classes)
            .filter(|((_, class), _)| len <= u64::from(class.slot_size));
        for ((number, class), state) in fitting {
            if let Some(index) = state.take(&self.peer, &self.acks, &self.sent) {
                return Ok(SlotId { class: number, index });
            }
            if state.extents < class.max_extents {
                return Err(Exhausted { may_grow: Some(number) });
            }
        }
        Err(Exhausted { may_grow: None })
    }

    /// Whether the receiver has as many slots of the smallest class for `len` bytes as lie in
    /// one extent, or more.
    pub fn has_an_extent_in_flight(&mut self, len: u64) -> bool {
        let _decision = audit::decision();
        let mut classes = self.geometry.classes().iter().zip(&mut self.classes);
        let fitting = classes.find(|(class, _)| len <= u64::from(class.slot_size));
        fitting.is_some_and(|(class, state)| {
            let many = class.extent_slots as usize;
            if state.in_flight.len() >= many {
                state.sweep(&self.peer, &self.acks, &self.sent);
            }
            state.in_flight.len() >= many
        })
    }

    /// A free number for a sealed payload.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] if as many as allowed are under way.
    pub fn allocate_sealed(&mut self) -> Result<SlotId, Exhausted> {
        let _decision = audit::decision();
        match self.sealed.take(&self.peer, &self.acks, &self.sent) {
            Some(index) => Ok(SlotId { class: SEALED, index }),
            None => Err(Exhausted { may_grow: None }),
        }
    }

    /// Adds an extent's slots to a class; returns the extent's number. `None` if the
    /// class has all its extents.
    pub fn add_extent(&mut self, class: u8) -> Option<u32> {
        let size_class = self.geometry.class(class)?;
        let state = self.classes.get_mut(usize::from(class))?;
        if state.extents >= size_class.max_extents {
            return None;
        }
        let number = state.extents;
        state.extents = number.saturating_add(1);
        state.add(size_class.extent_slots);
        Some(number)
    }

    /// Records that an allocated slot was sent. To be called before its frame is
    /// published.
    pub fn sent(&mut self, slot: SlotId) {
        if let Some(state) = self.classes.get_mut(usize::from(slot.class)) {
            state.send(slot.index, &mut self.sent);
        } else {
            self.sealed.send(slot.index, &mut self.sent);
        }
    }

    /// Takes an allocated slot back that was not sent.
    pub fn give_back(&mut self, slot: SlotId) {
        match self.classes.get_mut(usize::from(slot.class)) {
            Some(state) => state.free.push(slot.index),
            None => self.sealed.free.push(slot.index),
        }
    }

    /// How many slots and sealed payloads the receiver still has, by its acks.
    pub fn in_flight(&mut self) -> usize {
        let _decision = audit::decision();
        let Self { peer, acks, sent, classes, sealed, .. } = self;
        classes
            .iter_mut()
            .chain([sealed])
            .map(|state| {
                state.sweep(peer, acks, sent);
                state.in_flight.len()
            })
            .fold(0, usize::saturating_add)
    }

    /// How many slots and sealed payloads the receiver had when it was last looked at its
    /// acks, and those sent since: without a look.
    #[must_use]
    pub fn in_flight_so_far(&self) -> usize {
        let of = |state: &ClassState| state.in_flight.len();
        self.classes.iter().map(of).fold(of(&self.sealed), usize::saturating_add)
    }

    /// How many slots there are, in all extents so far.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.classes.iter().fold(0, |sum, state| sum.saturating_add(state.slots as usize))
    }
}

impl ClassState {
    fn add(&mut self, count: u32) {
        let end = self.slots.saturating_add(count);
        // The lowest number on top. A checked class has at most 2^16 slots.
        let fresh = (self.slots..end).rev().filter_map(|index| u16::try_from(index).ok());
        self.free.extend(fresh);
        self.slots = end;
    }

    fn send(&mut self, index: u16, sent: &mut [u32]) {
        if let Some(count) = sent.get_mut(self.number(index) as usize) {
            *count = count.wrapping_add(1);
            self.in_flight.push(index);
        }
    }

    fn number(&self, index: u16) -> u32 {
        self.first_ack.saturating_add(index.into())
    }

    fn is_acked<M: Memory>(
        &self,
        index: u16,
        peer: &M,
        acks: &OutboxGeometry,
        sent: &[u32],
    ) -> bool {
        let number = self.number(index);
        match (acks.ack(number), sent.get(number as usize)) {
            // SYNC ACK_SEEN: the receiver's reads of the slot are over.
            (Some(at), Some(count)) => peer.load32(at, ACK_SEEN) == *count,
            _ => false,
        }
    }

    fn take<M: Memory>(&mut self, peer: &M, acks: &OutboxGeometry, sent: &[u32]) -> Option<u16> {
        // The warmest that is back already.
        if let Some(at) = self.in_flight.len().checked_sub(self.apart)
            && let Some(&slot) = self.in_flight.get(at)
            && self.is_acked(slot, peer, acks, sent)
        {
            self.in_flight.remove(at);
            return Some(slot);
        }
        if self.free.is_empty() {
            // Another question: which of all are back by now?
            audit::anew();
            self.sweep(peer, acks, sent);
        }
        self.free.pop()
    }

    /// Moves all acked slots to the free ones.
    fn sweep<M: Memory>(&mut self, peer: &M, acks: &OutboxGeometry, sent: &[u32]) {
        let mut in_flight = core::mem::take(&mut self.in_flight);
        let mut free = core::mem::take(&mut self.free);
        in_flight.retain(|&index| {
            let acked = self.is_acked(index, peer, acks, sent);
            if acked {
                free.push(index);
            }
            !acked
        });
        self.in_flight = in_flight;
        self.free = free;
    }
}
