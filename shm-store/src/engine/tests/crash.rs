//! Losses of power at every operation on the disk, while streams are written and checkpoints
//! run: what was acknowledged is there, once, in order, and nothing that was never sent.

use std::sync::{Mutex, atomic::AtomicUsize};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    model::{Model, answer, dump},
    random::{NAMES, seed},
    *,
};
use crate::{
    Durability,
    fs::{File, Survives},
};

const STORE: &str = "/store";

/// A disk that loses its power, in a copy, at every operation, and has the copy checked.
#[derive(Clone)]
struct Perilous {
    disk: SimulatedFs,
    story: Arc<Story>,
}

/// What was done to a store.
struct Story {
    options: Options,
    /// What can be seen after each write; the first, of the empty store.
    states: Mutex<Vec<String>>,
    /// How many writes were acknowledged, and the last number that one had.
    acknowledged: AtomicUsize,
    last: AtomicU64,
    /// How many of the operations are looked at: one of so many.
    every: u64,
    points: AtomicU64,
    bad: Mutex<Vec<String>>,
}

impl Perilous {
    /// Before an operation.
    fn peril(&self) {
        let operation = self.disk.operations();
        if !operation.is_multiple_of(self.story.every) {
            return;
        }
        let pending = self.disk.pending();
        let mut kinds = vec![Survives::Nothing, Survives::Some(operation)];
        if pending > 0 {
            let one = (operation as usize * 7919) % pending;
            kinds.extend([Survives::Everything, Survives::Only(one), Survives::AllBut(one)]);
        }
        for survives in kinds {
            // Everything that was acknowledged before must be there.
            let least = self.story.acknowledged.load(Ordering::SeqCst);
            let last = self.story.last.load(Ordering::SeqCst);
            let crashed = self.disk.crash(survives);
            self.story.points.fetch_add(1, Ordering::Relaxed);
            let story = self.story.clone();
            let check = std::panic::AssertUnwindSafe(|| story.check(crashed, least, last));
            let result = std::panic::catch_unwind(check);
            let problem = match result {
                Ok(Ok(())) => continue,
                Ok(Err(problem)) => problem,
                Err(panic) => format!(
                    "panic: {:?}",
                    panic
                        .downcast_ref::<String>()
                        .map(String::as_str)
                        .or(panic.downcast_ref::<&str>().copied())
                ),
            };
            let problem = format!("operation {operation}, {survives:?}: {problem}");
            self.story.bad.lock().expect("no panic").push(problem);
        }
    }
}

impl Story {
    /// Recovers a store, writes to it, and opens it again.
    fn check(&self, crashed: SimulatedFs, least: usize, last: u64) -> Result<(), String> {
        let on = |fs: &SimulatedFs| {
            Bench::on(Arc::new(fs.clone()), Path::new(STORE), self.options.clone())
        };
        let mut bench = on(&crashed).map_err(|error| format!("not opened: {error:?}"))?;
        let seen = dump(&bench.engine().view(), &NAMES);
        let states = self.states.lock().expect("no panic").clone();
        if !states[least..].contains(&seen) {
            let expected = &states[least];
            return Err(format!("{least} were acknowledged:\n{expected}but there is\n{seen}"));
        }
        let problems = bench.verify();
        if !problems.is_empty() {
            return Err(format!("{problems:?}"));
        }
        bench.create("later");
        let written = bench.append("later", &["x", "y"]).expect("appended");
        if written.lsn.number() <= last + 1 {
            return Err(format!("{last} was acknowledged, and then came {}", written.lsn.number()));
        }
        bench.engine().checkpoint().expect("a checkpoint");
        bench.append("later", &["z"]).expect("appended");
        bench.engine().flush();
        drop(bench);
        // Again without power: all of this was acknowledged.
        let mut bench = on(&crashed.crash(Survives::Nothing))
            .map_err(|error| format!("not opened again: {error:?}"))?;
        if bench.all("later") != ["x", "y", "z"] {
            return Err("what was appended after recovery is not there".into());
        }
        bench.delete("later").expect("deleted");
        let again = dump(&bench.engine().view(), &NAMES);
        if again == seen { Ok(()) } else { Err(format!("first\n{seen}then\n{again}")) }
    }
}

#[test]
fn a_loss_of_power_at_any_operation_loses_nothing_that_was_acknowledged() {
    let rounds = amount("SHM_TEST_STORE_CRASHES", 2);
    let every = if rounds > 2 { 1 } else { 4 };
    let mut points = 0;
    for round in 0..rounds {
        let options = Options {
            shards: 2,
            segment_bytes: 64 << 10,
            memory_bytes: 6 << 10,
            cache_bytes: 1 << 20,
            durability: [Durability::Durable, Durability::Relaxed][round as usize % 2],
            ..Options::default()
        };
        let story = Arc::new(Story {
            options: options.clone(),
            states: Mutex::new(vec![Model { now: 1_000_000, ..Model::default() }.dump()]),
            acknowledged: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            every,
            points: AtomicU64::new(0),
            bad: Mutex::default(),
        });
        let disk = SimulatedFs::default();
        disk.record();
        let fs = Arc::new(Perilous { disk, story: story.clone() });
        write_much(fs, options, &story, round);
        let bad = story.bad.lock().expect("no panic");
        points += story.points.load(Ordering::Relaxed);
        println!("round {round}: {points} crash points, {} bad", bad.len());
        assert!(bad.is_empty(), "{} bad, the first: {}", bad.len(), bad[0]);
    }
    assert!(points > 100, "too few places were reached");
}

/// Always the same for a number.
pub(super) fn random(number: u64) -> TestRunner {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), rng)
}

/// Random writes in batches, with checkpoints on the way and opening again. What a `Relaxed`
/// store acknowledged counts from its next sync on.
fn write_much(fs: Arc<dyn FileSystem>, options: Options, story: &Story, round: u64) {
    let mut random = random(round);
    let mut model = Model { now: 1_000_000, ..Model::default() };
    let relaxed = options.durability == Durability::Relaxed;
    let mut bench = Bench::on(fs, Path::new(STORE), options).expect("a new store");
    let (mut count, mut last) = (0, 0);
    for step in 0..40 {
        if step == 25 {
            bench.reopen();
        }
        let (mut batch, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..1 + step % 4 {
            let seed = seed().new_tree(&mut random).expect("a seed").current();
            let write = seed.write(&model);
            expected.push(model.write(&write));
            story.states.lock().expect("no panic").push(model.dump());
            batch.push(write);
        }
        count += batch.len();
        let results = bench.engine().commit(batch);
        assert_eq!(results.iter().map(answer).collect::<Vec<_>>(), expected);
        last = results.iter().flatten().map(|written| written.lsn.number()).fold(last, u64::max);
        if relaxed && step % 7 == 6 {
            bench.engine().flush();
        }
        if bench.engine().flush_due().is_none() {
            story.last.store(last, Ordering::SeqCst);
            story.acknowledged.store(count, Ordering::SeqCst);
        }
    }
    assert!(bench.engine().view().stat().applied.number() > 0, "no checkpoint was reached");
}

impl std::fmt::Debug for Perilous {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Perilous")
    }
}

impl FileSystem for Perilous {
    fn open(&self, path: &Path, create: bool) -> std::io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, create)?;
        Ok(Arc::new(PerilousFile { fs: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.peril();
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.peril();
        self.disk.remove(path)
    }

    fn list(&self, directory: &Path) -> std::io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn create_dir_all(&self, directory: &Path) -> std::io::Result<()> {
        self.disk.create_dir_all(directory)
    }

    fn sync_dir(&self, directory: &Path) -> std::io::Result<()> {
        self.peril();
        self.disk.sync_dir(directory)
    }
}

#[derive(Debug)]
struct PerilousFile {
    fs: Perilous,
    file: Arc<dyn File>,
}

impl File for PerilousFile {
    fn read_at(&self, at: u64, to: &mut [u8]) -> std::io::Result<usize> {
        self.file.read_at(at, to)
    }

    fn write_all_at(&self, at: u64, from: &[u8]) -> std::io::Result<()> {
        self.fs.peril();
        self.file.write_all_at(at, from)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.fs.peril();
        self.file.sync_data()
    }

    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.fs.peril();
        self.file.set_len(len)
    }
}
