use std::{
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use super::nap::Nap;
use crate::{
    error::{LinkEnd, OsError},
    link::{core::LinkCore, sender::SOCKET_PAUSE, tasks::Waits},
    os::registered::Registered,
};

/// How far the socket was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Nothing is left.
    All,
    /// Something may be left.
    Some,
    /// What is left cannot be taken now, such as for lack of descriptors.
    Starved,
}

/// Where the tasks that wait for a link are woken from: its socket, registered once with the
/// runtime for both halves. The runtime wakes all that wait, by the [`Tasks`] of the link.
///
/// [`Tasks`]: crate::link::tasks::Tasks
#[derive(Debug)]
pub(crate) struct Source {
    socket: Registered<Arc<LinkCore>>,
    waker: Waker,
}

impl Source {
    /// Registers a link's socket with the runtime of the calling thread.
    #[track_caller]
    pub(crate) fn new(core: Arc<LinkCore>) -> Result<Self, OsError> {
        let waker = Waker::from(Arc::clone(&core.tasks));
        Ok(Self { socket: Registered::new(core)?, waker })
    }

    pub(crate) fn core(&self) -> &Arc<LinkCore> {
        self.socket.get()
    }

    /// Reads from the socket if it is readable. If it is not, everybody in `core.tasks` is woken
    /// when it becomes so.
    ///
    /// The error is that the runtime is over. `Pending` may also mean that the runtime wants
    /// another task to have its turn; it then wakes everybody.
    pub(crate) fn poll_drain(&self) -> Poll<Result<Drain, OsError>> {
        let mut cx = Context::from_waker(&self.waker);
        let readable = ready!(self.socket.poll_readable(&mut cx))?;
        let drain = match self.core().drain_for_tasks() {
            Ok(true) => Drain::All,
            Ok(false) => Drain::Some,
            Err(_) => Drain::Starved,
        };
        match drain {
            Drain::All => readable.was_exhausted(),
            Drain::Some | Drain::Starved => readable.was_not_exhausted(),
        }
        Poll::Ready(Ok(drain))
    }
}

/// Somebody who waits for the end of a link and nothing else.
#[derive(Debug)]
pub(crate) struct Ending {
    source: Arc<Source>,
    place: Waits,
    nap: Nap,
}

impl Ending {
    pub(crate) fn new(source: &Arc<Source>) -> Self {
        let place = source.core().tasks.waits_for_end();
        Self { source: Arc::clone(source), place, nap: Nap::default() }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        let Self { source, place, nap } = self;
        let core = source.core();
        loop {
            // Before the look: who ends the link, or reads of it, from now on finds the waker.
            core.tasks.store(*place, cx.waker());
            if let Some(end) = core.look_for_end() {
                return Poll::Ready(end);
            }
            // During a nap the watch over the link alone wakes it.
            if nap.poll(cx).is_pending() {
                return Poll::Pending;
            }
            match source.poll_drain() {
                Poll::Ready(Ok(Drain::Starved)) => {
                    // Nobody tells when that is over.
                    if nap.begin(SOCKET_PAUSE).is_err() {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Ok(Drain::All | Drain::Some)) => {
                    if let Some(time) = core.tasks.count_vain()
                        && nap.begin(time).is_err()
                    {
                        return Poll::Pending;
                    }
                }
                Poll::Pending => return Poll::Pending,
                // The runtime is over, and nobody polls this any more.
                Poll::Ready(Err(_)) => return Poll::Pending,
            }
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.source.core().tasks.forget(self.place);
    }
}
