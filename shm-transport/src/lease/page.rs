//! The `-shm` file: one page, reached by positioned reads and writes of single records.
//!
//! It is not mapped: others can cut it short, and touching a mapping beyond the end of its
//! file is a signal. A read there is a short read.
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, open, renameat_with},
    io::Errno,
};
use shm_primitives::lease::{
    Found, HEADERS_AT, LeaseHeader, PAGE_SIZE, ReaderRecord, SLOT_SIZE, judge,
};

use super::data::FileId;
use crate::{
    error::{LeaseFileError, OsError, PageFailure},
    os::lock::LockFile,
};

/// A `-shm` file. Only the owner of the lease makes one and writes headers.
#[derive(Debug)]
pub(crate) struct Page {
    file: LockFile,
    id: FileId,
}

/// What stands in a file.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) found: Found,
    /// As much of the first page as there is.
    pub(crate) bytes: Vec<u8>,
}

impl Page {
    /// Opens the file at a path, if there is one.
    pub(crate) fn open(path: &Path, write: bool) -> Result<Option<Self>, PageFailure> {
        let occupied = || LeaseFileError::Occupied(path.to_owned());
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => {}
            // Opening a device or a pipe can have effects.
            Ok(_) => return Err(occupied().into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refusal(path, error)),
        }
        let file = LockFile::open(|| {
            OpenOptions::new()
                .read(true)
                .write(write)
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
                .open(path)
        });
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| refusal(path, error))?,
        };
        let metadata = file.file().metadata().map_err(|error| refusal(path, error))?;
        if !metadata.is_file() {
            return Err(occupied().into());
        }
        Ok(Some(Self { file, id: FileId::of(&metadata) }))
    }

    /// Makes the file, beside `data` and for the same users. Nobody sees it before it is
    /// complete. `None` if something has appeared at the path.
    pub(crate) fn create(
        path: &Path,
        data: &File,
        header: &LeaseHeader,
    ) -> Result<Option<Self>, PageFailure> {
        match Self::create_unnamed(path, data, header) {
            // The file system has no unnamed files, or proc(5) is not there.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOENT)
                ) =>
            {
                Self::create_renamed(path, data, header)
            }
            made => made.map_err(|error| refusal(path, error)),
        }
    }

    fn create_unnamed(path: &Path, data: &File, header: &LeaseHeader) -> io::Result<Option<Self>> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file =
            LockFile::open(|| Ok(File::from(open(directory, flags, Mode::RUSR | Mode::WUSR)?)))?;
        let page = Self::fill(file, data, header)?;
        let name = format!("/proc/self/fd/{}", page.file.file().as_raw_fd());
        match linkat(CWD, name, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(Some(page)),
            Err(Errno::EXIST) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes the file under another name, which only the owner of the lease uses.
    fn create_renamed(
        path: &Path,
        data: &File,
        header: &LeaseHeader,
    ) -> Result<Option<Self>, PageFailure> {
        let mut temporary = OsString::from(path);
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        // What an owner left that died here.
        if let Some(left) = Self::open(&temporary, true)? {
            if matches!(left.read()?.found, Found::Foreign | Found::Version(_)) {
                return Err(LeaseFileError::Occupied(temporary).into());
            }
            fs::remove_file(&temporary).map_err(|error| refusal(&temporary, error))?;
        }
        let file = LockFile::open(|| {
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary)
        });
        let file = file.map_err(|error| refusal(&temporary, error))?;
        let named = Self::fill(file, data, header).and_then(|page| {
            renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE)?;
            Ok(page)
        });
        match named {
            Ok(page) => Ok(Some(page)),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                match error.kind() {
                    io::ErrorKind::AlreadyExists => Ok(None),
                    _ => Err(refusal(path, error)),
                }
            }
        }
    }

    fn fill(file: LockFile, data: &File, header: &LeaseHeader) -> io::Result<Self> {
        let data = data.metadata()?;
        // Whoever may use the data file may use this one. It works for the superuser, and
        // between the groups of a user; where it does not, fewer may.
        let _ = fchown(file.file().as_fd(), Some(data.uid()), Some(data.gid()));
        let made = file.file().metadata()?;
        let mode = if made.gid() == data.gid() { 0o666 } else { 0o606 };
        let mode = fs::Permissions::from_mode(data.mode() & mode | 0o600);
        file.file().set_permissions(mode)?;
        let page = Self { id: FileId::of(&made), file };
        page.file.file().set_len(PAGE_SIZE as u64)?;
        page.write_headers(header)?;
        Ok(page)
    }

    /// The size of this file in bytes, if the path leads to it.
    pub(crate) fn size_at(&self, path: &Path) -> Option<u64> {
        let metadata = fs::symlink_metadata(path).ok()?;
        (FileId::of(&metadata) == self.id).then_some(metadata.len())
    }

    /// Whether somebody has locked any of it: no lease does, but SQLite, for example, does,
    /// in its file of the same name.
    pub(crate) fn is_locked(&self) -> Result<bool, OsError> {
        Ok(self.file.find_elsewhere(0..i64::MAX as u64)?.is_some())
    }

    pub(crate) fn read(&self) -> Result<Contents, OsError> {
        let read = || {
            let metadata = self.file.file().metadata()?;
            let size = metadata.len();
            let mut bytes = vec![0; PAGE_SIZE];
            let mut len = 0;
            while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
                match self.file.file().read_at(rest, len as u64) {
                    Ok(0) => break,
                    Ok(more) => len += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            bytes.truncate(len);
            let found = match judge(&bytes, size) {
                // By one of its other names it may be anybody's: it is not written over.
                Found::Damaged { header: None, .. } if metadata.nlink() > 1 => Found::Foreign,
                found => found,
            };
            Ok(Contents { found, bytes })
        };
        read().map_err(|error| OsError::new("read the lease's file", error))
    }

    /// Writes both headers, and makes the file a page.
    pub(crate) fn write(&self, header: &LeaseHeader) -> Result<(), OsError> {
        let write = || {
            let file = self.file.file();
            if file.metadata()?.len() != PAGE_SIZE as u64 {
                file.set_len(PAGE_SIZE as u64)?;
            }
            self.write_headers(header)
        };
        write().map_err(|error| OsError::new("write the lease's file", error))
    }

    fn write_headers(&self, header: &LeaseHeader) -> io::Result<()> {
        let bytes = header.encode();
        // One after the other: a death between leaves the new one and the old one.
        HEADERS_AT.into_iter().try_for_each(|at| self.file.file().write_all_at(&bytes, at as u64))
    }

    /// Writes the record of a reader slot, whose lock the caller has.
    pub(crate) fn write_slot(&self, slot: u32, bytes: &[u8; SLOT_SIZE]) -> Result<(), OsError> {
        let Some(at) = ReaderRecord::offset(slot) else { return Ok(()) };
        let written = self.file.file().write_all_at(bytes, at as u64);
        written.map_err(|error| OsError::new("write a reader's record", error))
    }
}

fn refusal(path: &Path, error: io::Error) -> PageFailure {
    let path = path.to_owned();
    match error.raw_os_error() {
        Some(libc::ELOOP | libc::EISDIR | libc::ENXIO | libc::ENODEV) => {
            LeaseFileError::Occupied(path).into()
        }
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => LeaseFileError::NotPermitted(path).into(),
        _ => OsError::new("open or create the lease's file", error).into(),
    }
}

#[cfg(test)]
mod tests {
    use shm_primitives::lease::{Generation, LeaseState};

    use super::*;

    const HEADER: LeaseHeader = LeaseHeader {
        pid: 1,
        generation: Generation::MAX,
        incarnation: 2,
        readers: 3,
        state: LeaseState::Owned,
        heartbeat: 4,
    };

    fn data() -> (tempfile::TempDir, File, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let data = File::create(directory.path().join("data")).unwrap();
        data.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        let path = directory.path().join("data-shm");
        (directory, data, path)
    }

    type Create = fn(&Path, &File, &LeaseHeader) -> Result<Option<Page>, PageFailure>;

    /// Both ways of making the file.
    const WAYS: [Create; 2] = [Page::create, Page::create_renamed];

    #[test]
    fn a_new_file_is_whole_and_for_the_users_of_the_data_file() {
        for create in WAYS {
            let (directory, data, path) = data();
            let page = create(&path, &data, &HEADER).unwrap().unwrap();
            assert_eq!(page.size_at(&path), Some(4096));
            assert_eq!(page.read().unwrap().found, Found::Whole(HEADER));
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.mode() & 0o777, metadata.len()), (0o640, 4096));
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        }
    }

    #[test]
    fn what_stands_at_the_path_is_not_replaced() {
        for create in WAYS {
            let (_directory, data, path) = data();
            fs::write(&path, "notes").unwrap();
            assert!(create(&path, &data, &HEADER).unwrap().is_none());
            assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
        }
    }

    #[test]
    fn what_a_dead_owner_left_halfway_is_replaced_and_other_files_are_not() {
        let (directory, data, path) = data();
        let temporary = directory.path().join("data-shm.new");
        fs::write(&temporary, b"").unwrap();
        assert!(Page::create_renamed(&path, &data, &HEADER).unwrap().is_some());
        fs::remove_file(&path).unwrap();
        fs::write(&temporary, "notes").unwrap();
        let refused = Page::create_renamed(&path, &data, &HEADER);
        assert!(matches!(refused, Err(PageFailure::File(LeaseFileError::Occupied(_)))));
        assert_eq!(fs::read_to_string(&temporary).unwrap(), "notes");
    }

    #[test]
    fn a_lock_on_the_file_is_seen() {
        let (_directory, data, path) = data();
        let page = Page::create(&path, &data, &HEADER).unwrap().unwrap();
        assert!(!page.is_locked().unwrap());
        let other = Page::open(&path, true).unwrap().unwrap();
        assert!(other.file.try_lock(128).unwrap());
        assert!(page.is_locked().unwrap());
    }
}
