use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use super::{
    nap::Nap,
    source::{Drain, Source},
};
use crate::{
    error::OsError,
    link::{sender::SOCKET_PAUSE, tasks::Waits, wait::Waiter},
    patience::Patience,
};

/// How long a half of a link polls before its task sleeps, at most and unless it is
/// [configured](super::AsyncLink::set_spin). It is ten times what a sleep and a wake-up cost: while
/// it polls, other tasks have their turns, and two sides that answer several questions at a time
/// do not fall into step, each asleep while the other works.
pub const DEFAULT_SPIN: Duration = Duration::from_micros(500);

/// Polls in one go, before other tasks have their turn.
const POLLS: u32 = 32;

/// Rings that are looked after in one go, before other tasks have their turn.
const ROUNDS: u32 = 4;

/// What a look found.
pub(crate) enum Look<T> {
    Found(T),
    /// Nothing yet; the peer rings when that may have changed.
    Nothing,
    /// Nothing yet, and nobody tells when that changes.
    Unrung,
}

/// Which look it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There will be others before the task sleeps.
    Polling,
    /// If nothing is found, the task sleeps.
    Last,
}

/// How one half of a link waits in a task: it polls a little, between the turns of other tasks,
/// announces a sleep to the peer, looks again, and leaves the thread until the link's socket is
/// readable.
#[derive(Debug)]
pub(crate) struct Wait {
    source: Arc<Source>,
    place: Waits,
    patience: Patience,
    nap: Nap,
    /// When the wait began that is going on.
    since: Option<Instant>,
    /// Whether that one polls no longer.
    spun: bool,
    /// How often the socket had been read before the sleep was announced that is going on.
    reads: u64,
    /// Whether there is a waker of this half among the link's tasks, as far as it knows.
    stored: bool,
}

impl Wait {
    pub(crate) fn new(source: Arc<Source>, place: Waits) -> Self {
        Self {
            source,
            place,
            patience: Patience::new(DEFAULT_SPIN),
            nap: Nap::default(),
            since: None,
            spun: false,
            reads: 0,
            stored: false,
        }
    }

    pub(crate) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    pub(crate) fn set_spin(&mut self, spin: Duration) {
        self.patience = Patience::new(spin);
    }

    /// To be called when what is waited for was found.
    #[inline(always)]
    pub(crate) fn found(&mut self, waiter: &mut Waiter) {
        if self.since.is_some() || waiter.is_announced() {
            self.over(waiter);
        }
    }

    /// The wait is over.
    #[cold]
    fn over(&mut self, waiter: &mut Waiter) {
        let since = self.since.take();
        if waiter.is_announced() {
            waiter.awake();
            self.source.core().tasks.forget_vain();
        }
        if !std::mem::take(&mut self.spun) {
            self.patience.polled();
        } else if let Some(start) = since {
            self.patience.slept(start);
        }
    }

    fn forget_waker(&mut self) {
        if self.stored {
            self.stored = false;
            self.source.core().tasks.forget(self.place);
        }
    }

    /// Calls `attempt` until it finds something, which it does, at the latest, when the link has
    /// ended. An error is one of the system, and the next call waits on.
    ///
    /// Nothing that was found is kept here: a wait that is given up loses nothing.
    pub(crate) fn poll<T>(
        &mut self,
        waiter: &mut Waiter,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(Turn) -> Look<T>,
    ) -> Poll<Result<T, OsError>> {
        // While this task is awake, reading the socket need not wake it.
        self.forget_waker();
        let mut rung = false;
        for _ in 0..ROUNDS {
            ready!(self.nap.poll(cx))?;
            let polls = !self.spun && !waiter.is_announced();
            let turn = if polls { Turn::Polling } else { Turn::Last };
            match attempt(turn) {
                Look::Found(found) => {
                    self.found(waiter);
                    return Poll::Ready(Ok(found));
                }
                Look::Nothing => {}
                Look::Unrung => {
                    self.nap_for(waiter, SOCKET_PAUSE)?;
                    continue;
                }
            }
            if polls {
                if let Some(found) = self.spin(&mut attempt) {
                    self.found(waiter);
                    return Poll::Ready(Ok(found));
                }
                if !self.spun {
                    yield_now(cx);
                    return Poll::Pending;
                }
            }
            let mut more = false;
            // What woke it for the last message is read now, after that was taken: while this
            // task has nothing better to do, and before it leaves its waker and a new sleep
            // can be rung for.
            let mut vain = std::mem::take(&mut rung) && waiter.is_announced();
            match self.source.poll_drain() {
                Poll::Ready(Ok(Drain::All)) => vain |= waiter.is_announced(),
                // More than an honest peer has sent as a rule.
                Poll::Ready(Ok(Drain::Some)) => {
                    vain = true;
                    more = true;
                }
                Poll::Ready(Ok(Drain::Starved)) => {
                    self.nap_for(waiter, SOCKET_PAUSE)?;
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            // It slept, was woken and has found nothing.
            if vain && let Some(nap) = self.source.core().tasks.count_vain() {
                self.nap_for(waiter, nap)?;
                continue;
            }
            if more {
                continue;
            }
            self.source.core().tasks.store(self.place, cx.waker());
            self.stored = true;
            let reads = self.source.core().tasks.reads();
            // An announcement is good for one ring. If the socket was read since, that may have
            // been its.
            if !waiter.is_announced() || self.reads != reads {
                self.reads = reads;
                waiter.announce_on_socket();
                waiter.fence();
                match attempt(Turn::Last) {
                    Look::Found(found) => {
                        self.forget_waker();
                        self.found(waiter);
                        return Poll::Ready(Ok(found));
                    }
                    Look::Nothing => {}
                    Look::Unrung => {
                        self.forget_waker();
                        self.nap_for(waiter, SOCKET_PAUSE)?;
                        continue;
                    }
                }
            }
            match self.source.poll_drain() {
                Poll::Pending => return Poll::Pending,
                // That has woken everybody, this task included.
                Poll::Ready(Ok(_)) => rung = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Polls a little. Says by `spun` whether that was the last time.
    fn spin<T>(&mut self, attempt: &mut impl FnMut(Turn) -> Look<T>) -> Option<T> {
        if self.patience.max_spin() > Duration::ZERO && self.since.is_none() {
            for _ in 0..POLLS {
                if let Look::Found(found) = attempt(Turn::Polling) {
                    return Some(found);
                }
                std::hint::spin_loop();
            }
        }
        let start = *self.since.get_or_insert_with(Instant::now);
        self.spun = !self.patience.polls_on(start);
        None
    }

    /// Does not listen to the peer for a while.
    fn nap_for(&mut self, waiter: &mut Waiter, time: Duration) -> Result<(), OsError> {
        waiter.awake();
        self.nap.begin(time)
    }
}

/// Has the task polled again when others had their turn, the runtime's descriptors included.
fn yield_now(cx: &mut Context<'_>) {
    // A plain `wake` of itself would have idle threads of the runtime fight for the task.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

impl Drop for Wait {
    fn drop(&mut self) {
        // The waker may keep the task alive that this is part of.
        self.source.core().tasks.forget(self.place);
    }
}
