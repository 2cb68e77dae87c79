//! Shards go through the same door as the log.

use std::{io, sync::Arc};

use super::File;

/// A file as redb wants it. It takes no lock: whoever owns the store's lease is alone.
#[derive(Debug)]
pub(crate) struct Backend(pub(crate) Arc<dyn File>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.0.read_at(offset, out)? {
            read if read == out.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(offset, data)
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
        Database::builder().create_with_backend(Backend(file)).unwrap()
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
