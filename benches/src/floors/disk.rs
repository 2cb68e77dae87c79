use std::{io::Write, path::Path};

use crate::{patience::stopwatch, system::Error};

/// How long it takes to append 4 KiB to a file and to have it on the disk, in nanoseconds:
/// `count` times.
pub fn append_and_sync(directory: &Path, count: usize) -> Result<Vec<u64>, Error> {
    let mut file = tempfile::tempfile_in(directory)?;
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let page = [number as u8; 4096];
        let mut lap = stopwatch();
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(lap());
    }
    Ok(times)
}
