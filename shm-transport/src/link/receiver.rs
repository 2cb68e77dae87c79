use std::sync::Arc;

use shm_primitives::{
    doorbell::Sleeper,
    outbox::{DATA_BELL, DATA_SLEEP},
    pool::SlotReceipts,
};

use super::{
    message::Message,
    open::Open,
    reception::{Half, Taken},
    wait::Waiter,
};
use crate::{deadline::Deadline, error::RecvError};

/// The receiving half of a link.
///
/// One thread at a time uses it; it may move between threads. What the peer sent before
/// its end is received before the end is reported; after an eviction or a breach of the
/// protocol nothing more is.
#[derive(Debug)]
pub struct Receiver {
    pub(crate) half: Half,
    pub(crate) waiter: Waiter,
}

impl Receiver {
    pub(crate) fn new(open: Arc<Open>, receipts: SlotReceipts) -> Self {
        let core = Arc::clone(&open.0);
        let sleeper = Sleeper::new(core.own.mapped(), DATA_SLEEP, core.peer.mapped(), DATA_BELL);
        let waiter = Waiter::new(sleeper, core.geometry.spin);
        Self { half: Half::new(open, receipts), waiter }
    }

    /// The next message if one is there.
    ///
    /// # Errors
    ///
    /// [`RecvError::Ended`] if the link is over and drained, [`RecvError::Os`] if the
    /// message's memory could not be mapped; it is then still there.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>, RecvError> {
        match self.half.take() {
            Ok(Some(taken)) => Ok(Some(Message::new(&mut self.half, taken))),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next message, waiting for one until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), and [`RecvError::TimedOut`].
    #[inline]
    pub fn recv(&mut self, deadline: impl Into<Deadline>) -> Result<Message<'_>, RecvError> {
        let taken = self.take(deadline.into())?;
        Ok(Message::new(&mut self.half, taken))
    }

    /// Copies the next message into `buffer`, waiting for one until `deadline`; returns
    /// its length in bytes.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [`RecvError::BufferTooSmall`] if it does not fit; it
    /// is then still there.
    #[inline]
    pub fn recv_into(
        &mut self,
        buffer: &mut [u8],
        deadline: impl Into<Deadline>,
    ) -> Result<usize, RecvError> {
        let taken = self.take(deadline.into())?;
        self.copy_out(taken, buffer)
    }

    /// Copies the next message into `buffer` if one is there; returns its length.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), and [`RecvError::BufferTooSmall`].
    #[inline]
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, RecvError> {
        match self.half.take()? {
            Some(taken) => self.copy_out(taken, buffer).map(Some),
            None => Ok(None),
        }
    }

    /// Whether [`try_recv`](Self::try_recv) would return anything but `None`: a message,
    /// or the end of the link.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.half.is_ready()
    }

    /// How many messages the peer has dropped for want of room instead of sending them
    /// here, by its own account, since the link began. After a message was received, all
    /// that were dropped before it are counted.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.half.core.peer_dropped()
    }

    /// Prepares for waiting on the link's descriptor: `true` if there is nothing to
    /// receive now and the descriptor becomes readable when there is. After it did, call
    /// [`disarm`](Self::disarm).
    #[must_use = "on `false` there is something to receive and the descriptor may stay quiet"]
    pub fn arm(&mut self) -> bool {
        self.waiter.announce_on_socket();
        self.waiter.fence();
        if self.is_ready() {
            self.waiter.awake();
            return false;
        }
        true
    }

    /// Ends the waiting that [`arm`](Self::arm) prepared for, and takes what made the
    /// descriptor readable from it.
    pub fn disarm(&mut self) {
        self.waiter.awake();
        self.half.core.drain_socket();
    }

    #[inline(always)]
    fn take(&mut self, deadline: Deadline) -> Result<Taken, RecvError> {
        if let Some(taken) = self.half.take()? {
            return Ok(taken);
        }
        if !self.wait(deadline) {
            return Err(RecvError::TimedOut);
        }
        self.half.take()?.ok_or(RecvError::TimedOut)
    }

    /// Waits until there is something to take; `false` if there was not by the deadline.
    #[inline(never)]
    fn wait(&mut self, deadline: Deadline) -> bool {
        let Self { half, waiter } = self;
        waiter.wait(&half.core, deadline, || half.is_ready().then_some(())).is_some()
    }

    #[inline(always)]
    fn copy_out(&mut self, taken: Taken, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let len = taken.len();
        match buffer.get_mut(..len) {
            Some(buffer) => {
                Message::new(&mut self.half, taken).copy_to(0, buffer);
                Ok(len)
            }
            None => {
                self.half.hold(taken);
                Err(RecvError::BufferTooSmall { len, buffer: buffer.len() })
            }
        }
    }
}
