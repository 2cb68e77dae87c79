//! The data file and the locks on it, which are all the truth there is about who owns and
//! reads it. The kernel ends them with their process, however that ends.
//!
//! ```text
//! byte            locked by        how      means
//! 2⁶²             the owner        alone    it owns the file
//! 2⁶² + 1 + n     a reader         alone    it has reader slot n
//! 2⁶² + 2⁶⁰ + g   the owner        alone    it is of generation g, and ready
//! 2⁶² + 2⁶¹ + p   any readers      shared   they have pinned position p
//! ```
//!
//! No file has these bytes. Nobody else locks them either: redb locks by flock(2), which is
//! another kind, and SQLite bytes around 2³⁰.
use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use shm_primitives::lease::{Generation, SLOTS};

use crate::{
    error::{DataFailure, DataFileError, OsError},
    os::lock::LockFile,
};

const OWNER: u64 = 1 << 62;
const READERS: Range<u64> = OWNER + 1..OWNER + 1 + SLOTS as u64;
const GENERATIONS: Range<u64> = OWNER + (1 << 60)..OWNER + (1 << 60) + Generation::MAX.get() + 1;
const PINS: Range<u64> = OWNER + (1 << 61)..OWNER + (1 << 62);
/// The largest position that can be pinned.
pub(crate) const MAX_POSITION: u64 = PINS.end - PINS.start - 1;

const _: () = assert!(READERS.end <= GENERATIONS.start && GENERATIONS.end <= PINS.start);
const _: () = assert!(PINS.end - 1 == i64::MAX as u64);

/// How many locks are looked at in search of the lowest.
const MAX_STEPS: u32 = 10_000;

/// Whether somebody owns a data file, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ownership {
    /// Nobody does.
    Free,
    /// Somebody is about to, or about to leave.
    Changing,
    /// A living process does.
    Owned(Generation),
}

/// Device and inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// What a data file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To ask about locks.
    Ask,
    /// To take them.
    Take,
}

/// A data file, opened for its locks.
#[derive(Debug)]
pub(crate) struct DataFile {
    locks: LockFile,
    id: FileId,
    path: PathBuf,
}

impl DataFile {
    /// Opens a data file. Of a symbolic link, what it leads to: whichever name is used, the
    /// `-shm` file is the same.
    pub(crate) fn open(path: &Path, access: Access) -> Result<Self, DataFailure> {
        let refuse = |error| refusal(path, error);
        let path = fs::canonicalize(path).map_err(refuse)?;
        // Before it is opened: to open a device or a pipe can have effects.
        if !fs::symlink_metadata(&path).map_err(refuse)?.is_file() {
            return Err(DataFileError::NotAFile(path).into());
        }
        let locks = LockFile::open(|| {
            OpenOptions::new()
                .read(true)
                .write(access == Access::Take)
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
                .open(&path)
        });
        let locks = locks.map_err(refuse)?;
        let metadata = locks.file().metadata().map_err(refuse)?;
        if !metadata.is_file() {
            return Err(DataFileError::NotAFile(path).into());
        }
        Ok(Self { locks, id: FileId::of(&metadata), path })
    }

    /// One more opening of the same file.
    pub(crate) fn again(&self) -> Result<Self, DataFailure> {
        let again = Self::open(&self.path, Access::Take)?;
        if again.id == self.id { Ok(again) } else { Err(self.replaced().into()) }
    }

    /// Whether this process opened it. A child that was forked since has nothing of it.
    pub(crate) fn is_ours(&self) -> bool {
        self.locks.is_ours()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        self.locks.file()
    }

    /// Where the `-shm` file is.
    pub(crate) fn shm_path(&self) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push("-shm");
        name.into()
    }

    /// Checks that the path still leads to this file.
    pub(crate) fn check_path(&self) -> Result<(), DataFailure> {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if FileId::of(&metadata) == self.id => Ok(()),
            Ok(_) => Err(self.replaced().into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.replaced().into()),
            Err(error) => Err(OsError::new("examine the data file", error).into()),
        }
    }

    fn replaced(&self) -> DataFileError {
        DataFileError::Replaced(self.path.clone())
    }

    /// Takes the ownership, if nobody has it.
    pub(crate) fn try_own(&self) -> Result<bool, OsError> {
        self.locks.try_lock(OWNER)
    }

    /// Says that the owner, this one, is ready. `false` if somebody locks what is not theirs.
    pub(crate) fn announce(&self, generation: Generation) -> Result<bool, OsError> {
        self.locks.try_lock(GENERATIONS.start + generation.get())
    }

    /// Gives the ownership up, announced or not.
    pub(crate) fn disown(&self, generation: Option<Generation>) -> Result<(), OsError> {
        if let Some(generation) = generation {
            self.locks.unlock(GENERATIONS.start + generation.get())?;
        }
        self.locks.unlock(OWNER)
    }

    /// Who owns it, seen from outside: to the owner itself it is free.
    pub(crate) fn ownership(&self) -> Result<Ownership, OsError> {
        if let Some(found) = self.locks.find_elsewhere(GENERATIONS)?
            // Longer: a lock on all of the file, by somebody else.
            && found.end - found.start == 1
            && let Some(generation) = Generation::new(found.start - GENERATIONS.start)
        {
            return Ok(Ownership::Owned(generation));
        }
        let changing = self.locks.is_locked_elsewhere(OWNER)?;
        Ok(if changing { Ownership::Changing } else { Ownership::Free })
    }

    /// Takes a reader slot.
    pub(crate) fn take_slot(&self) -> Result<Option<u32>, OsError> {
        for slot in 0..SLOTS {
            if self.locks.try_lock(READERS.start + u64::from(slot))? {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// The reader slots that others have, by rising number.
    pub(crate) fn slots(&self) -> Result<Vec<u32>, OsError> {
        let mut found = Vec::new();
        let mut left = vec![READERS];
        // Each step finds a lock and splits what is left around it, or drops a part.
        while let Some(range) = left.pop() {
            if let Some(locked) = self.locks.find_elsewhere(range.clone())? {
                left.push(range.start..locked.start);
                left.push(locked.end..range.end);
                found.extend(locked.filter_map(|byte| u32::try_from(byte - READERS.start).ok()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Pins a position, beside what is pinned already.
    pub(crate) fn pin(&self, position: u64) -> Result<(), OsError> {
        // Pins are shared. Only somebody who locks all of the file can be in the way.
        match self.locks.try_share(PINS.start + position)? {
            true => Ok(()),
            false => {
                Err(OsError::new("pin a position", io::Error::from_raw_os_error(libc::EAGAIN)))
            }
        }
    }

    pub(crate) fn unpin(&self, position: u64) -> Result<(), OsError> {
        self.locks.unlock(PINS.start + position)
    }

    /// The lowest position that others have pinned.
    pub(crate) fn oldest_pin(&self) -> Result<Option<u64>, OsError> {
        let mut below = PINS;
        let mut lowest = None;
        // Nothing was pinned below the lowest when the last question was answered; what was
        // found before may have gone since, which makes the answer too low and no worse.
        for _ in 0..MAX_STEPS {
            match self.locks.find_elsewhere(below.clone())? {
                Some(found) => below.end = found.start,
                None => return Ok(lowest),
            }
            lowest = Some(below.end - PINS.start);
        }
        // Somebody pins lower and lower positions for ever: nothing may be given up.
        Ok(Some(0))
    }
}

fn refusal(path: &Path, error: io::Error) -> DataFailure {
    let path = path.to_owned();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => DataFileError::Missing(path).into(),
        Some(libc::EISDIR | libc::ELOOP | libc::ENXIO | libc::ENODEV) => {
            DataFileError::NotAFile(path).into()
        }
        Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::ETXTBSY) => {
            DataFileError::NotPermitted(path).into()
        }
        _ => OsError::new("open the data file", error).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(file: &tempfile::NamedTempFile) -> DataFile {
        DataFile::open(file.path(), Access::Take).unwrap()
    }

    #[test]
    fn the_lowest_pin_is_found_among_many() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let asking = open(&file);
        assert_eq!(asking.oldest_pin().unwrap(), None);
        let positions = [MAX_POSITION, 7000, 12, 12, 900, 13, 1 << 50];
        let mut readers: Vec<_> = positions.map(|at| (at, open(&file))).into();
        for (position, reader) in &readers {
            reader.pin(*position).unwrap();
        }
        while !readers.is_empty() {
            let lowest = readers.iter().map(|(position, _)| *position).min();
            assert_eq!(asking.oldest_pin().unwrap(), lowest);
            let at = readers.iter().position(|(position, _)| Some(*position) == lowest);
            readers.remove(at.unwrap());
        }
        assert_eq!(asking.oldest_pin().unwrap(), None);
    }

    #[test]
    fn slots_are_counted_one_by_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let asking = open(&file);
        let mut readers: Vec<_> = (0..SLOTS).map(|_| open(&file)).collect();
        for (slot, reader) in readers.iter().enumerate() {
            assert_eq!(reader.take_slot().unwrap(), Some(slot as u32));
        }
        assert_eq!(open(&file).take_slot().unwrap(), None);
        assert_eq!(asking.slots().unwrap(), (0..SLOTS).collect::<Vec<_>>());
        let mut slot = 0;
        readers.retain(|_| {
            slot += 1;
            slot % 3 == 0
        });
        let left: Vec<_> = (0..SLOTS).filter(|slot| slot % 3 == 2).collect();
        assert_eq!(asking.slots().unwrap(), left);
    }

    #[test]
    fn an_owner_is_seen_with_its_generation_when_it_is_ready() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (ours, theirs) = (open(&file), open(&file));
        for generation in [Generation::after(None, 0), Generation::MAX] {
            assert_eq!(theirs.ownership().unwrap(), Ownership::Free);
            assert!(ours.try_own().unwrap() && !theirs.try_own().unwrap());
            assert_eq!(theirs.ownership().unwrap(), Ownership::Changing);
            assert!(ours.announce(generation).unwrap());
            assert_eq!(theirs.ownership().unwrap(), Ownership::Owned(generation));
            ours.disown(Some(generation)).unwrap();
        }
    }
}
