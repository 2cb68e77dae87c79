use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{
    error::OsError,
    os::lock::{Lock, LockError, LockFile},
    rendezvous::{LOCK, TEMPORARY, with_suffix},
};

/// What is at the path of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rendezvous {
    /// The hub's path.
    pub path: PathBuf,
    /// Whether a host lives that serves it, as the kernel knows it.
    pub live: bool,
    /// What is there for it: the socket, the lock, and a half-made socket, as far as they are.
    pub files: Vec<PathBuf>,
    /// Whose files they are.
    pub uid: u32,
}

/// Looks at the path of a hub; `None` if there is nothing of one. It connects to nobody.
///
/// # Errors
///
/// If it may not be looked at.
pub fn rendezvous(path: &Path) -> Result<Option<Rendezvous>, OsError> {
    let is_socket = |path: &Path| {
        fs::symlink_metadata(path).ok().filter(|metadata| metadata.file_type().is_socket())
    };
    let lock_path = with_suffix(path, LOCK);
    let lock = fs::symlink_metadata(&lock_path);
    // Only an empty file is a lock of a host's.
    let lock = lock.ok().filter(|metadata| metadata.is_file() && metadata.len() == 0);
    let Some(lock) = lock else { return Ok(None) };
    let temporary = with_suffix(path, TEMPORARY);
    let mut files = Vec::new();
    files.extend(is_socket(path).map(|_| path.to_owned()));
    files.extend(is_socket(&temporary).map(|_| temporary));
    files.push(lock_path.clone());
    let open = || {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        fs::OpenOptions::new().read(true).custom_flags(flags).open(&lock_path)
    };
    let file = match LockFile::open(open) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OsError::new("open a hub's lock", error)),
    };
    let live = file.is_locked_elsewhere(0)?;
    Ok(Some(Rendezvous { path: path.to_owned(), live, files, uid: lock.uid() }))
}

impl Rendezvous {
    /// Removes what a dead host left, under its lock, as the next host would; `false` if a host
    /// lives here now.
    ///
    /// # Errors
    ///
    /// If it may not be removed.
    pub fn clear(&self) -> Result<bool, OsError> {
        // The lock goes with the value, as the last of the files.
        let _lock = match Lock::take(with_suffix(&self.path, LOCK)) {
            Ok(lock) => lock,
            Err(LockError::Held | LockError::Occupied) => return Ok(false),
            Err(LockError::Os(error)) => return Err(error),
        };
        for path in [self.path.clone(), with_suffix(&self.path, TEMPORARY)] {
            let is_socket = |metadata: &fs::Metadata| metadata.file_type().is_socket();
            if fs::symlink_metadata(&path).is_ok_and(|metadata| is_socket(&metadata)) {
                fs::remove_file(&path)
                    .map_err(|error| OsError::new("remove a dead hub's socket", error))?;
            }
        }
        Ok(true)
    }
}
