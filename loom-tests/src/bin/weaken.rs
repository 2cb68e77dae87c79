//! Weakens every ordering of shm-primitives to relaxed (a fence to nothing), one at a
//! time, and requires that every model that is about it fails.
//!
//! `weaken` runs itself once for each ordering and model that is about it; where there is
//! none, for each model until one fails. A model counts only if it passes with nothing
//! weakened. `weaken --model NAME` runs one model in this process.

use std::{
    env, io,
    process::ExitCode,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use loom_tests::{
    memory::WEAKEN,
    models::{self, Model},
    mutants::{Outcome, each, run, run_model},
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

/// Whether a model passes with the ordering of this name weakened; if not, what it said.
fn passes(model: &Model, weakened: &str) -> io::Result<Result<(), String>> {
    Ok(match run("--model", model, &[(WEAKEN, weakened)], Duration::MAX)? {
        Outcome::Passed(_) => Ok(()),
        Outcome::Failed(message) => Err(message),
        Outcome::Late => Err("it did not end".to_owned()),
    })
}

struct Verdict {
    order: Order,
    caught: Vec<(&'static Model, String)>,
    /// Models that are about it and passed.
    missed: Vec<&'static Model>,
    took: Duration,
}

fn judge(order: Order) -> io::Result<Verdict> {
    let start = Instant::now();
    let (about, others): (Vec<_>, Vec<_>) =
        models::ALL.iter().partition(|model| model.about.contains(&order.name()));
    let (mut caught, mut missed) = (Vec::new(), Vec::new());
    for model in about {
        match passes(model, order.name())? {
            Ok(()) => missed.push(model),
            Err(message) => caught.push((model, message)),
        }
    }
    for model in others {
        if !caught.is_empty() || !missed.is_empty() {
            break;
        }
        if let Err(message) = passes(model, order.name())? {
            caught.push((model, message));
        }
    }
    Ok(Verdict { order, caught, missed, took: start.elapsed() })
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
    println!("{:16} {:32} {:>6}  what it said", "weakened", "caught by", "s");
    for Verdict { order, caught, missed, took } in &verdicts {
        let allowed = ALLOWED.iter().find(|(name, _)| *name == order.name());
        let mut rows: Vec<_> = caught
            .iter()
            .map(|(model, message)| (model.name.to_owned(), message.as_str()))
            .collect();
        match allowed {
            Some((_, reason)) if caught.is_empty() => {
                rows.push(("nothing, allowed".to_owned(), reason));
            }
            None if caught.is_empty() && missed.is_empty() => rows.push(("NOTHING".into(), "")),
            _ => rows.extend(missed.iter().map(|model| (format!("NOT BY {}", model.name), ""))),
        }
        survivors += usize::from(allowed.is_none() && (caught.is_empty() || !missed.is_empty()));
        for (by, said) in rows {
            println!("{:16} {by:32} {:>6.1}  {said}", order.name(), took.as_secs_f64());
        }
    }

    // What fails anyway catches nothing.
    let mut catchers: Vec<_> =
        verdicts.iter().flat_map(|verdict| &verdict.caught).map(|(model, _)| *model).collect();
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
        "{} weakened, {} caught, {survivors} survived a model without a reason; {:.0} s",
        verdicts.len(),
        verdicts.iter().filter(|verdict| !verdict.caught.is_empty()).count(),
        start.elapsed().as_secs_f64()
    );
    if survivors == 0 && failing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
