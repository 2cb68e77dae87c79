//! What can go wrong, by operation.

use std::{error::Error, fmt, io, sync::Arc};

use crate::{Offset, StreamConfig};

/// Why a stream was not changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// No stream has this name.
    NotFound,
    /// The name belongs to a deleted stream whose forks live.
    Tombstone,
    /// A stream of this name has another configuration: its own.
    Mismatch(Box<StreamConfig>),
    /// The stream is closed; nothing can be appended to it. Its end.
    Closed(Offset),
    /// The append's sequence is not larger than the last one.
    Sequence,
    /// A larger epoch of this producer has appended.
    Fenced {
        /// The epoch that may append.
        epoch: u64,
    },
    /// Appends of this producer are missing before this one.
    Gap {
        /// The sequence that is expected.
        expected: u64,
    },
    /// This append of this producer was done, too long ago to know its result.
    AlreadyDone,
    /// The offset names no position in this stream.
    BadOffset,
    /// The fork would have more ancestors than a stream may have.
    TooDeep {
        /// The most ancestors.
        limit: u8,
    },
    /// The name or another text is empty, too long, or not allowed.
    BadName,
    /// Neither entries nor a closing.
    Empty,
    /// The stream would be larger than it may be.
    StreamFull {
        /// The most bytes of the stream.
        limit: u64,
    },
    /// The store would be larger than it may be.
    StoreFull {
        /// The most bytes of all streams.
        limit: u64,
    },
    /// The operation is larger than an operation may be.
    TooLarge {
        /// The most bytes.
        limit: u64,
    },
    /// The disk is full. Nothing was changed; it can be tried again when there is room.
    NoSpace,
    /// The owner ended, or could not sync, before it answered. Whether the operation was
    /// done is not known: read the stream, or repeat it with the same producer.
    Indeterminate,
    /// The store could not sync its log before, and takes no writes until it is opened anew
    /// by all processes. Nothing was changed. Reads go on.
    Poisoned,
    /// No owner could be reached or become before the deadline. Nothing was changed.
    TimedOut,
    /// The store cannot be opened any more.
    Open(OpenError),
    /// The system refused. Nothing was changed.
    Io(Arc<io::Error>),
}

/// Why a stream was not read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// No stream has this name, or it is not the one that was read before.
    NotFound,
    /// The name belongs to a deleted stream whose forks live.
    Tombstone,
    /// The offset names no position in this stream.
    BadOffset,
    /// No owner could be reached or become before the deadline.
    TimedOut,
    /// The store cannot be opened any more.
    Open(OpenError),
    /// The files are damaged.
    Damaged(Damage),
    /// The system refused.
    Io(Arc<io::Error>),
}

/// Damage in the files of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in the file, in bytes.
    pub position: u64,
    /// What is wrong there.
    pub what: &'static str,
}

/// Why a store was not opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The layout was written by another version.
    Version {
        /// The version of the files.
        found: u32,
        /// The version of this library.
        expected: u32,
    },
    /// The layout is another one than what was asked for, or than the shards have.
    Layout {
        /// Which property.
        what: &'static str,
        /// As it is.
        found: String,
        /// As it should be.
        expected: String,
    },
    /// There are shards or a log, but no layout that says what they are.
    LayoutMissing,
    /// An option is out of its range.
    Options(&'static str),
    /// The files are damaged where they were durable.
    Damaged(Damage),
    /// Another process is becoming the owner, or is busy. Opening tries again by itself; the
    /// deadline passed.
    Busy,
    /// Somebody who is not allowed to serve or to use this store.
    Denied,
    /// The system refused.
    Io(Arc<io::Error>),
}

impl OpenError {
    /// Whether the same call may succeed later without a change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
            _ => false,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at byte {} of {}: restore it from a backup",
            self.what, self.position, self.file
        )
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such stream: create it first"),
            Self::Tombstone => {
                f.write_str("the stream is deleted and its forks live: take another name")
            }
            Self::Mismatch(_) => {
                f.write_str("a stream of this name has another configuration: take it, or another name")
            }
            Self::Closed(end) => write!(f, "the stream is closed at {end}: nothing can be appended"),
            Self::Sequence => f.write_str("the sequence must be larger than the last one"),
            Self::Fenced { epoch } => {
                write!(f, "a later life of this producer appends: its epoch is {epoch}")
            }
            Self::Gap { expected } => {
                write!(f, "appends of this producer are missing: send number {expected} first")
            }
            Self::AlreadyDone => f.write_str("this append was done long ago: go on with the next"),
            Self::BadOffset => f.write_str("the offset is not one of this stream"),
            Self::TooDeep { limit } => {
                write!(f, "a fork may have {limit} ancestors: copy the stream instead")
            }
            Self::BadName => {
                f.write_str("a name must have 1 to 255 bytes and no control characters")
            }
            Self::Empty => f.write_str("nothing to append: give an entry, or close the stream"),
            Self::StreamFull { limit } => {
                write!(f, "the stream may hold {limit} bytes: delete it, or take another")
            }
            Self::StoreFull { limit } => {
                write!(f, "the store may hold {limit} bytes: delete streams")
            }
            Self::TooLarge { limit } => {
                write!(f, "an operation may have {limit} bytes: append in pieces")
            }
            Self::NoSpace => f.write_str("the disk is full: make room and try again"),
            Self::Indeterminate => f.write_str(
                "it is not known whether it was done: read the stream, or repeat it with a producer",
            ),
            Self::Poisoned => f.write_str(
                "the log could not be synced: see to the disk, then open the store anew everywhere",
            ),
            Self::TimedOut => f.write_str("no owner answered in time: try again"),
            Self::Open(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such stream"),
            Self::Tombstone => f.write_str("the stream is deleted; only its forks live"),
            Self::BadOffset => f.write_str("the offset is not one of this stream"),
            Self::TimedOut => f.write_str("no owner answered in time: try again"),
            Self::Open(error) => error.fmt(f),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { found, expected } => write!(
                f,
                "the store has format {found}, this library {expected}: use the library that made it"
            ),
            Self::Layout { what, found, expected } => {
                write!(f, "the store's {what} is {found}, not {expected}: open it as it is")
            }
            Self::LayoutMissing => f.write_str(
                "layout.json is missing beside a store's files: restore it from a backup",
            ),
            Self::Options(what) => f.write_str(what),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Busy => f.write_str("another process is becoming the owner: try again"),
            Self::Denied => f.write_str("the store belongs to another user"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for WriteError {}
impl Error for ReadError {}
impl Error for OpenError {}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
