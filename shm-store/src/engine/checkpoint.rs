//! Checkpoints: a thread that writes full tables into the shards, while the engine goes on
//! with the next one.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{WriteError, shards::ShardError, view::Shared};

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
    /// Why it could not be written the last time.
    failure: Option<ShardError>,
    /// It cannot be written any more: a shard could not be synced, or is damaged.
    poisoned: bool,
    stop: bool,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checkpointer {
    pub(crate) fn start(shared: Arc<Shared>) -> Result<Self, std::io::Error> {
        let progress = Arc::<Progress>::default();
        let of_thread = progress.clone();
        let thread = thread::Builder::new()
            .name("shm-store-checkpoint".into())
            .spawn(move || run(&shared, &of_thread))?;
        Ok(Self { progress, thread: Some(thread) })
    }

    /// There is a frozen table.
    pub(crate) fn begin(&self) {
        self.progress.state().busy = true;
        self.progress.changed.notify_all();
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

fn run(shared: &Shared, progress: &Progress) {
    let _ends = Ends(progress);
    loop {
        let mut state = progress.state();
        while !state.busy && !state.stop {
            state = progress.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stop {
            return;
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

/// However the thread ends, nobody waits for it.
struct Ends<'a>(&'a Progress);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.state().poisoned = true;
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
