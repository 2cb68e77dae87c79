use std::{
    ops::Deref,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use rustix::{event::PollFlags, io::Errno};
use shm_primitives::{
    Mapped,
    broadcast::Start,
    header::{GeometryError, HeaderError, goodbye_of},
    hub::{HubGeometry, HubStatistics, Statistics},
    outbox::OutboxGeometry,
    peer::{PeerId, PeerTable},
    seqlock::Busy,
};

use crate::{
    broadcast::{Subscriber, Subscriptions, TypedSubscriber, Value},
    config::LinkGeometry,
    credentials::CredentialsPolicy,
    deadline::Deadline,
    error::{AttachError, BadDescriptor, DetachError, OsError, TopicError},
    hub::{PeerEntry, entries_in_use},
    link::{Link, LinkParts, core::PeerProcess, new_outbox},
    os::{
        connection::Connection,
        fence,
        foreign::Foreign,
        memory::{self, Segment},
        poll, process, socket,
    },
    rendezvous::{CONNECT_PAUSE, Connecting},
    spawn,
    wire::{self, Hello, Refusal, Welcome},
};

/// A process that is attached to a host.
///
/// ```no_run
/// use std::time::Duration;
/// use shm_transport::Guest;
///
/// let wait = Duration::from_secs(5);
/// let mut guest = Guest::attach("/run/user/1000/my-hub", wait)?;
/// guest.link.send(b"hello", wait)?;
/// let answer = guest.link.recv(wait)?.to_bytes();
/// guest.detach(wait)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Guest {
    /// The link to the host.
    pub link: Link,
    pub(crate) hub: GuestHub,
}

/// What a guest sees of its hub, beside its link.
#[derive(Debug)]
pub struct GuestHub {
    peers: PeerTable<Mapped>,
    subscriptions: Arc<Subscriptions>,
}

/// The hub that it is attached to.
impl Deref for Guest {
    type Target = GuestHub;

    fn deref(&self) -> &GuestHub {
        &self.hub
    }
}

/// How a guest attaches.
#[derive(Clone, Debug, Default)]
pub struct GuestBuilder {
    ticket: Option<PeerId>,
    policy: Option<CredentialsPolicy>,
}

impl GuestBuilder {
    /// Claims a reservation instead of walking in.
    #[must_use]
    pub fn ticket(mut self, ticket: PeerId) -> Self {
        self.ticket = Some(ticket);
        self
    }

    /// Which hosts to attach to. Default: those of the same user, or of root.
    #[must_use]
    pub fn credentials(mut self, policy: CredentialsPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Attaches to the host at `path`.
    ///
    /// # Errors
    ///
    /// [`AttachError`] says whether there is a host, whether it let this guest in, and
    /// whether what it handed over is sound.
    pub fn attach(
        self,
        path: impl AsRef<Path>,
        deadline: impl Into<Deadline>,
    ) -> Result<Guest, AttachError> {
        let deadline = deadline.into().fixed();
        let path = path.as_ref();
        let mut connecting = Connecting::new(path)?;
        let socket = loop {
            match connecting.attempt()? {
                Ok(socket) => break socket,
                Err(_) if deadline.has_passed() => return Err(AttachError::TimedOut),
                Err(later) => connecting = later,
            }
            thread::sleep(CONNECT_PAUSE);
        };
        self.begin(socket, Some(path.to_owned()))?.wait(deadline)
    }

    /// Begins to attach over a connection.
    pub(crate) fn begin(
        self,
        socket: OwnedFd,
        path: Option<PathBuf>,
    ) -> Result<Attaching, AttachError> {
        let credentials = process::credentials_of(socket.as_fd())?;
        let trusted = match &self.policy {
            Some(policy) => policy.permits(&credentials),
            None => credentials.uid == 0 || CredentialsPolicy::same_user().permits(&credentials),
        };
        if !trusted {
            return Err(AttachError::NotPermitted);
        }
        let fences = fence::register();
        let hello = Hello { version: wire::VERSION, fences, ticket: self.ticket };
        tell(&socket, &hello.encode(), &[])?;
        Ok(Attaching { socket, pid: credentials.pid, path, entering: None })
    }
}

/// An attach that is going on.
#[derive(Debug)]
pub(crate) struct Attaching {
    socket: OwnedFd,
    pid: u32,
    path: Option<PathBuf>,
    /// What the host's welcome brought, when the entry is claimed.
    entering: Option<Box<Entering>>,
}

/// Everything that makes a guest, but the host's last word.
#[derive(Debug)]
struct Entering {
    own: Segment,
    peer_outbox: Segment,
    geometry: LinkGeometry,
    fences: bool,
    peer: PeerId,
    segment: Segment,
    hub: HubGeometry,
    control: Option<Foreign>,
}

impl Attaching {
    fn wait(mut self, deadline: Deadline) -> Result<Guest, AttachError> {
        loop {
            self = match self.advance()? {
                Ok(guest) => return Ok(guest),
                Err(_) if deadline.has_passed() => return Err(AttachError::TimedOut),
                Err(later) => later,
            };
            poll::poll(self.socket.as_fd(), PollFlags::IN, deadline.remaining());
        }
    }

    /// Goes on as far as the host's answers allow: the guest, or what is to be gone on with
    /// when the socket is readable.
    pub(crate) fn advance(mut self) -> Result<Result<Guest, Self>, AttachError> {
        let mut message = [0; wire::MAX_MESSAGE];
        if self.entering.is_none() {
            let Some((message, descriptors)) = hear(&self.socket, &mut message)? else {
                return Ok(Err(self));
            };
            let Some(welcome) = Welcome::decode(message) else {
                return Err(self.path.map_or(AttachError::HostGone, AttachError::NotAHub));
            };
            self.entering = Some(Box::new(Entering::new(welcome?, descriptors, &self.socket)?));
        }
        let Some((message, _)) = hear(&self.socket, &mut message)? else { return Ok(Err(self)) };
        match self.entering {
            Some(entering) if message == wire::admitted() => {
                entering.enter(self.socket, self.pid).map(Ok)
            }
            _ => Err(AttachError::HostGone),
        }
    }

    /// The connection, which is readable when there is something to go on with.
    #[cfg(feature = "tokio")]
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

impl Entering {
    /// Maps and checks what the host handed over, and claims the entry with an outbox of
    /// its own.
    fn new(
        welcome: Welcome,
        descriptors: Vec<Foreign>,
        socket: &OwnedFd,
    ) -> Result<Self, AttachError> {
        let Welcome { peer, incarnation, fences, hub_size, topics, link: geometry } = welcome;
        let mut descriptors = descriptors.into_iter();
        let (Some(hub), Some(outbox)) = (descriptors.next(), descriptors.next()) else {
            return Err(AttachError::Descriptor(BadDescriptor::Missing));
        };
        let control = descriptors.next();
        if control.is_some() != topics || descriptors.next().is_some() {
            return Err(AttachError::Descriptor(BadDescriptor::Missing));
        }
        let size = geometry.outbox.total_size();
        let segment = memory::map_as_reader(hub.as_fd(), hub_size)?;
        let peer_outbox = memory::map_as_reader(outbox.as_fd(), size)?;
        let hub = HubGeometry::check(&segment.mapped(), incarnation)?;
        let outbox = OutboxGeometry::check(&peer_outbox.mapped(), incarnation)?;
        if topics == hub.topics().is_empty() || outbox != geometry.outbox {
            return Err(HeaderError::Geometry(GeometryError::Layout).into());
        }
        let (own, descriptor) = new_outbox(&geometry, incarnation)?;
        tell(socket, &wire::claim(), &[descriptor.as_fd()])?;
        Ok(Self { own, peer_outbox, geometry, fences, peer, segment, hub, control })
    }

    fn enter(self, socket: OwnedFd, pid: u32) -> Result<Guest, AttachError> {
        let Self { own, peer_outbox, geometry, fences, peer, segment, hub, control } = self;
        let pidfd = process::pidfd_of(socket.as_fd(), pid);
        let peers = hub.peer_table(segment.mapped());
        let link = Link::new(LinkParts {
            own,
            peer_outbox,
            geometry,
            socket: Connection::new(socket),
            process: PeerProcess { pid, pidfd },
            peer_fences: fences,
            peer,
            entry: None,
        })?;
        tracing::debug!(%peer, "attached to a host");
        let core = Arc::clone(&link.sender.half.core);
        let subscriptions = Arc::new(Subscriptions::new(segment, hub, core, control));
        Ok(Guest { link, hub: GuestHub { peers, subscriptions } })
    }
}

impl Guest {
    /// Attaches to the host at `path`.
    ///
    /// # Errors
    ///
    /// As [`GuestBuilder::attach`].
    pub fn attach(
        path: impl AsRef<Path>,
        deadline: impl Into<Deadline>,
    ) -> Result<Self, AttachError> {
        Self::builder().attach(path, deadline)
    }

    /// Attaches to the host that started this process, over the socket inherited from
    /// it; see [`spawn_guest`](crate::CommandExt::spawn_guest). This works once.
    ///
    /// # Errors
    ///
    /// [`AttachError::NotSpawned`] if no host started this process, and as
    /// [`GuestBuilder::attach`].
    pub fn attach_inherited(deadline: impl Into<Deadline>) -> Result<Self, AttachError> {
        let socket = spawn::take_inherited_socket()?;
        Self::builder().begin(socket, None)?.wait(deadline.into().fixed())
    }

    /// An attach that is to be configured first.
    #[must_use]
    pub fn builder() -> GuestBuilder {
        GuestBuilder::default()
    }

    /// Says goodbye, waits until the host has read everything that was sent, and closes
    /// the link.
    ///
    /// # Errors
    ///
    /// As [`Link::detach`].
    pub fn detach(self, deadline: impl Into<Deadline>) -> Result<(), DetachError> {
        self.link.detach(deadline)
    }
}

impl GuestHub {
    /// All peers of the hub that are reserved, attached or leaving.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerEntry> {
        entries_in_use(&self.peers)
    }

    /// Follows a topic of the host, from `start` on.
    ///
    /// # Errors
    ///
    /// [`TopicError::Unknown`] if the hub has no such topic.
    pub fn subscribe(&self, topic: &str, start: Start) -> Result<Subscriber, TopicError> {
        Subscriber::new(&self.subscriptions, topic, start)
    }

    /// Follows a topic whose values are of one type, or looks at the newest.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe), and [`TopicError::ValueSize`] if the topic is
    /// configured for values of another size.
    pub fn subscribe_typed<T: Value>(
        &self,
        topic: &str,
        start: Start,
    ) -> Result<TypedSubscriber<T>, TopicError> {
        TypedSubscriber::new(self.subscribe(topic, start)?)
    }

    /// The names of the hub's topics.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.subscriptions.geometry.topics().iter().map(|topic| topic.name.as_str())
    }

    /// The host's counts.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the host is changing them all the time, or died while it did.
    pub fn statistics(&self) -> Result<HubStatistics, Busy> {
        Statistics::new(self.subscriptions.segment.mapped()).get()
    }

    /// Whether the host has said goodbye to all its guests.
    #[must_use]
    pub fn host_is_leaving(&self) -> bool {
        goodbye_of(&self.subscriptions.segment.mapped()).is_some()
    }
}

fn tell(
    socket: &OwnedFd,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), AttachError> {
    match socket::send(socket.as_fd(), message, descriptors) {
        Ok(()) => Ok(()),
        // Its answer, if any, says why.
        Err(Errno::PIPE | Errno::CONNRESET) => match refusal_left_behind(socket) {
            Some(refusal) => Err(refused(refusal)),
            None => Err(AttachError::HostGone),
        },
        Err(errno) => Err(OsError::new("talk to the host", errno).into()),
    }
}

/// What the host said, and the descriptors that came with it.
type Heard<'a> = (&'a [u8], Vec<Foreign>);

/// The host's next word, if it has come; an error if it refuses.
fn hear<'a>(socket: &OwnedFd, message: &'a mut [u8]) -> Result<Option<Heard<'a>>, AttachError> {
    let answer = match socket::receive(socket.as_fd(), message) {
        Ok(Some(answer)) => answer,
        Ok(None) => return Err(AttachError::HostGone),
        Err(Errno::AGAIN) => return Ok(None),
        Err(errno) => return Err(OsError::new("receive the host's answer", errno).into()),
    };
    let message = message.get(..answer.len).unwrap_or_default();
    match Refusal::decode(message) {
        Some(refusal) => Err(refused(refusal)),
        None => Ok(Some((message, answer.descriptors))),
    }
}

/// What a host said before it closed the connection.
fn refusal_left_behind(socket: &OwnedFd) -> Option<Refusal> {
    let mut message = [0; wire::MAX_MESSAGE];
    let datagram = socket::receive(socket.as_fd(), &mut message).ok()??;
    Refusal::decode(message.get(..datagram.len)?)
}

fn refused(refusal: Refusal) -> AttachError {
    match refusal {
        Refusal::Version(host) => AttachError::Version { host, guest: wire::VERSION },
        Refusal::NotPermitted => AttachError::NotPermitted,
        Refusal::HubFull(peers) => AttachError::HubFull { peers },
        Refusal::StaleTicket(peer) => AttachError::StaleTicket(peer),
        Refusal::Unable => AttachError::HostGone,
    }
}
