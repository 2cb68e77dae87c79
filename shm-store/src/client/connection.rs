//! The two links to an owner.

use std::time::Instant;

use shm_transport::{AttachError, Guest};

use super::{calls::Calls, place::Place};
use crate::{
    OpenError,
    protocol::{COMMIT, MAX_READS, MAX_WRITES, READ},
};

/// A process's links to an owner: one by which writes go, and one by which reads.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) commit: Calls,
    pub(crate) read: Calls,
}

/// Why there is no link.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Nobody serves here now.
    NobodyThere,
    /// Trying again will not help.
    ForGood(OpenError),
}

impl Connection {
    pub(super) fn attach(place: &Place, deadline: Instant) -> Result<Self, Refused> {
        let commit = attach(place, COMMIT, deadline)?;
        let read = attach(place, READ, deadline)?;
        Ok(Self {
            commit: Calls::new(commit.link, MAX_WRITES),
            read: Calls::new(read.link, MAX_READS),
        })
    }

    /// Whether it is known that one of them is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.commit.has_ended() || self.read.has_ended()
    }
}

/// A link to one of the owner's two hosts.
pub(crate) fn attach(place: &Place, name: &str, deadline: Instant) -> Result<Guest, Refused> {
    Guest::attach(place.socket(name), deadline).map_err(|error| match error {
        AttachError::NoHost(_)
        | AttachError::HostDead(_)
        | AttachError::HostGone
        | AttachError::TimedOut
        | AttachError::HubFull { .. } => Refused::NobodyThere,
        AttachError::NotPermitted => Refused::ForGood(OpenError::Denied),
        AttachError::Version { host, guest } => {
            Refused::ForGood(OpenError::Version { found: host, expected: guest })
        }
        error => Refused::ForGood(std::io::Error::other(error).into()),
    })
}
