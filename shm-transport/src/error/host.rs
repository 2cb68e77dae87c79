use std::{error::Error, fmt, path::PathBuf};

use shm_primitives::{header::GeometryError, peer::PeerError};

use super::os::OsError;

/// Why a rendezvous path cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum PathError {
    /// Longer than a socket's path can be.
    TooLong {
        /// The path.
        path: PathBuf,
        /// The most bytes that it can have.
        max: usize,
    },
    /// It has no file name.
    NoName(PathBuf),
    /// Its directory belongs to another user, or others can write it.
    UnsafeDirectory(PathBuf),
    /// Something other than a socket stands there. It is left as it is.
    Occupied(PathBuf),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { path, max } => write!(
                f,
                "{} is longer than the {max} bytes of a socket's path: choose a shorter one",
                path.display()
            ),
            Self::NoName(path) => {
                write!(f, "{} does not name a file: append a name for the hub", path.display())
            }
            Self::UnsafeDirectory(path) => write!(
                f,
                "others could put a hub of theirs into {}: use a directory that is yours alone to \
                 write, such as $XDG_RUNTIME_DIR",
                path.display()
            ),
            Self::Occupied(path) => write!(
                f,
                "{} exists and is not a socket or lock of a hub: it is left alone, choose another path",
                path.display()
            ),
        }
    }
}

impl Error for PathError {}

/// Why there is no host.
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// A living host serves this path.
    HostExists(PathBuf),
    /// The path cannot be used.
    Path(PathError),
    /// A size of the configuration is impossible.
    Geometry(GeometryError),
    /// The operating system refused something.
    Os(OsError),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostExists(path) => write!(
                f,
                "a living host serves {}: attach to it as a guest, or choose another path",
                path.display()
            ),
            Self::Path(error) => error.fmt(f),
            Self::Geometry(error) => error.fmt(f),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for CreateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::HostExists(_) => None,
            Self::Path(error) => Some(error),
            Self::Geometry(error) => Some(error),
            Self::Os(error) => Some(error),
        }
    }
}

impl From<PathError> for CreateError {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}

impl From<GeometryError> for CreateError {
    fn from(error: GeometryError) -> Self {
        Self::Geometry(error)
    }
}

impl From<OsError> for CreateError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

/// Why no guest was accepted.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcceptError {
    /// None came before the deadline.
    TimedOut,
    /// The operating system refused something. The host goes on; so may the caller.
    Os(OsError),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no guest came before the deadline"),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for AcceptError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TimedOut => None,
            Self::Os(error) => Some(error),
        }
    }
}

impl From<OsError> for AcceptError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

/// Why a guest was not started.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// No peer entry for it.
    Peer(PeerError),
    /// The host has said goodbye.
    HostLeaving,
    /// The process did not start, or the operating system refused something else.
    Os(OsError),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => error.fmt(f),
            Self::HostLeaving => f.write_str("the host has said goodbye: start guests before"),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Peer(error) => Some(error),
            Self::HostLeaving => None,
            Self::Os(error) => Some(error),
        }
    }
}

impl From<PeerError> for SpawnError {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl From<OsError> for SpawnError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}
