use std::{sync::Arc, thread, time::Duration};

use shm_primitives::{
    Mapped,
    doorbell::Sleeper,
    ledger::SenderStatistics,
    outbox::{SPACE_BELL, SPACE_SLEEP},
    pool::SlotAllocator,
};

use super::{
    grant::SendGrant,
    open::Open,
    shared::SharedPayload,
    staging::{Blocked, Growth, Half, StageError},
    wait::Waiter,
};
use crate::{
    deadline::Deadline,
    error::{BatchError, LinkEnd, SendError},
    ledger::SleepingHalf,
};

/// How long a sender waits for room in the socket before it tries again.
pub(crate) const SOCKET_PAUSE: Duration = Duration::from_millis(1);

/// A slow reader's.
const READ_BYTES_PER_NANOSECOND: u64 = 2;

/// Bytes of a batch that are published together, so that the receiver can begin with the
/// first while the next are written.
const PUBLISH_AT: usize = 4 << 10;

/// The sending half of a link.
///
/// One thread at a time uses it; it may move between threads.
#[derive(Debug)]
pub struct Sender {
    pub(crate) half: Half,
    pub(crate) waiter: Waiter,
}

/// How a sender is to wait for room: see [`Sender::arm`].
#[must_use = "it says whether the descriptor can be waited for"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Armed {
    /// There is nothing to wait for: send now, or learn that the link is over. The descriptor
    /// may stay quiet.
    Ready,
    /// The descriptor becomes readable when there may be room, and when the link ends.
    Waiting,
    /// The system takes no more descriptors for the peer just now, and nobody tells when it
    /// does: try again in a millisecond. This can happen to messages that are larger than all
    /// slots, and to the first message of a size class.
    Later,
}

impl Sender {
    pub(crate) fn new(open: Arc<Open>, pool: SlotAllocator<Mapped>) -> Self {
        let core = Arc::clone(&open.0);
        let sleeper = Sleeper::new(core.own.mapped(), SPACE_SLEEP, core.peer.mapped(), SPACE_BELL);
        let waiter = Waiter::new(sleeper, core.geometry.spin, SleepingHalf::Sender);
        Self { half: Half::new(open, pool), waiter }
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
        if self.half.send_at_once(message) {
            return Ok(());
        }
        self.send_later(message, deadline.into())
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), with [`SendError::Full`] instead of `TimedOut`.
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        if !self.half.send_at_once(message) {
            let staged = self.half.stage(message, Growth::Now);
            staged.map_err(|error| self.half.without_waiting(error))?;
            self.half.publish();
        }
        Ok(())
    }

    /// Sends messages in order, publishing small ones several at a time.
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
        let mut unpublished = 0;
        for (sent, message) in messages.iter().enumerate() {
            let message = message.as_ref();
            if unpublished >= PUBLISH_AT {
                self.half.publish();
                unpublished = 0;
            }
            unpublished += message.len();
            if let Err(error) = self.half.stage(message, Growth::Later) {
                self.half.publish();
                let staged = match error {
                    StageError::Blocked(blocked) => self.stage_later(blocked, message, deadline),
                    StageError::Failed(error) => Err(error),
                };
                staged.map_err(|error| BatchError { sent, error })?;
            }
        }
        self.half.publish();
        Ok(())
    }

    /// Sends as many of the messages, in order, as find room at once; returns how
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
        let place = match self.half.find_place(len, Growth::Later) {
            Ok(place) => place,
            Err(StageError::Failed(error)) => return Err(error),
            Err(StageError::Blocked(blocked)) => {
                self.wait_for_slot(blocked, len, deadline.into(), |half, growth| {
                    half.find_place(len, growth)
                })?
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
        let place = self.half.find_place(len, Growth::Now);
        let place = place.map_err(|error| self.half.without_waiting(error))?;
        SendGrant::new(&mut self.half, place, len)
    }

    /// Sends a payload that other links may get as well, waiting for room until
    /// `deadline`: the peer maps the very same memory. Where there is none to share, it is
    /// copied: if it fits inline, or if this link carries no sealed payloads.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_shared(
        &mut self,
        payload: &SharedPayload,
        deadline: impl Into<Deadline>,
    ) -> Result<(), SendError> {
        if !self.half.can_share(payload.len()) {
            self.half.check_size(payload.len())?;
            return self.send(&payload.to_vec()?, deadline);
        }
        match self.half.stage_shared(payload) {
            Ok(()) => {}
            Err(StageError::Failed(error)) => return Err(error),
            Err(StageError::Blocked(blocked)) => {
                self.half.count_full(blocked);
                self.wait_for(blocked, deadline.into(), |half| half.stage_shared(payload))?;
            }
        }
        self.half.publish();
        Ok(())
    }

    /// Sends a payload that other links may get as well, if there is room now.
    ///
    /// # Errors
    ///
    /// As [`send_shared`](Self::send_shared), with [`SendError::Full`] instead of
    /// `TimedOut`.
    pub fn try_send_shared(&mut self, payload: &SharedPayload) -> Result<(), SendError> {
        if !self.half.can_share(payload.len()) {
            self.half.check_size(payload.len())?;
            return self.try_send(&payload.to_vec()?);
        }
        let staged = self.half.stage_shared(payload);
        staged.map_err(|error| self.half.without_waiting(error))?;
        self.half.publish();
        Ok(())
    }

    /// Tells the peer that it misses one more message, which was dropped instead of
    /// waiting for room: see [`Receiver::missed`](crate::Receiver::missed).
    ///
    /// [`LinkSet::send_to_all`](crate::LinkSet::send_to_all) does it by itself.
    pub fn count_dropped(&mut self) {
        self.half.count_dropped();
    }

    /// How many messages were dropped, as the peer was told.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.half.dropped()
    }

    /// Prepares for waiting on the link's descriptor until there is room for a message of `len`
    /// bytes. After the descriptor became readable, or when somebody no longer waits, call
    /// [`disarm`](Self::disarm).
    ///
    /// Both halves are woken over the one descriptor, and what is read from it is gone for both.
    /// So whoever waits for both, waits for them on one thread: when the descriptor is readable,
    /// it disarms both, tries both, and arms both anew.
    ///
    /// ```
    /// use shm_transport::{Armed, Link, LinkConfig, SendError};
    ///
    /// let (mut left, mut right) = Link::pair(&LinkConfig::default())?;
    /// while left.sender.try_send(&[0; 1000]).is_ok() {}
    /// assert_eq!(left.sender.arm(1000), Armed::Waiting);
    /// // The descriptor, `left.as_fd()`, is now what to sleep on.
    /// while right.try_recv()?.is_some() {}
    /// left.sender.disarm();
    /// left.sender.try_send(&[0; 1000])?;
    /// assert_eq!(left.sender.arm(1000), Armed::Ready);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn arm(&mut self, len: usize) -> Armed {
        self.waiter.announce_on_socket();
        self.waiter.fence();
        let armed = match self.half.look_for_room(len, Growth::Now) {
            Err(StageError::Blocked(blocked)) if self.half.core.look_for_end().is_none() => {
                if blocked.is_rung_for() {
                    Armed::Waiting
                } else {
                    Armed::Later
                }
            }
            _ => Armed::Ready,
        };
        if armed != Armed::Waiting {
            self.waiter.awake();
        }
        armed
    }

    /// Ends the waiting that [`arm`](Self::arm) prepared for, and takes what made the descriptor
    /// readable from it.
    pub fn disarm(&mut self) {
        self.waiter.awake();
        self.half.core.drain_socket();
    }

    /// What was counted of this half since the link began.
    #[must_use]
    pub fn statistics(&self) -> SenderStatistics {
        self.half.core.ledger.statistics().sent
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
        let Self { half, waiter } = self;
        let core = Arc::clone(&half.core);
        waiter.wait(&core, deadline, || half.look_drained())
    }

    /// [`send`](Self::send) of what cannot be sent at once.
    #[inline(never)]
    fn send_later(&mut self, message: &[u8], deadline: Deadline) -> Result<(), SendError> {
        match self.half.stage(message, Growth::Later) {
            Ok(()) => {}
            Err(StageError::Failed(error)) => return Err(error),
            Err(StageError::Blocked(blocked)) => self.stage_later(blocked, message, deadline)?,
        }
        self.half.publish();
        Ok(())
    }

    #[cold]
    fn stage_later(
        &mut self,
        blocked: Blocked,
        message: &[u8],
        deadline: Deadline,
    ) -> Result<(), SendError> {
        self.wait_for_slot(blocked, message.len(), deadline, |half, growth| {
            half.stage(message, growth)
        })
    }

    /// [`wait_for`](Self::wait_for) a place for a message of `len` bytes: before many slots are
    /// used for one that was used lately, about as long as a receiver takes to read one.
    fn wait_for_slot<T>(
        &mut self,
        blocked: Blocked,
        len: usize,
        deadline: Deadline,
        mut attempt: impl FnMut(&mut Half, Growth) -> Result<T, StageError>,
    ) -> Result<T, SendError> {
        let deadline = deadline.fixed();
        self.half.count_full(blocked);
        if blocked == Blocked::Growth {
            let reading = Duration::from_nanos(len as u64 / READ_BYTES_PER_NANOSECOND);
            let soon = deadline.remaining_at_most(Some(reading)).unwrap_or(reading);
            match self.wait_for(blocked, soon.into(), |half| attempt(half, Growth::Later)) {
                Err(SendError::TimedOut) => self.half.spread(),
                result => return result,
            }
        }
        self.wait_for(blocked, deadline, |half| attempt(half, Growth::Now))
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
            if !blocked.is_rung_for() {
                // Nobody rings for room in the socket, and it is rare.
                thread::sleep(deadline.remaining_at_most(Some(SOCKET_PAUSE)).unwrap_or_default());
            }
            let core = Arc::clone(&half.core);
            let found = waiter.wait(&core, deadline, || match attempt(half) {
                Err(StageError::Blocked(now)) if now.is_rung_for() => {
                    // Nobody who has said goodbye makes room.
                    core.look_for_end().map(|end| Err(end.into()))
                }
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
