//! Checkpoints: a thread that writes full tables into the shards, while the engine goes on
//! with the next one. It also removes files of the log, which takes long.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{WriteError, fs::FileSystem, shards::ShardError, view::Shared};

/// How soon a checkpoint is tried again when the disk was full.
const AGAIN: Duration = Duration::from_millis(100);

/// The thread, as the engine sees it.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// A frozen table is to be written.
    busy: bool,
    /// Files to be removed when there is nothing else to do.
    doomed: Vec<PathBuf>,
    /// Why it could not be written the last time.
    failure: Option<ShardError>,
    /// It cannot be written any more: a shard could not be synced, or is damaged.
    poisoned: bool,
    /// The thread has ended by a panic.
    panicked: bool,
    stop: bool,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checkpointer {
    pub(crate) fn start(
        shared: Arc<Shared>,
        fs: Arc<dyn FileSystem>,
    ) -> Result<Self, std::io::Error> {
        let progress = Arc::<Progress>::default();
        let of_thread = progress.clone();
        let thread = thread::Builder::new()
            .name("shm-store-checkpoint".into())
            .spawn(move || run(&shared, &*fs, &of_thread))?;
        Ok(Self { progress, thread: Some(thread) })
    }

    /// There is a frozen table.
    pub(crate) fn begin(&self) {
        self.progress.state().busy = true;
        self.progress.changed.notify_all();
    }

    /// Removes files, soon. What is not removed when the store is closed, whoever opens it next
    /// finds.
    pub(crate) fn remove(&self, files: Vec<PathBuf>) {
        if !files.is_empty() {
            self.progress.state().doomed.extend(files);
            self.progress.changed.notify_all();
        }
    }

    /// Waits until there is no frozen table; not if it cannot be written now.
    pub(crate) fn wait(&self) -> Result<(), WriteError> {
        let mut state = self.progress.state();
        loop {
            if state.poisoned {
                return Err(WriteError::Poisoned);
            }
            if !state.busy {
                return Ok(());
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone().into());
            }
            state = self.progress.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether what the shards will have after a loss of power is not known any more.
    pub(crate) fn poisoned(&self) -> bool {
        self.progress.state().poisoned
    }

    /// Whether the thread has ended by a panic: what it failed at, another may do.
    pub(crate) fn panicked(&self) -> bool {
        self.progress.state().panicked
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.progress.state().stop = true;
        self.progress.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It ended by a panic, which it has reported, or it ends now.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, fs: &dyn FileSystem, progress: &Progress) {
    let _ends = Ends(progress);
    loop {
        let mut state = progress.state();
        while !state.busy && !state.stop && state.doomed.is_empty() {
            state = progress.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stop {
            return;
        }
        if !state.busy {
            let file = state.doomed.pop();
            drop(state);
            file.into_iter().for_each(|file| remove(fs, &file));
            continue;
        }
        drop(state);
        let result = write(shared);
        let mut state = progress.state();
        match result {
            Ok(()) => {
                state.busy = false;
                state.failure = None;
                progress.changed.notify_all();
            }
            Err(error) => {
                tracing::error!(?error, "the shards could not be written");
                let full = error.is_full() && !shared.shards.unsure();
                state.failure = Some(error);
                progress.changed.notify_all();
                if !full {
                    return;
                }
                if !state.stop {
                    drop(progress.changed.wait_timeout(state, AGAIN));
                }
            }
        }
    }
}

fn remove(fs: &dyn FileSystem, file: &Path) {
    if let Err(error) = fs.remove(file) {
        tracing::warn!(%error, file = %file.display(), "a file of the log is not removed");
    }
}

/// However the thread ends, nobody waits for it.
struct Ends<'a>(&'a Progress);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.poisoned = true;
        state.panicked = thread::panicking();
        drop(state);
        self.0.changed.notify_all();
    }
}

/// Writes the frozen table, if there is one, and lets it go.
fn write(shared: &Shared) -> Result<(), ShardError> {
    let Some(frozen) = shared.layers().frozen.clone() else { return Ok(()) };
    if shared.shards.failed() {
        shared.shards.reopen()?;
    }
    shared.shards.checkpoint(&frozen)?;
    let frozen_too = shared.layers_mut().frozen.take();
    // The last owner frees the table: not under the lock.
    drop((frozen, frozen_too));
    Ok(())
}
