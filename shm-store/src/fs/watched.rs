//! A file system that lets somebody know of each step before it is taken.

use std::{fmt, io, path::Path, sync::Arc};

use super::{File, FileSystem};

/// What is about to be done to a file system.
pub(crate) enum Step<'a> {
    Read,
    /// A file is opened, and made if there is none.
    Create,
    Write {
        file: &'a dyn File,
        at: u64,
        bytes: &'a [u8],
    },
    SetLen,
    Sync,
    Rename,
    Remove,
    SyncDir,
}

type Watch = Arc<dyn Fn(Step<'_>) + Send + Sync>;

/// A file system whose steps are watched.
#[derive(Clone)]
pub(crate) struct Watched {
    fs: Arc<dyn FileSystem>,
    watch: Watch,
}

struct WatchedFile {
    file: Arc<dyn File>,
    watch: Watch,
}

impl Watched {
    pub(crate) fn new(
        fs: impl FileSystem + 'static,
        watch: impl Fn(Step<'_>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { fs: Arc::new(fs), watch: Arc::new(watch) })
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.fs).finish()
    }
}

impl fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedFile").field(&self.file).finish()
    }
}

impl FileSystem for Watched {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        if create {
            (self.watch)(Step::Create);
        }
        let file = self.fs.open(path, create)?;
        Ok(Arc::new(WatchedFile { file, watch: Arc::clone(&self.watch) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.watch)(Step::Rename);
        self.fs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        (self.watch)(Step::Remove);
        self.fs.remove(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.fs.list(directory)
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        self.fs.create_dir_all(directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        (self.watch)(Step::SyncDir);
        self.fs.sync_dir(directory)
    }
}

impl File for WatchedFile {
    fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        (self.watch)(Step::Read);
        self.file.read_at(at, to)
    }

    fn write_all_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        (self.watch)(Step::Write { file: &*self.file, at, bytes });
        self.file.write_all_at(at, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.watch)(Step::Sync);
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        (self.watch)(Step::SetLen);
        self.file.set_len(len)
    }
}
