//! The tasks of this process that wait for a link, in whatever runtime.
//!
//! The halves of a link share its socket, over which both are woken, and whoever reads it takes
//! the rings for all. So everybody who waits leaves a waker here *before* announcing a sleep to
//! the peer, and whoever has read from the socket counts that and wakes all who are here. A ring
//! comes after the announcement, and so is read by somebody who finds the waker. A task that is
//! woken looks, and if it finds nothing and the count has changed it announces anew: the ring
//! that was read may have been its own.
use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use crate::vain::VainWakeUps;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// The receiving half, for messages.
    Receiver,
    /// The sending half, for room.
    Sender,
    /// One of any number, for the end.
    End(u64),
}

#[derive(Debug, Default)]
pub(crate) struct Tasks {
    waiting: Mutex<Waiting>,
    /// How often the socket was read.
    reads: AtomicU64,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    receiver: Option<Waker>,
    sender: Option<Waker>,
    end: Vec<(u64, Waker)>,
    /// Of both halves together: what is for nothing for the one may be for the other.
    vain: VainWakeUps,
}

impl Tasks {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more who waits for the end.
    pub(crate) fn waits_for_end(&self) -> Waits {
        Waits::End(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Leaves a waker, in the place of an earlier one of the same.
    pub(crate) fn store(&self, who: Waits, waker: &Waker) {
        let mut waiting = self.waiting();
        let place = match who {
            Waits::Receiver => &mut waiting.receiver,
            Waits::Sender => &mut waiting.sender,
            Waits::End(number) => {
                match waiting.end.iter_mut().find(|(other, _)| *other == number) {
                    Some((_, place)) => place.clone_from(waker),
                    None => waiting.end.push((number, waker.clone())),
                }
                return;
            }
        };
        match place {
            Some(place) => place.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Takes a waker back.
    pub(crate) fn forget(&self, who: Waits) {
        let mut waiting = self.waiting();
        let taken = match who {
            Waits::Receiver => waiting.receiver.take(),
            Waits::Sender => waiting.sender.take(),
            Waits::End(number) => {
                let place = waiting.end.iter().position(|(other, _)| *other == number);
                place.map(|place| waiting.end.swap_remove(place).1)
            }
        };
        // A waker may do anything when it is dropped.
        drop(waiting);
        drop(taken);
    }

    /// Wakes all.
    pub(crate) fn wake_all(&self) {
        let mut waiting = self.waiting();
        let (receiver, sender) = (waiting.receiver.take(), waiting.sender.take());
        let end = mem::take(&mut waiting.end);
        drop(waiting);
        let halves = receiver.into_iter().chain(sender);
        halves.chain(end.into_iter().map(|(_, waker)| waker)).for_each(Waker::wake);
    }

    /// The socket was read: see the module's argument.
    pub(crate) fn socket_was_read(&self) {
        // Release, with the Acquire of `reads`; the lock in `wake_all` orders the rest.
        self.reads.fetch_add(1, Ordering::Release);
        self.wake_all();
    }

    /// How often the socket was read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Acquire)
    }

    /// A wake-up was for nothing; returns how long not to listen, if there are too many.
    pub(crate) fn count_vain(&self) -> Option<Duration> {
        self.waiting().vain.count()
    }

    /// A wake-up was not for nothing.
    pub(crate) fn forget_vain(&self) {
        self.waiting().vain.forget();
    }
}

/// What a runtime wakes when the socket is ready.
impl Wake for Tasks {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}
