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

mod allocator;
mod geometry;
mod receipts;

pub use allocator::{Exhausted, SlotAllocator};
pub use geometry::{MAX_CLASSES, PoolGeometry, SEALED, SizeClass, SlotId};
pub use receipts::{BadSlot, Receipt, SlotReceipts};

#[cfg(test)]
mod tests;
