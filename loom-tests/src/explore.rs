//! Running a model, and proving that it reached what it is about.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::swap;

/// The paths that a model is about, and in how many places each was taken over all
/// executions. Outside of the model: they order nothing.
#[derive(Debug)]
pub struct Paths {
    executions: AtomicU64,
    taken: Vec<(&'static str, AtomicU64)>,
}

impl Paths {
    /// Records that a path was taken.
    ///
    /// # Panics
    ///
    /// If the model did not announce it.
    pub fn take(&self, path: &str) {
        let (_, count) = self
            .taken
            .iter()
            .find(|(name, _)| *name == path)
            .unwrap_or_else(|| panic!("{path:?} was not announced"));
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a path if it was taken.
    pub fn take_if(&self, condition: bool, path: &str) {
        if condition {
            self.take(path);
        }
    }
}

/// Runs `model` through all its executions with up to five preemptions, and fails if
/// one of them fails, or if no execution took one of `paths`.
///
/// The bound is in the code; `LOOM_MAX_PREEMPTIONS` overrides it. Limits of time or of
/// permutations are never used: with them a model that was cut short counts as passed.
///
/// # Panics
///
/// As said.
pub fn explore(
    name: &str,
    paths: &[&'static str],
    model: impl Fn(&Arc<Paths>) + Send + Sync + 'static,
) {
    explore_bounded(name, 5, paths, model);
}

/// [`explore`] with up to `bound` preemptions.
///
/// # Panics
///
/// As [`explore`].
pub fn explore_bounded(
    name: &str,
    bound: usize,
    paths: &[&'static str],
    model: impl Fn(&Arc<Paths>) + Send + Sync + 'static,
) {
    let taken = paths.iter().map(|path| (*path, AtomicU64::new(0))).collect();
    let paths = Arc::new(Paths { executions: AtomicU64::new(0), taken });
    let mut builder = loom::model::Builder::new();
    if env::var_os("LOOM_MAX_PREEMPTIONS").is_none() {
        builder.preemption_bound = Some(bound);
    }
    builder.max_duration = None;
    builder.max_permutations = None;
    // Shadows and payload take branches, though most of them are not explored.
    builder.max_branches = 5_000;
    let start = Instant::now();
    let of_model = Arc::clone(&paths);
    builder.check(move || {
        of_model.executions.fetch_add(1, Ordering::Relaxed);
        swap::begin();
        model(&of_model);
    });
    let executions = paths.executions.load(Ordering::Relaxed);
    let counts: Vec<_> = paths
        .taken
        .iter()
        .map(|(path, count)| format!("{path} {}", count.load(Ordering::Relaxed)))
        .collect();
    let seconds = start.elapsed().as_secs_f64();
    println!("{name}: {executions} executions, {seconds:.2} s {counts:?}");
    if swap::is_recording() {
        // With fewer preemptions than it needs to reach them.
        return;
    }
    for (path, count) in &paths.taken {
        assert!(count.load(Ordering::Relaxed) > 0, "{name}: no execution reached {path:?}");
    }
}
