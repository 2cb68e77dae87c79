//! The two links to an owner.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use shm_transport::{AttachError, Guest, Start, SubscriberError, TypedSubscriber};

use super::{calls::Calls, strange_answer};
use crate::{
    Lsn, OpenError, ReadError,
    place::Place,
    protocol::{COMMIT, DURABLE_LSN, MAX_READS, MAX_WRITES, READ},
};

/// A process's links to an owner: one by which writes go, and one by which reads.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) commit: Calls,
    pub(crate) read: Calls,
    durable: Mutex<TypedSubscriber<u64>>,
    /// Whoever looked at what is durable found that the owner is gone.
    is_lost: AtomicBool,
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
    /// Writes are looked for as [`Options::spin`](crate::Options::spin) says.
    pub(super) fn attach(
        place: &Place,
        spin: Duration,
        deadline: Instant,
    ) -> Result<Self, Refused> {
        let commit = attach(place, COMMIT, deadline)?;
        let read = attach(place, READ, deadline)?;
        let durable = read
            .subscribe_typed(DURABLE_LSN, Start::Next)
            .map_err(|error| Refused::ForGood(std::io::Error::other(error).into()))?;
        let (writes, mut written) = commit.link.split();
        written.set_yielding_spin(spin);
        Ok(Self {
            durable: Mutex::new(durable),
            is_lost: AtomicBool::new(false),
            commit: Calls::new((writes, written), MAX_WRITES),
            read: Calls::new(read.link.split(), MAX_READS),
        })
    }

    /// Whether it is known that one of them is over.
    pub(crate) fn has_ended(&self) -> bool {
        // Relaxed: nothing is read that was written before it.
        self.commit.has_ended() || self.read.has_ended() || self.is_lost.load(Ordering::Relaxed)
    }

    /// Up to where the owner has synced; `None` if it is gone. Nothing is sent: the owner shows
    /// it in memory that all guests map.
    pub(super) fn durable(&self) -> Result<Option<Lsn>, ReadError> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = durable.get().map_err(std::io::Error::other)?;
        // The newest value stays when its owner is gone. Behind it is nothing, or the end.
        durable.as_subscriber().seek(Start::Next);
        match durable.as_subscriber().try_next() {
            Err(SubscriberError::Ended(_)) => {
                self.is_lost.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(std::io::Error::other(error).into()),
            // An owner has published something before it lets anybody in.
            Ok(_) => newest.map(|number| Some(Lsn(number))).ok_or_else(strange_answer),
        }
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
