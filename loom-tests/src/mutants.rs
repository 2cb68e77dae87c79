//! What the checks of the models share: each runs itself as a process for each model and change.

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

use crate::models::{self, Model};

/// Runs the model of this name in this process.
#[must_use]
pub fn run_model(name: &str) -> ExitCode {
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

/// How a model ended that ran in a process of its own.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It passed, and printed this.
    Passed(String),
    /// It failed, and said this.
    Failed(String),
    /// It had not ended when its time was over.
    Late,
}

/// Runs a model by `option` of this program, with the environment `with`, for up to `limit`.
///
/// # Errors
///
/// If it cannot be run at all.
pub fn run(
    option: &str,
    model: &Model,
    with: &[(&str, &str)],
    limit: Duration,
) -> io::Result<Outcome> {
    let end = Instant::now().checked_add(limit);
    let mut child = Command::new(env::current_exe()?)
        .args([option, model.name])
        .envs(with.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // What a model prints fits into a pipe: it does not wait for a reader.
    while child.try_wait()?.is_none() {
        if end.is_some_and(|end| Instant::now() > end) {
            child.kill()?;
            child.wait()?;
            return Ok(Outcome::Late);
        }
        thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(Outcome::Passed(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let said = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // The line after "thread … panicked at …" is the message.
    let message = said.skip_while(|line| !line.contains("panicked at")).nth(1);
    Ok(Outcome::Failed(message.map_or_else(|| output.status.to_string(), str::to_owned)))
}

/// Does `work` for each item, on all processors, and keeps the order.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
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
