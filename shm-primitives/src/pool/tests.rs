use std::{collections::HashSet, vec, vec::Vec};

use super::*;
use crate::{Mapped, Memory, header::GeometryError, order::ACK_PUBLISH, outbox::OutboxGeometry};

const CLASSES: [SizeClass; 2] = [
    SizeClass { slot_size: 64, extent_slots: 2, max_extents: 2 },
    SizeClass { slot_size: 256, extent_slots: 3, max_extents: 1 },
];

struct Pool {
    allocator: SlotAllocator<Mapped>,
    receipts: SlotReceipts,
    receiver: Mapped,
    outbox: OutboxGeometry,
}

fn pool() -> Pool {
    pool_of(&CLASSES)
}

fn pool_of(classes: &[SizeClass]) -> Pool {
    let geometry = PoolGeometry::new(classes, 2).unwrap();
    let outbox = OutboxGeometry::new(64, geometry.acks()).unwrap();
    let receiver = Mapped::leaked(outbox.total_size());
    Pool {
        allocator: SlotAllocator::new(&geometry, receiver, &outbox).unwrap(),
        receipts: SlotReceipts::new(&geometry, &outbox).unwrap(),
        receiver,
        outbox,
    }
}

impl Pool {
    fn send(&mut self, len: u64) -> (SlotId, Receipt) {
        let slot = self.allocator.allocate(len).unwrap();
        self.allocator.sent(slot);
        (slot, self.receipts.receive(slot, len as u32).unwrap())
    }
}

#[test]
fn classes_grow_before_a_larger_one_is_used_and_then_push_back() {
    let mut pool = pool();
    let allocator = &mut pool.allocator;
    for (class, slots) in [(0, 2), (0, 2), (1, 3)] {
        assert_eq!(allocator.allocate(64), Err(Exhausted { may_grow: Some(class) }));
        assert!(allocator.add_extent(class).is_some());
        for _ in 0..slots {
            assert_eq!(allocator.allocate(64).unwrap().class, class);
        }
    }
    assert_eq!(allocator.allocate(64), Err(Exhausted { may_grow: None }));
    assert_eq!(allocator.add_extent(0), None);
    assert_eq!(allocator.slots(), 7);
    assert_eq!(allocator.allocate(257), Err(Exhausted { may_grow: None }));
}

#[test]
fn slots_come_back_in_any_order() {
    let mut pool = pool();
    pool.allocator.add_extent(1);
    let (first, a) = pool.send(200);
    let (second, b) = pool.send(200);
    let (third, c) = pool.send(200);
    assert_eq!(pool.allocator.in_flight(), 3);
    assert!(pool.allocator.allocate(200).is_err());
    b.ack(&pool.receiver);
    assert_eq!(pool.allocator.allocate(200), Ok(second));
    pool.allocator.sent(second);
    c.ack(&pool.receiver);
    a.ack(&pool.receiver);
    pool.receipts.receive(second, 1).unwrap().ack(&pool.receiver);
    assert_eq!(pool.allocator.in_flight(), 0);
    let all: Vec<_> = (0..3).map(|_| pool.allocator.allocate(200).unwrap()).collect();
    assert!([first, second, third].iter().all(|slot| all.contains(slot)));
}

#[test]
fn two_small_slots_take_turns_and_a_large_one_is_used_again() {
    let class = |slot_size| SizeClass { slot_size, extent_slots: 4, max_extents: 1 };
    for (slot_size, slots) in [(256 << 10, 2), (512 << 10, 1)] {
        let mut pool = pool_of(&[class(slot_size)]);
        pool.allocator.add_extent(0);
        let used: HashSet<SlotId> = (0..10)
            .map(|_| {
                let (slot, receipt) = pool.send(200);
                receipt.ack(&pool.receiver);
                slot
            })
            .collect();
        assert_eq!(used.len(), slots);
    }
}

#[test]
fn acks_that_lie_free_nothing() {
    let mut pool = pool();
    pool.allocator.add_extent(1);
    let (_, receipt) = pool.send(256);
    let _held = pool.send(256);
    let _held = pool.send(256);
    let at = pool.outbox.ack(4).unwrap();
    for lie in [0, 2, u32::MAX, 1 << 31] {
        pool.receiver.store32(at, lie, ACK_PUBLISH);
        assert!(pool.allocator.allocate(256).is_err());
    }
    // Repeating the truth frees the slot once.
    receipt.ack(&pool.receiver);
    receipt.ack(&pool.receiver);
    assert!(pool.allocator.allocate(256).is_ok());
    assert!(pool.allocator.allocate(256).is_err());
}

#[test]
fn references_that_lie_are_refused() {
    let mut pool = pool();
    let bad = [
        (SlotId { class: 0, index: 4 }, 1),
        (SlotId { class: 0, index: 0 }, 65),
        (SlotId { class: 1, index: 3 }, 1),
        (SlotId { class: 2, index: 0 }, 0),
        (SlotId { class: 15, index: u16::MAX }, 0),
        (SlotId { class: SEALED, index: 2 }, 0),
        (SlotId { class: 255, index: 0 }, u32::MAX),
    ];
    for (slot, len) in bad {
        assert_eq!(pool.receipts.receive(slot, len), Err(BadSlot { slot, len }));
    }
    assert!(pool.receipts.receive(SlotId { class: SEALED, index: 1 }, u32::MAX).is_ok());
}

#[test]
fn sealed_payloads_are_counted_like_slots() {
    let mut pool = pool();
    let first = pool.allocator.allocate_sealed().unwrap();
    pool.allocator.sent(first);
    let second = pool.allocator.allocate_sealed().unwrap();
    assert!(pool.allocator.allocate_sealed().is_err());
    pool.allocator.give_back(second);
    assert_eq!(pool.allocator.allocate_sealed(), Ok(second));
    pool.receipts.receive(first, 0).unwrap().ack(&pool.receiver);
    assert_eq!(pool.allocator.in_flight(), 0);
}

#[test]
fn impossible_classes_are_refused() {
    let class =
        |slot_size, extent_slots, max_extents| SizeClass { slot_size, extent_slots, max_extents };
    let cases = [
        (vec![class(0, 1, 1)], GeometryError::SlotSize(0)),
        (vec![class(100, 1, 1)], GeometryError::SlotSize(100)),
        (vec![class(u32::MAX, 1, 1)], GeometryError::SlotSize(u32::MAX.into())),
        (vec![class(64, 1, 1), class(64, 1, 1)], GeometryError::SlotOrder(64)),
        (vec![class(64, 0, 1)], GeometryError::SlotCount(0)),
        (vec![class(64, 1, 0)], GeometryError::SlotCount(0)),
        (vec![class(64, u32::MAX, u32::MAX)], GeometryError::SlotCount(u64::from(u32::MAX).pow(2))),
        (vec![class(64, 65537, 1)], GeometryError::SlotCount(65537)),
        (vec![class(64, 1, 1); 17], GeometryError::Classes(17)),
    ];
    for (classes, error) in cases {
        assert_eq!(PoolGeometry::new(&classes, 0), Err(error));
    }
    assert!(PoolGeometry::new(&[], 0).is_ok());
    assert!(PoolGeometry::new(&[class(64, 65536, 1)], u16::MAX).is_ok());
}

#[test]
fn other_numbers_of_acks_are_refused() {
    let geometry = PoolGeometry::new(&CLASSES, 2).unwrap();
    let outbox = OutboxGeometry::new(64, geometry.acks() + 1).unwrap();
    assert!(SlotReceipts::new(&geometry, &outbox).is_err());
    let memory = Mapped::leaked(outbox.total_size());
    assert!(SlotAllocator::new(&geometry, memory, &outbox).is_err());
}

proptest::proptest! {
    /// A slot is never handed out while the receiver has it, whatever the order.
    #[test]
    fn no_slot_has_two_owners(steps in proptest::collection::vec((0..3u8, 0..300u64), 1..300)) {
        let mut pool = pool();
        let mut held: Vec<(SlotId, Receipt)> = Vec::new();
        for (step, number) in steps {
            match step {
                0 => match pool.allocator.allocate(number) {
                    Ok(slot) => {
                        proptest::prop_assert!(held.iter().all(|(other, _)| *other != slot));
                        pool.allocator.sent(slot);
                        held.push((slot, pool.receipts.receive(slot, number as u32).unwrap()));
                    }
                    Err(Exhausted { may_grow: Some(class) }) => {
                        pool.allocator.add_extent(class).unwrap();
                    }
                    Err(Exhausted { may_grow: None }) => {
                        proptest::prop_assert!(number > 256 || !held.is_empty());
                    }
                },
                _ if held.is_empty() => {}
                _ => {
                    let (_, receipt) = held.swap_remove(number as usize % held.len());
                    receipt.ack(&pool.receiver);
                    proptest::prop_assert_eq!(pool.allocator.in_flight(), held.len());
                }
            }
        }
    }
}
