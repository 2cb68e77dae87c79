use std::{error::Error, fmt, path::PathBuf, time::Duration};

use shm_primitives::{
    fleet::{CorruptFleet, LaneError, PublishError, RingGeometryError, RingHeaderError},
    header::HeaderError,
};

use super::os::OsError;

/// A file or directory of a fleet that is not used. It is left as it is.
#[derive(Debug)]
#[non_exhaustive]
pub enum FleetFileError {
    /// Something else stands there: a link, a directory in a file's place, a pipe.
    WrongType(PathBuf),
    /// It belongs to another user.
    ForeignOwner {
        /// Which.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Others can write it.
    UnsafeMode {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The fleet's directory was removed: the fleet is unlinked.
    Unlinked(PathBuf),
    /// The operating system refused something.
    Os(OsError),
}

impl fmt::Display for FleetFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType(path) => write!(
                f,
                "{} is not what a fleet has there: it is left alone, remove it or choose another \
                 name",
                path.display()
            ),
            Self::ForeignOwner { path, uid } => write!(
                f,
                "{} belongs to user {uid}: a fleet is for one user, choose another directory",
                path.display()
            ),
            Self::UnsafeMode { path, mode } => write!(
                f,
                "others can write {} (mode {mode:o}): make it yours alone to write",
                path.display()
            ),
            Self::Unlinked(path) => {
                write!(f, "{} is unlinked: join the fleet anew", path.display())
            }
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for FleetFileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

impl From<OsError> for FleetFileError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

/// Why a process is not in a fleet.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// A name that no fleet can have.
    Name(String),
    /// More nodes than a fleet can have, or none.
    Nodes(u32),
    /// The fleet has no such node.
    NoSuchNode {
        /// What was asked for.
        node: u32,
        /// Nodes are numbered from 0 to one less than this.
        nodes: u32,
    },
    /// A living process has joined as this node.
    NodeTaken {
        /// What was asked for.
        node: u32,
        /// The process; 0 if it has not said yet.
        pid: u32,
    },
    /// The fleet was made for another number of nodes.
    OtherNodes {
        /// What was asked for.
        asked: u32,
        /// What it has.
        found: u32,
    },
    /// The fleet's table of members is none of this release.
    Members(HeaderError),
    /// A file or directory cannot be used.
    File(FleetFileError),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "{name:?} is not a fleet's name: use 1 to 64 letters, digits, '.', '_' and '-', \
                 and no '.' first"
            ),
            Self::Nodes(nodes) => write!(f, "a fleet of {nodes} nodes: choose 1 to 1024"),
            Self::NoSuchNode { node, nodes } => {
                write!(f, "there is no node {node} in a fleet of {nodes}: choose a smaller one")
            }
            Self::NodeTaken { node, pid } => {
                write!(f, "process {pid} has joined as node {node}: end it, or choose another node")
            }
            Self::OtherNodes { asked, found } => write!(
                f,
                "{asked} nodes asked for, the fleet has {found}: ask for as many, or unlink it"
            ),
            Self::Members(error) => write!(f, "the fleet's table of members: {error}"),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl Error for JoinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Members(error) => Some(error),
            Self::File(error) => Some(error),
            _ => None,
        }
    }
}

impl From<FleetFileError> for JoinError {
    fn from(error: FleetFileError) -> Self {
        Self::File(error)
    }
}

impl From<OsError> for JoinError {
    fn from(error: OsError) -> Self {
        Self::File(error.into())
    }
}

/// Why a ring is not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum RingError {
    /// Sizes that no ring can have.
    Geometry(RingGeometryError),
    /// What stands there is no ring of this release.
    Header(RingHeaderError),
    /// It is a ring of another kind.
    Kind {
        /// What was asked for.
        asked: u8,
        /// What it says.
        found: u8,
    },
    /// It keeps another number of frames.
    Capacity {
        /// What was asked for.
        asked: u64,
        /// What it has.
        found: u64,
    },
    /// It carries payloads of another size.
    MaxPayload {
        /// What was asked for, in bytes.
        asked: u32,
        /// What it has.
        found: u32,
    },
    /// It was made for another number of nodes.
    Nodes {
        /// What the fleet has.
        asked: u32,
        /// What the ring has.
        found: u32,
    },
    /// It belongs to another fleet, or to an earlier one of this name.
    OtherFleet {
        /// This fleet.
        asked: u128,
        /// The ring's.
        found: u128,
    },
    /// A file or directory cannot be used.
    File(FleetFileError),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let as_it_is = "open it as it is, or unlink it";
        match self {
            Self::Geometry(error) => error.fmt(f),
            Self::Header(error) => error.fmt(f),
            Self::Kind { asked, found } => {
                write!(f, "kind {asked:02x} asked for, the ring is of kind {found:02x}: unlink it")
            }
            Self::Capacity { asked, found } => {
                write!(f, "{asked} frames asked for, the ring keeps {found}: {as_it_is}")
            }
            Self::MaxPayload { asked, found } => {
                write!(f, "payloads of {asked} bytes asked for, the ring has {found}: {as_it_is}")
            }
            Self::Nodes { asked, found } => {
                write!(f, "the fleet has {asked} nodes, the ring {found}: unlink it")
            }
            Self::OtherFleet { asked, found } => {
                write!(f, "the ring belongs to fleet {found:032x}, not to {asked:032x}: unlink it")
            }
            Self::File(error) => error.fmt(f),
        }
    }
}

impl Error for RingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Geometry(error) => Some(error),
            Self::Header(error) => Some(error),
            Self::File(error) => Some(error),
            _ => None,
        }
    }
}

impl From<RingHeaderError> for RingError {
    fn from(error: RingHeaderError) -> Self {
        Self::Header(error)
    }
}

impl From<FleetFileError> for RingError {
    fn from(error: FleetFileError) -> Self {
        Self::File(error)
    }
}

impl From<OsError> for RingError {
    fn from(error: OsError) -> Self {
        Self::File(error.into())
    }
}

/// Why a frame was not published in a fleet's ring. Nothing of it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum FleetPublishError {
    /// As the ring says.
    Publish(PublishError),
    /// This node's lane is damaged.
    Lane(LaneError),
    /// The memory of this node's lane could not be had.
    Os(OsError),
}

impl fmt::Display for FleetPublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(error) => error.fmt(f),
            Self::Lane(error) => error.fmt(f),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for FleetPublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Publish(error) => Some(error),
            Self::Lane(error) => Some(error),
            Self::Os(error) => Some(error),
        }
    }
}

impl From<PublishError> for FleetPublishError {
    fn from(error: PublishError) -> Self {
        Self::Publish(error)
    }
}

impl From<LaneError> for FleetPublishError {
    fn from(error: LaneError) -> Self {
        Self::Lane(error)
    }
}

impl From<OsError> for FleetPublishError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

/// Why a subject is not held.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClaimError {
    /// A living member holds it.
    Held {
        /// Its node.
        node: u32,
        /// Its process; 0 if it is not known.
        pid: u32,
        /// For how long from now, unless it renews or releases it.
        left: Duration,
    },
    /// It was held, and is no longer: it ran out and another one claimed it, or this member
    /// fell so far behind that it cannot know.
    Lost,
    /// The oldest claim would soon be overwritten by newer frames.
    Full {
        /// Who holds it.
        node: u32,
        /// What it holds.
        subject: Vec<u8>,
    },
    /// A subject that does not fit into a frame.
    SubjectTooLong {
        /// Its bytes.
        len: usize,
        /// The most that it can have.
        max: usize,
    },
    /// In each of many attempts others were faster, and had gone at the next one.
    Busy,
    /// What was to be said was not published.
    Publish(FleetPublishError),
    /// Something else wrote over the ring.
    Corrupt(CorruptFleet),
    /// The operating system does not say who lives.
    Os(OsError),
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { node, pid, left } => write!(
                f,
                "node {node} (process {pid}) holds it for {left:?} from now: try again then"
            ),
            Self::Lost => f.write_str("it is held no longer: stop, and claim it anew"),
            Self::Full { node, subject } => write!(
                f,
                "the claim of node {node} on {:?} is too old to be kept with newer ones: let it \
                 renew or release, or configure a larger capacity",
                String::from_utf8_lossy(subject)
            ),
            Self::SubjectTooLong { len, max } => write!(
                f,
                "a subject of {len} bytes; these claims have room for {max}: shorten it or \
                 configure a larger max_payload"
            ),
            Self::Busy => f.write_str("others were faster in every attempt: try again"),
            Self::Publish(error) => error.fmt(f),
            Self::Corrupt(error) => error.fmt(f),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for ClaimError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Publish(error) => Some(error),
            Self::Corrupt(error) => Some(error),
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

impl From<FleetPublishError> for ClaimError {
    fn from(error: FleetPublishError) -> Self {
        Self::Publish(error)
    }
}

impl From<OsError> for ClaimError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}
