//! The two sides of each structure as threads over one memory: what the sanitizers and Miri watch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use shm_primitives::{
    Frame, Mapped, Memory, Offset,
    broadcast::{BroadcastGeometry, BroadcastReader, BroadcastWriter, Start, Step},
    doorbell::{SleepMode, Sleeper, Waker},
    fleet::{self, Cursor, LaneWriter, RingGeometry},
    order::HINT,
    outbox::{DATA_BELL, DATA_SLEEP, OutboxGeometry},
    pool::{PoolGeometry, SizeClass, SlotAllocator, SlotId, SlotReceipts},
    ring::{Consumer, GrantError, Producer},
    seqlock::{SeqlockReader, SeqlockWriter, slot_size},
};

/// How often each side does what it does.
const TIMES: u64 = if cfg!(miri) { 60 } else { 20_000 };

/// The outboxes of the two sides of a link.
fn link(capacity: u64, acks: u32) -> (OutboxGeometry, Mapped, Mapped) {
    let geometry = OutboxGeometry::new(capacity, acks).unwrap();
    let [sender, receiver] = [0; 2].map(|_| Mapped::leaked(geometry.total_size()));
    (geometry, sender, receiver)
}

/// Sends again until there is room.
fn until_room<T>(mut send: impl FnMut() -> Result<T, GrantError>) -> T {
    loop {
        match send() {
            Ok(sent) => return sent,
            Err(GrantError::Full) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn frames_of_all_sizes_pass_through_a_ring() {
    let (geometry, own, peer) = link(256, 0);
    let len = |number: u64| (number * 7 % 121) as usize;
    let sending = thread::spawn(move || {
        let mut producer = Producer::new(own, peer, &geometry);
        for number in 0..TIMES {
            let message = vec![number as u8; len(number)];
            if number % 3 == 0 {
                until_room(|| producer.push(&message));
            } else {
                until_room(|| producer.stage(&message));
                if number % 3 == 2 || producer.largest_inline() < 200 {
                    producer.publish();
                }
            }
        }
        producer.publish();
    });
    let mut consumer = Consumer::new(peer, own, &geometry);
    let mut bytes = [0; 128];
    for number in 0..TIMES {
        let entry = loop {
            match consumer.next().unwrap() {
                Some(entry) => break entry,
                None => thread::yield_now(),
            }
        };
        let read = consumer.read(&entry, 0, &mut bytes);
        assert_eq!(read, len(number));
        assert!(bytes[..read].iter().all(|byte| *byte == number as u8));
        consumer.release();
    }
    sending.join().unwrap();
}

#[test]
fn slots_go_to_another_thread_and_come_back() {
    let class = SizeClass { slot_size: 64, extent_slots: 3, max_extents: 1 };
    let pool = PoolGeometry::new(&[class], 0).unwrap();
    let (geometry, own, peer) = link(64, pool.acks());
    let extent = Mapped::leaked(3 * 64);
    let place = |slot: SlotId| Offset::new(64 * u64::from(slot.index));
    let of_sender = pool.clone();
    let sending = thread::spawn(move || {
        let mut producer = Producer::new(own, peer, &geometry);
        let mut allocator = SlotAllocator::new(&of_sender, peer, &geometry).unwrap();
        allocator.add_extent(0).unwrap();
        for number in 0..TIMES {
            let slot = loop {
                match allocator.allocate(64) {
                    Ok(slot) => break slot,
                    Err(_) => thread::yield_now(),
                }
            };
            extent.write(place(slot), &[number as u8; 64]);
            allocator.sent(slot);
            until_room(|| producer.stage_reference(Frame::Slot { slot, len: 64 }));
            producer.publish();
        }
    });
    let mut consumer = Consumer::new(peer, own, &geometry);
    let mut receipts = SlotReceipts::new(&pool, &geometry).unwrap();
    let mut bytes = [0; 64];
    for number in 0..TIMES {
        let entry = loop {
            match consumer.next().unwrap() {
                Some(entry) => break entry,
                None => thread::yield_now(),
            }
        };
        let Frame::Slot { slot, len } = entry.frame() else { panic!("{entry:?}") };
        let receipt = receipts.receive(slot, len).unwrap();
        extent.read(place(slot), &mut bytes);
        assert_eq!(bytes, [number as u8; 64]);
        receipt.ack(&peer);
        consumer.release();
    }
    sending.join().unwrap();
}

#[test]
fn a_seqlock_is_never_read_torn() {
    const LEN: usize = 40;
    let memory = Mapped::leaked(slot_size(LEN as u64));
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let writing = thread::spawn(move || {
        let mut writer = SeqlockWriter::new(memory, Offset::new(0));
        for number in 0..TIMES {
            writer.write(&[number as u8; LEN]);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let reader = SeqlockReader::new(memory, Offset::new(0));
    let (mut value, mut last) = ([0; LEN], 0);
    while !over.load(Ordering::Relaxed) {
        if let Ok(number) = reader.read(&mut value, 3) {
            assert!(number >= last);
            last = number;
            assert!(number == 0 || value == [(number - 1) as u8; LEN], "{number}: {value:?}");
        }
    }
    writing.join().unwrap();
    assert_eq!(reader.read(&mut value, 1), Ok(TIMES));
}

#[test]
fn readers_follow_a_broadcast_and_count_what_they_lose() {
    let geometry = BroadcastGeometry::new(4, 40).unwrap();
    let memory = Mapped::leaked(geometry.size());
    let at = Offset::new(0);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || {
                let mut reader = BroadcastReader::new(memory, at, geometry, Start::Oldest);
                let (mut value, mut counted) = ([0; 40], reader.position());
                while counted < TIMES {
                    match reader.next(&mut value).unwrap() {
                        Step::Nothing => thread::yield_now(),
                        Step::Lost(lost) => counted += lost,
                        Step::Value { position, len } => {
                            assert_eq!(position, counted);
                            assert!(value[..len].iter().all(|byte| *byte == position as u8));
                            counted += 1;
                        }
                    }
                }
            })
        })
        .collect();
    let mut writer = BroadcastWriter::new(memory, at, geometry);
    for number in 0..TIMES {
        writer.publish(&[number as u8; 40][..(number % 41) as usize]).unwrap();
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn a_sleeper_is_rung_for() {
    let (geometry, own, peer) = link(64, 0);
    let sending = thread::spawn(move || {
        let mut producer = Producer::new(own, peer, &geometry);
        let waker = Waker::new(own, DATA_BELL, peer, DATA_SLEEP);
        for number in 0..TIMES {
            until_room(|| producer.push(&number.to_le_bytes()));
            waker.ring();
        }
    });
    let mut consumer = Consumer::new(peer, own, &geometry);
    let mut sleeper = Sleeper::new(peer, DATA_SLEEP, own, DATA_BELL);
    let mut taken = 0;
    while taken < TIMES {
        if let Some(entry) = consumer.next().unwrap() {
            let mut bytes = [0; 8];
            consumer.read(&entry, 0, &mut bytes);
            assert_eq!(u64::from_le_bytes(bytes), taken);
            consumer.release();
            taken += 1;
            continue;
        }
        let seen = sleeper.announce(SleepMode::Futex);
        // What the kernel would do: wait while the bell is as it was seen.
        while !consumer.is_ready() && own.word32(DATA_BELL).load(HINT.ordering()) == seen.0 {
            thread::yield_now();
        }
        sleeper.awake();
    }
    sending.join().unwrap();
}

#[test]
fn members_of_a_fleet_publish_in_one_order() {
    let geometry = RingGeometry::new(1, 8, 2, 24).unwrap();
    let memory = Mapped::leaked(geometry.total_size());
    let times = TIMES / 4;
    let publishing: Vec<_> = (0..2)
        .map(|node| {
            thread::spawn(move || {
                let mut lane = LaneWriter::join(memory, geometry, node).unwrap();
                for number in 0..times {
                    lane.publish(number as u8, 7, &[number as u8; 24]).unwrap();
                }
            })
        })
        .collect();
    let ring = fleet::Ring::new(memory, geometry);
    let mut cursor = Cursor::new(&ring, fleet::Start::Oldest);
    let mut counted = cursor.position().number();
    while counted < 2 * times {
        let Some(next) = cursor.next(&ring).unwrap() else {
            thread::yield_now();
            continue;
        };
        counted += next.lost + 1;
        let number = next.frame.id().counter() as u8;
        assert_eq!((next.frame.kind(), next.frame.payload()), (number, &[number; 24][..]));
        if let Some(frame) = ring.read(next.frame.id()).unwrap() {
            assert_eq!(frame, next.frame);
        }
    }
    for member in publishing {
        member.join().unwrap();
    }
}
