//! What can go wrong: one small enum for each operation.

use std::{error::Error, fmt, io, path::PathBuf};

use shm_primitives::{
    header::{GeometryError, HeaderError},
    peer::{PeerError, PeerId},
    pool::BadSlot,
    ring::CorruptRing,
};

/// The operating system refused something.
#[derive(Debug)]
#[non_exhaustive]
pub enum OsError {
    /// No memory is left (`ENOMEM`), for this process, its control group or the machine.
    OutOfMemory {
        /// What was being done.
        operation: &'static str,
    },
    /// The memory file system is full (`ENOSPC`).
    OutOfSpace {
        /// What was being done.
        operation: &'static str,
    },
    /// No descriptor is left for this process (`EMFILE`) or the system (`ENFILE`).
    OutOfDescriptors {
        /// What was being done.
        operation: &'static str,
    },
    /// Anything else.
    Other {
        /// What was being done.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl OsError {
    pub(crate) fn new(operation: &'static str, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match source.raw_os_error() {
            Some(libc::ENOMEM) => Self::OutOfMemory { operation },
            Some(libc::ENOSPC | libc::EDQUOT) => Self::OutOfSpace { operation },
            Some(libc::EMFILE | libc::ENFILE) => Self::OutOfDescriptors { operation },
            _ => Self::Other { operation, source },
        }
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory { operation } => write!(
                f,
                "cannot {operation}: out of memory (ENOMEM); free some, raise the control \
                 group's limit, or configure smaller rings and slots"
            ),
            Self::OutOfSpace { operation } => write!(
                f,
                "cannot {operation}: the memory file system is full (ENOSPC); free some, or \
                 configure smaller rings and slots"
            ),
            Self::OutOfDescriptors { operation } => write!(
                f,
                "cannot {operation}: out of descriptors (EMFILE); close some or raise the limit \
                 (ulimit -n)"
            ),
            Self::Other { operation, source } => write!(f, "cannot {operation}: {source}"),
        }
    }
}

impl Error for OsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Other { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A descriptor that is not the memory it was passed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadDescriptor {
    /// It came without a descriptor, or with more than one.
    Missing,
    /// Not memory that can be sealed.
    NotSealable,
    /// Sealed otherwise than it must be (`F_SEAL_*` bits of fcntl(2)).
    Seals {
        /// Its seals.
        found: u32,
        /// What they must be.
        expected: u32,
    },
    /// Memory of another kind, such as huge pages.
    FileSystem,
    /// Of another size, in bytes; for a payload `expected` is the largest allowed.
    Size {
        /// Its size.
        found: u64,
        /// What it must be.
        expected: u64,
    },
    /// Not allocated throughout.
    Holes,
}

impl fmt::Display for BadDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not exactly one descriptor where one belongs"),
            Self::NotSealable => f.write_str("a descriptor that is not sealable memory"),
            Self::Seals { found, expected } => {
                write!(f, "memory sealed with {found:#x} instead of {expected:#x}")
            }
            Self::FileSystem => f.write_str("memory of a file system other than tmpfs"),
            Self::Size { found, expected } => {
                write!(f, "memory of {found} bytes instead of {expected}")
            }
            Self::Holes => f.write_str("memory that is not allocated throughout"),
        }
    }
}

impl Error for BadDescriptor {}

/// What the peer did that no honest peer does. The link is over; other links do not
/// notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Corruption {
    /// A frame of its ring is malformed.
    Ring(CorruptRing),
    /// It claims to have read what was never sent; its claim, in bytes.
    Tail(u64),
    /// It refers to a slot that it cannot have.
    Slot(BadSlot),
    /// It refers to an extent or sealed payload that it did not hand over.
    NotHandedOver,
    /// It handed over something else than it said.
    Descriptor(BadDescriptor),
    /// It sent something malformed over the socket.
    Socket,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(corrupt) => corrupt.fmt(f),
            Self::Tail(tail) => {
                write!(f, "it says that it has read up to {tail}, beyond what was sent")
            }
            Self::Slot(bad) => bad.fmt(f),
            Self::NotHandedOver => f.write_str("it refers to memory that it did not hand over"),
            Self::Descriptor(bad) => bad.fmt(f),
            Self::Socket => f.write_str("it sent a malformed message over the socket"),
        }
    }
}

impl Error for Corruption {}

/// Why a link is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEnd {
    /// The peer said goodbye.
    Departed,
    /// The peer died, or hung up without a goodbye.
    PeerDead,
    /// The host threw the guest out.
    Evicted,
    /// The peer broke the protocol.
    Corrupt(Corruption),
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Departed => f.write_str("the peer said goodbye: attach or accept anew"),
            Self::PeerDead => f.write_str("the peer is dead: attach or accept anew"),
            Self::Evicted => f.write_str("the host evicted this guest: attach anew if it may"),
            Self::Corrupt(corruption) => write!(
                f,
                "the peer broke the protocol ({corruption}): drop the link and mend or distrust it"
            ),
        }
    }
}

impl Error for LinkEnd {}

/// Why a message was not sent. Nothing of it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// No room now, and the call does not wait.
    Full,
    /// No room before the deadline.
    TimedOut,
    /// Larger than the link's largest message.
    TooLarge {
        /// Bytes in the message.
        len: u64,
        /// The most that the link carries, as configured.
        max: u64,
    },
    /// The link is over.
    Ended(LinkEnd),
    /// The memory for the message could not be had.
    Os(OsError),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => {
                f.write_str("no room now: try again when the peer has read some, or wait")
            }
            Self::TimedOut => f.write_str("the peer made no room before the deadline"),
            Self::TooLarge { len, max } => write!(
                f,
                "a message of {len} bytes; this link carries up to {max}: send it in parts or \
                 configure a larger max_message"
            ),
            Self::Ended(end) => end.fmt(f),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Ended(end) => Some(end),
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LinkEnd> for SendError {
    fn from(end: LinkEnd) -> Self {
        Self::Ended(end)
    }
}

impl From<OsError> for SendError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

/// Why a batch stopped. The first `sent` messages were sent, the others were not.
#[derive(Debug)]
pub struct BatchError {
    /// How many messages were sent.
    pub sent: usize,
    /// Why the next one was not.
    pub error: SendError,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} messages of the batch: {}", self.sent, self.error)
    }
}

impl Error for BatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Why no message was received. None was lost.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// None came before the deadline.
    TimedOut,
    /// The next message is larger than the buffer; it is still there.
    BufferTooSmall {
        /// Bytes in the message.
        len: usize,
        /// Bytes in the buffer.
        buffer: usize,
    },
    /// The link is over, and all that came before its end was received.
    Ended(LinkEnd),
    /// A message's memory could not be mapped. The message is still there.
    Os(OsError),
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no message came before the deadline"),
            Self::BufferTooSmall { len, buffer } => write!(
                f,
                "the next message has {len} bytes, the buffer {buffer}: call again with a larger one"
            ),
            Self::Ended(end) => end.fmt(f),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for RecvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Ended(end) => Some(end),
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LinkEnd> for RecvError {
    fn from(end: LinkEnd) -> Self {
        Self::Ended(end)
    }
}

impl From<OsError> for RecvError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

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
                "{} exists and is not a socket: it is left alone, choose another path",
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

impl From<crate::os::memory::MapError> for AttachError {
    fn from(error: crate::os::memory::MapError) -> Self {
        match error {
            crate::os::memory::MapError::Bad(bad) => Self::Descriptor(bad),
            crate::os::memory::MapError::Os(error) => Self::Os(error),
        }
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
    /// The process did not start, or the operating system refused something else.
    Os(OsError),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => error.fmt(f),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Peer(error) => Some(error),
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

/// Why a detach did not end gracefully. The link is closed all the same.
#[derive(Debug)]
#[non_exhaustive]
pub enum DetachError {
    /// The peer had not read everything before the deadline.
    TimedOut,
    /// The link was over before; the peer may not have read everything.
    Ended(LinkEnd),
}

impl fmt::Display for DetachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the peer had not read everything before the deadline"),
            Self::Ended(end) => write!(f, "before it had read everything, {end}"),
        }
    }
}

impl Error for DetachError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TimedOut => None,
            Self::Ended(end) => Some(end),
        }
    }
}
