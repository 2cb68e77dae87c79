//! A long random story of writes, always the same for a number, and what may be seen of a store
//! that did not come to its end.

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    model::{Answer, Model, answer, dump},
    random::{NAMES, seed},
    *,
};

/// Batches of writes, with opening again on the way.
pub(super) struct Script {
    steps: Vec<(Vec<Write>, Vec<Answer>)>,
    /// What can be seen after each write; the first, of the empty store.
    pub(super) states: Vec<String>,
}

/// How far a script has come.
pub(super) enum Note {
    /// So many writes were begun.
    Sent { writes: usize },
    /// So many were acknowledged, and the last number of one; whether all of them are synced.
    Acknowledged { writes: usize, last: u64, synced: bool },
}

/// Always the same for a number.
pub(super) fn random(number: u64) -> TestRunner {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), rng)
}

/// One of many.
pub(super) fn draw<S: Strategy>(random: &mut TestRunner, strategy: S) -> S::Value {
    strategy.new_tree(random).expect("a value").current()
}

impl Script {
    pub(super) fn new(number: u64) -> Self {
        let mut random = random(number);
        let mut model = Model { now: 1_000_000, ..Model::default() };
        let mut states = vec![model.dump()];
        let steps = (0..40).map(|step| {
            let one = |_| {
                let write = draw(&mut random, seed()).write(&model);
                let answer = model.write(&write);
                states.push(model.dump());
                (write, answer)
            };
            (0..1 + step % 4).map(one).unzip()
        });
        Self { steps: steps.collect(), states }
    }

    /// Does all of it on a new store, with checkpoints on the way if its memory is small.
    pub(super) fn run(
        &self,
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        options: Options,
        mut note: impl FnMut(Note),
    ) {
        let mut bench = Bench::on(fs, dir, options).expect("a new store");
        let (mut writes, mut last) = (0, 0);
        for (step, (batch, expected)) in self.steps.iter().enumerate() {
            if step == 25 {
                bench.reopen();
            }
            writes += batch.len();
            note(Note::Sent { writes });
            let results = bench.commit(batch.clone());
            assert_eq!(&results.iter().map(answer).collect::<Vec<_>>(), expected);
            let numbers = results.iter().flatten().map(|written| written.lsn.number());
            last = numbers.fold(last, u64::max);
            if step % 7 == 6 {
                bench.engine().flush();
            }
            let synced = bench.engine().flush_due().is_none();
            note(Note::Acknowledged { writes, last, synced });
        }
        assert!(bench.engine().view().stat().applied.number() > 0, "no checkpoint was reached");
    }
}

/// Recovers a store, which must be in one of some states and go on above the number `last`,
/// writes to it, and opens it again: `open` is told whether it is for the second time.
pub(super) fn check(
    states: &[String],
    last: u64,
    mut open: impl FnMut(bool) -> Result<Bench, OpenError>,
) -> Result<(), String> {
    let mut bench = open(false).map_err(|error| format!("not opened: {error:?}"))?;
    let seen = dump(&bench.engine().view(), &NAMES);
    if !states.contains(&seen) {
        return Err(format!("this was acknowledged:\n{}but there is\n{seen}", states[0]));
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
    let mut bench = open(true).map_err(|error| format!("not opened again: {error:?}"))?;
    if bench.all("later") != ["x", "y", "z"] {
        return Err("what was appended after recovery is not there".into());
    }
    bench.delete("later").expect("deleted");
    let again = dump(&bench.engine().view(), &NAMES);
    if again == seen { Ok(()) } else { Err(format!("first\n{seen}then\n{again}")) }
}
