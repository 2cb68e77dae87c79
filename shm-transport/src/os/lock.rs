//! Locks that end with the process: fcntl(2), open file description locks.
//!
//! They belong to the open file: two of one process exclude each other like those of two
//! processes, and nobody loses one because somebody else in the process closed the same
//! file, as happens to record locks. But a forked child shares the open file, and would keep
//! a dead owner's lock. So all lock files are closed in forked children, by a handler of
//! `pthread_atfork`. A child that is made without it (a bare `clone`) keeps them until it
//! runs another program.
#![allow(unsafe_code)]

use std::{
    fs::{self, File, OpenOptions},
    io,
    mem::ManuallyDrop,
    ops::Range,
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering},
    },
};

use rustix::fs::OFlags;

use super::forked::Origin;
use crate::error::OsError;

/// A file whose bytes are locked, one by one. The bytes need not exist.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: ManuallyDrop<File>,
    place: &'static Place,
    owner: u32,
    origin: Origin,
}

impl LockFile {
    /// Opens a file that is to be locked, by `open`. No child is forked meanwhile.
    pub(crate) fn open(open: impl FnOnce() -> io::Result<File>) -> io::Result<Self> {
        static HANDLERS: Once = Once::new();
        // SAFETY: the handlers use atomics and close(2) only, as the child of a process
        // with several threads may.
        HANDLERS.call_once(|| unsafe {
            libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child));
        });
        // Before the lock: it may have handlers to register.
        let origin = Origin::here();
        let _none_forked = TABLE.lock();
        let file = open()?;
        let place = TABLE.place(file.as_raw_fd());
        Ok(Self { file: ManuallyDrop::new(file), place, owner: process::id(), origin })
    }

    /// Whether this process opened it. In a forked child it is closed, and its number may be
    /// another file's.
    pub(crate) fn is_ours(&self) -> bool {
        // A child in another pid namespace can have its parent's number; one that was made
        // without the handlers has another, or the file.
        self.owner == process::id() && self.origin.is_here()
    }

    /// Locks a byte for this file alone; `false` if another open file has it.
    pub(crate) fn try_lock(&self, byte: u64) -> Result<bool, OsError> {
        self.set(libc::F_WRLCK, byte)
    }

    /// Locks a byte together with others that share it; `false` if somebody has it alone.
    pub(crate) fn try_share(&self, byte: u64) -> Result<bool, OsError> {
        self.set(libc::F_RDLCK, byte)
    }

    /// Gives a byte back. Dropping the file gives back all.
    pub(crate) fn unlock(&self, byte: u64) -> Result<(), OsError> {
        if self.set(libc::F_UNLCK, byte)? {
            return Ok(());
        }
        Err(OsError::new("give a lock back", io::Error::from_raw_os_error(libc::EAGAIN)))
    }

    /// Whether another open file, of whatever process, has a lock on a byte.
    pub(crate) fn is_locked_elsewhere(&self, byte: u64) -> Result<bool, OsError> {
        Ok(self.find_elsewhere(byte..byte.saturating_add(1))?.is_some())
    }

    /// Some bytes within a range on which other open files have a lock: the whole of one
    /// lock, as far as it is in the range. Not necessarily the first.
    pub(crate) fn find_elsewhere(&self, range: Range<u64>) -> Result<Option<Range<u64>>, OsError> {
        if range.is_empty() {
            return Ok(None);
        }
        let lock = self.control(libc::F_OFD_GETLK, libc::F_WRLCK, range.clone());
        let lock = lock.map_err(|error| OsError::new("ask for a lock", error))?;
        if i32::from(lock.l_type) == libc::F_UNLCK {
            return Ok(None);
        }
        let start = lock.l_start as u64;
        // No length: up to the end of all files.
        let end = if lock.l_len == 0 { u64::MAX } else { start.saturating_add(lock.l_len as u64) };
        Ok(Some(start.max(range.start)..end.min(range.end)))
    }

    /// The file, for reading and writing. It is gone in a forked child.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    fn set(&self, kind: libc::c_int, byte: u64) -> Result<bool, OsError> {
        match self.control(libc::F_OFD_SETLK, kind, byte..byte.saturating_add(1)) {
            Ok(_) => Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EACCES) => Ok(false),
                _ => Err(OsError::new("take a lock", error)),
            },
        }
    }

    fn control(
        &self,
        what: libc::c_int,
        kind: libc::c_int,
        range: Range<u64>,
    ) -> io::Result<libc::flock> {
        let mut lock = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: range.start as libc::off_t,
            l_len: range.end.saturating_sub(range.start) as libc::off_t,
            // Must be 0 for locks of open files.
            l_pid: 0,
        };
        loop {
            // SAFETY: these commands take a `flock`, which lives until they return.
            if unsafe { libc::fcntl(self.file.as_raw_fd(), what, &raw mut lock) } == 0 {
                return Ok(lock);
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINTR) {
                return Err(error);
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.is_ours() {
            // Closing alone would not do while a child that another thread has just forked
            // has yet to run its program.
            let _ = self.control(libc::F_OFD_SETLK, libc::F_UNLCK, 0..0);
            let _none_forked = TABLE.lock();
            self.place.fd.store(NONE, Ordering::Relaxed);
            // SAFETY: dropped here only, and never used again.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

/// The numbers of all lock files of this process. Places are never freed, but used again.
static TABLE: Table =
    Table { locked: AtomicBool::new(false), first: AtomicPtr::new(std::ptr::null_mut()) };

const NONE: RawFd = -1;

#[derive(Debug)]
struct Place {
    fd: AtomicI32,
    next: Option<&'static Place>,
}

struct Table {
    /// Held while lock files are opened or closed, and while this process forks.
    locked: AtomicBool,
    first: AtomicPtr<Place>,
}

struct Guard(&'static Table);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

impl Table {
    fn lock(&'static self) -> Guard {
        self.lock_raw();
        Guard(self)
    }

    fn lock_raw(&self) {
        // Acquire and Release make a lock of it. It is held for a few system calls.
        while self.locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }

    fn places(&self) -> impl Iterator<Item = &'static Place> {
        // SAFETY: null, or a place that was leaked by `place`.
        let first = unsafe { self.first.load(Ordering::Relaxed).as_ref() };
        std::iter::successors(first, |place| place.next)
    }

    /// A place for a descriptor, under the lock.
    fn place(&'static self, fd: RawFd) -> &'static Place {
        if let Some(place) = self.places().find(|place| place.fd.load(Ordering::Relaxed) == NONE) {
            place.fd.store(fd, Ordering::Relaxed);
            return place;
        }
        let place = Place { fd: AtomicI32::new(fd), next: self.places().next() };
        let place: &'static mut Place = Box::leak(Box::new(place));
        self.first.store(&raw mut *place, Ordering::Relaxed);
        place
    }
}

extern "C" fn before_fork() {
    TABLE.lock_raw();
}

extern "C" fn after_fork() {
    TABLE.unlock();
}

extern "C" fn in_child() {
    for place in TABLE.places() {
        let fd = place.fd.swap(NONE, Ordering::Relaxed);
        if fd != NONE {
            // SAFETY: a lock file of the parent, which nobody uses in the child: see `drop`.
            unsafe { libc::close(fd) };
        }
    }
    TABLE.unlock();
}

/// A lock file that stands for something else, and goes with its owner.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    identity: (u64, u64),
    file: LockFile,
}

/// Why a lock was not taken.
#[derive(Debug)]
pub(crate) enum LockError {
    /// A living process has it.
    Held,
    /// Something other than an empty file stands there.
    Occupied,
    Os(OsError),
}

impl From<OsError> for LockError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

impl Lock {
    /// Takes the lock by which `path` stands for itself, making the file if there is none.
    pub(crate) fn take(path: PathBuf) -> Result<Self, LockError> {
        loop {
            let open = || {
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .mode(0o600)
                    .custom_flags(OFlags::NOFOLLOW.bits() as i32)
                    .open(&path)
            };
            let file = LockFile::open(open).map_err(|error| match error.raw_os_error() {
                Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => LockError::Occupied,
                _ => OsError::new("open a lock", error).into(),
            })?;
            if !file.try_lock(0)? {
                return Err(LockError::Held);
            }
            let metadata = file.file().metadata();
            let ours = metadata.map_err(|error| OsError::new("examine a lock", error))?;
            if !ours.is_file() || ours.len() != 0 {
                // Lock files are empty: this one is somebody's data.
                return Err(LockError::Occupied);
            }
            let identity = (ours.dev(), ours.ino());
            // An owner that left between our opening and our locking took the file along.
            if identify(&path) == Some(identity) {
                return Ok(Self { path, identity, file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Ours while we have the lock of it: not if somebody removed ours and the path is
        // another's now, and not in a forked child of the owner.
        if self.file.is_ours() && identify(&self.path) == Some(self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identify(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_taken_once_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        for _ in 0..3 {
            let lock = Lock::take(path.clone()).unwrap();
            assert!(matches!(Lock::take(path.clone()), Err(LockError::Held)));
            drop(lock);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_is_no_lock_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("link");
        let data = directory.path().join("data");
        fs::write(&data, "contents").unwrap();
        assert!(matches!(Lock::take(data.clone()), Err(LockError::Occupied)));
        assert_eq!(fs::read_to_string(data).unwrap(), "contents");
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(matches!(Lock::take(path), Err(LockError::Occupied)));
        assert!(matches!(Lock::take(directory.path().into()), Err(LockError::Occupied)));
    }

    #[test]
    fn bytes_are_locked_one_by_one_and_seen_by_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || LockFile::open(|| File::options().read(true).write(true).open(file.path()));
        let (ours, theirs) = (open().unwrap(), open().unwrap());
        assert!(ours.try_lock(7).unwrap());
        assert!(!theirs.try_lock(7).unwrap());
        assert!(theirs.try_lock(8).unwrap());
        assert!(theirs.is_locked_elsewhere(7).unwrap());
        assert!(!ours.is_locked_elsewhere(7).unwrap());
        assert!(theirs.try_share(9).unwrap() && ours.try_share(9).unwrap());
        // Closing another descriptor of the same file releases nothing.
        drop(File::open(file.path()).unwrap());
        assert!(theirs.is_locked_elsewhere(7).unwrap());
        ours.unlock(7).unwrap();
        assert!(theirs.try_lock(7).unwrap());
        drop(theirs);
        assert!(ours.try_lock(7).unwrap());
    }

    #[test]
    fn locks_of_others_are_found_within_a_range() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || LockFile::open(|| File::options().read(true).write(true).open(file.path()));
        let (ours, theirs) = (open().unwrap(), open().unwrap());
        let far = 1 << 62;
        assert!(ours.try_lock(far).unwrap());
        assert_eq!(ours.find_elsewhere(0..u64::MAX >> 1).unwrap(), None);
        assert_eq!(theirs.find_elsewhere(0..u64::MAX >> 1).unwrap(), Some(far..far + 1));
        assert!(ours.try_share(far + 1).unwrap() && ours.try_share(far + 2).unwrap());
        assert_eq!(theirs.find_elsewhere(far + 2..far + 9).unwrap(), Some(far + 2..far + 3));
        assert_eq!(theirs.find_elsewhere(far + 3..far + 9).unwrap(), None);
        assert_eq!(theirs.find_elsewhere(far..far).unwrap(), None);
    }
}
