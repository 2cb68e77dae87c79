//! What can go wrong in the shards.

use std::{io, sync::Arc};

use crate::{
    Lsn, OpenError,
    error::{Damage, ReadError, WriteError},
};

/// A shard, or what the log wants of it, failed.
#[derive(Clone, Debug)]
pub(crate) enum ShardError {
    Damaged(Damage),
    Io(Arc<io::Error>),
}

impl ShardError {
    pub(crate) fn damaged(file: &str, position: u64, what: &'static str) -> Self {
        Self::Damaged(Damage { file: file.into(), position, what })
    }

    /// A record that does not fit to what is known.
    pub(crate) fn record(lsn: Lsn) -> Self {
        Self::damaged("log", lsn.number(), "a record does not fit to the shards")
    }

    /// A fork without its parent.
    pub(crate) fn reference(name: &str) -> Self {
        Self::damaged(name, 0, "the parent of a fork is missing")
    }

    pub(crate) fn redb(file: &str, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::Io(Arc::new(error)),
            redb::Error::Corrupted(_) => Self::damaged(file, 0, "the database is corrupt"),
            other => Self::Io(Arc::new(io::Error::other(other.to_string()))),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::StorageFull)
    }

    fn into_io(self) -> Arc<io::Error> {
        match self {
            Self::Io(error) => error,
            Self::Damaged(damage) => {
                Arc::new(io::Error::new(io::ErrorKind::InvalidData, damage.to_string()))
            }
        }
    }
}

impl From<io::Error> for ShardError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<ShardError> for OpenError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Damaged(damage) => Self::Damaged(damage),
            ShardError::Io(error) => Self::Io(error),
        }
    }
}

impl From<ShardError> for ReadError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Damaged(damage) => Self::Damaged(damage),
            ShardError::Io(error) => Self::Io(error),
        }
    }
}

impl From<ShardError> for WriteError {
    fn from(error: ShardError) -> Self {
        if error.is_full() { Self::NoSpace } else { Self::Io(error.into_io()) }
    }
}
