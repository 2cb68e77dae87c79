//! Where a store is.

use std::{
    env,
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::fs::{FileSystem, RealFs};

/// The longest directory whose sockets have paths of a length that sockets can have.
const MAX_DIRECTORY: usize = 80;
/// The file whose lease is the ownership of the store.
const LEASE: &str = "lease";

/// A store's directory.
#[derive(Debug)]
pub(crate) struct Place {
    directory: PathBuf,
    /// Where the sockets are: the directory itself, or a short way to it through the
    /// descriptor.
    sockets: PathBuf,
    _open: File,
}

impl Place {
    /// Makes the directory, for this user alone, if there is none.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        RealFs.create_dir_all(directory)?;
        // Another working directory later is no reason to look elsewhere.
        let directory = fs::canonicalize(directory)?;
        let open = File::open(&directory)?;
        let sockets = if directory.as_os_str().as_bytes().len() <= MAX_DIRECTORY {
            directory.clone()
        } else {
            format!("/proc/self/fd/{}", open.as_raw_fd()).into()
        };
        Ok(Self { directory, sockets, _open: open })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of a socket.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }

    /// The path of the lease's file, which is made if there is none.
    pub(crate) fn lease(&self) -> io::Result<PathBuf> {
        let path = self.directory.join(LEASE);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        Ok(path)
    }
}

/// Where a store lives, and through which door its files are reached.
#[derive(Debug)]
pub(crate) enum Home {
    /// Where all processes find it: its ownership is a lease.
    Directory(Place, Arc<dyn FileSystem>),
    /// In the memory of this process. Its sockets need a directory all the same.
    Memory(Place, Arc<dyn FileSystem>),
}

impl Home {
    /// A store in a directory, which is made if there is none.
    pub(crate) fn directory(path: &Path) -> io::Result<Self> {
        Ok(Self::Directory(Place::new(path)?, Arc::new(RealFs)))
    }

    /// A store in memory.
    pub(crate) fn memory(files: Arc<dyn FileSystem>) -> io::Result<Self> {
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let name = format!("shm-store-{:032x}", u128::from_le_bytes(random));
        Ok(Self::Memory(Place::new(&env::temp_dir().join(name))?, files))
    }

    pub(crate) fn place(&self) -> &Place {
        let (Self::Directory(place, _) | Self::Memory(place, _)) = self;
        place
    }

    pub(crate) fn files(&self) -> Arc<dyn FileSystem> {
        let (Self::Directory(_, files) | Self::Memory(_, files)) = self;
        Arc::clone(files)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Self::Memory(place, _) = self {
            // What is left behind is empty.
            let _ = fs::remove_dir_all(place.directory());
        }
    }
}
