//! Weakens every ordering of shm-primitives to relaxed (a fence to nothing), one at a
//! time, and requires that a model fails for each.
//!
//! `weaken` runs itself once for each ordering and model, until one catches the
//! ordering: those that are about it come first. A model counts only if it passes with
//! nothing weakened. `weaken --model NAME` runs one model in this process.

use std::{
    collections::BTreeMap,
    env, io,
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use loom_tests::{
    memory::WEAKEN,
    models::{self, Model},
};
use shm_primitives::{Order, order};

/// Orderings that may survive, each with the reason. None does.
const ALLOWED: &[(&str, &str)] = &[];

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (None, _) => check_all(),
        (Some("--model"), Some(name)) => run_model(&name),
        _ => {
            eprintln!("usage: weaken [--model NAME]");
            ExitCode::from(2)
        }
    }
}

fn run_model(name: &str) -> ExitCode {
    let Some(model) = models::ALL.iter().find(|model| model.name == name) else {
        eprintln!("no model {name}; there are:");
        for model in models::ALL {
            eprintln!("  {}", model.name);
        }
        return ExitCode::from(2);
    };
    (model.check)();
    ExitCode::SUCCESS
}

/// Whether a model passes with the ordering of this name weakened; if not, what it said.
fn passes(model: &Model, weakened: &str) -> io::Result<Result<(), String>> {
    let output = Command::new(env::current_exe()?)
        .args(["--model", model.name])
        .env(WEAKEN, weakened)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let said = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // The line after "thread … panicked at …" is the message.
    let message = said.skip_while(|line| !line.contains("panicked at")).nth(1);
    Ok(Err(message.map_or_else(|| output.status.to_string(), str::to_owned)))
}

struct Verdict {
    order: Order,
    caught: Option<(&'static Model, String)>,
    models: usize,
    took: Duration,
}

fn judge(order: Order) -> io::Result<Verdict> {
    let start = Instant::now();
    let (about, others): (Vec<_>, Vec<_>) =
        models::ALL.iter().partition(|model| model.about.contains(&order.name()));
    let mut caught = None;
    let mut models = 0;
    for model in about.into_iter().chain(others) {
        models += 1;
        if let Err(message) = passes(model, order.name())? {
            caught = Some((model, message));
            break;
        }
    }
    Ok(Verdict { order, caught, models, took: start.elapsed() })
}

/// Does `work` for each item, on all processors, and keeps the order.
fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    let result = work(item);
                    done.lock().expect("no worker panics").insert(index, result);
                }
            });
        }
    });
    done.into_inner().expect("no worker panics").into_values().collect()
}

fn check_all() -> ExitCode {
    let start = Instant::now();
    let orders: Vec<_> =
        order::ALL.iter().copied().filter(|order| order.ordering() != Ordering::Relaxed).collect();
    let verdicts: io::Result<Vec<_>> = each(&orders, |order| judge(*order)).into_iter().collect();
    let verdicts = match verdicts {
        Ok(verdicts) => verdicts,
        Err(error) => {
            eprintln!("cannot run a model: {error}");
            return ExitCode::FAILURE;
        }
    };

    let mut survivors = 0;
    println!("{:16} {:32} {:>6} {:>6}  what it said", "weakened", "caught by", "models", "s");
    for Verdict { order, caught, models, took } in &verdicts {
        let allowed = ALLOWED.iter().find(|(name, _)| *name == order.name());
        let (by, said) = match (caught, allowed) {
            (Some((model, message)), _) => (model.name, message.as_str()),
            (None, Some((_, reason))) => ("nothing, allowed", *reason),
            (None, None) => {
                survivors += 1;
                ("NOTHING", "")
            }
        };
        println!("{:16} {by:32} {models:>6} {:>6.1}  {said}", order.name(), took.as_secs_f64());
    }

    // What fails anyway catches nothing.
    let mut catchers: Vec<_> =
        verdicts.iter().filter_map(|verdict| Some(verdict.caught.as_ref()?.0)).collect();
    catchers.sort_by_key(|model| model.name);
    catchers.dedup_by_key(|model| model.name);
    let failing: Vec<_> = each(&catchers, |model| (model.name, passes(model, "")))
        .into_iter()
        .filter(|(_, passed)| !matches!(passed, Ok(Ok(()))))
        .collect();
    for (name, how) in &failing {
        println!("{name} fails with nothing weakened: {how:?}");
    }

    println!(
        "{} weakened, {} caught, {survivors} survived without a reason; {:.0} s",
        verdicts.len(),
        verdicts.iter().filter(|verdict| verdict.caught.is_some()).count(),
        start.elapsed().as_secs_f64()
    );
    if survivors == 0 && failing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
