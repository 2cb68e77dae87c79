//! Processes that append to a store of this one.

use std::{fs, path::Path, time::Duration};

use shm_store::{Options as StoreOptions, Store, StreamConfig};

use super::{Options, Result, worker::Worker};

/// A store, which this process owns and does nothing else with, and those that append to it.
pub(super) struct Appenders {
    store: Store,
    workers: Vec<Worker>,
    done: Appends,
    writes: u64,
    batches: u64,
    bytes: u64,
}

/// What was seen of them.
#[derive(Default)]
pub(super) struct Appends {
    /// Nanoseconds of each append, sorted.
    pub(super) times: Vec<u64>,
    pub(super) per_sync: f64,
    /// Bytes that were written to the disk for an append.
    pub(super) bytes: f64,
}

impl Appenders {
    pub(super) fn start(options: &Options, directory: &Path, processes: u16) -> Result<Self> {
        let store_options = StoreOptions {
            memory_bytes: options.memory_kib << 10,
            segment_bytes: options.segment_kib << 10,
            ..StoreOptions::default()
        };
        warm_up(&Store::open_with(directory, store_options.clone())?, options)?;
        // Everything that was in memory is on the disk now.
        let store = Store::open_with(directory, store_options)?;
        let mut workers = Vec::new();
        for process in 0..processes {
            let stream = format!("stream-{process}");
            store.create(&stream, StreamConfig::default())?;
            workers.push(Worker::start(directory, &format!("append {stream}"), options)?);
        }
        for worker in &mut workers {
            worker.ready()?;
        }
        Ok(Self { store, workers, done: Appends::default(), writes: 0, batches: 0, bytes: 0 })
    }

    /// Has all of them append for a time; says how often they did.
    pub(super) fn turn(&mut self, time: Duration) -> Result<usize> {
        let (stat, bytes) = (self.store.stat()?, written()?);
        for worker in &mut self.workers {
            worker.go(time)?;
        }
        let before = self.done.times.len();
        for worker in &mut self.workers {
            self.done.times.extend(worker.times()?);
        }
        let end = self.store.stat()?;
        self.writes += end.writes - stat.writes;
        self.batches += end.batches - stat.batches;
        self.bytes += written()? - bytes;
        Ok(self.done.times.len() - before)
    }

    pub(super) fn end(self) -> Result<Appends> {
        let Self { store, workers, mut done, writes, batches, bytes } = self;
        workers.into_iter().try_for_each(Worker::end)?;
        // With what is still in memory on its way to the disk.
        let before = written()?;
        drop(store);
        let bytes = bytes + written()? - before;
        done.times.sort_unstable();
        done.per_sync = writes as f64 / batches.max(1) as f64;
        done.bytes = bytes as f64 / writes as f64;
        Ok(done)
    }
}

/// Has made what a store makes once: segments of the log, which are then used again and again,
/// and the first pages of the shards.
fn warm_up(store: &Store, options: &Options) -> Result<()> {
    const ENTRY: usize = 16 << 10;
    store.create("warm-up", StreamConfig::default())?;
    let bytes = (4 * (options.memory_kib + options.segment_kib)) << 10;
    for _ in 0..bytes / (16 * ENTRY as u64) {
        store.append_batch("warm-up", (0..16).map(|_| vec![b'x'; ENTRY]))?;
    }
    Ok(())
}

/// Bytes that this process has had written to disks.
fn written() -> Result<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no write_bytes in /proc/self/io")?.parse()?)
}
