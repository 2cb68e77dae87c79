//! Shards go through the same door as the log.

use std::{
    io,
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

impl Backend {
    pub(crate) fn new(file: Arc<dyn File>, unsure: Arc<AtomicBool>) -> Self {
        Self { file, unsure }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        if self.file.read_at(offset, out)? == out.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.file.sync_data().inspect_err(|_| self.unsure.store(true, Ordering::Relaxed))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.file.write_all_at(offset, data)
    }
}
