//! The path under which guests find a host.
//!
//! A host holds a lock on `<path>.lock` for its life; the kernel ends it with the process,
//! however that ends. Who has the lock may replace what a dead host left. The socket is
//! made under another name, listens, and is then renamed to the path: nobody ever sees one
//! that is half made.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use rustix::{
    fs::{Mode, fchmod},
    io::Errno,
    net::{SocketAddrUnix, SocketFlags, accept_with, bind, connect, listen},
};

use crate::{
    error::{AttachError, CreateError, OsError, PathError},
    os::{
        connection::Connection,
        lock::{Lock, LockError},
        socket,
    },
};

/// Bytes that a socket's path can have, its end included, less our suffixes.
const MAX_PATH: usize = 108 - 1 - TEMPORARY.len();
const LOCK: &str = ".lock";
const TEMPORARY: &str = ".new";
const BACKLOG: i32 = 1024;

/// A host's hold on its path.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    path: PathBuf,
    listener: OwnedFd,
    /// Device and inode of our socket.
    identity: (u64, u64),
    /// The process that made it.
    owner: u32,
    _lock: Lock,
}

impl Rendezvous {
    pub(crate) fn create(path: &Path, admits_others: bool) -> Result<Self, CreateError> {
        check_path(path)?;
        prepare_directory(path)?;
        let lock_path = with_suffix(path, LOCK);
        let lock = Lock::take(lock_path.clone()).map_err(|error| match error {
            LockError::Held => CreateError::HostExists(path.to_owned()),
            LockError::Occupied => PathError::Occupied(lock_path).into(),
            LockError::Os(error) => error.into(),
        })?;
        // A socket here is nobody's, because we have the lock.
        is_free_or_socket(path)?;
        let listener = listen_at(path, admits_others)?;
        let metadata = fs::symlink_metadata(path)
            .map_err(|error| OsError::new("examine the hub's socket", error))?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { path: path.to_owned(), listener, identity, owner: process::id(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Rendezvous {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        if self.owner != process::id() {
            // A forked child owns nothing here.
            return;
        }
        // Under the lock: what has our identity is ours.
        if let Ok(metadata) = fs::symlink_metadata(&self.path)
            && (metadata.dev(), metadata.ino()) == self.identity
        {
            let _ = fs::remove_file(&self.path);
        }
        // Connections that nobody accepted are closed one by one; see `Connection`.
        for _ in 0..BACKLOG {
            match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => drop(Connection::new(socket)),
                Err(_) => break,
            }
        }
    }
}

/// How long to wait when the host's queue of guests is full.
pub(crate) const CONNECT_PAUSE: Duration = Duration::from_millis(1);

/// A connection to the host at a path, to be made.
#[derive(Debug)]
pub(crate) struct Connecting<'a> {
    path: &'a Path,
    address: SocketAddrUnix,
    socket: OwnedFd,
}

impl<'a> Connecting<'a> {
    pub(crate) fn new(path: &'a Path) -> Result<Self, AttachError> {
        check_path(path)?;
        let address =
            SocketAddrUnix::new(path).map_err(|errno| OsError::new("use the hub's path", errno))?;
        Ok(Self { path, address, socket: socket::new()? })
    }

    /// Connects, unless the host's queue of guests is full: then it is to be tried again.
    pub(crate) fn attempt(self) -> Result<Result<OwnedFd, Self>, AttachError> {
        let path = self.path;
        loop {
            return match connect(&self.socket, &self.address) {
                Ok(()) => Ok(Ok(self.socket)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(Err(self)),
                Err(Errno::NOENT | Errno::NOTDIR) => Err(AttachError::NoHost(path.to_owned())),
                Err(Errno::ACCESS | Errno::PERM) => Err(AttachError::NotPermitted),
                Err(Errno::PROTOTYPE) => Err(AttachError::NotAHub(path.to_owned())),
                Err(Errno::CONNREFUSED) => {
                    let is_socket = |m: fs::Metadata| m.file_type().is_socket();
                    let socket = fs::symlink_metadata(path).is_ok_and(is_socket);
                    let path = path.to_owned();
                    Err(if socket {
                        AttachError::HostDead(path)
                    } else {
                        AttachError::NotAHub(path)
                    })
                }
                Err(errno) => Err(OsError::new("connect to the host", errno).into()),
            };
        }
    }
}

fn check_path(path: &Path) -> Result<(), PathError> {
    if path.file_name().is_none() {
        return Err(PathError::NoName(path.to_owned()));
    }
    if path.as_os_str().len() > MAX_PATH {
        return Err(PathError::TooLong { path: path.to_owned(), max: MAX_PATH });
    }
    Ok(())
}

/// Makes the directory if there is none, for this user alone, and refuses one in which
/// others could replace our socket by theirs.
fn prepare_directory(path: &Path) -> Result<(), CreateError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let examine = || fs::metadata(directory);
    let metadata = examine().or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(directory);
            made.map_err(|error| OsError::new("create the hub's directory", error))?;
            examine().map_err(|error| OsError::new("examine the hub's directory", error))
        }
        _ => Err(OsError::new("examine the hub's directory", error)),
    })?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !own || metadata.mode() & 0o022 != 0 {
        return Err(PathError::UnsafeDirectory(directory.to_owned()).into());
    }
    Ok(())
}

fn listen_at(path: &Path, admits_others: bool) -> Result<OwnedFd, CreateError> {
    let temporary = with_suffix(path, TEMPORARY);
    let address = SocketAddrUnix::new(&temporary)
        .map_err(|errno| OsError::new("use the hub's path", errno))?;
    let listener = socket::new()?;
    // The socket's mode is taken over by the file that bind makes, less the umask; so it
    // is never open to more than it should be, and set once more for an umask that is
    // stricter.
    let mode = Mode::from_raw_mode(if admits_others { 0o666 } else { 0o600 });
    fchmod(&listener, mode).map_err(|errno| OsError::new("protect the hub's socket", errno))?;
    // What an earlier host that died here left. Under the lock it is nobody's.
    if is_free_or_socket(&temporary)? {
        let _ = fs::remove_file(&temporary);
    }
    bind(&listener, &address).map_err(|errno| OsError::new("bind the hub's socket", errno))?;
    let made = rustix::fs::chmod(&temporary, mode)
        .and_then(|()| listen(&listener, BACKLOG))
        .map_err(|errno| OsError::new("listen on the hub's socket", errno))
        .and_then(|()| {
            fs::rename(&temporary, path)
                .map_err(|error| OsError::new("name the hub's socket", error))
        });
    if let Err(error) = made {
        let _ = fs::remove_file(&temporary);
        return Err(error.into());
    }
    Ok(listener)
}

/// Whether a socket stands at `path`; an error if something else does, which is left alone.
fn is_free_or_socket(path: &Path) -> Result<bool, CreateError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(true),
        Ok(_) => Err(PathError::Occupied(path.to_owned()).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(OsError::new("examine the hub's path", error).into()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
