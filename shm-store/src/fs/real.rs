//! Files of the operating system.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::Path,
    sync::Arc,
};

use super::{File, FileSystem};

/// The file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealFs;

impl FileSystem for RealFs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(create).open(path)?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into()))
            .collect()
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        fs::File::open(directory)?.sync_all()
    }
}

impl File for fs::File {
    fn read_at(&self, at: u64, mut to: &mut [u8]) -> io::Result<usize> {
        let (wanted, mut at) = (to.len(), at);
        while !to.is_empty() {
            match FileExt::read_at(self, to, at) {
                Ok(0) => break,
                Ok(read) => (at, to) = (at + read as u64, &mut to[read..]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wanted - to.len())
    }

    fn write_all_at(&self, at: u64, from: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, from, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_is_for_this_user_alone() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("a/b");
        RealFs.create_dir_all(&directory).unwrap();
        RealFs.create_dir_all(&directory).unwrap();
        for made in [directory.as_path(), directory.parent().unwrap()] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
