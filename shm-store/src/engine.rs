//! The engine: what the owner of a store runs. It judges writes, logs them, syncs once for
//! all that have gathered, and lets readers see them.

mod checkpoint;
mod judged;
mod recount;
mod recover;
mod sweep;
mod verify;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    Durability, Lsn, Offset, Options, StreamId, WriteError,
    log::{AppendError, Log},
    operation::{Write, WriteResult},
    shards::ShardError,
    state::{Limits, Memtable},
    view::{Shared, View},
};
use checkpoint::Checkpointer;
use judged::Judged;
use sweep::Sweeper;

pub(crate) use verify::Report;

/// How long a `Relaxed` store may wait with its sync.
const RELAXED: Duration = Duration::from_millis(10);

/// The one writer of a store.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Dropped first: its thread, which may be about to end by a panic, is not the one to close the
    /// shards.
    checkpointer: Checkpointer,
    shared: Arc<Shared>,
    log: Log,
    options: Options,
    limits: Limits,
    sweeper: Sweeper,
    /// The log could not be synced.
    poisoned: bool,
    /// Since when something is written and not synced.
    unsynced: Option<Instant>,
    /// Up to where the log was recycled.
    recycled: Lsn,
    /// The oldest operation that a reader wants kept in the log.
    pin: Option<Lsn>,
    batch: Batch,
    events: Vec<Event>,
}

/// What happened to a stream, for those who follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) stream: StreamId,
    pub(crate) name: String,
    /// Where the new entries begin.
    pub(crate) start: Offset,
    pub(crate) entries: Vec<Bytes>,
    /// It was closed behind them.
    pub(crate) closed: bool,
    /// It was deleted.
    pub(crate) deleted: bool,
}

/// What the next commit is of.
#[derive(Debug, Default)]
struct Batch {
    writes: Vec<Write>,
    /// All of them, judged when they came; none if that failed.
    judged: Option<Judged>,
}

impl Engine {
    /// Takes a write into the next batch. It is judged at once: who gathers a batch has time for
    /// that, and who waits for the commit has not.
    pub(crate) fn add(&mut self, write: Write) {
        if self.batch.writes.is_empty() && !self.shared.shards.failed() {
            let judged = Judged::new(&self.shared.shards.read(), self.log.next());
            self.batch.judged = Some(judged);
        }
        if let Some(judged) = &mut self.batch.judged {
            let shards = self.shared.shards.read();
            // What cannot be looked up now may be there at the commit, with shards opened anew.
            if judged.judge(&self.shared, &shards, self.limits, &write, None).is_err() {
                self.batch.judged = None;
            }
        }
        self.batch.writes.push(write);
    }

    /// Does the writes that were added since the last commit: one write to the log and one sync
    /// for all. Each sees what the ones before it did. Returns their results, in their order.
    pub(crate) fn commit(&mut self) -> Vec<WriteResult> {
        self.events.clear();
        let Batch { writes, judged } = std::mem::take(&mut self.batch);
        if writes.is_empty() { Vec::new() } else { self.group(writes, judged) }
    }

    /// What the last batch did.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// A reader, for any thread.
    pub(crate) fn view(&self) -> View {
        View { shared: self.shared.clone() }
    }

    /// Up to where everything survives a loss of power.
    pub(crate) fn durable(&self) -> Lsn {
        self.shared.layers().durable
    }

    /// Whether a thread of it has panicked. Nothing more can be written, but who opens the store
    /// anew can go on.
    pub(crate) fn is_broken(&self) -> bool {
        self.checkpointer.panicked()
    }

    /// Keeps the log from this operation on, because a reader wants it; `None` ends that.
    pub(crate) fn set_pin(&mut self, pin: Option<Lsn>) {
        self.pin = pin;
    }

    /// When [`flush`](Self::flush) is due, because a `Relaxed` store has written something.
    pub(crate) fn flush_due(&self) -> Option<Instant> {
        self.unsynced.map(|since| since + RELAXED)
    }

    /// Syncs what was written and not synced. If that fails, the store takes no writes any
    /// more.
    pub(crate) fn flush(&mut self) {
        if self.unsynced.is_some() && !self.poisoned {
            self.sync();
        }
    }

    fn group(&mut self, batch: Vec<Write>, mut judged: Option<Judged>) -> Vec<WriteResult> {
        let count = batch.len();
        let all = |error: WriteError| vec![Err(error); count];
        if self.shared.shards.failed() {
            judged = None;
            if let Err(error) = self.shared.shards.reopen() {
                return all(error.into());
            }
        }
        self.recycle();
        let crowded = self.make_room().err();
        if self.poisoned || self.checkpointer.poisoned() {
            return all(WriteError::Poisoned);
        }
        let judged = match judged {
            Some(judged) if crowded.is_none() => judged,
            _ => match self.judge(&batch, crowded.as_ref()) {
                Ok(judged) => judged,
                Err(error) => return all(error.into()),
            },
        };
        let Judged { results, records, table, events, .. } = judged;
        if records.is_empty() {
            return results;
        }
        match self.keep(&records, table) {
            Ok(()) => {}
            // What is small may still have room.
            Err(WriteError::NoSpace) if count > 1 => {
                return batch.into_iter().flat_map(|write| self.group(vec![write], None)).collect();
            }
            Err(error) => return all(error),
        }
        self.events.extend(events);
        results
    }

    /// Judges each write on top of those before it.
    fn judge(&self, batch: &[Write], crowded: Option<&WriteError>) -> Result<Judged, ShardError> {
        let shared = &self.shared;
        shared.with_shards(|shards| {
            let mut judged = Judged::new(shards, self.log.next());
            for write in batch {
                judged.judge(shared, shards, self.limits, write, crowded)?;
            }
            Ok(judged)
        })
    }

    /// Logs records and lets readers see what they did.
    fn keep(&mut self, records: &[Vec<u8>], table: Memtable) -> Result<(), WriteError> {
        if let Err(error) = self.log.append(records) {
            return Err(match error {
                AppendError::NoSpace => WriteError::NoSpace,
                AppendError::Io(error) => WriteError::Io(error),
                AppendError::TooLarge => WriteError::TooLarge { limit: self.limits.operation },
                AppendError::Poisoned => {
                    self.poisoned = true;
                    WriteError::Poisoned
                }
            });
        }
        self.unsynced.get_or_insert_with(Instant::now);
        if self.options.durability == Durability::Durable && !self.sync() {
            return Err(WriteError::Indeterminate);
        }
        self.publish(table);
        Ok(())
    }

    /// Makes everything durable that was written; says whether it is.
    fn sync(&mut self) -> bool {
        match self.log.sync() {
            Ok(_) => {
                self.unsynced = None;
                let mut layers = self.shared.layers_mut();
                layers.durable = layers.visible;
                true
            }
            Err(error) => {
                tracing::error!(?error, "the log could not be synced: no more writes");
                self.poisoned = true;
                false
            }
        }
    }

    /// Lets readers see what was logged.
    fn publish(&mut self, table: Memtable) {
        let mut reads = self.shared.reads();
        for part in &table.parts {
            for meta in part.streams.values().flatten() {
                if let Some(expires) = meta.expires(meta.accessed) {
                    self.sweeper.expect(expires);
                    if reads.get(&meta.id()).is_some_and(|read| read.at <= meta.accessed) {
                        reads.remove(&meta.id());
                    }
                }
            }
            for id in &part.removed {
                reads.remove(id);
            }
        }
        drop(reads);
        let mut layers = self.shared.layers_mut();
        layers.visible = table.last;
        if self.unsynced.is_none() {
            layers.durable = table.last;
        }
        layers.totals.add(table.totals());
        layers.active.absorb(table);
    }

    /// Takes back what of the log the shards have and nobody wants.
    fn recycle(&mut self) {
        let mut applied = self.shared.shards.applied();
        if let Some(pin) = self.pin {
            applied = applied.min(Lsn(pin.0.saturating_sub(1)));
        }
        if applied > self.recycled && self.log.recycle(applied) {
            self.recycled = applied;
        }
        self.checkpointer.remove(self.log.take_doomed());
    }

    /// Sees to it that the newest table has room: hands it to the checkpointer if it is full,
    /// and waits for the one before if that is still there.
    fn make_room(&mut self) -> Result<(), WriteError> {
        if self.shared.layers().active.bytes < self.options.memory_bytes {
            return Ok(());
        }
        // What goes into the shards must be durable in the log.
        self.flush();
        self.checkpointer.wait()?;
        if !self.poisoned {
            self.freeze();
        }
        Ok(())
    }

    /// Begins to write everything into the shards.
    fn freeze(&mut self) {
        let mut layers = self.shared.layers_mut();
        let empty = Memtable::new(layers.active.parts.len());
        layers.frozen = Some(Arc::new(std::mem::replace(&mut layers.active, empty)));
        drop(layers);
        self.checkpointer.begin();
    }

    /// Writes everything into the shards, and waits for it.
    pub(crate) fn checkpoint(&mut self) -> Result<(), WriteError> {
        self.flush();
        self.checkpointer.wait()?;
        if self.poisoned {
            return Err(WriteError::Poisoned);
        }
        self.freeze();
        self.checkpointer.wait()?;
        self.recycle();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
