//! Defects of earlier systems in the slot pool and in recovery, as schedules that ours survives. Each
//! test has the name of its row; `defects.rs` lists all rows.

use std::{thread, time::Duration};

use shm_primitives::{
    fleet::RingGeometry,
    outbox::OutboxGeometry,
    pool::{PoolGeometry, SizeClass},
};
use shm_tests::{
    Place, WAIT, eventually, pattern, peer,
    process::Peer,
    raw::{at, attach_by_hand, sealed, slot},
    small,
};
use shm_transport::{Corruption, Deadline, Host, Link, LinkEnd, RecvError};

fn attach(host: &mut Host) -> (Peer, Link) {
    let mut guest = peer!("guest", host.path());
    let link = host.accept(WAIT).unwrap();
    assert!(guest.answer().starts_with("attached"));
    (guest, link)
}

fn is_dead<T>(result: &Result<T, RecvError>) -> bool {
    matches!(result, Err(RecvError::Ended(LinkEnd::PeerDead)))
}

/// A sender was killed between taking a slot and recording it, or between clearing and giving it
/// back. Here guests die at any moment of sending through slots and of giving them back, and the next
/// one finds all of them.
#[test]
fn slots_leak() {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(small()).max_guests(1));
    for round in 0..20u64 {
        let (mut guest, mut link) = attach(&mut host);
        if round % 2 == 0 {
            guest.tell("send 0 100000 1000");
            for number in 0..5 * round {
                assert!(pattern::matches(number, &link.recv(WAIT).unwrap().to_bytes()));
            }
        } else {
            guest.tell("receive-for-ever");
            for number in 0..5 * round {
                link.send(&pattern::message(number, 1000), WAIT).unwrap();
            }
        }
        thread::sleep(Duration::from_micros(137 * round));
        guest.kill();
        while link.recv(Deadline::NEVER).is_ok() {}
        drop(link);
        let (_guest, mut link) = attach(&mut host);
        assert_eq!(link.sender.slots_in_flight(), 0);
        // Four of one class and two of the other, and then none is left.
        for _ in 0..6 {
            link.try_send(&[1; 1000]).unwrap();
        }
        assert_eq!(link.sender.slots_in_flight(), 6);
    }
}

/// Two frees of one slot: the second frees nothing, and the slot is handed out once.
#[test]
fn slot_pushed_twice() {
    let place = Place::new();
    let mut host = place.small_host();
    let (guest, mut link) = attach_by_hand(&mut host);
    let first = link.sender.grant(1000, WAIT).unwrap().as_ptr();
    link.send(&[1; 1000], WAIT).unwrap();
    for _ in 0..10 {
        guest.memory.store32(at::ACKS, 1);
        assert_eq!(link.sender.slots_in_flight(), 0);
    }
    // Sent again: the old ack means nothing, and all four slots are different.
    for sent in 1..=4 {
        link.send(&[sent; 1000], WAIT).unwrap();
    }
    guest.memory.store32(at::ACKS, 1);
    assert_eq!(link.sender.slots_in_flight(), 4);
    // None of the four is granted again: this one is of the larger class.
    let grant = link.sender.grant(1000, WAIT).unwrap();
    assert_ne!(grant.as_ptr(), first);
}

/// The host still reads the slot of a dead guest while the next guest comes and writes.
#[test]
fn use_after_free_of_a_dead_guests_slot() {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(small()).max_guests(1));
    let mut held = Vec::new();
    for round in 0..5 {
        let mut guest = peer!("guest", place.hub());
        let mut link = host.accept(WAIT).unwrap();
        assert!(guest.answer().starts_with("attached"));
        for len in [1000, 5000, 20_000] {
            assert_eq!(guest.ask(&format!("send {round} 1 {len}")), "sent");
            held.push((round, len, link.recv(WAIT).unwrap().into_owned()));
        }
        guest.kill();
        assert!(matches!(link.recv(WAIT), Err(RecvError::Ended(LinkEnd::PeerDead))));
        drop(link);
        for (number, len, message) in &held {
            assert_eq!(message.len(), *len);
            assert!(pattern::matches(*number, &message.to_bytes()));
        }
    }
}

/// Eight crashes of guests that held a slot each left none of eight.
#[test]
fn pool_drains() {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(small()).max_guests(1));
    for _ in 0..10 {
        let (mut guest, mut link) = attach(&mut host);
        // All four slots of the class, each time.
        for held in 1..=4 {
            link.send(&[1; 1000], WAIT).unwrap();
            assert_eq!(guest.ask("hold"), format!("held {held}"));
        }
        assert_eq!(link.sender.slots_in_flight(), 4);
        guest.kill();
        assert!(is_dead(&link.recv(WAIT)));
    }
}

/// Recovery reset the ring of a dead guest before it was read.
#[test]
fn committed_messages_lost() {
    let place = Place::new();
    let mut host = place.small_host();
    for len in [0, 100, 1000, 20_000] {
        let (mut guest, mut link) = attach(&mut host);
        assert_eq!(guest.ask(&format!("send 0 2 {len}")), "sent");
        guest.kill();
        eventually(|| link.end());
        for number in 0..2 {
            assert!(pattern::matches(number, &link.recv(WAIT).unwrap().to_bytes()));
        }
        assert!(is_dead(&link.recv(WAIT)));
    }
}

/// Class and index of a slot came from the peer and were used.
#[test]
fn out_of_bounds_and_foreign_slots() {
    let place = Place::new();
    let mut host = place.small_host();
    // Another guest's slots are there, and none of the references reaches them.
    let (mut other, mut other_link) = attach(&mut host);
    assert_eq!(other.ask("send 0 2 1000"), "sent");
    let words = [
        slot(0, 4, 10),
        slot(0, u16::MAX, 10),
        slot(255, 0, 10),
        slot(16, 0, 0),
        slot(0, 0, 1025),
        slot(0, 0, u32::MAX),
        slot(0, 0, 10),
        sealed(0),
        sealed(u16::MAX),
    ];
    for word in words {
        let (mut guest, mut link) = attach_by_hand(&mut host);
        guest.publish(word, 8);
        let result = link.recv(WAIT).map(drop);
        let corrupt = matches!(
            &result,
            Err(RecvError::Ended(LinkEnd::Corrupt(
                Corruption::Slot(_) | Corruption::NotHandedOver
            )))
        );
        assert!(corrupt, "{word:#x}: {result:?}");
    }
    for number in 0..2 {
        assert!(pattern::matches(number, &other_link.recv(WAIT).unwrap().to_bytes()));
    }
}

/// Products of 32-bit sizes wrapped round, so that memory was smaller than what was put there.
#[test]
fn sizes_overflow() {
    let sizes = [1, 64, 1 << 16, 1 << 20, 1 << 30, 1 << 31, u32::MAX - 63, u32::MAX];
    let mut accepted = 0;
    for slot_size in sizes {
        for extent_slots in sizes {
            for max_extents in sizes {
                let class = SizeClass { slot_size, extent_slots, max_extents };
                let Ok(pool) = PoolGeometry::new(&[class], 0) else { continue };
                accepted += 1;
                let slots = u128::from(extent_slots) * u128::from(max_extents);
                assert_eq!(u128::from(pool.acks()), slots);
                let extent = u128::from(slot_size) * u128::from(extent_slots);
                assert!(extent <= u128::from(u64::MAX) && slots <= 1 << 16);
                let outbox = OutboxGeometry::new(1 << 30, pool.acks()).unwrap();
                assert!(outbox.total_size() > (1 << 30) + 4 * u64::from(pool.acks()));
            }
        }
    }
    assert!(accepted > 10, "{accepted}");
    for bad in [1 << 31, 1 << 32, 1 << 63, u64::MAX] {
        assert!(OutboxGeometry::new(bad, 0).is_err());
        assert!(RingGeometry::new(0, bad, 1, 8).is_err());
        assert!(RingGeometry::new(0, 2, bad, 8).is_err());
        assert!(RingGeometry::new(0, 2, 1, bad).is_err());
    }
    assert!(OutboxGeometry::new(64, u32::MAX).is_err());
}
