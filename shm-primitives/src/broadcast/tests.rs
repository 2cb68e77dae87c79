use std::{vec, vec::Vec};

use super::*;
use crate::{Mapped, order::OWN};

fn ring(slots: u64, max: u64) -> (Mapped, Offset, BroadcastGeometry) {
    let geometry = BroadcastGeometry::new(slots, max).unwrap();
    (Mapped::leaked(128 + geometry.size()), Offset::new(128), geometry)
}

/// What a reader finds until there is nothing more: values read, and how many were lost.
fn drain(reader: &mut BroadcastReader<Mapped>) -> (Vec<u64>, u64) {
    let (mut values, mut lost, mut value) = (Vec::new(), 0, [0; 8]);
    loop {
        match reader.next(&mut value).unwrap() {
            Step::Nothing => return (values, lost),
            Step::Lost(count) => lost += count,
            Step::Value { position, len } => {
                assert_eq!((len, u64::from_le_bytes(value)), (8, position));
                values.push(position);
            }
        }
    }
}

#[test]
fn a_reader_gets_what_is_left_and_counts_what_is_not() {
    for slots in [1, 2, 4, 16] {
        let (memory, at, geometry) = ring(slots, 8);
        let mut writer = BroadcastWriter::new(memory, at, geometry);
        let mut reader = BroadcastReader::new(memory, at, geometry, Start::Next);
        let mut published = 0u64;
        for burst in [0, 1, slots - 1, slots, slots + 1, 3 * slots + 1, 7] {
            assert!(!reader.is_ready());
            for _ in 0..burst {
                assert_eq!(writer.publish(&published.to_le_bytes()), Ok(published));
                published += 1;
            }
            assert_eq!(reader.is_ready(), burst > 0);
            let lost = burst.saturating_sub(slots);
            let expected = (published - burst + lost..published).collect();
            assert_eq!(drain(&mut reader), (expected, lost));
        }
    }
}

#[test]
fn late_readers_begin_where_they_ask() {
    let (memory, at, geometry) = ring(4, 8);
    let begin = |start| BroadcastReader::new(memory, at, geometry, start).position();
    for start in [Start::Next, Start::Newest, Start::Oldest] {
        assert_eq!(begin(start), 0);
    }
    let mut writer = BroadcastWriter::new(memory, at, geometry);
    for n in 0u64..10 {
        writer.publish(&n.to_le_bytes()).unwrap();
    }
    assert_eq!([Start::Next, Start::Newest, Start::Oldest].map(begin), [10, 9, 6]);
    // A writer that goes on elsewhere goes on where the first stopped.
    assert_eq!(BroadcastWriter::new(memory, at, geometry).publish(&[0; 8]), Ok(10));
}

#[test]
fn a_value_whose_writer_stopped_between_its_two_stores_counts() {
    let (memory, at, geometry) = ring(2, 8);
    let mut writer = BroadcastWriter::new(memory, at, geometry);
    writer.publish(&0u64.to_le_bytes()).unwrap();
    memory.store64(at, 0, OWN);
    let mut reader = BroadcastReader::new(memory, at, geometry, Start::Next);
    assert_eq!((reader.position(), reader.published()), (1, 1));
    assert_eq!(reader.newest(&mut [0; 8]), Ok(Some((0, 8))));
}

#[test]
fn writers_that_stop_there_one_after_the_other_lose_no_value() {
    let (memory, at, geometry) = ring(2, 8);
    for n in 0u64..3 {
        let mut writer = BroadcastWriter::new(memory, at, geometry);
        let found = memory.load64(at, OWN);
        assert_eq!(writer.publish(&n.to_le_bytes()), Ok(n));
        memory.store64(at, found, OWN);
    }
    let reader = BroadcastReader::new(memory, at, geometry, Start::Next);
    assert_eq!(reader.position(), 3);
}

#[test]
fn values_of_any_size_come_back_and_larger_ones_are_refused() {
    let (memory, at, geometry) = ring(2, 100);
    let mut writer = BroadcastWriter::new(memory, at, geometry);
    let mut reader = BroadcastReader::new(memory, at, geometry, Start::Next);
    let mut value = vec![0; 100];
    assert_eq!(reader.newest(&mut value), Ok(None));
    for len in 0..=100 {
        writer.publish(&vec![len as u8; len]).unwrap();
        let step = Step::Value { position: len as u64, len };
        assert_eq!(reader.next(&mut value), Ok(step));
        assert_eq!(value[..len], vec![len as u8; len]);
        assert_eq!(reader.newest(&mut value), Ok(Some((len as u64, len))));
    }
    assert_eq!(writer.publish(&[0; 101]), Err(TooLarge { len: 101, max: 100 }));
}

#[test]
fn a_slot_that_is_being_written_is_nothing_yet_or_lost() {
    let (memory, at, geometry) = ring(2, 8);
    let mut writer = BroadcastWriter::new(memory, at, geometry);
    let mut reader = BroadcastReader::new(memory, at, geometry, Start::Next);
    let slot = reader.ring.slot(0);
    memory.store64(slot, 1, OWN);
    assert!(!reader.is_ready());
    assert_eq!(reader.next(&mut [0; 8]), Ok(Step::Nothing));
    for n in 0u64..2 {
        writer.publish(&n.to_le_bytes()).unwrap();
    }
    // Value 2 is being written over value 0: its writer may never finish.
    memory.store64(slot, 5, OWN);
    assert_eq!(drain(&mut reader), (vec![1], 1));
    assert_eq!(reader.newest(&mut [0; 8]), Ok(Some((1, 8))));
}

#[test]
fn the_newest_value_is_found_again_and_never_an_older_one() {
    for slots in [1, 2, 4] {
        let (memory, at, geometry) = ring(slots, 8);
        let mut writer = BroadcastWriter::new(memory, at, geometry);
        let mut reader = BroadcastReader::new(memory, at, geometry, Start::Next);
        let mut value = [0; 8];
        assert!(!reader.has_newer());
        for n in 0u64..10 {
            writer.publish(&n.to_le_bytes()).unwrap();
            // A count that lags behind the value changes nothing.
            memory.store64(at, n, OWN);
            assert!(reader.has_newer());
            for _ in 0..2 {
                assert_eq!(reader.try_newest(&mut value), Ok(Some((n, 8))));
                assert_eq!(value, n.to_le_bytes());
                assert!(!reader.has_newer());
            }
            memory.store64(at, n + 1, OWN);
        }
        // The next value is being written: the newest still is, and where there is another
        // slot it is still there.
        memory.store64(reader.ring.slot(10), 21, OWN);
        let expected = if slots == 1 { Err(ReadNewestError::Busy) } else { Ok(Some((9, 8))) };
        assert_eq!(reader.try_newest(&mut value), expected);
        assert!(!reader.has_newer());
    }
}

#[test]
fn what_no_honest_writer_leaves_is_an_error_or_bounded() {
    let (memory, at, geometry) = ring(2, 8);
    let start = |start| BroadcastReader::new(memory, at, geometry, start);
    let mut reader = start(Start::Next);
    let slot = reader.ring.slot(0);
    memory.store64(slot, 2, OWN);
    memory.store64(slot.plus(LENGTH), u64::MAX, OWN);
    assert_eq!(reader.next(&mut [0; 8]), Err(BadSlot { sequence: 2, len: u64::MAX }));
    memory.store64(slot.plus(LENGTH), 9, OWN);
    assert_eq!(reader.next(&mut [0; 64]), Err(BadSlot { sequence: 2, len: 9 }));
    memory.store64(slot, 4, OWN);
    assert!(reader.next(&mut [0; 8]).is_err());
    for published in [0, 1, u64::MAX / 2, u64::MAX] {
        memory.store64(at, published, OWN);
        for sequence in [0, 1, 2, 3, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            memory.store64(slot, sequence, OWN);
            for from in [Start::Next, Start::Newest, Start::Oldest] {
                let mut reader = start(from);
                let _ = (reader.next(&mut [0; 8]), reader.newest(&mut [0; 8]), reader.is_ready());
            }
        }
    }
}

#[test]
fn impossible_sizes_are_refused() {
    for slots in [0, 3, MAX_SLOTS * 2, u64::MAX] {
        assert_eq!(BroadcastGeometry::new(slots, 8), Err(GeometryError::Slots(slots)));
    }
    let max = MAX_PAYLOAD + 1;
    assert_eq!(BroadcastGeometry::new(1, max), Err(GeometryError::Payload(max)));
    assert!(BroadcastGeometry::new(MAX_SLOTS, MAX_PAYLOAD).is_ok());
}

#[test]
fn an_alarm_is_seen_once_and_not_set_in_vain() {
    let (memory, at, geometry) = ring(2, 8);
    let mut writer = BroadcastWriter::new(memory, at, geometry);
    let reader = BroadcastReader::new(memory, at, geometry, Start::Next);
    let alarm = Alarm::new(memory, at, geometry);
    let seen = reader.bell_seen();
    assert!(!writer.is_awaited());
    assert!(!alarm.set(0));
    writer.publish(&[1]).unwrap();
    assert!(writer.is_awaited());
    alarm.ring();
    assert!(!writer.is_awaited());
    assert_ne!(reader.bell_seen(), seen);
    assert!(alarm.set(0));
    assert!(!alarm.set(1));
}
