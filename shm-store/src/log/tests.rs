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

#[test]
fn a_tail_cut_at_any_byte_keeps_the_whole_records_before() {
    let (fs, ends) = synced(7);
    let whole = bytes(&*segment(&fs, 2));
    for cut in HEADER..=ends[6] {
        let fs = fs.crash(Survives::Nothing);
        segment(&fs, 2).set_len(cut).unwrap();
        let (mut log, records) = open(&fs).unwrap();
        let kept = ends.iter().filter(|&&end| end <= cut).count();
        assert_eq!(payloads(&records), (0..kept).map(payload).collect::<Vec<_>>(), "cut at {cut}");
        log.append(&[payload(99)]).unwrap();
        log.sync().unwrap();
        let (_, again) = open(&fs).unwrap();
        assert_eq!(again.len(), kept + 1);
    }
    assert!(whole.len() as u64 > ends[6]);
}

#[test]
fn a_tail_of_zeros_is_cut_where_nothing_says_that_it_was_synced() {
    let fs = SimulatedFs::default();
    let (mut log, _) = open(&fs).unwrap();
    // One group and one sync: each of its records may be missing after a loss of power.
    log.append(&(0..10).map(payload).collect::<Vec<_>>()).unwrap();
    fs.record();
    for from in HEADER..log.at - record::ALIGN {
        let fs = fs.crash(Survives::Nothing);
        let file = segment(&fs, 2);
        file.write_all_at(from, &vec![0; (log.at - from) as usize]).unwrap();
        let (_, records) = open(&fs).unwrap();
        assert!(records.len() < 10);
        assert_eq!(payloads(&records), (0..records.len()).map(payload).collect::<Vec<_>>());
    }
}

#[test]
fn a_flipped_bit_before_the_tail_is_refused_with_its_position() {
    let (fs, ends) = synced(7);
    let mut begin = HEADER;
    for &end in &ends[..6] {
        for at in begin..end {
            let fs = fs.crash(Survives::Nothing);
            let file = segment(&fs, 2);
            let mut byte = [0];
            file.read_at(at, &mut byte).unwrap();
            file.write_all_at(at, &[byte[0] ^ 1 << (at % 8)]).unwrap();
            match open(&fs) {
                Err(error) => {
                    let damage = damage(error);
                    assert_eq!(
                        (damage.file.as_str(), damage.position),
                        ("log/0000000000000002.log", begin)
                    );
                }
                // Between a payload and the next record.
                Ok((_, records)) => {
                    assert!(end - at < record::ALIGN);
                    assert_eq!(payloads(&records), (0..7).map(payload).collect::<Vec<_>>());
                }
            }
        }
        begin = end;
    }
}

#[test]
fn a_flipped_bit_in_a_header_of_a_segment_is_refused() {
    let (fs, _) = synced(2);
    for at in 0..HEADER {
        let fs = fs.crash(Survives::Nothing);
        let file = segment(&fs, 2);
        let mut byte = [0];
        file.read_at(at, &mut byte).unwrap();
        file.write_all_at(at, &[byte[0] ^ 1 << (at % 8)]).unwrap();
        assert_eq!(damage(open(&fs).unwrap_err()).position, 0, "byte {at}");
    }
}

#[test]
fn records_of_a_segments_earlier_use_are_never_replayed() {
    let fs = SimulatedFs::default();
    let (mut log, _) = open(&fs).unwrap();
    let mut reused = 0;
    for round in 0..40 {
        let range = log.append(&vec![vec![round; 900]; 30]).unwrap();
        log.sync().unwrap();
        log.recycle(Lsn(range.start().0 - 1));
        reused += usize::from(log.current.number > 4 && log.at > HEADER);
        let (_, records) = open_above(&fs.clone_disk(), Lsn(range.start().0 - 1)).unwrap();
        assert_eq!(payloads(&records), vec![vec![round; 900]; 30]);
    }
    assert!(reused > 10);
    let bytes = log.older.iter().map(|segment| segment.len).sum::<u64>() + log.current.len;
    assert!(bytes <= 3 * OPTIONS.segment_bytes);
}

#[test]
fn a_missing_segment_is_refused() {
    let fs = SimulatedFs::default();
    let (mut log, _) = open(&fs).unwrap();
    while log.older.len() < 3 {
        log.append(&[vec![7; 9000]]).unwrap();
        log.sync().unwrap();
    }
    let numbers: Vec<_> = log.older.iter().map(|segment| segment.number).collect();
    for number in numbers {
        let fs = fs.clone_disk();
        fs.remove(&segment::Name::Log(number).path(&directory().join("log"))).unwrap();
        damage(open(&fs).unwrap_err());
    }
    damage(open_above(&SimulatedFs::default(), Lsn(1)).unwrap_err());
}

/// Appends until something fails. The groups that were acknowledged, and the one that was
/// not, if it may be there.
fn work(fs: &SimulatedFs) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut acknowledged = Vec::new();
    let Ok((mut log, records)) = open(fs) else { return (acknowledged, Vec::new()) };
    acknowledged.extend(payloads(&records));
    for number in 0..18 {
        let mut group: Vec<_> = (0..3).map(|more| payload(3 * number + more)).collect();
        group.push(vec![number as u8; 5000]);
        if log.append(&group).is_err() || log.sync().is_err() {
            return (acknowledged, group);
        }
        acknowledged.extend(group);
    }
    (acknowledged, Vec::new())
}

#[test]
fn after_a_loss_of_power_at_any_operation_what_was_acknowledged_is_there_once() {
    let count = {
        let fs = SimulatedFs::default();
        work(&fs);
        fs.operations()
    };
    let mut points = 0;
    for operation in 0..=count {
        let fs = SimulatedFs::default();
        fs.record();
        fs.fail(operation, Fault::Stop);
        let (acknowledged, maybe) = work(&fs);
        let pending = fs.pending();
        let some = pending.min(6);
        let survives = [Survives::Nothing, Survives::Everything]
            .into_iter()
            .chain((0..some).map(Survives::Only))
            .chain((0..some).map(|back| Survives::AllBut(pending - 1 - back)))
            .chain((0..32).map(|seed| Survives::Some(seed + 100 * operation)));
        for survives in survives {
            let at = format!("operation {operation}, {survives:?}");
            let fs = fs.crash(survives);
            let (mut log, records) = open(&fs).unwrap_or_else(|error| panic!("{at}: {error}"));
            let found = payloads(&records);
            let extra = found.len().checked_sub(acknowledged.len()).expect("nothing is lost");
            assert_eq!(found[..acknowledged.len()], acknowledged, "{at}");
            assert_eq!(found[acknowledged.len()..], maybe[..extra], "{at}");
            let range = log.append(&[payload(77)]).unwrap();
            assert!(records.last().is_none_or(|(lsn, _)| lsn < range.start()), "{at}");
            log.sync().unwrap();
            // Another loss of power takes nothing of that.
            let (_, again) = open(&fs.crash(Survives::Nothing)).unwrap();
            assert_eq!(again.len(), found.len() + 1, "{at}");
            points += 1;
        }
    }
    println!("{points} crash points of the log, 0 bad");
    assert!(points >= 2000);
}

#[test]
fn a_failure_once_at_any_operation_loses_nothing_that_was_acknowledged() {
    let count = {
        let fs = SimulatedFs::default();
        work(&fs);
        fs.operations()
    };
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        for operation in 0..count {
            let fs = SimulatedFs::default();
            fs.record();
            fs.fail(operation, Fault::Once(kind));
            let (acknowledged, maybe) = work(&fs);
            for survives in [Survives::Nothing, Survives::Everything, Survives::Some(operation)] {
                let at = format!("{kind} at {operation}, {survives:?}");
                let (_, records) = open(&fs.crash(survives)).unwrap();
                let found = payloads(&records);
                assert!(found.starts_with(&acknowledged), "{at}");
                assert_eq!(found[acknowledged.len()..], maybe[..found.len() - acknowledged.len()]);
            }
        }
    }
}

#[test]
fn a_sync_that_fails_poisons_for_good() {
    let fs = SimulatedFs::default();
    let (mut log, _) = open(&fs).unwrap();
    log.append(&[payload(1)]).unwrap();
    fs.fail(fs.operations(), Fault::Once(io::ErrorKind::Other));
    log.sync().unwrap_err();
    for _ in 0..3 {
        log.sync().unwrap_err();
        assert!(matches!(log.append(&[payload(2)]), Err(AppendError::Poisoned)));
    }
}

#[test]
fn a_write_that_fails_half_way_is_taken_back_and_the_log_goes_on() {
    let fs = SimulatedFs::default();
    fs.record();
    let (mut log, _) = open(&fs).unwrap();
    log.append(&[payload(0)]).unwrap();
    fs.fail(fs.operations(), Fault::Once(io::ErrorKind::StorageFull));
    let group: Vec<_> = (1..4).map(payload).collect();
    assert!(log.at + 3 * 1000 < log.filled, "it is the group that is written, not more zeros");
    assert!(matches!(log.append(&group), Err(AppendError::NoSpace)));
    let (_, records) = open(&fs.crash(Survives::Everything)).unwrap();
    assert_eq!(payloads(&records), [payload(0)]);
    log.append(&[payload(9)]).unwrap();
    log.sync().unwrap();
    let (_, records) = open(&fs.crash(Survives::Nothing)).unwrap();
    assert_eq!(payloads(&records), [payload(0), payload(9)]);
}

#[test]
fn a_full_disk_keeps_no_part_and_appends_resume_when_there_is_room() {
    let fs = SimulatedFs::default();
    let (mut log, _) = open(&fs).unwrap();
    fs.limit(Some(OPTIONS.segment_bytes + 1000));
    let mut appended = 0;
    let full = loop {
        match log.append(&[vec![1; 9000]]) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, AppendError::NoSpace));
    assert!(matches!(log.append(&[vec![2; 9000]]), Err(AppendError::NoSpace)));
    fs.limit(None);
    log.append(&[vec![3; 9000]]).unwrap();
    log.sync().unwrap();
    let (_, records) = open(&fs).unwrap();
    assert_eq!(records.len(), appended + 1);
    assert_eq!(records.last().unwrap().1, vec![3; 9000]);
}
