//! The files of the log: making, reusing and removing them.

use std::{io, path::PathBuf, sync::Arc};

use super::segment::{self, HEADER, Name};
use crate::fs::{File, FileSystem};

/// Bytes of spare files that are kept, and how many at least and at the most: what is used again
/// needs no zeros, and nothing has to be removed.
const SPARE_BYTES: u64 = 64 << 20;
const SPARES: (u64, u64) = (2, 16);
/// The most bytes by which a file grows at once.
const PIECE: u64 = 1 << 20;
/// Zeros that are written at once. The system caches what is written at once as one piece of
/// memory, and counts all of it as written whenever a record in it is synced.
const ZEROS: usize = 4 << 10;

/// Why a segment was not begun.
#[derive(Debug)]
pub(super) enum BeginError {
    /// There is none, for sure, and the log can go on.
    Clean(io::Error),
    /// A sync failed.
    Unknown(io::Error),
}

/// The directory of the log.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) directory: PathBuf,
    /// The largest number of a segment or spare so far.
    pub(super) number: u64,
    /// Numbers of spare files, none larger than `segment_bytes`.
    pub(super) spares: Vec<u64>,
    pub(super) segment_bytes: u64,
    /// Files that are to be removed.
    pub(super) doomed: Vec<PathBuf>,
}

impl Files {
    /// Keeps what an earlier owner has left, if it is whole.
    pub(super) fn keep_spare(&mut self, number: u64) {
        let path = Name::Spare(number).path(&self.directory);
        let len = self.fs.open(&path, false).and_then(|file| file.len());
        if self.spares.len() < self.most_spares() && len.is_ok_and(|len| len <= self.segment_bytes)
        {
            self.spares.push(number);
        } else {
            self.doomed.push(path);
        }
    }

    /// Makes a segment durable that is ready for records, and says up to where its blocks are
    /// there. A file gets the name of a segment when its header is durable, so a segment always
    /// has a whole header.
    pub(super) fn begin(
        &mut self,
        identity: u128,
        (first, follows): (u64, u64),
        len: u64,
    ) -> Result<(segment::Header, Arc<dyn File>, u64), BeginError> {
        let salt = salt().map_err(BeginError::Clean)?;
        let (spare, file, mut filled) = self.spare(len)?;
        self.number += 1;
        let header = segment::Header { identity, number: self.number, salt, first, follows, len };
        let ready = if filled < HEADER {
            self.fill(&*file, 0, HEADER, len).map(|to| filled = to)
        } else {
            Ok(())
        };
        let ready = ready
            .and_then(|()| file.write_all_at(0, &header.encode()).map_err(BeginError::Clean))
            .and_then(|()| sync(&*file))
            .and_then(|()| {
                self.rename(Name::Spare(spare), Name::Log(header.number)).map_err(BeginError::Clean)
            });
        if let Err(error) = ready {
            self.remove(Name::Spare(spare));
            return Err(error);
        }
        self.fs.sync_dir(&self.directory).map_err(BeginError::Unknown)?;
        Ok((header, file, filled))
    }

    /// A file to become a segment, and up to where its blocks are there.
    fn spare(&mut self, len: u64) -> Result<(u64, Arc<dyn File>, u64), BeginError> {
        let open = |fs: &dyn FileSystem, number, create| {
            fs.open(&Name::Spare(number).path(&self.directory), create).map_err(BeginError::Clean)
        };
        if len == self.segment_bytes
            && let Some(number) = self.spares.pop()
        {
            let file = open(&*self.fs, number, false)?;
            let filled = file.len().map_err(BeginError::Clean)?;
            return Ok((number, file, filled));
        }
        self.number += 1;
        Ok((self.number, open(&*self.fs, self.number, true)?, 0))
    }

    /// Writes zeros where the blocks of a file end, so that it has room up to `needed` and a
    /// sync has nothing but data to write for a while; up to `len` at the most. Returns up to
    /// where the blocks are there now.
    ///
    /// Not all of the segment at once: whoever takes over a store waits for this.
    pub(super) fn fill(
        &self,
        file: &dyn File,
        from: u64,
        needed: u64,
        len: u64,
    ) -> Result<u64, BeginError> {
        let piece = (self.segment_bytes / 16).clamp(HEADER, PIECE);
        let end = (needed + piece).next_multiple_of(HEADER).min(len);
        for at in (from..end).step_by(ZEROS) {
            let count = (end - at).min(ZEROS as u64) as usize;
            file.write_all_at(at, &[0; ZEROS][..count]).map_err(BeginError::Clean)?;
        }
        sync(file)?;
        Ok(end)
    }

    fn most_spares(&self) -> usize {
        (SPARE_BYTES / self.segment_bytes).clamp(SPARES.0, SPARES.1) as usize
    }

    /// Takes segments out of use: some become spares, others are to be removed. What fails is
    /// left for the next owner.
    pub(super) fn retire(&mut self, segments: &[segment::Header]) {
        let mut renamed = Vec::new();
        for segment in segments {
            let (log, spare) = (Name::Log(segment.number), Name::Spare(segment.number));
            let keep = self.spares.len() + renamed.len() < self.most_spares();
            if !keep || segment.len != self.segment_bytes {
                self.doomed.push(log.path(&self.directory));
            } else if self.rename(log, spare).is_ok() {
                renamed.push(segment.number);
            }
        }
        if renamed.is_empty() {
            return;
        }
        // Before this, a crash may bring the old name back, and then it must still be the
        // old segment.
        match self.fs.sync_dir(&self.directory) {
            Ok(()) => self.spares.extend(renamed),
            Err(error) => tracing::warn!(%error, "log segments are not used again"),
        }
    }

    fn rename(&self, from: Name, to: Name) -> io::Result<()> {
        self.fs.rename(&from.path(&self.directory), &to.path(&self.directory))
    }

    fn remove(&self, name: Name) {
        if let Err(error) = self.fs.remove(&name.path(&self.directory)) {
            tracing::warn!(%error, file = name.file(), "a file of the log is not removed");
        }
    }
}

/// A disk may be found full as late as here. After any other failure, it is not trusted.
fn sync(file: &dyn File) -> Result<(), BeginError> {
    file.sync_data().map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BeginError::Clean(error),
        _ => BeginError::Unknown(error),
    })
}

fn salt() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(bytes))
}
