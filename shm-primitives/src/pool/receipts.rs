use alloc::boxed::Box;
use core::fmt;

use super::geometry::{PoolGeometry, SlotId};
use crate::{
    header::GeometryError,
    memory::{Memory, Offset},
    order::ACK_PUBLISH,
    outbox::OutboxGeometry,
};

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
    at: Offset,
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
