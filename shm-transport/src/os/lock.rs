//! Locks that end with the process, by file: fcntl(2), record locks.
//!
//! A record lock belongs to one process. Unlike flock(2), which belongs to the open file,
//! it does not live on in a child that was forked and still holds the descriptor. Its price
//! is that *any* closing of the file by its owner releases it; so this process never opens
//! a lock file a second time while it holds it.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{FlockOperation, OFlags, fcntl_lock},
    io::Errno,
};

use crate::error::OsError;

/// Process, device and inode of the lock files that are held. A forked child inherits the
/// list, but not the locks of its parent's entries.
static HELD: Mutex<Vec<(u32, u64, u64)>> = Mutex::new(Vec::new());

/// A lock file that is held, and goes with its owner.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    identity: (u32, u64, u64),
    _file: File,
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

impl Lock {
    /// Takes the lock by which `path` stands for itself, making the file if there is none.
    pub(crate) fn take(path: PathBuf) -> Result<Self, LockError> {
        let os = |operation, error: std::io::Error| LockError::Os(OsError::new(operation, error));
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if identify(&path).is_some_and(|identity| held.contains(&identity)) {
                return Err(LockError::Held);
            }
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(OFlags::NOFOLLOW.bits() as i32)
                .open(&path)
                .map_err(|error| match error.raw_os_error() {
                    Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => LockError::Occupied,
                    _ => os("open a lock", error),
                })?;
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::INTR) => continue,
                Err(Errno::ACCESS | Errno::AGAIN) => return Err(LockError::Held),
                Err(errno) => return Err(os("take a lock", errno.into())),
            }
            let ours = file.metadata().map_err(|error| os("examine a lock", error))?;
            if !ours.is_file() || ours.len() != 0 {
                // Lock files are empty: this one is somebody's data.
                return Err(LockError::Occupied);
            }
            let identity = (std::process::id(), ours.dev(), ours.ino());
            // An owner that left between our opening and our locking took the file along.
            if identify(&path) == Some(identity) {
                held.push(identity);
                return Ok(Self { path, identity, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours while we have the lock of it: not if somebody removed ours and the path is
        // another's now, and not in a forked child of the owner.
        if identify(&self.path) == Some(self.identity) {
            let _ = fs::remove_file(&self.path);
        }
        held.retain(|identity| *identity != self.identity);
    }
}

fn identify(path: &Path) -> Option<(u32, u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((std::process::id(), metadata.dev(), metadata.ino()))
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
}
