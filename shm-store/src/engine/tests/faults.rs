//! Disks that fail, or are full: nobody is told what is not so, and reads go on.

use std::{io::ErrorKind, thread};

use super::{
    model::{Model, answer, dump},
    random::{NAMES, seed},
    script::{draw, random},
    *,
};
use crate::{
    Durability,
    fs::{Fault, Survives},
};

fn on(fs: &SimulatedFs, options: Options) -> Bench {
    Bench::on(Arc::new(fs.clone()), Path::new("/store"), options).expect("opened")
}

/// A store with a stream "a" that has "x".
fn simple(options: Options) -> (SimulatedFs, Bench) {
    let fs = SimulatedFs::default();
    fs.record();
    let mut bench = on(&fs, options);
    bench.create("a");
    bench.append("a", &["x"]).expect("appended");
    (fs, bench)
}

#[test]
fn after_a_failed_sync_every_waiter_is_told_and_nothing_is_acknowledged_any_more() {
    let (fs, mut bench) = simple(Options { memory_bytes: 1 << 20, ..small() });
    // First the write, then the sync.
    fs.fail(fs.operations() + 1, Fault::Once(ErrorKind::Other));
    let batch = vec![append("a", &["y"]), append("a", &["z"]), append("none", &["z"])];
    for result in bench.commit(batch) {
        assert!(matches!(result, Err(WriteError::Indeterminate)), "{result:?}");
    }
    for _ in 0..3 {
        let result = bench.append("a", &["later"]);
        assert!(matches!(result, Err(WriteError::Poisoned)), "{result:?}");
        assert_eq!(bench.all("a"), ["x"]);
    }
    assert!(matches!(bench.engine().checkpoint(), Err(WriteError::Poisoned)));
    drop(bench);
    let mut bench = on(&fs.crash(Survives::Nothing), Options { memory_bytes: 1 << 20, ..small() });
    assert_eq!(bench.all("a"), ["x"]);
    bench.append("a", &["y"]).expect("appended");
}

#[test]
fn a_relaxed_store_acknowledges_what_is_written_and_syncs_it_soon() {
    let options = Options { durability: Durability::Relaxed, memory_bytes: 1 << 20, ..small() };
    let (fs, mut bench) = simple(options.clone());
    let view = bench.engine().view();
    assert!(view.durable() < view.stat().visible);
    assert_eq!(bench.all("a"), ["x"]);
    assert!(bench.engine().flush_due().is_some());
    bench.engine().flush();
    assert_eq!(view.durable(), view.stat().visible);
    assert!(bench.engine().flush_due().is_none());
    bench.append("a", &["y"]).expect("appended");
    assert_eq!(bench.all("a"), ["x", "y"]);
    // The end of the process loses nothing, a loss of power what was not synced.
    let mut other = on(&fs.crash(Survives::Nothing), options.clone());
    assert_eq!(other.all("a"), ["x"]);
    bench.reopen();
    assert_eq!(bench.all("a"), ["x", "y"]);
    // A checkpoint syncs first.
    bench.append("a", &["z"]).expect("appended");
    bench.engine().checkpoint().expect("a checkpoint");
    let mut other = on(&fs.crash(Survives::Nothing), options);
    assert_eq!(other.all("a"), ["x", "y", "z"]);
}

#[test]
fn with_a_full_disk_under_the_log_reads_go_on_and_appends_resume_when_there_is_room() {
    let options = Options { memory_bytes: 1 << 20, ..small() };
    let (fs, mut bench) = simple(options.clone());
    let text = "y".repeat(1000);
    for _ in 0..3 {
        // Nothing can grow, but what was preallocated is there.
        fs.limit(Some(0));
        let mut acknowledged = bench.all("a").len();
        loop {
            match bench.append("a", &[&text, &text]) {
                Ok(_) => acknowledged += 2,
                Err(WriteError::NoSpace) => break,
                Err(error) => panic!("{error:?}"),
            }
            assert!(acknowledged < 1000, "the disk is never full");
        }
        assert_eq!(bench.all("a").len(), acknowledged);
        // All of a group are told.
        let large = append("a", &[&text, &text]);
        let results = bench.commit(vec![large.clone(), large]);
        assert!(results.iter().all(|result| matches!(result, Err(WriteError::NoSpace))));
        let mut other = on(&fs.crash(Survives::Everything), options.clone());
        assert_eq!(other.all("a").len(), acknowledged);
        fs.limit(None);
        bench.append("a", &["room"]).expect("appended");
        assert_eq!(bench.all("a").len(), acknowledged + 1);
        bench.reopen();
        assert_eq!(bench.all("a").len(), acknowledged + 1);
    }
}

#[test]
fn with_a_full_disk_under_a_checkpoint_reads_go_on_and_appends_resume_when_there_is_room() {
    let options = Options { segment_bytes: 8 << 20, ..small() };
    let (fs, mut bench) = simple(options.clone());
    bench.engine().checkpoint().expect("a checkpoint");
    bench.create("b");
    let text = "y".repeat(1000);
    fs.limit(Some(0));
    let mut acknowledged = 1;
    loop {
        match bench.append("a", &[&text]) {
            Ok(_) => acknowledged += 1,
            Err(WriteError::NoSpace) => break,
            Err(error) => panic!("{error:?}"),
        }
        assert!(acknowledged < 7000, "the disk is never full");
    }
    assert_eq!(bench.all("a").len(), acknowledged);
    bench.delete("b").expect("what gives room back is allowed");
    fs.limit(None);
    let until = std::time::Instant::now() + Duration::from_secs(40);
    while let Err(error) = bench.append("a", &["room"]) {
        assert!(matches!(error, WriteError::NoSpace), "{error:?}");
        assert!(std::time::Instant::now() < until, "appends do not resume");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(bench.all("a").len(), acknowledged + 1);
    bench.engine().checkpoint().expect("a checkpoint");
    assert_eq!(bench.verify(), [""; 0]);
    drop(bench);
    let mut bench = on(&fs.crash(Survives::Nothing), options);
    assert_eq!(bench.all("a").len(), acknowledged + 1);
}

#[test]
fn a_failure_at_any_operation_loses_nothing_and_tells_nobody_what_is_not_so() {
    let most = amount("SHM_TEST_STORE_FAULTS", 60);
    let mut failures = 0;
    for fault in [Fault::Once(ErrorKind::Other), Fault::Once(ErrorKind::StorageFull), Fault::Stop] {
        let operations = scenario(None);
        let step = (3 * operations / most).max(1);
        for operation in (0..operations).step_by(step as usize) {
            scenario(Some((operation, fault)));
            failures += 1;
        }
    }
    println!("{failures} failures, 0 bad");
}

/// Writes, with a failure at an operation. Says how many operations there are.
fn scenario(fault: Option<(u64, Fault)>) -> u64 {
    let fs = SimulatedFs::default();
    fs.record();
    if let Some((operation, fault)) = fault {
        fs.fail(operation, fault);
    }
    let mut model = Model { now: 1_000_000, ..Model::default() };
    // What a recovery may find, besides.
    let mut perhaps = None;
    let path = Path::new("/store");
    if let Ok(mut bench) = Bench::on(Arc::new(fs.clone()), path, small()) {
        let mut random = random(1);
        for _ in 0..40 {
            let seed = draw(&mut random, seed());
            let write = seed.write(&model);
            let mut after = model.clone();
            let expected = after.write(&write);
            match bench.write(write) {
                Err(WriteError::Indeterminate) => perhaps = perhaps.or(Some(after.dump())),
                Err(WriteError::NoSpace | WriteError::Io(_) | WriteError::Poisoned) => {}
                result => {
                    assert!(perhaps.is_none(), "acknowledged after a failed sync: {result:?}");
                    assert_eq!(answer(&result), expected, "{fault:?}");
                    model = after;
                }
            }
            // A machine that has stopped reads nothing.
            if !matches!(fault, Some((_, Fault::Stop))) {
                assert_eq!(dump(&bench.engine().view(), &NAMES), model.dump(), "{fault:?}");
            }
        }
    }
    let operations = fs.operations();
    for survives in [Survives::Nothing, Survives::Everything] {
        let mut bench = on(&fs.crash(survives), small());
        let seen = dump(&bench.engine().view(), &NAMES);
        assert!(
            seen == model.dump() || Some(&seen) == perhaps.as_ref(),
            "{fault:?}, {survives:?}: {seen}instead of\n{}",
            model.dump()
        );
        assert_eq!(bench.verify(), [""; 0]);
        bench.create("later");
    }
    operations
}

#[test]
fn damage_in_the_log_of_an_open_store_is_found() {
    let mut bench = Bench::new(Options::default());
    bench.create("s");
    for text in ["one", "two", "three"] {
        bench.append("s", &[text]).expect("appended");
    }
    assert_eq!(bench.verify(), [""; 0]);
    let log = bench.dir.join("log");
    let name = bench.fs.list(&log).expect("names").into_iter().find(|name| name.ends_with(".log"));
    let file = bench.fs.open(&log.join(name.expect("a segment")), false).expect("a file");
    let mut bytes = vec![0; 8192];
    let read = file.read_at(0, &mut bytes).expect("read");
    let two = bytes[..read].windows(3).position(|part| part == b"two").expect("the entry");
    file.write_all_at(two as u64, b"tvo").expect("written");
    let problems = bench.verify();
    assert!(problems.len() == 1 && problems[0].contains(".log"), "{problems:?}");
}

#[test]
fn recovery_never_lets_the_shards_have_what_the_log_could_still_lose() {
    let options = Options { durability: Durability::Relaxed, memory_bytes: 1 << 20, ..small() };
    let text = "y".repeat(500);
    for stop in 0.. {
        let (fs, mut bench) = simple(options.clone());
        // Written and never synced: the process is killed, and the next one stops as well.
        for _ in 0..20 {
            bench.append("a", &[&text]).expect("appended");
        }
        drop(bench);
        fs.fail(fs.operations() + stop, Fault::Stop);
        let path = Path::new("/store");
        let small = Options { memory_bytes: 2 << 10, ..options.clone() };
        let recovered = Bench::on(Arc::new(fs.clone()), path, small.clone()).is_ok();
        let mut bench = on(&fs.crash(Survives::Nothing), small);
        if recovered {
            assert_eq!(bench.all("a").len(), 21);
            assert!(stop > 10, "nothing was checkpointed");
            break;
        }
    }
}
