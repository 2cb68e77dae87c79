//! Descriptors that a peer handed over, closed so that it cannot make that last.
//!
//! Closing a descriptor can take as long as whoever made it likes: a connection that
//! lingers, a file of a file system in user space. So one that is not memory is closed on
//! a thread of its own.
#![allow(unsafe_code)]

use std::{
    mem::ManuallyDrop,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::fs::fcntl_get_seals;

use super::background;

/// A descriptor that a peer handed over.
#[derive(Debug)]
pub(crate) struct Foreign(ManuallyDrop<OwnedFd>);

impl Foreign {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self(ManuallyDrop::new(descriptor))
    }
}

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: it is taken here and never touched again.
        close(vec![unsafe { ManuallyDrop::take(&mut self.0) }]);
    }
}

/// Closes descriptors that a peer handed over.
pub(crate) fn close(mut descriptors: Vec<OwnedFd>) {
    // Only memory has seals, and it is closed at once.
    descriptors.retain(|descriptor| fcntl_get_seals(descriptor).is_err());
    if !descriptors.is_empty() {
        // Without a thread they are closed here, with the closure that owns them.
        let _ = background::start("shm-close", move || drop(descriptors));
    }
}
