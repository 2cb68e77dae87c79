use std::collections::BTreeSet;

use shm_primitives::{
    Memory,
    order::OWN,
    outbox::OutboxGeometry,
    pool::{PoolGeometry, SEALED, SizeClass, SlotAllocator, SlotId, SlotReceipts},
};

use super::{Input, Region};

/// A sender and a receiver of a small pool, both of which the other side lies to: acks are
/// written as the input says, and references are made up.
///
/// The sender never has one slot twice, whatever the acks say, and knows of no slot that is
/// in none of its extents; an honest ack frees its slot. The receiver takes references to
/// slots that the pool can have, and no others.
pub fn pool(data: &[u8]) {
    let mut input = Input(data);
    let class =
        |slot_size, extent_slots, max_extents| SizeClass { slot_size, extent_slots, max_extents };
    let classes = [class(64, 2, 2), class(128, 1, 3), class(256, 3, 1)];
    let geometry = PoolGeometry::new(&classes, 3).expect("a pool");
    let outbox = OutboxGeometry::new(64, geometry.acks()).expect("an outbox");
    let peer = Region::new(outbox.total_size() as usize, &[]);
    let own = Region::new(outbox.total_size() as usize, &[]);
    let mut allocator = SlotAllocator::new(&geometry, peer.mapped, &outbox).expect("fits");
    let mut receipts = SlotReceipts::new(&geometry, &outbox).expect("fits");

    // By the model: allocated and not sent; sent; extents of each class.
    let mut allocated: Vec<SlotId> = Vec::new();
    let mut extents = [0u32; 3];
    let key = |slot: SlotId| (slot.class, slot.index);
    while !input.is_empty() {
        match input.byte() % 8 {
            0 | 1 => {
                let len = u64::from(input.byte()) * 2;
                let Ok(slot) = allocator.allocate(len) else { continue };
                let class = &classes[usize::from(slot.class)];
                assert!(u64::from(class.slot_size) >= len);
                let there = extents[usize::from(slot.class)] * class.extent_slots;
                assert!(u32::from(slot.index) < there, "{slot:?} of {there}");
                allocated.push(slot);
            }
            2 => {
                let Ok(slot) = allocator.allocate_sealed() else { continue };
                assert!(slot.class == SEALED && slot.index < geometry.sealed());
                allocated.push(slot);
            }
            3 => {
                let class = input.byte();
                let number = allocator.add_extent(class);
                match (number, extents.get_mut(usize::from(class))) {
                    (Some(number), Some(count)) => {
                        assert_eq!(number, *count);
                        *count += 1;
                        assert!(*count <= classes[usize::from(class)].max_extents);
                    }
                    (None, Some(count)) => {
                        assert_eq!(*count, classes[usize::from(class)].max_extents);
                    }
                    (found, None) => assert_eq!(found, None),
                }
            }
            4 if !allocated.is_empty() => {
                let at = usize::from(input.byte()) % allocated.len();
                allocator.sent(allocated.swap_remove(at));
            }
            5 if !allocated.is_empty() => {
                let at = usize::from(input.byte()) % allocated.len();
                allocator.give_back(allocated.swap_remove(at));
            }
            // The receiver's acks say anything.
            6 => {
                let number = u32::from(input.byte()) % outbox.acks();
                let word = input.u32();
                let at = outbox.ack(number).expect("an ack");
                peer.mapped.store32(at, word, OWN);
            }
            _ => {
                let slot = SlotId { class: input.byte(), index: u16::from(input.byte()) };
                let len = input.u32() >> 20;
                let most = match classes.get(usize::from(slot.class)) {
                    Some(class) => class.max_slots(),
                    None if slot.class == SEALED => u32::from(geometry.sealed()),
                    None => 0,
                };
                let fits = classes.get(usize::from(slot.class)).is_none_or(|c| len <= c.slot_size);
                let received = receipts.receive(slot, len);
                assert_eq!(received.is_ok(), u32::from(slot.index) < most && fits, "{slot:?}");
                if let Ok(receipt) = received {
                    receipt.ack(&own.mapped);
                }
            }
        }
        // Nobody has a slot twice.
        let held: BTreeSet<_> = allocated.iter().copied().map(key).collect();
        assert_eq!(held.len(), allocated.len(), "{allocated:?}");
        let all: u32 = classes.iter().zip(extents).map(|(c, n)| c.extent_slots * n).sum();
        assert_eq!(allocator.slots(), all as usize);
        let most = all as usize + usize::from(geometry.sealed());
        assert!(allocator.in_flight() + allocated.len() <= most);
    }
}
