use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

use shm_primitives::{hub::HubGeometry, ledger::Role};

use crate::{
    broadcast::{BROADCAST, Publisher, TopicConfig},
    config::{LinkConfig, LinkGeometry},
    credentials::CredentialsPolicy,
    deadline::Deadline,
    door::Door,
    error::{AcceptError, CreateError, OsError, PublishError},
    hub::{Hub, HubCore},
    ledger::{self, Entry},
    link::Link,
    os::{fence, memory},
    rendezvous::Rendezvous,
    trace::ATTACH,
};

/// Rounds of a call that does not wait.
const MAX_ROUNDS: u32 = 16;

/// The process that serves guests: it makes the hub and accepts a link from each.
///
/// The path is a Unix socket by which guests find it. It disappears with the host; what a
/// killed host leaves there is replaced by the next.
///
/// ```
/// use std::time::Duration;
/// use shm_transport::{Guest, Host};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("hub");
/// let wait = Duration::from_secs(5);
///
/// let mut host = Host::create(&path)?;
/// let guest = std::thread::spawn(move || {
///     let mut guest = Guest::attach(&path, wait).unwrap();
///     guest.link.send(b"hello", wait).unwrap();
///     guest.detach(wait).unwrap();
/// });
/// let mut link = host.accept(wait)?;
/// assert_eq!(link.recv(wait)?.to_bytes(), "hello");
/// guest.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Host {
    hub: Hub,
    rendezvous: Rendezvous,
    attached: VecDeque<Link>,
    /// Of the topic of `publish`, once that was called.
    publisher: Option<Publisher>,
}

/// The configuration of a host.
///
/// ```
/// use shm_transport::{Host, LinkConfig};
///
/// let directory = tempfile::tempdir()?;
/// let host = Host::builder()
///     .max_guests(4)
///     .link(LinkConfig { max_message: 1 << 20, ..LinkConfig::default() })
///     .create(directory.path().join("hub"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct HostBuilder {
    max_guests: u64,
    link: LinkConfig,
    policy: CredentialsPolicy,
    topics: Vec<(String, TopicConfig)>,
}

impl HostBuilder {
    /// How many guests can be attached or reserved at once: 1 to 65,536. Default 64.
    #[must_use]
    pub fn max_guests(mut self, guests: usize) -> Self {
        self.max_guests = guests as u64;
        self
    }

    /// The sizes of each link.
    #[must_use]
    pub fn link(mut self, config: LinkConfig) -> Self {
        self.link = config;
        self
    }

    /// Adds a topic, in which the host publishes values for all its guests. Names have 1 to 64
    /// bytes; up to 256 topics. Default: none.
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>, config: TopicConfig) -> Self {
        self.topics.push((name.into(), config));
        self
    }

    /// Adds the topic [`BROADCAST`], that of [`Host::publish`].
    #[must_use]
    pub fn broadcast(self, config: TopicConfig) -> Self {
        self.topic(BROADCAST, config)
    }

    /// Who may attach. Default: processes of the same user.
    #[must_use]
    pub fn credentials(mut self, policy: CredentialsPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Makes the host at `path`, in a directory that this user alone can write; one that
    /// does not exist is made.
    ///
    /// # Errors
    ///
    /// [`CreateError::HostExists`] if a living host serves the path,
    /// [`CreateError::Path`] if it cannot be used, [`CreateError::Geometry`] for
    /// impossible sizes, [`CreateError::Os`] if memory or descriptors ran out.
    pub fn create(self, path: impl AsRef<Path>) -> Result<Host, CreateError> {
        let mut topics = Vec::new();
        for (name, config) in &self.topics {
            topics.push((name.as_str(), config.geometry()?));
        }
        let geometry = HubGeometry::new(self.max_guests, topics)?;
        let link = LinkGeometry::new(&self.link)?;
        let rendezvous = Rendezvous::create(path.as_ref(), self.policy.admits_others())?;
        let incarnation = random()?;
        let size = geometry.total_size();
        let descriptor = memory::create("shm-hub", size)?;
        let segment = memory::map_as_writer(descriptor.as_fd(), size)?;
        geometry.initialise(&segment.mapped(), incarnation);
        let door = Door::new()?;
        door.watch_listener(&rendezvous)?;
        fence::register();
        let segment = (segment, descriptor);
        let about = ledger::about(Role::Hub, incarnation, Some(rendezvous.path()));
        let ledger = (about.clone(), Entry::new(&about)?);
        let core = HubCore::new(segment, geometry, incarnation, link, self.policy, door, ledger);
        tracing::debug!(target: ATTACH, hub = %rendezvous.path().display(), "host created");
        Ok(Host {
            hub: Hub(Arc::new(core)),
            rendezvous,
            attached: VecDeque::new(),
            publisher: None,
        })
    }
}

impl Host {
    /// A host at `path` with the default configuration.
    ///
    /// # Errors
    ///
    /// As [`HostBuilder::create`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, CreateError> {
        Self::builder().create(path)
    }

    /// A host that is to be configured first.
    #[must_use]
    pub fn builder() -> HostBuilder {
        HostBuilder {
            max_guests: 64,
            link: LinkConfig::default(),
            policy: CredentialsPolicy::default(),
            topics: Vec::new(),
        }
    }

    /// The link of the next guest that attaches, waiting for one until `deadline`.
    ///
    /// Guests are let in during this call only, so a host calls it again and again, or
    /// whenever its descriptor is readable.
    ///
    /// # Errors
    ///
    /// [`AcceptError::TimedOut`], or [`AcceptError::Os`] if a guest could not be let in
    /// for lack of memory or descriptors; the host goes on.
    pub fn accept(&mut self, deadline: impl Into<Deadline>) -> Result<Link, AcceptError> {
        let deadline = deadline.into().fixed();
        for round in 0u32.. {
            if let Some(link) = self.attached.pop_front() {
                return Ok(link);
            }
            let quiet = self.let_in(deadline)?;
            // An attach takes several rounds; a storm of them must not hold a caller that
            // does not want to wait.
            let idle = quiet || round >= MAX_ROUNDS;
            if idle && self.attached.is_empty() && deadline.has_passed() {
                break;
            }
        }
        Err(AcceptError::TimedOut)
    }

    /// Lets in who has come by now, or comes first until `deadline`; returns whether nobody has.
    fn let_in(&mut self, deadline: Deadline) -> Result<bool, AcceptError> {
        let mut ready = Vec::new();
        let door = &self.hub.0.door;
        door.epoll.wait(&mut ready, deadline.remaining_at_most(door.next_expiry()))?;
        self.hub.0.admit_guests(&self.rendezvous, &ready, &mut self.attached)?;
        Ok(ready.is_empty())
    }

    /// A round of [`accept`](Self::accept) that does not wait: the next link, or whether nobody
    /// is at the door.
    #[cfg(feature = "tokio")]
    pub(crate) fn look(&mut self) -> Result<Result<Link, bool>, AcceptError> {
        match self.attached.pop_front() {
            Some(link) => Ok(Ok(link)),
            None => self.let_in(Deadline::NOW).map(Err),
        }
    }

    /// The link of the next guest, if one has attached.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn try_accept(&mut self) -> Result<Option<Link>, AcceptError> {
        match self.accept(Deadline::NOW) {
            Ok(link) => Ok(Some(link)),
            Err(AcceptError::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Publishes a value for all guests in the topic [`BROADCAST`], which was configured by
    /// [`HostBuilder::broadcast`]; returns its position, counted from 0.
    ///
    /// Guests [subscribe](crate::GuestHub::subscribe) to it. For other topics there is
    /// [`Hub::publisher`].
    ///
    /// # Errors
    ///
    /// [`PublishError::TooLarge`] if it is larger than the topic's largest,
    /// [`PublishError::Topic`] if there is no such topic or another publisher of it is in use.
    pub fn publish(&mut self, value: &[u8]) -> Result<u64, PublishError> {
        let publisher = match &mut self.publisher {
            Some(publisher) => publisher,
            none => none.insert(self.hub.publisher(BROADCAST)?),
        };
        Ok(publisher.publish(value)?)
    }

    /// The hub, for any thread: reservations, evictions, publishers, statistics.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The path by which guests find this host.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.rendezvous.path()
    }
}

/// The descriptor that is readable when [`Host::try_accept`] has something to do.
impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.hub.0.door.epoll.as_fd()
    }
}

/// A host that goes takes no more guests. Links that it accepted go on.
impl Drop for Host {
    fn drop(&mut self) {
        self.hub.0.close_door();
    }
}

/// 128 random bits.
pub(crate) fn random() -> Result<u128, OsError> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| OsError::new("draw a random number", errno))?;
    Ok(u128::from_le_bytes(bytes))
}
