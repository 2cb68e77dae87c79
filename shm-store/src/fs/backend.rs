//! Shards go through the same door as the log.

use std::{
    any::Any,
    cell::Cell,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::StorageBackend;

use super::File;

/// A file as redb wants it. Nobody else has it open: the store's lease says so.
#[derive(Debug)]
pub(crate) struct Backend {
    file: Arc<dyn File>,
    /// A sync failed: what the file will have after a loss of power is not known any more.
    unsure: Arc<AtomicBool>,
}

thread_local! {
    /// A panic of this thread in a file, of which redb was told as an error.
    static PANIC: Cell<Option<Box<dyn Any + Send>>> = const { Cell::new(None) };
}

impl Backend {
    pub(crate) fn new(file: Arc<dyn File>, unsure: Arc<AtomicBool>) -> Self {
        Self { file, unsure }
    }

    /// Uses the file. redb holds locks meanwhile, and a panic that goes through it can meet a second
    /// one, which ends the process: it is told of an error.
    fn call<T>(&self, call: impl FnOnce(&dyn File) -> io::Result<T>) -> io::Result<T> {
        panic::catch_unwind(AssertUnwindSafe(|| call(&*self.file))).unwrap_or_else(|panic| {
            PANIC.set(Some(panic));
            Err(io::Error::other("a panic"))
        })
    }

    /// Lets a panic go on when redb has returned.
    pub(crate) fn resume_panic() {
        if let Some(panic) = PANIC.take() {
            panic::resume_unwind(panic);
        }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.call(|file| file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        if self.call(|file| file.read_at(offset, out))? == out.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.call(|file| file.set_len(len))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.call(|file| file.sync_data())
            .inspect_err(|_| self.unsure.store(true, Ordering::Relaxed))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.call(|file| file.write_all_at(offset, data))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use redb::{Database, ReadableDatabase, TableDefinition};

    use super::*;
    use crate::fs::{FileSystem, SimulatedFs, Survives};

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("table");

    fn open(fs: &SimulatedFs) -> Database {
        let file = fs.open(Path::new("/shard_00.redb"), true).unwrap();
        Database::builder().create_with_backend(Backend::new(file, Arc::default())).unwrap()
    }

    #[test]
    fn a_committed_transaction_of_a_shard_survives_a_loss_of_power() {
        let fs = SimulatedFs::default();
        fs.record();
        let database = open(&fs);
        let transaction = database.begin_write().unwrap();
        transaction.open_table(TABLE).unwrap().insert(1, 2).unwrap();
        transaction.commit().unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        let database = open(&fs.crash(Survives::Nothing));
        let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
        assert_eq!(redb::ReadableTable::get(&table, 1).unwrap().unwrap().value(), 2);
    }
}
