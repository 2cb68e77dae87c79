//! Files in the memory of this process, for stores that nobody else opens.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{File, FileSystem};

/// A file system in memory, gone when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct MemoryFs(Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>);

#[derive(Debug, Default)]
struct MemoryFile(RwLock<Vec<u8>>);

impl MemoryFs {
    fn names(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<MemoryFile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileSystem for MemoryFs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let mut names = self.names();
        if create {
            return Ok(Arc::clone(names.entry(path.into()).or_default()) as Arc<dyn File>);
        }
        let file = names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(file) as Arc<dyn File>)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        let file = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.names().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = self.names();
        let inside = names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into())).collect())
    }

    /// Directories need not be made: a name has them.
    fn create_dir_all(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl MemoryFile {
    fn bytes(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes_mut(&self) -> RwLockWriteGuard<'_, Vec<u8>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File for MemoryFile {
    fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        let bytes = self.bytes();
        let behind = bytes.get(position(at)?..).unwrap_or_default();
        let read = behind.len().min(to.len());
        to[..read].copy_from_slice(&behind[..read]);
        Ok(read)
    }

    fn write_all_at(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let at = position(at)?;
        let mut bytes = self.bytes_mut();
        let end = at.checked_add(from.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[at..end].copy_from_slice(from);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes_mut().resize(position(len)?, 0);
        Ok(())
    }
}

fn position(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_name_and_keep_what_is_written() {
        let fs = MemoryFs::default();
        let (left, right) = (Path::new("/store/left"), Path::new("/store/right"));
        assert_eq!(fs.open(left, false).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs.open(left, true).unwrap().write_all_at(3, b"hello").unwrap();
        fs.rename(left, right).unwrap();
        assert_eq!(fs.list(Path::new("/store")).unwrap(), ["right"]);
        let file = fs.open(right, true).unwrap();
        let mut bytes = [1; 9];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), 8);
        assert_eq!(&bytes[..8], b"\0\0\0hello");
        file.set_len(4).unwrap();
        assert_eq!(file.len().unwrap(), 4);
        assert_eq!(file.read_at(9, &mut bytes).unwrap(), 0);
        fs.remove(right).unwrap();
        assert_eq!(fs.list(Path::new("/store")).unwrap(), [""; 0]);
    }
}
