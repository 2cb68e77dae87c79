use std::{path::PathBuf, process};

use shm_primitives::lease::{Found, PAGE_SIZE, ReaderRecord, SLOT_SIZE, SLOTS};

use super::{
    data::{DataFile, MAX_POSITION},
    page::Page,
};
use crate::{
    error::{PageFailure, ReaderError},
    os::process::start_time,
};

/// A reader of a leased data file, which keeps a position from being given up.
///
/// It is counted from its attaching until it is dropped or its process dies, however that
/// happens, and so is its position. It takes two descriptors, and does not depend on the
/// [`Lease`](super::Lease) that it came from.
#[derive(Debug)]
pub struct Reader {
    data: DataFile,
    slot: u32,
    position: u64,
    start_time: u64,
    shm_path: PathBuf,
    page: Option<Page>,
}

impl Reader {
    pub(crate) fn attach(lease: &DataFile, position: u64) -> Result<Self, ReaderError> {
        check(position)?;
        // An opening of its own, so that the kernel tells its locks from all others, those
        // of this process too.
        let data = lease.again()?;
        // First the pin: who is counted has one.
        data.pin(position)?;
        let slot = data.take_slot()?.ok_or(ReaderError::Full { slots: SLOTS })?;
        let shm_path = data.shm_path();
        let start_time = start_time(process::id());
        let mut reader = Self { data, slot, position, start_time, shm_path, page: None };
        reader.record();
        Ok(reader)
    }

    /// The number of its slot.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The position that it has pinned.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Pins another position instead. On the way both are pinned.
    ///
    /// When the position is lower than the one before, an owner that has just asked for the
    /// oldest pin may not know of it yet: so look afterwards whether what stands there is
    /// still there.
    ///
    /// # Errors
    ///
    /// [`Position`](ReaderError::Position) if it is too large;
    /// [`Forked`](ReaderError::Forked) in a child of the process that attached. The old
    /// position is then still pinned.
    pub fn pin(&mut self, position: u64) -> Result<(), ReaderError> {
        check(position)?;
        if !self.data.is_ours() {
            return Err(ReaderError::Forked);
        }
        if position != self.position {
            self.data.pin(position)?;
            self.data.unpin(self.position)?;
            self.position = position;
        }
        self.record();
        Ok(())
    }

    /// Writes down what the locks say already, for people and tools. If that does not
    /// succeed, they know less: nothing depends on it.
    fn record(&mut self) {
        let Self { slot, position, start_time, .. } = *self;
        let record = ReaderRecord { slot, pid: process::id(), start_time, position };
        let _ = self.write(&record.encode());
    }

    fn write(&mut self, bytes: &[u8; SLOT_SIZE]) -> Result<(), PageFailure> {
        if self.data.check_path().is_err() {
            // What stands beside a new file at this path is for its readers.
            self.page = None;
            return Ok(());
        }
        let size = self.page.as_ref().and_then(|page| page.size_at(&self.shm_path));
        // The first time, or an owner has healed it by a new one.
        if size.is_none() {
            self.page = Page::open(&self.shm_path, true)?;
        }
        let Some(page) = &self.page else { return Ok(()) };
        // A file that is damaged stays so until the owner heals it.
        let whole = match size {
            Some(size) => size == PAGE_SIZE as u64,
            None => {
                let contents = page.read()?;
                contents.bytes.len() == PAGE_SIZE
                    && !matches!(contents.found, Found::Foreign | Found::Version(_))
            }
        };
        if whole { Ok(page.write_slot(self.slot, bytes)?) } else { Ok(()) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.data.is_ours() {
            // While the slot is still locked; the locks go with the data file.
            let _ = self.write(&[0; SLOT_SIZE]);
        }
    }
}

fn check(position: u64) -> Result<(), ReaderError> {
    if position > MAX_POSITION {
        return Err(ReaderError::Position { max: MAX_POSITION });
    }
    Ok(())
}
