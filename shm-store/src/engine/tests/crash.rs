//! Losses of power at every operation on the disk, while streams are written and checkpoints
//! run: what was acknowledged is there, once, in order, and nothing that was never sent.

use std::sync::{Mutex, atomic::AtomicUsize};

use super::{
    script::{Note, Script, check},
    *,
};
use crate::{Durability, fs::Survives};

const STORE: &str = "/store";

/// A disk that loses its power, in a copy, at every operation, and has the copy checked.
struct Perilous {
    disk: SimulatedFs,
    options: Options,
    script: Arc<Script>,
    /// How many writes were begun, how many of them were acknowledged and synced, and the last
    /// number that one of these had.
    sent: AtomicUsize,
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
        if !operation.is_multiple_of(self.every) {
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
            let least = self.acknowledged.load(Ordering::SeqCst);
            let sent = self.sent.load(Ordering::SeqCst);
            let last = self.last.load(Ordering::SeqCst);
            let crashed = self.disk.crash(survives);
            self.points.fetch_add(1, Ordering::Relaxed);
            let check = std::panic::AssertUnwindSafe(|| {
                check(&self.script.states[least..=sent], last, |again| {
                    // The second time without power once more.
                    let fs = if again { crashed.crash(Survives::Nothing) } else { crashed.clone() };
                    Bench::on(Arc::new(fs), Path::new(STORE), self.options.clone())
                })
            });
            let problem = match std::panic::catch_unwind(check) {
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
            self.bad.lock().expect("no panic").push(problem);
        }
    }

    /// What a `Relaxed` store acknowledged counts from its next sync on.
    fn note(&self, note: Note) {
        match note {
            Note::Sent { writes } => self.sent.store(writes, Ordering::SeqCst),
            Note::Acknowledged { synced: false, .. } => {}
            Note::Acknowledged { writes, last, synced: true } => {
                self.last.store(last, Ordering::SeqCst);
                self.acknowledged.store(writes, Ordering::SeqCst);
            }
        }
    }
}

#[test]
fn a_loss_of_power_at_any_operation_loses_nothing_that_was_acknowledged() {
    let rounds = amount("SHM_TEST_STORE_CRASHES", 2);
    let every = if rounds > 2 { 1 } else { 4 };
    let mut points = 0;
    for round in 0..rounds {
        let options = Options {
            durability: [Durability::Durable, Durability::Relaxed][round as usize % 2],
            ..small()
        };
        let disk = SimulatedFs::default();
        disk.record();
        let perilous = Arc::new(Perilous {
            disk: disk.clone(),
            options: options.clone(),
            script: Arc::new(Script::new(round)),
            sent: AtomicUsize::new(0),
            acknowledged: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            every,
            points: AtomicU64::new(0),
            bad: Mutex::default(),
        });
        let watching = Arc::clone(&perilous);
        let fs = Watched::new(disk, move |step| match step {
            Step::Read | Step::Create => {}
            _ => watching.peril(),
        });
        perilous.script.run(fs, Path::new(STORE), options, |note| perilous.note(note));
        let bad = perilous.bad.lock().expect("no panic");
        points += perilous.points.load(Ordering::Relaxed);
        println!("round {round}: {points} crash points, {} bad", bad.len());
        assert!(bad.is_empty(), "{} bad, the first: {}", bad.len(), bad[0]);
    }
    assert!(points > 100, "too few places were reached");
}
