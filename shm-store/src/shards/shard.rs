//! One shard: a redb database.
//!
//! ```text
//! streams    name                → stream
//! blocks     stream, first entry → entries in a row
//! producers  stream, name        → epoch, next sequence, last results
//! family     name                → number of forks; parent's id and name, or 0 and nothing
//! meta       text                → number: identity, applied LSN, totals
//! ```

use std::{
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use redb::{
    Database, OwnedAccessGuard, ReadTransaction, ReadableDatabase, TableDefinition,
    WriteTransaction,
};

use super::{Block, ShardError, pack};
use crate::{
    Lsn, OpenError,
    fs::{Backend, FileSystem},
    state::{Part, ProducerState, StreamMeta, Totals},
};

const STREAMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("streams");
const BLOCKS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("blocks");
const PRODUCERS: TableDefinition<'_, (u64, &str), &[u8]> = TableDefinition::new("producers");
const FAMILY: TableDefinition<'_, &str, (u64, u64, &str)> = TableDefinition::new("family");
const META: TableDefinition<'_, &str, u128> = TableDefinition::new("meta");

/// A row in redb's own memory.
struct Row(OwnedAccessGuard<&'static [u8]>);

impl AsRef<[u8]> for Row {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

#[derive(Debug)]
pub(crate) struct Shard {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    name: String,
    cache: usize,
    database: Option<Database>,
    state: std::sync::Mutex<(Lsn, Totals)>,
    /// It refuses everything until it is opened anew.
    failed: AtomicBool,
    unsure: Arc<AtomicBool>,
}

impl Shard {
    pub(crate) fn name(index: u16) -> String {
        format!("shard_{index:02x}.redb")
    }

    /// Opens a shard that is there.
    pub(crate) fn open(
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        index: u16,
        cache: usize,
        identity: u128,
    ) -> Result<Self, OpenError> {
        let mut shard = Self::closed(fs, dir, index, cache);
        shard.connect()?;
        let found = shard.load()?;
        if found != identity {
            return Err(OpenError::Layout {
                what: "identity",
                found: format!("{found:032x}"),
                expected: format!("{identity:032x}"),
            });
        }
        Ok(shard)
    }

    /// Makes an empty shard, whatever was there.
    pub(crate) fn create(
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        index: u16,
        cache: usize,
        identity: u128,
    ) -> Result<Self, OpenError> {
        let mut shard = Self::closed(fs, dir, index, cache);
        fs.open(&shard.path, true)?.set_len(0)?;
        shard.connect()?;
        shard.write(|transaction| {
            transaction.open_table(STREAMS)?;
            transaction.open_table(BLOCKS)?;
            transaction.open_table(PRODUCERS)?;
            transaction.open_table(FAMILY)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert("identity", identity)?;
            meta.insert("applied", 0)?;
            Ok(())
        })?;
        Ok(shard)
    }

    fn closed(fs: &Arc<dyn FileSystem>, dir: &Path, index: u16, cache: usize) -> Self {
        let name = Self::name(index);
        Self {
            fs: fs.clone(),
            path: dir.join(&name),
            name,
            cache,
            database: None,
            state: std::sync::Mutex::default(),
            failed: AtomicBool::new(true),
            unsure: Arc::default(),
        }
    }

    fn connect(&mut self) -> Result<(), ShardError> {
        self.database = None;
        let file = self.fs.open(&self.path, false)?;
        let database = Database::builder()
            .set_cache_size(self.cache)
            .create_with_backend(Backend::new(file, self.unsure.clone()))
            .map_err(|error| ShardError::redb(&self.name, error.into()));
        Backend::resume_panic();
        self.database = Some(database?);
        self.failed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Opens it anew after it failed. Nobody reads it meanwhile.
    pub(crate) fn reopen(&mut self) -> Result<(), ShardError> {
        self.connect()?;
        let has = self.applied();
        self.load()?;
        self.raise(has);
        Ok(())
    }

    /// Whether it refuses everything until it is opened anew.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether a sync failed, so that nothing more may be built upon it.
    pub(crate) fn unsure(&self) -> bool {
        self.unsure.load(Ordering::Relaxed)
    }

    /// Loads what is kept in memory; returns the identity.
    fn load(&self) -> Result<u128, ShardError> {
        let transaction = self.snapshot()?;
        let (identity, applied, totals) = self.checked(|| {
            let meta = transaction.open_table(META)?;
            let get = |key| Ok::<_, redb::Error>(meta.get(key)?.map_or(0, |value| value.value()));
            let totals = Totals {
                streams: get("streams")? as i64,
                bytes: get("bytes")? as i64,
                expiring: get("expiring")? as i64,
            };
            Ok((get("identity")?, get("applied")? as u64, totals))
        })?;
        *self.state() = (Lsn(applied), totals);
        Ok(identity)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, (Lsn, Totals)> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Up to where it has everything.
    pub(crate) fn applied(&self) -> Lsn {
        self.state().0
    }

    /// It has everything up to here, for there was nothing for it.
    pub(crate) fn raise(&self, applied: Lsn) {
        let mut state = self.state();
        state.0 = state.0.max(applied);
    }

    pub(crate) fn totals(&self) -> Totals {
        self.state().1
    }

    /// Writes changes, up to an LSN, in one durable transaction.
    pub(crate) fn apply(&self, part: &Part, last: Lsn) -> Result<(), ShardError> {
        let mut totals = self.totals();
        totals.add(part.totals);
        self.write(|transaction| {
            let mut streams = transaction.open_table(STREAMS)?;
            let mut family = transaction.open_table(FAMILY)?;
            for (name, row) in &part.streams {
                match row.as_ref().and_then(Relations::of) {
                    Some(of) => family.insert(&**name, (of.children, of.id, &*of.parent))?,
                    None => family.remove(&**name)?,
                };
                match row {
                    Some(meta) => streams.insert(&**name, &*meta.encode())?,
                    None => streams.remove(&**name)?,
                };
            }
            let mut blocks = transaction.open_table(BLOCKS)?;
            let mut producers = transaction.open_table(PRODUCERS)?;
            for &id in &part.removed {
                blocks.retain_in((id, 0)..=(id, u64::MAX), |_, _| false)?;
                producers.retain_in((id, "")..(id + 1, ""), |_, _| false)?;
            }
            for ((id, name), state) in &part.producers {
                producers.insert((*id, &**name), &*state.encode())?;
            }
            let mut ids: Vec<_> = part.runs.keys().copied().collect();
            ids.sort_unstable();
            for id in ids {
                pack(&part.runs[&id], |first, block| {
                    blocks.insert((id, first), block)?;
                    Ok(())
                })?;
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert("applied", u128::from(last.0))?;
            meta.insert("streams", totals.streams as u128)?;
            meta.insert("bytes", totals.bytes as u128)?;
            meta.insert("expiring", totals.expiring as u128)?;
            Ok(())
        })?;
        *self.state() = (last, totals);
        Ok(())
    }

    fn write(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), ShardError> {
        self.checked(|| {
            let mut transaction = self.database()?.begin_write()?;
            // So that a store is open again at once after a crash.
            transaction.set_quick_repair(true);
            change(&transaction)?;
            transaction.commit()?;
            Ok(())
        })
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::PreviousIo)
    }

    /// A failure of redb makes it refuse everything until it is opened anew.
    fn checked<T>(&self, run: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, ShardError> {
        let result = run().map_err(|error| {
            self.failed.store(true, Ordering::Relaxed);
            ShardError::redb(&self.name, error)
        });
        Backend::resume_panic();
        result
    }

    pub(crate) fn damaged(&self, position: u64, what: &'static str) -> ShardError {
        ShardError::damaged(&self.name, position, what)
    }

    /// The shard as it is now.
    pub(crate) fn snapshot(&self) -> Result<ReadTransaction, ShardError> {
        self.checked(|| Ok(self.database()?.begin_read()?))
    }

    pub(crate) fn stream(&self, name: &str) -> Result<Option<StreamMeta>, ShardError> {
        let snapshot = self.snapshot()?;
        let row = self.checked(|| {
            let table = snapshot.open_table(STREAMS)?;
            Ok(table.get(name)?.map(|row| StreamMeta::decode(name, row.value())))
        })?;
        row.transpose().map_err(|_| self.damaged(0, "a stream's row is malformed"))
    }

    pub(crate) fn producer(
        &self,
        id: u64,
        producer: &str,
    ) -> Result<Option<ProducerState>, ShardError> {
        let snapshot = self.snapshot()?;
        let row = self.checked(|| {
            let table = snapshot.open_table(PRODUCERS)?;
            Ok(table.get((id, producer))?.map(|row| ProducerState::decode(row.value())))
        })?;
        row.transpose().map_err(|_| self.damaged(0, "a producer's row is malformed"))
    }

    /// Calls for each block of a stream from the one with this entry on, with the number of
    /// its first entry, until the call says that it is enough.
    pub(crate) fn blocks<E: From<ShardError>>(
        &self,
        snapshot: &ReadTransaction,
        id: u64,
        entry: u64,
        each: &mut dyn FnMut(u64, Block) -> Result<bool, E>,
    ) -> Result<(), E> {
        let table = self.checked(|| Ok(snapshot.open_table(BLOCKS)?))?;
        let first = self.checked(|| {
            let before = table.range((id, 0)..=(id, entry))?.next_back().transpose()?;
            Ok(before.map_or(entry, |(key, _)| key.value().1))
        })?;
        let rows = self.checked(|| Ok(table.range_owned((id, first)..=(id, u64::MAX))?))?;
        for row in rows {
            let (key, row) = self.checked(|| Ok(row?))?;
            let first = key.value().1;
            let block = Block::decode(&Bytes::from_owner(Row(row)))
                .map_err(|_| self.damaged(first, "a block of entries is malformed"))?;
            if !each(first, block)? {
                break;
            }
        }
        Ok(())
    }

    /// Calls for each stream from a name on, in order, until the call says that it is enough.
    pub(crate) fn streams(
        &self,
        snapshot: &ReadTransaction,
        from: Bound<&str>,
        each: &mut dyn FnMut(StreamMeta) -> bool,
    ) -> Result<(), ShardError> {
        let table = self.checked(|| Ok(snapshot.open_table(STREAMS)?))?;
        let range = (from, Bound::Unbounded);
        for row in self.checked(|| Ok(table.range::<&str>(range)?))? {
            let (name, row) = self.checked(|| Ok(row?))?;
            let meta = StreamMeta::decode(name.value(), row.value())
                .map_err(|_| self.damaged(0, "a stream's row is malformed"))?;
            if !each(meta) {
                break;
            }
        }
        Ok(())
    }

    /// Calls for each stream that is a fork or has forks.
    pub(crate) fn family(
        &self,
        snapshot: &ReadTransaction,
        each: &mut dyn FnMut(&str, Relations),
    ) -> Result<(), ShardError> {
        self.checked(|| {
            for row in snapshot.open_table(FAMILY)?.range::<&str>(..)? {
                let (name, row) = row?;
                let (children, id, parent) = row.value();
                each(name.value(), Relations { children, id, parent: parent.into() });
            }
            Ok(())
        })
    }

    /// The streams that have blocks.
    pub(crate) fn with_blocks(&self, snapshot: &ReadTransaction) -> Result<Vec<u64>, ShardError> {
        self.checked(|| {
            let table = snapshot.open_table(BLOCKS)?;
            let mut ids = Vec::new();
            let mut from = 0;
            while let Some(row) = table.range((from, 0)..)?.next() {
                let id = row?.0.value().0;
                ids.push(id);
                from = id + 1;
            }
            Ok(ids)
        })
    }
}

/// How many forks a stream has, and whose fork it is.
#[derive(Clone, Debug)]
pub(crate) struct Relations {
    pub(crate) children: u64,
    /// The parent's id and name; 0 and nothing if there is none.
    pub(crate) id: u64,
    pub(crate) parent: String,
}

impl Relations {
    /// `None` if it has neither.
    pub(crate) fn of(meta: &StreamMeta) -> Option<Self> {
        let children = meta.children;
        let (id, parent) = match &meta.fixed.parent {
            Some(parent) => (parent.id, parent.name.clone()),
            None if children == 0 => return None,
            None => (0, String::new()),
        };
        Some(Self { children, id, parent })
    }
}
