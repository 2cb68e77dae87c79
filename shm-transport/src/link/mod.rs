//! The connection between a host and one guest.

pub(crate) mod core;
mod grant;
mod heartbeat;
mod inbox;
mod message;
mod open;
mod receiver;
pub(crate) mod reception;
mod sealed;
pub(crate) mod sender;
mod shared;
mod slot;
pub(crate) mod staging;
#[cfg(feature = "tokio")]
pub(crate) mod tasks;
pub(crate) mod wait;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use shm_primitives::{
    header::GeometryError,
    ledger::{About, LinkStatistics, Role},
    peer::PeerId,
    pool::{SlotAllocator, SlotReceipts},
};

use self::{
    core::{LinkCore, PeerProcess, Registration},
    open::Open,
};
pub use self::{
    grant::SendGrant,
    heartbeat::{Heartbeat, Vitality},
    message::{CHUNK, Message},
    receiver::Receiver,
    sealed::SealedPayload,
    sender::{Armed, Sender},
    shared::SharedPayload,
};
use crate::{
    config::{LinkConfig, LinkGeometry},
    deadline::Deadline,
    error::{CreateError, DetachError, LinkEnd, OsError, RecvError, SendError},
    ledger::{self, Entry},
    os::{
        connection::Connection,
        fence,
        memory::{self, MapError, Segment},
        socket,
    },
    trace::DETACH,
};

/// One side's end of the connection between a host and a guest: messages of any size, in
/// order, in both directions.
///
/// Dropping it says goodbye: the peer still receives what was sent, and then learns of
/// the end.
///
/// ```
/// use std::time::Duration;
/// use shm_transport::{Link, LinkConfig};
///
/// let (mut left, right) = Link::pair(&LinkConfig::default())?;
/// let (mut sender, mut receiver) = right.split();
/// let thread = std::thread::spawn(move || {
///     let question = receiver.recv(Duration::from_secs(1)).unwrap().to_bytes();
///     sender.send(&question, Duration::from_secs(1)).unwrap();
/// });
/// left.send(b"echo?", Duration::from_secs(1))?;
/// assert_eq!(left.recv(Duration::from_secs(1))?.to_bytes(), "echo?");
/// thread.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Link {
    /// The sending half.
    pub sender: Sender,
    /// The receiving half.
    pub receiver: Receiver,
    peer: PeerId,
}

/// What a link is made of.
#[derive(Debug)]
pub(crate) struct LinkParts {
    pub(crate) own: Segment,
    pub(crate) peer_outbox: Segment,
    pub(crate) geometry: LinkGeometry,
    pub(crate) socket: Connection,
    pub(crate) process: PeerProcess,
    /// Whether the other side makes our processors fence before it sleeps.
    pub(crate) peer_fences: bool,
    pub(crate) peer: PeerId,
    /// What it is, for the ledger.
    pub(crate) about: About,
    pub(crate) entry: Option<Box<dyn Registration>>,
}

impl Link {
    pub(crate) fn new(parts: LinkParts) -> Result<Self, OsError> {
        let LinkParts {
            own,
            peer_outbox,
            geometry,
            socket,
            process,
            peer_fences,
            peer,
            about,
            entry,
        } = parts;
        let ledger = Entry::new(&About {
            peer,
            peer_pid: process.pid,
            ring_capacity: geometry.outbox.capacity(),
            inline_max: geometry.inline_max.into(),
            max_message: geometry.max_message,
            ..about
        });
        let ledger = ledger.inspect_err(|_| {
            if let Some(entry) = &entry {
                entry.release();
            }
        })?;
        let asymmetric = geometry.asymmetric_fence && peer_fences;
        let (own, peer_outbox) = if asymmetric && fence::register() {
            (own.with_asymmetric_fence(), peer_outbox.with_asymmetric_fence())
        } else {
            (own, peer_outbox)
        };
        // A `LinkGeometry` has as many acks as its pool needs, so neither fails.
        let mismatch =
            |error| OsError::new("make a link", io::Error::other::<GeometryError>(error));
        let pool = SlotAllocator::new(&geometry.pool, peer_outbox.mapped(), &geometry.outbox)
            .map_err(mismatch)?;
        let receipts = SlotReceipts::new(&geometry.pool, &geometry.outbox).map_err(mismatch)?;
        let core =
            LinkCore::new(own, peer_outbox, geometry, socket, (process, peer), ledger, entry);
        let core = Arc::new(core);
        let open = Arc::new(Open(core));
        open.0.watch()?;
        Ok(Self {
            sender: Sender::new(Arc::clone(&open), pool),
            receiver: Receiver::new(open, receipts),
            peer,
        })
    }

    /// Both ends of a link inside this process: for two threads, or for tests.
    ///
    /// # Errors
    ///
    /// [`CreateError::Geometry`] for impossible sizes, [`CreateError::Os`] if memory or
    /// descriptors ran out.
    pub fn pair(config: &LinkConfig) -> Result<(Self, Self), CreateError> {
        let geometry = LinkGeometry::new(config)?;
        let size = geometry.outbox.total_size();
        let (left_socket, right_socket) = socket::pair()?;
        let (left_own, left) = new_outbox(&geometry, 0)?;
        let (right_own, right) = new_outbox(&geometry, 0)?;
        let left_peer = memory::map_as_reader(right.as_fd(), size).map_err(own_fault)?;
        let right_peer = memory::map_as_reader(left.as_fd(), size).map_err(own_fault)?;
        let end = |own, peer_outbox, socket| {
            Self::new(LinkParts {
                own,
                peer_outbox,
                geometry: geometry.clone(),
                socket: Connection::new(socket),
                process: PeerProcess { pid: std::process::id(), pidfd: None },
                peer_fences: true,
                peer: PeerId { index: 0, epoch: 1 },
                about: ledger::about(Role::Pair, 0, None),
                entry: None,
            })
        };
        Ok((end(left_own, left_peer, left_socket)?, end(right_own, right_peer, right_socket)?))
    }

    /// Its two halves, for two threads. The link is closed when both are dropped.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// [`Sender::send`]
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn send(&mut self, message: &[u8], deadline: impl Into<Deadline>) -> Result<(), SendError> {
        self.sender.send(message, deadline)
    }

    /// [`Sender::try_send`]
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// [`Receiver::recv`]
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn recv(&mut self, deadline: impl Into<Deadline>) -> Result<Message<'_>, RecvError> {
        self.receiver.recv(deadline)
    }

    /// [`Receiver::try_recv`]
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>, RecvError> {
        self.receiver.try_recv()
    }

    /// [`Receiver::set_yielding_spin`]
    pub fn set_yielding_spin(&mut self, spin: Duration) {
        self.receiver.set_yielding_spin(spin);
    }

    /// [`Receiver::recv_into`]
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn recv_into(
        &mut self,
        buffer: &mut [u8],
        deadline: impl Into<Deadline>,
    ) -> Result<usize, RecvError> {
        self.receiver.recv_into(buffer, deadline)
    }

    /// The guest's entry in the hub: on the host which guest this is, on the guest which
    /// one it is itself.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The process at the other end, 0 if it is not visible here.
    #[must_use]
    pub fn peer_pid(&self) -> u32 {
        self.core().process.pid
    }

    /// How the link ended, if it has: known without receiving what is left of it.
    #[must_use]
    pub fn end(&self) -> Option<LinkEnd> {
        self.core().look_for_end()
    }

    /// The signs of life of both sides, to be given and observed on any thread.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat::new(&self.sender.half.core)
    }

    /// Gives a sign of life. The peer sees it in [`peer_heartbeat`](Self::peer_heartbeat).
    pub fn beat(&self) {
        self.core().beat();
    }

    /// How many signs of life the peer has given, by its own account. A count that stands
    /// still means *stalled*, never *dead*: the end of a link is reported by itself.
    /// [`heartbeat`](Self::heartbeat) tells for how long it has.
    #[must_use]
    pub fn peer_heartbeat(&self) -> u64 {
        self.core().peer_beats()
    }

    /// [`Receiver::missed`]
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.receiver.missed()
    }

    /// What was counted at this end since the link began. Asking costs the link nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shm_transport::{Link, LinkConfig};
    ///
    /// let (mut left, mut right) = Link::pair(&LinkConfig::default())?;
    /// let wait = Duration::from_secs(1);
    /// left.send(b"small", wait)?;
    /// left.send(&[7; 20_000], wait)?;
    /// let sent = left.statistics().sent;
    /// assert_eq!((sent.inline.messages, sent.inline.bytes), (1, 5));
    /// assert_eq!((sent.slot.messages, sent.in_use), (1, 1));
    /// right.recv(wait)?;
    /// assert_eq!(right.statistics().received.total().bytes, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn statistics(&self) -> LinkStatistics {
        self.core().ledger.statistics()
    }

    /// Says goodbye, waits until the peer has read everything that was sent, and closes
    /// the link.
    ///
    /// # Errors
    ///
    /// [`DetachError`] if the peer had not read everything by `deadline`, or when it
    /// ended. The link is closed all the same.
    pub fn detach(mut self, deadline: impl Into<Deadline>) -> Result<(), DetachError> {
        let (peer, pid) = self.core().named();
        let _span = tracing::debug_span!(target: DETACH, "detach", %peer, pid).entered();
        self.core().say_goodbye();
        match self.sender.wait_drained(deadline.into()) {
            Some(Ok(())) => Ok(()),
            Some(Err(end)) => Err(DetachError::Ended(end)),
            None => Err(DetachError::TimedOut),
        }
    }

    fn core(&self) -> &LinkCore {
        &self.sender.half.core
    }
}

/// The descriptor that becomes readable as [`Receiver::arm`] and [`Sender::arm`] say: the link's
/// socket.
impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.core().as_fd()
    }
}

/// The descriptor that becomes readable as [`Receiver::arm`] says: the link's socket.
impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.half.core.as_fd()
    }
}

/// The descriptor that becomes readable as [`Sender::arm`] says: the link's socket.
impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.half.core.as_fd()
    }
}

/// Makes an outbox of this process, complete with its header, and the descriptor to hand
/// over.
pub(crate) fn new_outbox(
    geometry: &LinkGeometry,
    incarnation: u128,
) -> Result<(Segment, OwnedFd), OsError> {
    let size = geometry.outbox.total_size();
    let descriptor = memory::create("shm-outbox", size)?;
    let segment = memory::map_as_writer(descriptor.as_fd(), size)?;
    geometry.outbox.initialise(&segment.mapped(), incarnation);
    Ok((segment, descriptor))
}

/// Memory that this process itself made is what it should be.
fn own_fault(error: MapError) -> OsError {
    match error {
        MapError::Os(error) => error,
        MapError::Bad(bad) => OsError::new("map memory of its own", io::Error::other(bad)),
    }
}
