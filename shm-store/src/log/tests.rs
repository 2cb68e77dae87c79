use std::path::PathBuf;

use super::*;
use crate::{
    Damage,
    fs::{Fault, SimulatedFs, Survives},
};

const IDENTITY: u128 = 0x5eed;
const OPTIONS: LogOptions = LogOptions { segment_bytes: 64 << 10, max_record_bytes: 1 << 20 };

fn directory() -> PathBuf {
    "/store".into()
}

type Records = Vec<(Lsn, Vec<u8>)>;

fn open_above(fs: &SimulatedFs, applied: Lsn) -> Result<(Log, Records), OpenError> {
    let mut records = Vec::new();
    let log = Log::open(
        Arc::new(fs.clone()),
        &directory(),
        &OPTIONS,
        IDENTITY,
        applied,
        &mut |lsn, payload| {
            records.push((lsn, payload.to_vec()));
            Ok(())
        },
    )?;
    Ok((log, records))
}

fn open(fs: &SimulatedFs) -> Result<(Log, Records), OpenError> {
    open_above(fs, Lsn(0))
}

/// Payloads that differ, of lengths that do not fill sectors.
fn payload(number: usize) -> Vec<u8> {
    let len = [1, 40, 700, 0, 3000][number % 5];
    let mut payload = format!("record {number}: ").into_bytes();
    payload.resize(payload.len() + len, number as u8 | 1);
    payload
}

fn damage(error: OpenError) -> Damage {
    match error {
        OpenError::Damaged(damage) => damage,
        other => panic!("not damaged: {other}"),
    }
}

/// The only segment that has records, and its bytes.
fn segment(fs: &SimulatedFs, number: u64) -> Arc<dyn File> {
    fs.open(&segment::Name::Log(number).path(&directory().join("log")), false).unwrap()
}

fn bytes(file: &dyn File) -> Vec<u8> {
    crate::fs::read_all(file, u64::MAX).unwrap().unwrap()
}

/// A log of groups of one record, each synced, and where each record ends.
fn synced(records: usize) -> (SimulatedFs, Vec<u64>) {
    let fs = SimulatedFs::default();
    fs.record();
    let (mut log, _) = open(&fs).unwrap();
    let ends = (0..records)
        .map(|number| {
            log.append(&[payload(number)]).unwrap();
            log.sync().unwrap();
            log.at
        })
        .collect();
    (fs, ends)
}

fn payloads(records: &Records) -> Vec<Vec<u8>> {
    records.iter().map(|(_, payload)| payload.clone()).collect()
}

#[test]
fn what_was_appended_is_replayed_once_in_order_with_growing_lsns() {
    let fs = SimulatedFs::default();
    let mut expected = Vec::new();
    let mut lsns = Vec::new();
    for _ in 0..5 {
        let (mut log, records) = open(&fs).unwrap();
        assert_eq!(payloads(&records), expected);
        let found: Vec<_> = records.iter().map(|&(lsn, _)| lsn).collect();
        assert_eq!(found, lsns);
        for _ in 0..60 {
            let group: Vec<_> = (0..3).map(|more| payload(expected.len() + more)).collect();
            let range = log.append(&group).unwrap();
            assert!(lsns.last() < Some(range.start()));
            lsns.extend((range.start().0..=range.end().0).map(Lsn));
            assert_eq!(log.sync().unwrap(), *range.end());
            expected.extend(group);
        }
        assert!(log.older.len() > 1, "records went to several segments");
    }
    let (_, rest) = open_above(&fs, lsns[100]).unwrap();
    assert_eq!(payloads(&rest), expected[101..]);
}
