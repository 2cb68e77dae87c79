//! Stand-in until the real log is merged.
use std::{io, path::Path, sync::Arc};

use crate::{
    Lsn, OpenError,
    fs::{File, FileSystem},
};

pub(crate) struct LogOptions {
    pub(crate) segment_bytes: u64,
    pub(crate) max_record_bytes: u64,
}

#[derive(Debug)]
pub(crate) enum AppendError {
    NoSpace,
    TooLarge,
    Io(Arc<io::Error>),
    Poisoned,
}

#[derive(Debug)]
pub(crate) struct SyncFailed;

#[derive(Debug)]
pub(crate) struct Log {
    file: Arc<dyn File>,
    next: u64,
    end: u64,
}

impl Log {
    pub(crate) fn open(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        _: &LogOptions,
        _: u128,
        applied: Lsn,
        replay: &mut dyn FnMut(Lsn, &[u8]) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        fs.create_dir_all(&dir.join("log"))?;
        let file = fs.open(&dir.join("log/0000000000000000.log"), true)?;
        let mut all = vec![0; file.len()? as usize];
        file.read_at(0, &mut all)?;
        let (mut at, mut next) = (0, 1);
        while let Some(header) = all.get(at..at + 8) {
            let len = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
            let crc = u32::from_le_bytes(header[4..].try_into().unwrap());
            let Some(payload) = all.get(at + 8..at + 8 + len) else { break };
            if crc32c::crc32c(payload) != crc {
                break;
            }
            if next > applied.0 {
                replay(Lsn(next), payload)?;
            }
            next += 1;
            at += 8 + len;
        }
        Ok(Self { file, next, end: at as u64 })
    }

    pub(crate) fn append(&mut self, records: &[Vec<u8>]) -> Result<(), AppendError> {
        let mut all = Vec::new();
        for record in records {
            all.extend_from_slice(&(record.len() as u32).to_le_bytes());
            all.extend_from_slice(&crc32c::crc32c(record).to_le_bytes());
            all.extend_from_slice(record);
        }
        let result = self.file.write_all_at(self.end, &all);
        result.map_err(|error| AppendError::Io(Arc::new(error)))?;
        self.end += all.len() as u64;
        self.next += records.len() as u64;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<Lsn, SyncFailed> {
        self.file.sync_data().map_err(|_| SyncFailed)?;
        Ok(Lsn(self.next - 1))
    }

    pub(crate) fn recycle(&mut self, _: Lsn) {}

    pub(crate) fn next(&self) -> Lsn {
        Lsn(self.next)
    }
}
