//! What there is to compare with.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};

use super::Result;

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

/// redb alone.
pub(super) struct Redb {
    database: Database,
    entry: Vec<u8>,
    count: u64,
}

impl Redb {
    pub(super) fn new(path: &Path, size: usize) -> Result<Self> {
        Ok(Self { database: Database::create(path)?, entry: vec![b'x'; size], count: 0 })
    }

    /// Appends in a transaction of its own that is durable.
    pub(super) fn append(&mut self) -> Result<()> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(ENTRIES)?.insert(self.count, self.entry.as_slice())?;
        transaction.commit()?;
        self.count += 1;
        Ok(())
    }
}

/// Bytes of the file, all written before.
const FILE: usize = 8 << 20;

/// How long it takes to write an entry behind the last one, in a file that has its size, and
/// to have it on the disk.
pub(super) struct Syncs {
    file: File,
    entry: Vec<u8>,
    at: u64,
    times: Vec<u64>,
}

impl Syncs {
    pub(super) fn new(path: &Path, size: usize) -> Result<Self> {
        let file = File::create(path)?;
        // As the log does it: the system syncs a file faster that was written by small pieces.
        for at in (0..FILE as u64).step_by(4096) {
            file.write_all_at(&[0; 4096], at)?;
        }
        file.sync_all()?;
        Ok(Self { file, entry: vec![b'x'; size], at: 0, times: Vec::new() })
    }

    pub(super) fn turn(&mut self, time: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < time || self.times.is_empty() {
            let call = Instant::now();
            self.file.write_all_at(&self.entry, self.at)?;
            self.file.sync_data()?;
            self.times.push(call.elapsed().as_nanos() as u64);
            let size = self.entry.len();
            self.at = (self.at + size as u64) % (FILE - size) as u64;
        }
        Ok(())
    }

    /// Nanoseconds of each, sorted.
    pub(super) fn times(mut self) -> Vec<u64> {
        self.times.sort_unstable();
        self.times
    }
}
