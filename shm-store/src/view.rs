//! What readers see: everything that was acknowledged, from any thread, without holding the
//! writer up.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::SystemTime,
};

use crate::{
    From, Head, Lsn, Offset, Page, ReadError, StreamId,
    log::Check,
    operation::ReadResult,
    read::{Gather, Reading},
    shards::{Shard, Shards},
    state::{Lookup, Memtable, StreamMeta, Totals, millis},
};

/// Tells the time.
pub(crate) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How many reads of expiring streams are remembered until they are logged.
const MOST_READS: usize = 1 << 16;

/// A reader of a store. Each call sees one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) shared: Arc<Shared>,
}

/// What the writer, the checkpoints and the readers share.
///
/// Locks are taken in this order: shards, layers, reads.
pub(crate) struct Shared {
    pub(crate) shards: Shards,
    layers: RwLock<Layers>,
    /// When streams with a sliding time to live were read last, by id, if that is not logged
    /// yet.
    reads: Mutex<HashMap<u64, Read>>,
    clock: Clock,
    pub(crate) log: Check,
}

/// That a stream was read.
pub(crate) struct Read {
    pub(crate) name: String,
    pub(crate) at: u64,
    /// When it is to be logged: an eighth of the time to live after the last time.
    pub(crate) due: u64,
}

/// The changes that the shards do not have, or may not have.
pub(crate) struct Layers {
    /// The newest.
    pub(crate) active: Memtable,
    /// What is being written into the shards.
    pub(crate) frozen: Option<Arc<Memtable>>,
    /// What readers see goes up to here.
    pub(crate) visible: Lsn,
    /// What survives a loss of power goes up to here.
    pub(crate) durable: Lsn,
    pub(crate) totals: Totals,
}

impl Layers {
    pub(crate) fn lookup<'a>(&'a self, shards: &'a [Shard]) -> Lookup<'a> {
        Lookup { tables: [None, Some(&self.active), self.frozen.as_deref()], shards }
    }
}

/// Sizes of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Streams, deleted ones with living forks too.
    pub(crate) streams: u64,
    /// Bytes of entries.
    pub(crate) bytes: u64,
    /// What readers see.
    pub(crate) visible: Lsn,
    /// What survives a loss of power.
    pub(crate) durable: Lsn,
    /// What the shards have.
    pub(crate) applied: Lsn,
    /// Bytes of changes in memory, about.
    pub(crate) memory: u64,
}

impl Shared {
    pub(crate) fn new(shards: Shards, layers: Layers, clock: Clock, log: Check) -> Self {
        Self { shards, layers: RwLock::new(layers), reads: Mutex::default(), clock, log }
    }

    pub(crate) fn layers(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn layers_mut(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reads(&self) -> MutexGuard<'_, HashMap<u64, Read>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> u64 {
        millis((self.clock)())
    }

    /// When a stream was read or written last.
    pub(crate) fn accessed(&self, meta: &StreamMeta) -> u64 {
        if meta.fixed.config.time_to_live.is_none() {
            return meta.accessed;
        }
        let read = self.reads().get(&meta.id()).map_or(0, |read| read.at);
        meta.accessed.max(read)
    }

    /// Whether a stream is neither deleted nor expired.
    pub(crate) fn live(&self, meta: &StreamMeta, now: u64) -> bool {
        !meta.buried && meta.expires(self.accessed(meta)).is_none_or(|at| at > now)
    }

    /// Runs something that uses shards; if one refuses because of a failure before, opens it
    /// anew and tries again.
    pub(crate) fn with_shards<T, E>(
        &self,
        mut run: impl FnMut(&[Shard]) -> Result<T, E>,
    ) -> Result<T, E> {
        let result = run(&self.shards.read());
        if result.is_ok() || !self.shards.failed() {
            return result;
        }
        if let Err(error) = self.shards.reopen() {
            tracing::warn!(?error, "a shard cannot be opened");
        }
        run(&self.shards.read())
    }
}

impl View {
    /// Reads some entries in a row: as many as there are, up to the bounds, but one at least.
    /// If `expected` is given, only of that stream, not of a later one of the same name.
    pub(crate) fn read(
        &self,
        name: &str,
        expected: Option<StreamId>,
        from: From,
        max_bytes: usize,
        max_entries: usize,
    ) -> ReadResult {
        let (page, meta) = self.page(name, expected, from, max_bytes, max_entries)?;
        self.note(&meta);
        Ok(page)
    }

    /// Reads without anybody knowing: the stream expires as if nobody had.
    #[cfg(test)]
    pub(crate) fn peek(
        &self,
        name: &str,
        from: From,
        max_bytes: usize,
        max_entries: usize,
    ) -> ReadResult {
        Ok(self.page(name, None, from, max_bytes, max_entries)?.0)
    }

    fn page(
        &self,
        name: &str,
        expected: Option<StreamId>,
        from: From,
        max_bytes: usize,
        max_entries: usize,
    ) -> Result<(Page, StreamMeta), ReadError> {
        let shared = &self.shared;
        shared.with_shards(|shards| {
            let layers = shared.layers();
            let lookup = layers.lookup(shards);
            let meta = self.find(&lookup, name)?;
            if expected.is_some_and(|expected| expected.0 != meta.id()) {
                return Err(ReadError::NotFound);
            }
            let from = match from {
                From::Start => Offset::START,
                From::Offset(offset) => offset,
                From::Now => meta.end,
            };
            let max_entries = max_entries.max(1);
            let reading = Reading::plan(&lookup, &meta, Gather { from, max_bytes, max_entries })?;
            drop(layers);
            let found = reading
                .finish(shards)
                .map_err(|error| error.map_or(ReadError::BadOffset, ReadError::from))?;
            let up_to_date = found.next == meta.end;
            let page = Page {
                entries: found.entries,
                next: found.next,
                up_to_date,
                closed: up_to_date && meta.closed,
                stream: StreamId(meta.id()),
            };
            Ok((page, meta))
        })
    }

    /// What a stream is.
    pub(crate) fn head(&self, name: &str) -> Result<Head, ReadError> {
        self.shared.with_shards(|shards| {
            let layers = self.shared.layers();
            let meta = self.find(&layers.lookup(shards), name)?;
            Ok(meta.head(self.shared.accessed(&meta)))
        })
    }

    /// The first `limit` streams with a prefix, by name, behind the name `after`.
    pub(crate) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, ReadError> {
        let shared = &self.shared;
        let now = shared.now();
        shared.with_shards(|shards| {
            let layers = shared.layers();
            let wanted = |meta: &StreamMeta| shared.live(meta, now);
            let found = layers.lookup(shards).scan(prefix, after, limit, &wanted)?;
            Ok(found.iter().map(|meta| meta.head(shared.accessed(meta))).collect())
        })
    }

    /// Up to where everything survives a loss of power.
    pub(crate) fn durable(&self) -> Lsn {
        self.shared.layers().durable
    }

    /// Sizes of the store.
    pub(crate) fn stat(&self) -> Stat {
        let applied = self.shared.shards.applied();
        let layers = self.shared.layers();
        let frozen = layers.frozen.as_ref().map_or(0, |table| table.bytes);
        Stat {
            streams: layers.totals.streams.max(0) as u64,
            bytes: layers.totals.bytes.max(0) as u64,
            visible: layers.visible,
            durable: layers.durable,
            applied,
            memory: layers.active.bytes + frozen,
        }
    }

    fn find(&self, lookup: &Lookup<'_>, name: &str) -> Result<StreamMeta, ReadError> {
        let meta = lookup.stream(name)?.ok_or(ReadError::NotFound)?;
        if meta.buried {
            return Err(ReadError::Tombstone);
        }
        let shared = &self.shared;
        if shared.live(&meta, shared.now()) { Ok(meta) } else { Err(ReadError::NotFound) }
    }

    /// Remembers that a stream with a sliding time to live was read.
    fn note(&self, meta: &StreamMeta) {
        let Some(time) = meta.fixed.config.time_to_live else { return };
        let now = self.shared.now();
        if now <= meta.accessed {
            return;
        }
        let mut reads = self.shared.reads();
        if reads.len() >= MOST_READS && !reads.contains_key(&meta.id()) {
            return;
        }
        let eighth = u64::try_from(time.as_millis() / 8).unwrap_or(u64::MAX);
        let read = reads.entry(meta.id()).or_insert_with(|| Read {
            name: meta.fixed.name.clone(),
            at: 0,
            due: meta.accessed.saturating_add(eighth),
        });
        read.at = read.at.max(now);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("shards", &self.shards).finish_non_exhaustive()
    }
}
