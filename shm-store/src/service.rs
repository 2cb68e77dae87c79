//! The owner's side: two threads that serve all processes, this one like the others.
//!
//! - The committer has the lease, the engine and the host for writes. It gathers what
//!   clients ask for, has the engine do it with one sync, answers, and tells the tails.
//! - The reader has a view and the host for reads.
//!
//! A pair of links holds them together: whichever ends, however it ends, the other sees the
//! end of its link and ends too. The lease goes last: until then nobody else is the owner.

mod committer;
mod gathering;
mod reader;

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::SystemTime,
};

use shm_transport::{CreateError, Host, HostBuilder, Lease, Link, LinkConfig, TopicConfig};

use self::committer::Committer;
use crate::{
    OpenError, Options,
    engine::Engine,
    place::Home,
    protocol::{self, MAX_GUESTS},
};

/// This process's service of a store. It ends when this is dropped: what was asked for is
/// done and answered before.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Its end tells the committer to end.
    control: Option<Link>,
    committer: Option<JoinHandle<()>>,
}

impl Owner {
    /// Opens the engine and begins to serve; `None` if another is still serving, who will
    /// have ended soon.
    pub(crate) fn start(
        home: &Home,
        options: &Options,
        lease: Option<Lease>,
    ) -> Result<Option<Self>, OpenError> {
        let place = home.place();
        let max_operation = options.max_operation_bytes;
        let engine = Engine::open(
            home.files(),
            place.directory(),
            options.clone(),
            Arc::new(SystemTime::now),
        )?;
        let host = |name, link: LinkConfig| {
            let builder = Host::builder().max_guests(MAX_GUESTS).link(link);
            let topic = |builder: HostBuilder| match name {
                protocol::READ => builder
                    .topic(protocol::DURABLE, protocol::durable_topic())
                    .topic(protocol::DURABLE_LSN, TopicConfig::of::<u64>()),
                _ => builder,
            };
            match topic(builder).create(place.socket(name)) {
                Ok(host) => Ok(Some(host)),
                Err(CreateError::HostExists(_)) => Ok(None),
                Err(CreateError::Path(error)) => Err(OpenError::from(std::io::Error::other(error))),
                Err(error) => Err(std::io::Error::other(error).into()),
            }
        };
        let Some(reads) = host(protocol::READ, protocol::read_link(max_operation))? else {
            return Ok(None);
        };
        let Some(writes) = host(protocol::COMMIT, protocol::commit_link(max_operation))? else {
            return Ok(None);
        };
        let (control, controlled) = pair()?;
        let committer =
            Committer::new(engine, options.durability, writes, reads, controlled, lease)?;
        let committer = thread::Builder::new()
            .name("shm-store-commit".into())
            .spawn(move || committer.run())?;
        Ok(Some(Self { control: Some(control), committer: Some(committer) }))
    }

    /// Whether it has not ended by itself.
    pub(crate) fn serves(&self) -> bool {
        self.committer.as_ref().is_some_and(|committer| !committer.is_finished())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.control.take());
        if let Some(committer) = self.committer.take() {
            // If it ended by a panic, that was reported.
            let _ = committer.join();
        }
    }
}

/// A link between two threads, over which nothing is said but that one of them ends.
fn pair() -> Result<(Link, Link), OpenError> {
    let config = LinkConfig {
        ring_capacity: 64,
        size_classes: Vec::new(),
        sealed_limit: 0,
        asymmetric_fence: false,
        ..LinkConfig::default()
    };
    Link::pair(&config).map_err(|error| std::io::Error::other(error).into())
}

/// Failures of the transport that the service does not outlive.
fn system(error: impl std::error::Error + Send + Sync + 'static) -> OpenError {
    std::io::Error::other(error).into()
}
