use std::{error::Error, fmt};

use shm_primitives::broadcast::{BadSlot, ReadNewestError, TooLarge};

use super::{link::LinkEnd, os::OsError};

/// Why a topic cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The hub has no topic of this name.
    Unknown(String),
    /// Another publisher of the topic is in use: there is one at a time.
    Taken(String),
    /// The topic's values have another size than the type.
    ValueSize {
        /// The topic.
        topic: String,
        /// What the topic is configured for, in bytes.
        found: u64,
        /// The size of the type, in bytes.
        expected: u64,
    },
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(
                f,
                "the hub has no topic {name:?}: configure it with HostBuilder::topic, or check the \
                 name"
            ),
            Self::Taken(name) => {
                write!(f, "topic {name:?} has a publisher: drop it first, or publish through it")
            }
            Self::ValueSize { topic, found, expected } => write!(
                f,
                "topic {topic:?} carries values of {found} bytes and the type has {expected}: use the \
                 same type on both sides, and TopicConfig::of it on the host"
            ),
        }
    }
}

impl Error for TopicError {}

/// Why a host has not published a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The value is larger than the topic's largest.
    TooLarge(TooLarge),
    /// The topic cannot be used.
    Topic(TopicError),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(error) => error.fmt(f),
            Self::Topic(error) => error.fmt(f),
        }
    }
}

impl Error for PublishError {}

impl From<TooLarge> for PublishError {
    fn from(error: TooLarge) -> Self {
        Self::TooLarge(error)
    }
}

impl From<TopicError> for PublishError {
    fn from(error: TopicError) -> Self {
        Self::Topic(error)
    }
}

/// Why a subscriber has no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum SubscriberError {
    /// Nothing was published until the deadline.
    TimedOut,
    /// Nothing more will be published for this guest: its link has ended.
    Ended(LinkEnd),
    /// Each value was overwritten while it was copied.
    Busy,
    /// The host broke the protocol.
    Corrupt(BadSlot),
    /// A value of another size than the type: the host's publisher is not typed, or of another
    /// type.
    ValueSize {
        /// The size of the value, in bytes.
        found: usize,
        /// The size of the type, in bytes.
        expected: usize,
    },
    /// The host wakes no more subscribers of this guest. Reading without sleeping works.
    Refused,
    /// The operating system refused something.
    Os(OsError),
}

impl fmt::Display for SubscriberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("nothing was published until the deadline"),
            Self::Ended(end) => write!(f, "nothing more will be published: {end}"),
            Self::Busy => ReadNewestError::Busy.fmt(f),
            Self::Corrupt(bad) => write!(f, "the host broke the protocol: {bad}"),
            Self::ValueSize { found, expected } => write!(
                f,
                "a value of {found} bytes where the type has {expected}: publish it with the same \
                 type"
            ),
            Self::Refused => f.write_str(
                "the host wakes no more subscribers of this guest: drop some, or poll with try_next",
            ),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for SubscriberError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Corrupt(bad) => Some(bad),
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LinkEnd> for SubscriberError {
    fn from(end: LinkEnd) -> Self {
        Self::Ended(end)
    }
}

impl From<BadSlot> for SubscriberError {
    fn from(bad: BadSlot) -> Self {
        Self::Corrupt(bad)
    }
}

impl From<ReadNewestError> for SubscriberError {
    fn from(error: ReadNewestError) -> Self {
        match error {
            ReadNewestError::Bad(bad) => Self::Corrupt(bad),
            _ => Self::Busy,
        }
    }
}

impl From<OsError> for SubscriberError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}
