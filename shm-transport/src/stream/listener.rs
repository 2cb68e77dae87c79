use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use super::{ShmStream, stream_config};
use crate::{
    deadline::Deadline,
    host::{Host, HostBuilder},
};

/// How many streams a listener serves at once, unless its host is configured.
const MAX_STREAMS: usize = 1024;

/// The host of a listener that is not configured.
pub(super) fn host() -> HostBuilder {
    Host::builder().max_guests(MAX_STREAMS).link(stream_config())
}

/// Accepts [streams](ShmStream) at a path, as a
/// [`UnixListener`](std::os::unix::net::UnixListener) does.
///
/// The path disappears with the listener, and what a killed one leaves there is replaced by the
/// next. Its directory must be this user's alone to write; one that does not exist is made. It
/// serves processes of the same user, up to 1024 at once. For other users, numbers or sizes
/// make a [`Host`] and a listener from it:
///
/// ```
/// use shm_transport::{Host, stream::{ShmListener, stream_config}};
///
/// let directory = tempfile::tempdir()?;
/// let host = Host::builder().max_guests(8).link(stream_config());
/// let listener = ShmListener::from(host.create(directory.path().join("listener"))?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ShmListener {
    host: Host,
    nonblocking: bool,
}

impl ShmListener {
    /// A listener at `path`.
    ///
    /// # Errors
    ///
    /// A [`CreateError`](crate::CreateError), as an I/O error of the kind that a socket has:
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if another one listens there, or if something else
    /// stands there.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(host().create(path)?.into())
    }

    /// The next stream; waits for one. Clients connect only while this is called.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none and the listener does not wait;
    /// [`OutOfMemory`](io::ErrorKind::OutOfMemory) and the like if a client could not be let in:
    /// the listener goes on.
    pub fn accept(&mut self) -> io::Result<ShmStream> {
        let deadline = if self.nonblocking { Deadline::NOW } else { Deadline::NEVER };
        Ok(self.host.accept(deadline)?.into())
    }

    /// One stream after the other, for ever.
    pub fn incoming(&mut self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Whether [`accept`](Self::accept) is [`WouldBlock`](io::ErrorKind::WouldBlock) instead of
    /// waiting. The listener's descriptor is readable when it may have something to do.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn set_nonblocking(&mut self, nonblocking: bool) -> io::Result<()> {
        self.nonblocking = nonblocking;
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.host.path()
    }
}

/// A listener whose streams are the links of this host.
impl From<Host> for ShmListener {
    fn from(host: Host) -> Self {
        Self { host, nonblocking: false }
    }
}

impl AsFd for ShmListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.host.as_fd()
    }
}

/// The streams that a [`ShmListener`] accepts, for ever.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a mut ShmListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<ShmStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept())
    }
}
