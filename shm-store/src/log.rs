//! The write-ahead log: the truth of a store. See docs/store.md.

mod check;
mod files;
mod record;
mod recover;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Lsn, OpenError,
    fs::{File, FileSystem},
};
pub(crate) use check::Check;
use files::{BeginError, Files};
use segment::HEADER;

/// A buffer for groups that is larger is given back.
const BUFFER: usize = 1 << 20;
/// Segments that are taken out of use at once.
const RECYCLED: usize = 4;

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions {
    /// Bytes of a segment. One that must hold a larger group is as large as that needs.
    pub(crate) segment_bytes: u64,
    /// The most payload of a record.
    pub(crate) max_record_bytes: u64,
}

/// Why nothing was appended. Except for `Poisoned`, the log goes on.
#[derive(Clone, Debug)]
pub(crate) enum AppendError {
    /// The disk is full.
    NoSpace,
    /// A record is larger than one may be.
    TooLarge,
    /// A sync failed, now or before, or a failed append could not be taken back.
    Poisoned,
    /// The system refused.
    Io(Arc<io::Error>),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

/// The log could not be synced: whether what was appended since the last sync is durable is
/// not known, and never will be by this log.
#[derive(Clone, Debug)]
pub(crate) struct SyncFailed;

/// The log of a store, of which there is one at a time.
#[derive(Debug)]
pub(crate) struct Log {
    files: Files,
    max_record_bytes: u64,
    identity: u128,
    /// Those that count but the last, oldest first.
    older: Vec<segment::Header>,
    /// The one that is written.
    current: segment::Header,
    file: Arc<dyn File>,
    /// Where the next group goes.
    at: u64,
    /// Up to where the blocks of the file are there.
    filled: u64,
    /// The last LSN that has a record.
    last: u64,
    next: u64,
    durable: u64,
    poisoned: bool,
    buffer: Vec<u8>,
}

impl Log {
    /// Opens the log in a store's directory, or begins it.
    ///
    /// Every record above `applied` is replayed in order, and all of them are durable when
    /// this returns. A tail that is torn is void from now on. LSNs go on, with a gap, above
    /// all that were ever given out.
    ///
    /// # Errors
    ///
    /// [`OpenError::Damaged`] if a record that was synced is not whole, or a segment is
    /// missing; whatever `replay` returns.
    pub(crate) fn open(
        fs: Arc<dyn FileSystem>,
        directory: &Path,
        options: &LogOptions,
        identity: u128,
        applied: Lsn,
        replay: &mut recover::Replay<'_>,
    ) -> Result<Self, OpenError> {
        let log = directory.join("log");
        fs.create_dir_all(&log)?;
        fs.sync_dir(directory)?;
        let found = recover::recover(&*fs, &log, identity, applied.0, replay)?;
        let segment_bytes = options.segment_bytes;
        let mut files = Files {
            fs,
            directory: log,
            number: found.number,
            spares: Vec::new(),
            segment_bytes,
            doomed: Vec::new(),
        };
        for spare in found.spares {
            files.keep_spare(spare);
        }
        let (current, file, filled) = files
            .begin(identity, (found.next, found.last), segment_bytes)
            .map_err(|(BeginError::Clean(error) | BeginError::Unknown(error))| error)?;
        let mut log = Self {
            files,
            max_record_bytes: options.max_record_bytes,
            identity,
            older: found.segments,
            current,
            file,
            at: HEADER,
            filled,
            last: found.last,
            next: found.next,
            durable: found.last,
            poisoned: false,
            buffer: Vec::new(),
        };
        log.recycle(applied);
        Ok(log)
    }

    /// Appends records in a row, with one write. None of them is durable before
    /// [`sync`](Self::sync); after a crash, some of the first may be there.
    ///
    /// # Errors
    ///
    /// Nothing was appended, and nothing of it will be replayed.
    pub(crate) fn append(
        &mut self,
        records: &[Vec<u8>],
    ) -> Result<RangeInclusive<Lsn>, AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        let largest = self.max_record_bytes.min(u32::MAX.into());
        if records.iter().any(|payload| payload.len() as u64 > largest) {
            return Err(AppendError::TooLarge);
        }
        let size: u64 = records.iter().map(|payload| record::size(payload.len())).sum();
        if self.at + size > self.current.len {
            self.turn(size)?;
        }
        if self.at + size > self.filled {
            self.sync_rest()?;
            let filled =
                self.files.fill(&*self.file, self.filled, self.at + size, self.current.len);
            self.filled = self.begun(filled)?;
        }
        let first = self.next;
        self.buffer.clear();
        for (lsn, payload) in (first..).zip(records) {
            record::encode(&mut self.buffer, self.current.salt, lsn, self.durable, payload);
        }
        if let Err(error) = self.file.write_all_at(self.at, &self.buffer) {
            self.take_back()?;
            return Err(error.into());
        }
        self.at += size;
        self.next += records.len() as u64;
        self.last = self.next - 1;
        if self.buffer.capacity() > BUFFER {
            self.buffer = Vec::new();
        }
        Ok(Lsn(first)..=Lsn(self.last))
    }

    /// Makes what was appended durable, and says up to where.
    ///
    /// # Errors
    ///
    /// It failed, now or before. The log takes nothing any more.
    pub(crate) fn sync(&mut self) -> Result<Lsn, SyncFailed> {
        if self.poisoned {
            return Err(SyncFailed);
        }
        if let Err(error) = self.file.sync_data() {
            tracing::error!(%error, "the log cannot be synced");
            self.poisoned = true;
            return Err(SyncFailed);
        }
        self.durable = self.last;
        Ok(Lsn(self.durable))
    }

    /// Takes segments out of use that have nothing above `applied`, which must be durable in
    /// all shards. Returns whether that were all: a few at a time, for somebody waits.
    pub(crate) fn recycle(&mut self, applied: Lsn) -> bool {
        let follows = self.older.iter().skip(1).chain([&self.current]).map(|next| next.follows);
        let (void, kept) =
            self.older.iter().zip(follows).partition::<Vec<_>, _>(|&(segment, until)| {
                until <= applied.0 || until == segment.follows
            });
        let mut void: Vec<_> = void.into_iter().map(|(segment, _)| *segment).collect();
        let later = void.split_off(void.len().min(RECYCLED));
        let is_all = later.is_empty();
        if !void.is_empty() {
            self.older = kept.into_iter().map(|(segment, _)| *segment).chain(later).collect();
            self.older.sort_unstable_by_key(|segment| segment.number);
            self.files.retire(&void);
        }
        is_all
    }

    /// Files that nobody needs any more. They may be removed at any time, by this owner or a
    /// later one; as that takes milliseconds each, not while somebody waits.
    pub(crate) fn take_doomed(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.files.doomed)
    }

    /// The LSN that the next record will have.
    pub(crate) fn next(&self) -> Lsn {
        Lsn(self.next)
    }

    /// Goes on in a new segment, which has room for so many bytes. The header says up to
    /// where the one before counts, so that must be durable first.
    fn turn(&mut self, size: u64) -> Result<(), AppendError> {
        self.sync_rest()?;
        let len = self.files.segment_bytes.max(HEADER + size);
        let begun = self.files.begin(self.identity, (self.next, self.last), len);
        let (header, file, filled) = self.begun(begun)?;
        self.older.push(std::mem::replace(&mut self.current, header));
        (self.file, self.at, self.filled) = (file, HEADER, filled);
        Ok(())
    }

    /// Before a sync that may find the disk full, which must not concern any record.
    fn sync_rest(&mut self) -> Result<(), AppendError> {
        if self.durable < self.last {
            self.sync().map_err(|SyncFailed| AppendError::Poisoned)?;
        }
        Ok(())
    }

    /// A segment, or more of it; a failed sync poisons.
    fn begun<T>(&mut self, result: Result<T, BeginError>) -> Result<T, AppendError> {
        result.map_err(|error| match error {
            BeginError::Clean(error) => error.into(),
            BeginError::Unknown(error) => {
                tracing::error!(%error, "a segment of the log cannot be synced");
                self.poisoned = true;
                AppendError::Poisoned
            }
        })
    }

    /// Makes sure that nothing of a failed write is replayed, also after a crash.
    fn take_back(&mut self) -> Result<(), AppendError> {
        self.buffer.fill(0);
        let gone =
            self.file.write_all_at(self.at, &self.buffer).and_then(|()| self.file.sync_data());
        if let Err(error) = gone {
            tracing::error!(%error, "a failed append cannot be taken back");
            self.poisoned = true;
            return Err(AppendError::Poisoned);
        }
        self.durable = self.last;
        Ok(())
    }
}
