//! The shards: redb databases that hold what the log has been relieved of.

mod block;
mod error;
mod shard;

use std::{
    io,
    path::Path,
    sync::{Arc, RwLock, RwLockReadGuard},
    thread,
};

pub(crate) use block::{Block, pack};
pub(crate) use error::ShardError;
pub(crate) use shard::{Relations, Shard};

use crate::{
    Lsn, OpenError,
    error::Damage,
    fs::FileSystem,
    state::{Memtable, Totals},
};

/// Shards that are opened at once.
const AT_ONCE: usize = 16;

/// How [`shard_of`] leads from a stream's name to its shard, as `layout.json` names it. A store
/// that was made with another one is not opened.
pub(crate) const HASH: &str = "crc32c";

/// The shard of a name: the CRC-32C of its bytes, modulo the number of shards.
pub(crate) fn shard_of(name: &str, shards: usize) -> usize {
    crc32c::crc32c(name.as_bytes()) as usize & (shards - 1)
}

/// All shards of a store.
///
/// Whoever uses them holds the lock for reading; for writing it is held only while a shard
/// that failed is opened anew.
#[derive(Debug)]
pub(crate) struct Shards {
    shards: RwLock<Vec<Shard>>,
}

impl Shards {
    /// Opens the shards, or makes them if nothing was ever stored: there is no log, and no
    /// shard has anything.
    pub(crate) fn open(
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        count: u16,
        cache: usize,
        identity: u128,
    ) -> Result<Self, OpenError> {
        let names = fs.list(dir)?;
        let logged = match fs.list(&dir.join("log")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            names => !names?.is_empty(),
        };
        let cache = cache / usize::from(count);
        // At once, for each waits for the disk, and somebody for all of them.
        let open = |index| {
            let there = names.contains(&Shard::name(index));
            there.then(|| Shard::open(fs, dir, index, cache, identity)).transpose()
        };
        let mut found = Vec::with_capacity(count.into());
        for begin in (0..count).step_by(AT_ONCE) {
            let some: Vec<u16> = (begin..count).take(AT_ONCE).collect();
            thread::scope(|scope| {
                let threads: Vec<_> = some
                    .iter()
                    .map(|&index| thread::Builder::new().spawn_scoped(scope, move || open(index)))
                    .collect();
                for (thread, &index) in threads.into_iter().zip(&some) {
                    found.push(match thread.map(thread::ScopedJoinHandle::join) {
                        Ok(Ok(shard)) => shard,
                        Ok(Err(panic)) => std::panic::resume_unwind(panic),
                        // No thread: here, then.
                        Err(_) => open(index),
                    });
                }
            });
        }
        let used = logged || found.iter().flatten().flatten().any(|shard| shard.applied() > Lsn(0));
        let mut shards = Vec::with_capacity(found.len());
        let mut made = false;
        for (index, shard) in (0..).zip(found) {
            shards.push(match shard {
                Ok(Some(shard)) => shard,
                Err(error @ OpenError::Layout { .. }) => return Err(error),
                Err(error) if used => return Err(error),
                Ok(None) if used => {
                    let what = "the shard is missing";
                    return Err(Damage { file: Shard::name(index), position: 0, what }.into());
                }
                _ => {
                    made = true;
                    Shard::create(fs, dir, index, cache, identity)?
                }
            });
        }
        if made {
            fs.sync_dir(dir)?;
        }
        // The first shard takes part in every checkpoint, after the others: what it has, all
        // have.
        let applied = shards[0].applied();
        for shard in &shards {
            shard.raise(applied);
        }
        Ok(Self { shards: RwLock::new(shards) })
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Vec<Shard>> {
        self.shards.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Up to where all shards have everything.
    pub(crate) fn applied(&self) -> Lsn {
        self.read()[0].applied()
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for shard in self.read().iter() {
            sum.add(shard.totals());
        }
        sum
    }

    /// Writes a table's changes into the shards, each in one transaction, the first shard
    /// last. What a shard already has, it does not take again.
    pub(crate) fn checkpoint(&self, table: &Memtable) -> Result<(), ShardError> {
        let shards = self.read();
        for (index, (shard, part)) in shards.iter().zip(&table.parts).enumerate().rev() {
            if (index == 0 || !part.is_empty()) && shard.applied() < table.last {
                shard.apply(part, table.last)?;
            }
        }
        Ok(())
    }

    /// Whether a shard refuses everything until it is opened anew.
    pub(crate) fn failed(&self) -> bool {
        self.read().iter().any(Shard::failed)
    }

    /// Whether a sync failed, so that it is not known what is durable.
    pub(crate) fn unsure(&self) -> bool {
        self.read().iter().any(Shard::unsure)
    }

    /// Opens the shards anew that refuse everything after a failure.
    pub(crate) fn reopen(&self) -> Result<(), ShardError> {
        let mut shards = self.shards.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for shard in shards.iter_mut() {
            if shard.failed() {
                shard.reopen()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_the_shard_that_its_hash_says() {
        assert_eq!(HASH, "crc32c");
        // The check value that everybody gives for CRC-32C.
        assert_eq!(shard_of("123456789", 256), 0xe306_9283 & 0xff);
        assert_eq!(shard_of("123456789", 4), 3);
        assert_eq!(shard_of("123456789", 1), 0);
    }
}
