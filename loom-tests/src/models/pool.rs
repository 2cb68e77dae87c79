//! The pool: a slot is written again only after its receiver's reads are over.

use std::sync::Arc;

use shm_primitives::{
    Frame, Memory, Offset,
    pool::{Exhausted, PoolGeometry, SizeClass, SlotAllocator, SlotId, SlotReceipts},
};

use super::Link;
use crate::{
    explore::explore,
    memory::{Area, LoomMem},
    thread,
};

/// Where the slots start in the sender's extent.
const SLOTS: u64 = 128;
/// Bytes of payload that a message has: two words, the second one not whole.
const LEN: usize = 11;

/// One class of `slots` slots of 64 bytes, of which the first bytes are used.
struct Pool {
    geometry: PoolGeometry,
    extent: LoomMem,
}

impl Pool {
    fn new(slots: u32) -> Self {
        let class = SizeClass { slot_size: 64, extent_slots: slots, max_extents: 1 };
        let geometry = PoolGeometry::new(&[class], 0).expect("one class");
        let used = |slot: u32| {
            let start = SLOTS + 64 * u64::from(slot);
            Area::Bytes(start..start + 16)
        };
        let areas: Vec<_> = (0..slots).map(used).collect();
        Self { geometry, extent: LoomMem::new(SLOTS + 64 * u64::from(slots), &areas) }
    }

    fn allocator(&self, link: &Link) -> SlotAllocator<LoomMem> {
        let mut allocator =
            SlotAllocator::new(&self.geometry, link.receiver.clone(), &link.geometry)
                .expect("an ack for each slot");
        allocator.add_extent(0).expect("its only extent");
        allocator
    }

    fn receipts(&self, link: &Link) -> SlotReceipts {
        SlotReceipts::new(&self.geometry, &link.geometry).expect("an ack for each slot")
    }
}

fn place(slot: SlotId) -> Offset {
    Offset::new(SLOTS + 64 * u64::from(slot.index))
}

fn fill(extent: &LoomMem, slot: SlotId, value: u8) {
    extent.write(place(slot), &[value; LEN]);
}

fn check(extent: &LoomMem, slot: SlotId, value: u8) {
    let mut bytes = [0; LEN];
    extent.read(place(slot), &mut bytes);
    assert_eq!(bytes, [value; LEN], "slot {} changed while it was read", slot.index);
}

/// Two threads of the receiver read a slot each and give it back, in any order; the
/// sender takes what is back, and writes it.
pub fn two_receivers() {
    let paths = ["exhausted", "the first sent first", "the last sent first", "both reused"];
    explore("pool::two_receivers", &paths, |paths| {
        let link = Link::new(2, &[], &[]);
        let pool = Pool::new(2);
        let mut allocator = pool.allocator(&link);
        let mut receipts = pool.receipts(&link);
        let slots = [1, 2].map(|value| {
            let slot = allocator.allocate(LEN as u64).expect("a free slot");
            fill(&pool.extent, slot, value);
            allocator.sent(slot);
            slot
        });
        let receivers = slots.map(|slot| {
            let receipt = receipts.receive(slot, LEN as u32).expect("a slot of the pool");
            let (own, extent) = (link.receiver.clone(), pool.extent.clone());
            thread::spawn(move || {
                check(&extent, slot, slot.index as u8 + 1);
                receipt.ack(&own);
            })
        });
        let mut reused = Vec::new();
        for _ in 0..2 {
            match allocator.allocate(LEN as u64) {
                Ok(slot) => {
                    assert!(!reused.contains(&slot), "slot {} is free twice", slot.index);
                    fill(&pool.extent, slot, 9);
                    reused.push(slot);
                }
                Err(error) => {
                    assert_eq!(error, Exhausted { may_grow: None });
                    paths.take("exhausted");
                }
            }
        }
        paths.take_if(reused == [slots[0]], "the first sent first");
        paths.take_if(reused == [slots[1]], "the last sent first");
        paths.take_if(reused.len() == 2, "both reused");
        for receiver in receivers {
            receiver.join().expect("a receiver ends");
        }
        assert_eq!(allocator.in_flight(), 0);
    });
}

/// Two messages through one slot, by references in the ring: the second waits until the
/// first was given back.
pub fn slot_and_ring() {
    let paths = ["exhausted", "reused", "both received"];
    explore("pool::slot_and_ring", &paths, |paths| {
        let link = Link::new(1, &[], &[]);
        let pool = Pool::new(1);
        let (mut producer, mut consumer) = (link.producer(), link.consumer());
        let mut allocator = pool.allocator(&link);
        let mut receipts = pool.receipts(&link);
        let (own, extent) = (link.receiver.clone(), pool.extent.clone());
        let of_receiver = Arc::clone(paths);
        let receiver = thread::spawn(move || {
            let mut received = 0;
            for _ in 0..3 {
                let Some(entry) = consumer.next().expect("an honest producer") else {
                    thread::yield_now();
                    continue;
                };
                let Frame::Slot { slot, len } = entry.frame() else { panic!("{entry:?}") };
                let receipt = receipts.receive(slot, len).expect("a slot of the pool");
                received += 1;
                check(&extent, slot, received);
                receipt.ack(&own);
                consumer.release();
            }
            of_receiver.take_if(received == 2, "both received");
        });
        let mut sent = 0;
        for _ in 0..3 {
            match allocator.allocate(LEN as u64) {
                Ok(slot) => {
                    sent += 1;
                    fill(&pool.extent, slot, sent);
                    allocator.sent(slot);
                    let frame = Frame::Slot { slot, len: LEN as u32 };
                    producer.stage_reference(frame).expect("room");
                    producer.publish();
                    if sent == 2 {
                        paths.take("reused");
                        break;
                    }
                }
                Err(_) => {
                    paths.take("exhausted");
                    thread::yield_now();
                }
            }
        }
        receiver.join().expect("the receiver ends");
    });
}
