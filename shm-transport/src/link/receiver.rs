use std::{hint, sync::Arc, time::Duration};

use shm_primitives::{
    doorbell::Sleeper,
    ledger::ReceiverStatistics,
    outbox::{DATA_BELL, DATA_SLEEP},
    pool::SlotReceipts,
    ring::Entry,
};

use super::{
    message::Message,
    open::Open,
    reception::{Found, Half, Taken},
    wait::Waiter,
};
use crate::{deadline::Deadline, error::RecvError, ledger::SleepingHalf};

/// The receiving half of a link.
///
/// One thread at a time uses it; it may move between threads. What the peer sent before
/// its end is received before the end is reported; after an eviction or a breach of the
/// protocol nothing more is.
#[derive(Debug)]
pub struct Receiver {
    pub(crate) half: Half,
    pub(crate) waiter: Waiter,
    /// How far this side's own ring was written when it last waited, in bytes.
    sent_before: u64,
}

/// In a stream one way, a receiver that has caught up waits for so many turns before it looks
/// again. A look takes the line away from the sender that writes there; a little later there
/// are more messages to take at once.
const BACK_OFF: u32 = 48;

impl Receiver {
    pub(crate) fn new(open: Arc<Open>, receipts: SlotReceipts) -> Self {
        let core = Arc::clone(&open.0);
        let sleeper = Sleeper::new(core.own.mapped(), DATA_SLEEP, core.peer.mapped(), DATA_BELL);
        let waiter = Waiter::new(sleeper, core.geometry.spin, SleepingHalf::Receiver);
        Self { half: Half::new(open, receipts), waiter, sent_before: 0 }
    }

    /// The next message if one is there.
    ///
    /// # Errors
    ///
    /// [`RecvError::Ended`] if the link is over and drained, [`RecvError::Os`] if the
    /// message's memory could not be mapped; it is then still there.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>, RecvError> {
        if let Some(entry) = self.half.take_inline() {
            return Ok(Some(Message::inline(&mut self.half, entry)));
        }
        let taken = self.half.take()?;
        Ok(taken.map(|taken| Message::new(&mut self.half, taken)))
    }

    /// The next message, waiting for one until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), and [`RecvError::TimedOut`].
    #[inline]
    pub fn recv(&mut self, deadline: impl Into<Deadline>) -> Result<Message<'_>, RecvError> {
        match self.half.take_inline() {
            Some(entry) => Ok(Message::inline(&mut self.half, entry)),
            None => self.recv_later(deadline.into()),
        }
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
        match self.half.take_inline() {
            Some(entry) => self.copy_out(entry, buffer),
            None => self.recv_into_later(buffer, deadline.into()),
        }
    }

    /// Copies the next message into `buffer` if one is there; returns its length.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), and [`RecvError::BufferTooSmall`].
    #[inline]
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, RecvError> {
        if let Some(entry) = self.half.take_inline() {
            return self.copy_out(entry, buffer).map(Some);
        }
        match self.half.take()? {
            Some(taken) => self.copy_taken_out(taken, buffer).map(Some),
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

    /// What was counted of this half since the link began.
    #[must_use]
    pub fn statistics(&self) -> ReceiverStatistics {
        self.half.core.ledger.statistics().received
    }

    /// From now on a wait polls for up to `spin` before it sleeps, and lets other threads have the
    /// processor between two looks (`sched_yield`). It polls less when that does not pay.
    ///
    /// Right where an answer takes some hundred microseconds and there are more processes than
    /// processors: to poll as [`LinkConfig::spin`](crate::LinkConfig::spin) says would keep from
    /// work who is waited for.
    pub fn set_yielding_spin(&mut self, spin: Duration) {
        self.waiter.set_yielding_spin(spin);
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

    /// The next message, for a caller that may [hold](Half::hold) it again; waits for one until
    /// the deadline.
    pub(crate) fn take(&mut self, deadline: Deadline) -> Result<Taken, RecvError> {
        match self.wait(deadline) {
            Some(Found::Inline(entry)) => Ok(Taken::Inline(entry)),
            Some(Found::Other) => self.half.take()?.ok_or(RecvError::TimedOut),
            None => Err(RecvError::TimedOut),
        }
    }

    /// [`recv`](Self::recv) when there is no inline message yet.
    #[inline(never)]
    fn recv_later(&mut self, deadline: Deadline) -> Result<Message<'_>, RecvError> {
        if let Some(taken) = self.half.take()? {
            return Ok(Message::new(&mut self.half, taken));
        }
        match self.wait(deadline) {
            Some(Found::Inline(entry)) => Ok(Message::inline(&mut self.half, entry)),
            Some(Found::Other) => {
                let taken = self.half.take()?.ok_or(RecvError::TimedOut)?;
                Ok(Message::new(&mut self.half, taken))
            }
            None => Err(RecvError::TimedOut),
        }
    }

    /// [`recv_into`](Self::recv_into) when there is no inline message yet. It has much in common
    /// with `recv_later`, but a `Taken` for both would pass an inline message through memory,
    /// which costs a round trip 20 ns.
    #[inline(never)]
    fn recv_into_later(
        &mut self,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<usize, RecvError> {
        if let Some(taken) = self.half.take()? {
            return self.copy_taken_out(taken, buffer);
        }
        match self.wait(deadline) {
            Some(Found::Inline(entry)) => self.copy_out(entry, buffer),
            Some(Found::Other) => {
                let taken = self.half.take()?.ok_or(RecvError::TimedOut)?;
                self.copy_taken_out(taken, buffer)
            }
            None => Err(RecvError::TimedOut),
        }
    }

    /// Waits until there is something to take; `None` if there was not by the deadline.
    #[inline(always)]
    fn wait(&mut self, deadline: Deadline) -> Option<Found> {
        let Self { half, waiter, sent_before } = self;
        let (core, mut search) = half.search();
        let sent = core.sent();
        if sent != *sent_before {
            // An answer is awaited.
            *sent_before = sent;
            core.prefetch_ring(sent);
        } else if waiter.was_brief() {
            for _ in 0..BACK_OFF {
                hint::spin_loop();
            }
        }
        waiter.wait(core, deadline, || search.look())
    }

    #[inline(always)]
    fn copy_out(&mut self, entry: Entry, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let len = entry.len() as usize;
        match buffer.get_mut(..len) {
            Some(buffer) => {
                self.half.copy_out(entry, buffer);
                Ok(len)
            }
            None => self.does_not_fit(Taken::Inline(entry), buffer.len()),
        }
    }

    fn copy_taken_out(&mut self, taken: Taken, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let len = taken.len();
        match buffer.get_mut(..len) {
            Some(buffer) => {
                Message::new(&mut self.half, taken).copy_to(0, buffer);
                Ok(len)
            }
            None => self.does_not_fit(taken, buffer.len()),
        }
    }

    #[cold]
    fn does_not_fit(&mut self, taken: Taken, buffer: usize) -> Result<usize, RecvError> {
        let len = taken.len();
        self.half.hold(taken);
        Err(RecvError::BufferTooSmall { len, buffer })
    }
}
