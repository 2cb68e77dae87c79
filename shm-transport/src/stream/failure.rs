//! What goes wrong with streams, as the I/O errors that sockets have, with this library's own
//! error inside.

use std::{error::Error, fmt, io};

use crate::error::{
    AcceptError, AttachError, CreateError, LinkEnd, OsError, PathError, RecvError, SendError,
};

/// Why nothing was written.
pub(super) enum WriteFailure {
    /// This side has ended what it writes.
    Over,
    /// The link is over.
    Gone(LinkEnd),
    /// No room, now or within the time.
    NoRoom,
    /// Anything else.
    Failed(SendError),
}

/// Why nothing was read.
pub(super) enum ReadFailure {
    /// Nothing there, now or within the time.
    Nothing,
    /// The other side went without having read all that was sent to it.
    Reset(LinkEnd),
    /// Anything else.
    Failed(RecvError),
}

impl From<WriteFailure> for io::Error {
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::Over => Self::new(io::ErrorKind::BrokenPipe, Ended),
            WriteFailure::Gone(end) => Self::new(io::ErrorKind::BrokenPipe, end),
            WriteFailure::NoRoom => io::ErrorKind::WouldBlock.into(),
            WriteFailure::Failed(SendError::Os(error)) => error.into(),
            WriteFailure::Failed(error) => Self::new(io::ErrorKind::InvalidInput, error),
        }
    }
}

impl From<ReadFailure> for io::Error {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Nothing => io::ErrorKind::WouldBlock.into(),
            ReadFailure::Reset(end) => Self::new(io::ErrorKind::ConnectionReset, end),
            ReadFailure::Failed(RecvError::Ended(end @ LinkEnd::Corrupt(_))) => {
                Self::new(io::ErrorKind::InvalidData, end)
            }
            ReadFailure::Failed(RecvError::Ended(end)) => {
                Self::new(io::ErrorKind::ConnectionAborted, end)
            }
            ReadFailure::Failed(RecvError::Os(error)) => error.into(),
            ReadFailure::Failed(error) => Self::other(error),
        }
    }
}

/// This side has ended what it writes.
#[derive(Debug)]
struct Ended;

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this side has shut down writing: write before, or open another stream")
    }
}

impl Error for Ended {}

impl From<OsError> for io::Error {
    fn from(error: OsError) -> Self {
        let kind = match &error {
            OsError::OutOfMemory { .. } => io::ErrorKind::OutOfMemory,
            OsError::OutOfSpace { .. } => io::ErrorKind::StorageFull,
            OsError::OutOfDescriptors { .. } => io::ErrorKind::QuotaExceeded,
            OsError::Other { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

fn kind_of_path(error: &PathError) -> io::ErrorKind {
    match error {
        PathError::TooLong { .. } | PathError::NoName(_) => io::ErrorKind::InvalidInput,
        PathError::UnsafeDirectory(_) => io::ErrorKind::PermissionDenied,
        PathError::Occupied(_) => io::ErrorKind::AddrInUse,
    }
}

impl From<AttachError> for io::Error {
    fn from(error: AttachError) -> Self {
        let kind = match error {
            AttachError::Os(error) => return error.into(),
            AttachError::NoHost(_) => io::ErrorKind::NotFound,
            AttachError::HostDead(_) | AttachError::NotAHub(_) | AttachError::HubFull { .. } => {
                io::ErrorKind::ConnectionRefused
            }
            AttachError::Path(ref error) => kind_of_path(error),
            AttachError::NotPermitted => io::ErrorKind::PermissionDenied,
            AttachError::HostGone => io::ErrorKind::ConnectionReset,
            AttachError::TimedOut => io::ErrorKind::TimedOut,
            AttachError::Version { .. } => io::ErrorKind::Unsupported,
            AttachError::StaleTicket(_) | AttachError::NotSpawned => io::ErrorKind::InvalidInput,
            AttachError::Segment(_) | AttachError::Descriptor(_) | AttachError::Geometry(_) => {
                io::ErrorKind::InvalidData
            }
        };
        Self::new(kind, error)
    }
}

impl From<CreateError> for io::Error {
    fn from(error: CreateError) -> Self {
        let kind = match error {
            CreateError::Os(error) => return error.into(),
            CreateError::HostExists(_) => io::ErrorKind::AddrInUse,
            CreateError::Path(ref error) => kind_of_path(error),
            CreateError::Geometry(_) => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl From<AcceptError> for io::Error {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Os(error) => error.into(),
            AcceptError::TimedOut => io::ErrorKind::WouldBlock.into(),
        }
    }
}
