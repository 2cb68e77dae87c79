//! What there is to compare with.

use std::{
    error::Error,
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

/// Appends in a second to redb, each in a transaction of its own that is durable.
pub(super) fn redb_appends_per_s(path: &Path, size: usize, seconds: Duration) -> Result<f64> {
    let database = Database::create(path)?;
    let entry = vec![b'x'; size];
    let began = Instant::now();
    let mut count = 0u64;
    while began.elapsed() < seconds {
        let transaction = database.begin_write()?;
        transaction.open_table(ENTRIES)?.insert(count, entry.as_slice())?;
        transaction.commit()?;
        count += 1;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Bytes of the file, all written before.
const FILE: usize = 8 << 20;

/// How long it takes to write an entry behind the last one, in a file that has its size, and
/// to have it on the disk: the median in microseconds.
pub(super) fn fdatasync_p50(path: &Path, size: usize, seconds: Duration) -> Result<f64> {
    let file = File::create(path)?;
    // As the log does it: the system syncs a file faster that was written by small pieces.
    for at in (0..FILE as u64).step_by(4096) {
        file.write_all_at(&[0; 4096], at)?;
    }
    file.sync_all()?;
    let entry = vec![b'x'; size];
    let mut times = Vec::new();
    let mut at = 0;
    let began = Instant::now();
    while began.elapsed() < seconds || times.is_empty() {
        let call = Instant::now();
        file.write_all_at(&entry, at)?;
        file.sync_data()?;
        times.push(call.elapsed().as_nanos() as u64);
        at = (at + size as u64) % (FILE - size) as u64;
    }
    times.sort_unstable();
    Ok(super::percentile(&times, 50))
}
