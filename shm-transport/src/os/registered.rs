//! Descriptors that the tokio runtime of this thread waits for.
#![allow(unsafe_code)]

use std::{
    fmt,
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{
    Interest,
    unix::{AsyncFd, AsyncFdReadyGuard},
};

use super::poll::Timer;
use crate::{error::OsError, hub::HubCore, link::core::LinkCore};

/// What keeps one descriptor.
///
/// # Safety
///
/// [`AsFd`] returns the same descriptor as long as the value lives, wherever it is moved, and
/// nothing closes it before.
pub(crate) unsafe trait Keeps: AsFd {}

// SAFETY: it owns the descriptor in a field that nobody changes.
unsafe impl Keeps for Timer {}
// SAFETY: the core owns its socket in a field that nobody changes, and lives as long as the `Arc`.
unsafe impl Keeps for Arc<LinkCore> {}
// SAFETY: the core owns its epoll set in a field that nobody changes, and lives as long as the
// `Arc`.
unsafe impl Keeps for Arc<HubCore> {}
// SAFETY: it owns the descriptor.
unsafe impl Keeps for std::os::fd::OwnedFd {}

struct Raw<K>(K);

impl<K: Keeps> AsRawFd for Raw<K> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A descriptor that is registered with the runtime, to be told when it becomes readable.
pub(crate) struct Registered<K: Keeps>(AsyncFd<Raw<K>>);

/// That a descriptor was readable.
pub(crate) struct Readable<'a, K: Keeps>(AsyncFdReadyGuard<'a, Raw<K>>);

impl<K: Keeps> fmt::Debug for Registered<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registered").field(&self.get().as_fd()).finish()
    }
}

impl<K: Keeps> Registered<K> {
    /// Registers it with the runtime of the calling thread.
    ///
    /// # Panics
    ///
    /// Outside a runtime, and in one without I/O, as all of tokio does.
    #[track_caller]
    pub(crate) fn new(keeper: K) -> Result<Self, OsError> {
        let keeper = Raw(keeper);
        // SAFETY: by the contract of `Keeps` the descriptor stays open and the same as long as
        // the value lives, which is as long as the `AsyncFd`: nobody takes it out.
        let registered = unsafe { AsyncFd::register_with_interest(keeper, Interest::READABLE) };
        registered.map(Self).map_err(|error| {
            OsError::new("register a descriptor with the runtime", error.into_parts().1)
        })
    }

    pub(crate) fn get(&self) -> &K {
        &self.0.get_ref().0
    }

    /// Whether it is readable; if not, `cx` is woken when it becomes so. One waker at a time is
    /// kept.
    pub(crate) fn poll_readable(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Readable<'_, K>, OsError>> {
        self.0.poll_read_ready(cx).map(|ready| match ready {
            Ok(guard) => Ok(Readable(guard)),
            Err(error) => Err(OsError::new("wait in a runtime that is over", error)),
        })
    }
}

impl<K: Keeps> Readable<'_, K> {
    /// It was read until nothing was left: what comes from now on, or came since it was seen to
    /// be readable, makes it readable again.
    pub(crate) fn was_exhausted(mut self) {
        self.0.clear_ready();
    }

    /// Something may be left in it.
    pub(crate) fn was_not_exhausted(mut self) {
        self.0.retain_ready();
    }
}
