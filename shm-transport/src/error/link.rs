use std::{error::Error, fmt};

use shm_primitives::{pool::BadSlot, ring::CorruptRing};

use super::os::{BadDescriptor, OsError};

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
    /// It broke the protocol of calls: a frame that is none, or more calls at once than it may.
    Call,
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
            Self::Call => f.write_str("it broke the protocol of calls"),
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

/// Why a message was queued to nobody.
#[derive(Debug)]
#[non_exhaustive]
pub enum FanOutError {
    /// Larger than the largest message of one of the links.
    TooLarge {
        /// Bytes in the message.
        len: u64,
        /// The most that all the links carry.
        max: u64,
    },
    /// The memory that the links were to share could not be had.
    Os(OsError),
}

impl fmt::Display for FanOutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max } => write!(
                f,
                "a message of {len} bytes; all links carry up to {max}: send it in parts or \
                 configure a larger max_message"
            ),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for FanOutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Os(error) => Some(error),
            Self::TooLarge { .. } => None,
        }
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
    /// The link is over, and all that came before its end was received, unless the peer was
    /// evicted or broke the protocol.
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
