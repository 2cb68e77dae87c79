//! Memory with a name: files in a directory that the user alone can write.
//!
//! A file is made without a name, filled, and then linked under its name, so that nobody
//! ever sees one that is half made, and whoever dies meanwhile leaves nothing.
//!
//! Source: open(2) on `O_TMPFILE`, linkat(2).

use std::{
    ffi::OsString,
    fs::{DirBuilder, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStringExt, fs::DirBuilderExt},
    },
    path::Path,
};

use memmap2::MmapOptions;
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Stat, fallocate,
        fchmod, fstat, ftruncate, linkat, mkdirat, openat, renameat_with, statat, unlinkat,
    },
    io::Errno,
};

use super::{forked::none_forked, memory::Segment};
use crate::error::OsError;

/// A directory that belongs to this user and that nobody else can write.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

/// Why something under a name is not used.
#[derive(Debug)]
pub(crate) enum NameError {
    /// It is not there.
    Missing,
    /// It is there already.
    Exists,
    /// It is something else than it should be: a link, a file, a directory.
    WrongType,
    /// It belongs to this other user.
    Owner(u32),
    /// Others can write it; its mode.
    Mode(u32),
    Os(OsError),
}

impl From<OsError> for NameError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

fn name_error(operation: &'static str, errno: Errno) -> NameError {
    match errno {
        Errno::NOENT => NameError::Missing,
        Errno::EXIST | Errno::NOTEMPTY => NameError::Exists,
        Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => NameError::WrongType,
        errno => OsError::new(operation, errno).into(),
    }
}

/// Refuses what others could change or replace.
fn check(stat: &Stat, kind: FileType) -> Result<(), NameError> {
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return Err(NameError::WrongType);
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(NameError::Owner(stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(NameError::Mode(stat.st_mode & 0o7777));
    }
    Ok(())
}

/// The user that names are kept apart by.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Directory {
    /// Opens a directory, making it and what is above it if it is not there.
    pub(crate) fn make(path: &Path) -> Result<Self, NameError> {
        match Self::open_in(CWD, path) {
            Err(NameError::Missing) => {}
            opened => return opened,
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                // The loser of a race, or something else that stands there.
                Some(errno) => name_error("create a fleet's directory", errno),
                None => OsError::new("create a fleet's directory", error).into(),
            }
        })?;
        Self::open_in(CWD, path)
    }

    fn open_in(directory: BorrowedFd<'_>, name: &Path) -> Result<Self, NameError> {
        let fd = openat(directory, name, DIRECTORY, Mode::empty())
            .map_err(|errno| name_error("open a fleet's directory", errno))?;
        let stat =
            fstat(&fd).map_err(|errno| OsError::new("examine a fleet's directory", errno))?;
        check(&stat, FileType::Directory)?;
        Ok(Self(fd))
    }

    /// Opens a directory that is there.
    pub(crate) fn open(path: &Path) -> Result<Self, NameError> {
        Self::open_in(CWD, path)
    }

    /// Opens a directory in this one.
    pub(crate) fn open_directory(&self, name: &str) -> Result<Self, NameError> {
        Self::open_in(self.0.as_fd(), name.as_ref())
    }

    /// Makes a directory in this one. Somebody else may be first: that is
    /// [`NameError::Exists`].
    pub(crate) fn make_directory(&self, name: &str) -> Result<(), NameError> {
        mkdirat(&self.0, name, Mode::RWXU)
            .map_err(|errno| name_error("create a fleet's directory", errno))
    }

    /// Whether the name in this directory is still the other directory.
    pub(crate) fn has(&self, name: &str, other: &Self) -> Result<bool, OsError> {
        let named = match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(OsError::new("examine a fleet's directory", errno)),
        };
        let stat =
            fstat(&other.0).map_err(|errno| OsError::new("examine a fleet's directory", errno))?;
        Ok((named.st_dev, named.st_ino) == (stat.st_dev, stat.st_ino))
    }

    /// Gives a directory in this one another name that is free.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), NameError> {
        renameat_with(&self.0, from, &self.0, to, RenameFlags::NOREPLACE)
            .map_err(|errno| name_error("rename a fleet's directory", errno))
    }

    /// Removes a directory in this one with the files in it.
    pub(crate) fn remove_directory(&self, name: &str) -> Result<(), NameError> {
        let directory = self.open_directory(name)?;
        for file in directory.names()? {
            match directory.remove(&file) {
                Ok(()) | Err(NameError::Missing) => {}
                Err(error) => return Err(error),
            }
        }
        unlinkat(&self.0, name, AtFlags::REMOVEDIR)
            .map_err(|errno| name_error("remove a fleet's directory", errno))
    }

    /// Whether this directory has no name any more.
    fn is_removed(&self) -> bool {
        fstat(&self.0).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// The names in this directory, of those that are text.
    pub(crate) fn names(&self) -> Result<Vec<String>, OsError> {
        let list = |errno| OsError::new("list a fleet's directory", errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0).map_err(list)? {
            let name = entry.map_err(list)?.file_name().to_bytes().to_vec();
            match OsString::from_vec(name).into_string() {
                Ok(name) if name != "." && name != ".." => names.push(name),
                _ => {}
            }
        }
        Ok(names)
    }

    /// Removes a file's name. Who has it open keeps it.
    pub(crate) fn remove(&self, name: &str) -> Result<(), NameError> {
        unlinkat(&self.0, name, AtFlags::empty())
            .map_err(|errno| name_error("remove a fleet's file", errno))
    }

    /// Opens a file in this directory for reading and writing.
    pub(crate) fn open_file(&self, name: &str) -> Result<File, NameError> {
        // Without blocking: it could be a pipe.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = openat(&self.0, name, flags, Mode::empty())
            .map_err(|errno| name_error("open a fleet's file", errno))?;
        let stat = fstat(&fd).map_err(|errno| OsError::new("examine a fleet's file", errno))?;
        check(&stat, FileType::RegularFile)?;
        Ok(fd.into())
    }

    /// Makes a file of `size` bytes, of which the first `allocated` are there, fills it
    /// by `fill` and then gives it its name, unless somebody else was first: that is
    /// [`NameError::Exists`].
    pub(crate) fn create_file(
        &self,
        name: &str,
        size: u64,
        allocated: u64,
        fill: impl FnOnce(&Segment),
    ) -> Result<(), NameError> {
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd: File = match openat(&self.0, ".", flags, mode) {
            Ok(fd) => fd.into(),
            // How this is refused differs between file systems.
            Err(_) if self.is_removed() => return Err(NameError::Missing),
            Err(errno) => return Err(name_error("create a fleet's file", errno)),
        };
        // Whatever the umask: other processes of this user must be able to open it.
        fchmod(&fd, mode).map_err(|errno| OsError::new("protect a fleet's file", errno))?;
        ftruncate(&fd, size).map_err(|errno| OsError::new("size a fleet's file", errno))?;
        allocate(&fd, 0, allocated)?;
        fill(&map(&fd, size)?);
        let own = format!("/proc/self/fd/{}", fd.as_raw_fd());
        linkat(CWD, own, &self.0, name, AtFlags::SYMLINK_FOLLOW).map_err(|errno| match errno {
            // The directory was removed meanwhile.
            Errno::NOENT => NameError::Missing,
            errno => name_error("name a fleet's file", errno),
        })
    }
}

/// Size of a file in bytes.
pub(crate) fn size(file: &File) -> Result<u64, OsError> {
    let metadata = file.metadata();
    Ok(metadata.map_err(|error| OsError::new("examine a fleet's file", error))?.len())
}

/// Provides the memory of a part of a file: a lack of it shows here and never as a signal
/// later.
pub(crate) fn allocate(file: &File, from: u64, len: u64) -> Result<(), OsError> {
    loop {
        match fallocate(file, FallocateFlags::empty(), from, len) {
            Err(Errno::INTR) => {}
            other => {
                return other.map_err(|errno| OsError::new("allocate a fleet's memory", errno));
            }
        }
    }
}

/// Maps the first `size` bytes of a file, which it has.
pub(crate) fn map(file: &File, size: u64) -> Result<Segment, OsError> {
    let len = usize::try_from(size).map_err(|_| {
        OsError::new("map a fleet's memory", io::Error::from_raw_os_error(libc::ENOMEM))
    })?;
    let _until_kept_from_children = none_forked();
    let mapping = MmapOptions::new()
        .len(len)
        .map_raw(file)
        .map_err(|error| OsError::new("map a fleet's memory", error))?;
    Segment::new(mapping)
}

/// Now, in nanoseconds of the clock that goes on while the machine is suspended and that
/// all processes share.
pub(crate) fn boot_nanoseconds() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}
