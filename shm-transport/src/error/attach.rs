use std::{error::Error, fmt, path::PathBuf};

use shm_primitives::{
    header::{GeometryError, HeaderError},
    peer::PeerId,
};

use super::{
    host::PathError,
    os::{BadDescriptor, OsError},
};
use crate::os::memory::MapError;

/// Why a guest did not attach.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttachError {
    /// Nothing stands at the path.
    NoHost(PathBuf),
    /// A socket stands there and nobody listens: its host is dead.
    HostDead(PathBuf),
    /// Whatever stands there is not a hub.
    NotAHub(PathBuf),
    /// The path cannot be used.
    Path(PathError),
    /// The host's user may not be attached to, or this user may not attach.
    NotPermitted,
    /// The host speaks another version of the protocol.
    Version {
        /// The host's.
        host: u32,
        /// Ours.
        guest: u32,
    },
    /// All the host's peer entries are taken.
    HubFull {
        /// Entries that it has.
        peers: u32,
    },
    /// The ticket's reservation was released or claimed before.
    StaleTicket(PeerId),
    /// The host is leaving or died in the middle.
    HostGone,
    /// The host did not answer before the deadline.
    TimedOut,
    /// This process was not started by a host, or has attached already.
    NotSpawned,
    /// A segment that the host handed over is not what it said.
    Segment(HeaderError),
    /// A descriptor that the host handed over is not what it said.
    Descriptor(BadDescriptor),
    /// Sizes that the host sent are impossible.
    Geometry(GeometryError),
    /// The operating system refused something.
    Os(OsError),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost(path) => {
                write!(f, "no host serves {}: start it first, or wait for it", path.display())
            }
            Self::HostDead(path) => write!(
                f,
                "the host of {} is dead: start it again, which replaces the stale socket",
                path.display()
            ),
            Self::NotAHub(path) => {
                write!(f, "{} is not a hub of this library: check the path", path.display())
            }
            Self::Path(error) => error.fmt(f),
            Self::NotPermitted => f.write_str(
                "host and guest run as different users: run both as one, or configure the \
                 host's credentials policy",
            ),
            Self::Version { host, guest } => write!(
                f,
                "the host speaks protocol version {host}, this guest {guest}: use the same release"
            ),
            Self::HubFull { peers } => write!(
                f,
                "all {peers} peer entries of the hub are taken: wait, or configure more on the host"
            ),
            Self::StaleTicket(peer) => {
                write!(f, "the reservation of peer {peer} is over: ask the host for a new one")
            }
            Self::HostGone => f.write_str("the host went away during the attach: try again"),
            Self::TimedOut => f.write_str("the host did not answer before the deadline"),
            Self::NotSpawned => f.write_str(
                "no socket was inherited from a host, or it was used already: start this process \
                 with spawn_guest, or attach by path",
            ),
            Self::Segment(error) => error.fmt(f),
            Self::Descriptor(error) => error.fmt(f),
            Self::Geometry(error) => error.fmt(f),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for AttachError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Path(error) => Some(error),
            Self::Segment(error) => Some(error),
            Self::Descriptor(error) => Some(error),
            Self::Geometry(error) => Some(error),
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

impl From<OsError> for AttachError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

impl From<PathError> for AttachError {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}

impl From<HeaderError> for AttachError {
    fn from(error: HeaderError) -> Self {
        Self::Segment(error)
    }
}

impl From<GeometryError> for AttachError {
    fn from(error: GeometryError) -> Self {
        Self::Geometry(error)
    }
}

impl From<MapError> for AttachError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Bad(bad) => Self::Descriptor(bad),
            MapError::Os(error) => Self::Os(error),
        }
    }
}
