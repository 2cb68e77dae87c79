use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::io::Errno;
use shm_primitives::{
    Frame, Mapped, Memory, Offset,
    doorbell::Sleeper,
    outbox::{SPACE_BELL, SPACE_SLEEP},
    pool::{SlotAllocator, SlotId},
    ring::{GrantError, Producer},
};

use super::{
    core::{LinkCore, Open},
    grant::SendGrant,
    inbox,
    wait::Waiter,
};
use crate::{
    deadline::Deadline,
    error::{BatchError, Corruption, LinkEnd, OsError, SendError},
    os::{
        memory::{self, Segment, Unsealed},
        socket,
    },
};

/// How long a sender waits for room in the socket before it tries again.
const SOCKET_PAUSE: Duration = Duration::from_millis(1);

/// The sending half of a link.
///
/// One thread at a time uses it; it may move between threads.
#[derive(Debug)]
pub struct Sender {
    pub(crate) half: Half,
    waiter: Waiter,
}

/// All of a sender but its way of waiting.
#[derive(Debug)]
pub(crate) struct Half {
    _open: Arc<Open>,
    pub(crate) core: Arc<LinkCore>,
    pub(crate) ring: Producer<Mapped>,
    pub(crate) pool: SlotAllocator<Mapped>,
    extents: Vec<Vec<Segment>>,
}

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    Ring,
    Slots,
    Socket,
}

/// Why a message is not staged.
pub(crate) enum StageError {
    Blocked(Blocked),
    Failed(SendError),
}

impl From<SendError> for StageError {
    fn from(error: SendError) -> Self {
        Self::Failed(error)
    }
}

impl From<LinkEnd> for StageError {
    fn from(end: LinkEnd) -> Self {
        Self::Failed(end.into())
    }
}

impl From<OsError> for StageError {
    fn from(error: OsError) -> Self {
        Self::Failed(error.into())
    }
}

impl StageError {
    /// What a call that does not wait reports.
    pub(crate) fn without_waiting(self) -> SendError {
        match self {
            Self::Blocked(_) => SendError::Full,
            Self::Failed(error) => error,
        }
    }
}

impl Sender {
    pub(crate) fn new(open: Arc<Open>, pool: SlotAllocator<Mapped>) -> Self {
        let core = Arc::clone(&open.0);
        let (own, peer) = (core.own.mapped(), core.peer.mapped());
        let ring = Producer::new(own, peer, &core.geometry.outbox);
        let sleeper = Sleeper::new(own, SPACE_SLEEP, peer, SPACE_BELL);
        let waiter = Waiter::new(sleeper, core.geometry.spin);
        let extents = core.geometry.pool.classes().iter().map(|_| Vec::new()).collect();
        Self { half: Half { _open: open, core, ring, pool, extents }, waiter }
    }

    /// Sends a message, waiting for room until `deadline`.
    ///
    /// It goes inline, through a slot or in memory of its own, by its size. When this
    /// returns, the peer can receive it, even if this process dies at once.
    ///
    /// # Errors
    ///
    /// [`SendError::TimedOut`], [`SendError::TooLarge`], [`SendError::Ended`] if the
    /// link is over, [`SendError::Os`] if memory for it could not be had. Nothing was
    /// sent then.
    #[inline]
    pub fn send(&mut self, message: &[u8], deadline: impl Into<Deadline>) -> Result<(), SendError> {
        match self.half.stage(message) {
            Ok(()) => self.half.publish(),
            Err(StageError::Failed(error)) => return Err(error),
            Err(StageError::Blocked(blocked)) => {
                self.stage_later(blocked, message, deadline.into())?;
                self.half.publish();
            }
        }
        Ok(())
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), with [`SendError::Full`] instead of `TimedOut`.
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.half.stage(message).map_err(StageError::without_waiting)?;
        self.half.publish();
        Ok(())
    }

    /// Sends messages in order, publishing as many at a time as there is room for.
    ///
    /// # Errors
    ///
    /// [`BatchError`] says how many were sent, and why the next one was not.
    pub fn send_batch<T: AsRef<[u8]>>(
        &mut self,
        messages: &[T],
        deadline: impl Into<Deadline>,
    ) -> Result<(), BatchError> {
        let deadline = deadline.into().fixed();
        for (sent, message) in messages.iter().enumerate() {
            let message = message.as_ref();
            let staged = match self.half.stage(message) {
                Err(StageError::Blocked(blocked)) => {
                    self.half.publish();
                    self.stage_later(blocked, message, deadline)
                }
                staged => staged.map_err(StageError::without_waiting),
            };
            if let Err(error) = staged {
                self.half.publish();
                return Err(BatchError { sent, error });
            }
        }
        self.half.publish();
        Ok(())
    }

    /// Sends as many of the messages, in order, as there is room for now; returns how
    /// many.
    ///
    /// # Errors
    ///
    /// [`BatchError`] if one cannot be sent for another reason than room.
    pub fn try_send_batch<T: AsRef<[u8]>>(&mut self, messages: &[T]) -> Result<usize, BatchError> {
        match self.send_batch(messages, Deadline::NOW) {
            Ok(()) => Ok(messages.len()),
            Err(BatchError { sent, error: SendError::TimedOut | SendError::Full }) => Ok(sent),
            Err(error) => Err(error),
        }
    }

    /// Room for a message of up to `len` bytes, to be written in place and then
    /// committed; waits for it until `deadline`.
    ///
    /// The bytes hold what was there before: anything.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shm_transport::{Link, LinkConfig};
    ///
    /// let (mut left, mut right) = Link::pair(&LinkConfig::default())?;
    /// let wait = Duration::from_secs(1);
    /// let mut grant = left.sender.grant(5, wait)?;
    /// grant.copy_from_slice(b"hello");
    /// grant.commit()?;
    /// assert_eq!(right.recv(wait)?.to_bytes(), "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn grant(
        &mut self,
        len: usize,
        deadline: impl Into<Deadline>,
    ) -> Result<SendGrant<'_>, SendError> {
        let place = match self.half.find_place(len) {
            Ok(place) => place,
            Err(StageError::Failed(error)) => return Err(error),
            Err(StageError::Blocked(blocked)) => {
                self.wait_for(blocked, deadline.into(), |half| half.find_place(len))?
            }
        };
        SendGrant::new(&mut self.half, place, len)
    }

    /// Room for a message of up to `len` bytes if there is some now.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    pub fn try_grant(&mut self, len: usize) -> Result<SendGrant<'_>, SendError> {
        let place = self.half.find_place(len).map_err(StageError::without_waiting)?;
        SendGrant::new(&mut self.half, place, len)
    }

    /// How many slots and sealed payloads the peer has not given back.
    pub fn slots_in_flight(&mut self) -> usize {
        self.half.pool.in_flight()
    }

    /// The largest message that goes inline in the ring, in bytes.
    #[must_use]
    pub fn inline_max(&self) -> usize {
        self.half.core.geometry.inline_max as usize
    }

    /// The largest message, in bytes.
    #[must_use]
    pub fn max_message(&self) -> u64 {
        self.half.core.geometry.max_message
    }

    /// Waits until the peer has read everything that was sent; `None` if it had not by
    /// the deadline.
    pub(crate) fn wait_drained(&mut self, deadline: Deadline) -> Option<Result<(), LinkEnd>> {
        let Self { half: Half { core, ring, .. }, waiter } = self;
        waiter.wait(core, deadline, || match ring.is_drained() {
            Ok(true) => Some(Ok(())),
            Ok(false) => core.end_so_far().map(Err),
            Err(error) => match ring_error(core, error) {
                StageError::Failed(SendError::Ended(end)) => Some(Err(end)),
                _ => None,
            },
        })
    }

    #[cold]
    fn stage_later(
        &mut self,
        blocked: Blocked,
        message: &[u8],
        deadline: Deadline,
    ) -> Result<(), SendError> {
        self.wait_for(blocked, deadline, |half| half.stage(message))
    }

    /// Repeats `attempt` as often as what blocks it may have changed.
    fn wait_for<T>(
        &mut self,
        blocked: Blocked,
        deadline: Deadline,
        mut attempt: impl FnMut(&mut Half) -> Result<T, StageError>,
    ) -> Result<T, SendError> {
        let deadline = deadline.fixed();
        let mut blocked = blocked;
        loop {
            let Self { half, waiter } = self;
            if blocked == Blocked::Socket {
                // Nobody rings for room in the socket, and it is rare.
                thread::sleep(deadline.remaining_at_most(Some(SOCKET_PAUSE)).unwrap_or_default());
            }
            let core = Arc::clone(&half.core);
            let found = waiter.wait(&core, deadline, || match attempt(half) {
                Err(StageError::Blocked(now)) if now != Blocked::Socket => None,
                result => Some(result),
            });
            match found {
                Some(Ok(found)) => return Ok(found),
                Some(Err(StageError::Failed(error))) => return Err(error),
                Some(Err(StageError::Blocked(now))) if !deadline.has_passed() => blocked = now,
                Some(Err(StageError::Blocked(_))) | None => return Err(SendError::TimedOut),
            }
        }
    }
}

/// Where a message goes.
#[derive(Debug)]
pub(crate) enum Place {
    /// Inline, with its payload at this offset of the own outbox.
    Ring(Offset),
    /// In a slot of an extent.
    Slot { slot: SlotId, segment: Segment, at: Offset },
    /// In memory of its own, to be handed over under this number.
    Sealed(SlotId),
}

impl Half {
    /// Puts a message in place, unpublished.
    #[inline(always)]
    pub(crate) fn stage(&mut self, message: &[u8]) -> Result<(), StageError> {
        if message.len() <= self.core.geometry.inline_max as usize {
            self.core.check_open()?;
            return self.ring.stage(message).map_err(|error| ring_error(&self.core, error));
        }
        self.stage_large(message)
    }

    #[inline(never)]
    fn stage_large(&mut self, message: &[u8]) -> Result<(), StageError> {
        match self.find_place(message.len())? {
            Place::Ring(_) => {
                self.ring.stage(message).map_err(|error| ring_error(&self.core, error))
            }
            Place::Slot { slot, segment, at } => {
                segment.mapped().write(at, message);
                self.stage_slot(slot, message.len())
            }
            Place::Sealed(number) => {
                let filled = Unsealed::new().and_then(|memory| {
                    memory.fill(message)?;
                    Ok(memory)
                });
                match filled {
                    Ok(memory) => self.stage_sealed(number, memory, message.len()),
                    Err(error) => {
                        self.pool.give_back(number);
                        Err(error.into())
                    }
                }
            }
        }
    }

    /// Finds room for a message of `len` bytes. A slot that is found is taken.
    pub(crate) fn find_place(&mut self, len: usize) -> Result<Place, StageError> {
        self.core.check_open()?;
        let bytes = len as u64;
        let geometry = &self.core.geometry;
        if bytes > geometry.max_message {
            let max = geometry.max_message;
            return Err(SendError::TooLarge { len: bytes, max }.into());
        }
        let inline = len <= geometry.inline_max as usize;
        // A reference needs room in the ring, too.
        let in_ring = if inline { len as u32 } else { 0 };
        let grant = self.ring.grant(in_ring).map_err(|error| ring_error(&self.core, error))?;
        if inline {
            return Ok(Place::Ring(grant.payload()));
        }
        if bytes > u64::from(geometry.pool.largest_slot()) {
            let number = self.pool.allocate_sealed();
            return number.map(Place::Sealed).map_err(|_| StageError::Blocked(Blocked::Slots));
        }
        loop {
            match self.pool.allocate(bytes) {
                Ok(slot) => return self.slot_place(slot),
                Err(exhausted) => match exhausted.may_grow {
                    Some(class) => self.grow(class)?,
                    None => return Err(StageError::Blocked(Blocked::Slots)),
                },
            }
        }
    }

    fn slot_place(&mut self, slot: SlotId) -> Result<Place, StageError> {
        let class = self.core.geometry.pool.class(slot.class).copied();
        let (extent, at) = class.map_or((u32::MAX, 0), |class| class.place(slot.index));
        let segment =
            self.extents.get(usize::from(slot.class)).and_then(|all| all.get(extent as usize));
        match segment {
            Some(segment) => {
                Ok(Place::Slot { slot, segment: segment.clone(), at: Offset::new(at) })
            }
            // Allocated slots lie in extents that were added; see `grow`.
            None => {
                self.pool.give_back(slot);
                Err(StageError::Blocked(Blocked::Slots))
            }
        }
    }

    /// Adds an extent to a class: made, mapped and handed over before it is used.
    fn grow(&mut self, class: u8) -> Result<(), StageError> {
        let size = self.core.geometry.pool.class(class).map_or(0, |class| class.extent_size());
        let descriptor = memory::create("shm-extent", size)?;
        let segment = memory::map_as_writer(descriptor.as_fd(), size)?;
        self.hand_over(&inbox::extent_message(class), descriptor.as_fd())?;
        tracing::debug!(class, size, "slot pool grows by an extent");
        if let Some(extents) = self.extents.get_mut(usize::from(class)) {
            extents.push(segment);
            self.pool.add_extent(class);
        }
        Ok(())
    }

    fn hand_over(&self, message: &[u8], descriptor: BorrowedFd<'_>) -> Result<(), StageError> {
        match socket::send(self.core.socket.as_fd(), message, &[descriptor]) {
            Ok(()) => Ok(()),
            // The peer reads them when it reaches the frames that refer to them.
            Err(Errno::AGAIN | Errno::TOOMANYREFS) => Err(StageError::Blocked(Blocked::Socket)),
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                self.core.notice_hang_up();
                self.core.check_open()?;
                Err(LinkEnd::PeerDead.into())
            }
            Err(errno) => Err(OsError::new("hand over memory", errno).into()),
        }
    }

    /// Stages a reference to a slot that holds the message, or gives the slot back.
    pub(crate) fn stage_slot(&mut self, slot: SlotId, len: usize) -> Result<(), StageError> {
        let frame = Frame::Slot { slot, len: len as u32 };
        match self.ring.stage_reference(frame) {
            Ok(()) => {
                self.pool.sent(slot);
                Ok(())
            }
            Err(error) => {
                self.pool.give_back(slot);
                Err(ring_error(&self.core, error))
            }
        }
    }

    /// Seals memory that holds a message of more than 0 bytes, hands it over and stages a
    /// reference to it, or gives its number back.
    pub(crate) fn stage_sealed(
        &mut self,
        number: SlotId,
        memory: Unsealed,
        len: usize,
    ) -> Result<(), StageError> {
        let handed_over = memory
            .seal(len as u64)
            .map_err(StageError::from)
            .and_then(|fd| self.hand_over(&inbox::sealed_message(number.index), fd.as_fd()));
        if let Err(error) = handed_over {
            self.pool.give_back(number);
            return Err(error);
        }
        // The descriptor is on its way, so the number is in use whatever comes.
        self.pool.sent(number);
        self.ring
            .stage_reference(Frame::Sealed { index: number.index })
            .map_err(|error| ring_error(&self.core, error))
    }

    /// Publishes what is staged, and wakes the peer if it sleeps.
    #[inline(always)]
    pub(crate) fn publish(&mut self) {
        if self.ring.has_staged() {
            self.ring.publish();
            self.core.ring_data();
            self.ring.prefetch();
        }
    }
}

#[cold]
fn ring_error(core: &LinkCore, error: GrantError) -> StageError {
    match error {
        GrantError::Full => StageError::Blocked(Blocked::Ring),
        GrantError::Corrupt { tail } => core.end(LinkEnd::Corrupt(Corruption::Tail(tail))).into(),
        GrantError::TooLarge { len, max } => SendError::TooLarge { len, max }.into(),
        _ => StageError::Blocked(Blocked::Ring),
    }
}
