//! The var-slot pool: payload buffers in size classes.
//!
//! The *sender* of a link allocates slots with a private allocator
//! ([`SlotAllocator`]); nothing of it is shared, so a dead sender leaves nothing
//! behind and a dead receiver's slots are known exactly. It refers to a slot in a
//! [frame](crate::Frame). The *receiver* gives a slot back, in any order and from any
//! thread, by storing in the slot's ack, in its own outbox, how often it has received
//! that slot ([`SlotReceipts`]). A slot is free when its ack equals the sender's private
//! count; any other value means "still in use". So a wrong, repeated or flooded ack can
//! free nothing but a slot that its receiver really had, and costs nobody else anything.
//!
//! ```text
//!            allocate            send                ack = times sent
//!   free ───────────────▶ granted ────▶ in flight ────────────────────▶ free
//!     ▲                     │
//!     └──── give back ──────┘
//! ```
//!
//! Slots of a class lie in *extents*: batches of memory by which the class grows. Ack
//! numbers count through all slots that the classes can ever have, then through the
//! sealed payloads that can be under way at once; those are slots without memory.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use crate::{
    header::GeometryError,
    memory::Memory,
    order::{ACK_PUBLISH, ACK_SEEN},
    outbox::OutboxGeometry,
};

/// The most size classes that a pool can have.
pub const MAX_CLASSES: usize = 16;
/// The class number under which sealed payloads are counted.
pub const SEALED: u8 = MAX_CLASSES as u8;
const MAX_SLOTS: u32 = 1 << 16;
const MAX_SLOT_SIZE: u32 = 1 << 30;
const SLOT_ALIGN: u32 = 64;

/// A slot of a pool: its class and its number in the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId {
    /// The size class.
    pub class: u8,
    /// The number within the class, through all its extents.
    pub index: u16,
}

/// A size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// Size of each slot in bytes: a multiple of 64, so that no two share a cache line.
    pub slot_size: u32,
    /// Slots in one extent.
    pub extent_slots: u32,
    /// The most extents that the class grows to.
    pub max_extents: u32,
}

impl SizeClass {
    /// The most slots that the class can have.
    #[must_use]
    pub const fn max_slots(&self) -> u32 {
        self.extent_slots.saturating_mul(self.max_extents)
    }

    /// Size of an extent in bytes.
    #[must_use]
    pub const fn extent_size(&self) -> u64 {
        (self.slot_size as u64).wrapping_mul(self.extent_slots as u64)
    }

    /// The extent that slot `index` lies in, and its distance from the extent's start in
    /// bytes.
    #[must_use]
    pub const fn place(&self, index: u16) -> (u32, u64) {
        let index = index as u32;
        match (index.checked_div(self.extent_slots), index.checked_rem(self.extent_slots)) {
            (Some(extent), Some(rest)) => {
                (extent, (rest as u64).wrapping_mul(self.slot_size as u64))
            }
            // A checked class has at least one slot in an extent.
            _ => (u32::MAX, 0),
        }
    }
}

/// The checked size classes of a pool, by rising size, and how many sealed payloads
/// can be under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolGeometry {
    classes: Vec<SizeClass>,
    sealed: u16,
}

impl PoolGeometry {
    /// A pool of `classes`, with up to `sealed` sealed payloads under way.
    ///
    /// # Errors
    ///
    /// [`GeometryError`] for more than 16 classes, slot sizes that are not rising
    /// multiples of 64 up to 1 GiB, an extent without slots, or a class of more than
    /// 65,536 slots.
    pub fn new(classes: &[SizeClass], sealed: u16) -> Result<Self, GeometryError> {
        if classes.len() > MAX_CLASSES {
            return Err(GeometryError::Classes(classes.len() as u64));
        }
        let mut smaller = 0;
        for class in classes {
            let size = class.slot_size;
            if size == 0 || size % SLOT_ALIGN != 0 || size > MAX_SLOT_SIZE {
                return Err(GeometryError::SlotSize(size.into()));
            }
            if size <= smaller {
                return Err(GeometryError::SlotOrder(size.into()));
            }
            smaller = size;
            let slots = u64::from(class.extent_slots).saturating_mul(class.max_extents.into());
            if class.extent_slots == 0 || slots > MAX_SLOTS.into() {
                return Err(GeometryError::SlotCount(slots));
            }
        }
        Ok(Self { classes: classes.to_vec(), sealed })
    }

    /// The size classes.
    #[must_use]
    pub fn classes(&self) -> &[SizeClass] {
        &self.classes
    }

    /// How many sealed payloads can be under way at once.
    #[must_use]
    pub fn sealed(&self) -> u16 {
        self.sealed
    }

    /// The class of this number.
    #[must_use]
    pub fn class(&self, number: u8) -> Option<&SizeClass> {
        self.classes.get(usize::from(number))
    }

    /// The number of acks that the receiver of this pool needs.
    #[must_use]
    pub fn acks(&self) -> u32 {
        self.first_ack(SEALED).saturating_add(self.sealed.into())
    }

    /// The largest slot, in bytes; 0 without classes.
    #[must_use]
    pub fn largest_slot(&self) -> u32 {
        self.classes.last().map_or(0, |class| class.slot_size)
    }

    /// Whether a class has such a slot, grown as far as it can, or sealed payloads such
    /// a number.
    #[must_use]
    fn has(&self, slot: SlotId) -> bool {
        let count = match self.class(slot.class) {
            Some(class) => class.max_slots(),
            None if slot.class == SEALED => self.sealed.into(),
            None => 0,
        };
        u32::from(slot.index) < count
    }

    /// The number of the first ack of a class.
    fn first_ack(&self, class: u8) -> u32 {
        self.classes
            .iter()
            .take(class.into())
            .fold(0, |sum: u32, class| sum.saturating_add(class.max_slots()))
    }

    fn counts(&self) -> Box<[u32]> {
        (0..self.acks()).map(|_| 0).collect()
    }
}

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
}

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
        };
        let mut sealed = state(SEALED);
        sealed.add(geometry.sealed.into());
        Ok(Self {
            peer,
            acks: *peer_geometry,
            classes: (0..SEALED).zip(&geometry.classes).map(|(class, _)| state(class)).collect(),
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
        let fitting = (0..SEALED)
            .zip(&self.geometry.classes)
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

    /// A free number for a sealed payload.
    ///
    /// # Errors
    ///
    /// [`Exhausted`] if as many as allowed are under way.
    pub fn allocate_sealed(&mut self) -> Result<SlotId, Exhausted> {
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
        // The slot that was sent last is the warmest, if it is back already.
        if let Some(&last) = self.in_flight.last()
            && self.is_acked(last, peer, acks, sent)
        {
            return self.in_flight.pop();
        }
        if self.free.is_empty() {
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

/// A reference to a slot that the sender's pool does not have, or a length that the
/// slot cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSlot {
    /// The slot.
    pub slot: SlotId,
    /// The length, in bytes.
    pub len: u32,
}

impl fmt::Display for BadSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SlotId { class, index } = self.slot;
        write!(f, "{} bytes in slot {index} of class {class}: the pool has none such", self.len)
    }
}

impl core::error::Error for BadSlot {}

/// The receiver's private record of the slots that it was sent.
#[derive(Debug)]
pub struct SlotReceipts {
    geometry: PoolGeometry,
    own: OutboxGeometry,
    /// How often each slot was received, by ack number.
    received: Box<[u32]>,
}

/// The right to give one slot back, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a receipt that is never acked keeps the sender's slot in use"]
pub struct Receipt {
    at: crate::Offset,
    count: u32,
}

impl SlotReceipts {
    /// The receipts of a receiver whose outbox has `own` geometry, for a sender's pool of
    /// `geometry`.
    ///
    /// # Errors
    ///
    /// [`GeometryError::Acks`] if the outbox has another number of acks than the pool
    /// needs.
    pub fn new(geometry: &PoolGeometry, own: &OutboxGeometry) -> Result<Self, GeometryError> {
        if own.acks() != geometry.acks() {
            return Err(GeometryError::Acks(own.acks().into()));
        }
        Ok(Self { geometry: geometry.clone(), own: *own, received: geometry.counts() })
    }

    /// The sizes of the sender's pool.
    #[must_use]
    pub fn geometry(&self) -> &PoolGeometry {
        &self.geometry
    }

    /// Checks a reference that the sender made, and records it.
    ///
    /// # Errors
    ///
    /// [`BadSlot`] if the sender's pool can have no such slot, or it is too small.
    pub fn receive(&mut self, slot: SlotId, len: u32) -> Result<Receipt, BadSlot> {
        let fits = self.geometry.class(slot.class).is_none_or(|class| len <= class.slot_size);
        let number = self.geometry.first_ack(slot.class).saturating_add(slot.index.into());
        let known = fits && self.geometry.has(slot);
        match (known, self.own.ack(number), self.received.get_mut(number as usize)) {
            (true, Some(at), Some(count)) => {
                *count = count.wrapping_add(1);
                Ok(Receipt { at, count: *count })
            }
            _ => Err(BadSlot { slot, len }),
        }
    }
}

impl Receipt {
    /// Gives the slot back. `own` is the receiver's outbox.
    pub fn ack<M: Memory>(self, own: &M) {
        // SYNC ACK_PUBLISH: our reads of the slot are over.
        own.store32(self.at, self.count, ACK_PUBLISH);
    }
}

#[cfg(test)]
mod tests;
