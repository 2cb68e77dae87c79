//! A connected socket and what came over it, closed so that nobody can make it last.
//!
//! Closing a descriptor can take as long as whoever made it likes: a connection that
//! lingers, a file of a file system in user space. A peer may hand such a one over, or
//! leave it in the socket for the kernel to close. So what is handed over is closed on a
//! thread of its own unless it is memory, and a socket is emptied before it is closed.
#![allow(unsafe_code)]

use std::{
    mem::ManuallyDrop,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process, thread,
};

use rustix::fs::fcntl_get_seals;

use super::socket;

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
        let descriptor = unsafe { ManuallyDrop::take(&mut self.0) };
        // Only memory has seals, and it is closed at once.
        if fcntl_get_seals(&descriptor).is_err() {
            let closer = thread::Builder::new().name("shm-close".into());
            // Without a thread it is closed here, with the closure that owns it.
            let _ = closer.spawn(move || drop(descriptor));
        }
    }
}

/// A connected socket whose other end may be hostile.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    owner: u32,
}

/// Messages that are read from a socket before it is closed, at most.
const MAX_LEFT: usize = 4096;

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, owner: process::id() }
    }

    /// Whether this process made it, and did not inherit it from one that forked it.
    pub(crate) fn is_own(&self) -> bool {
        self.owner == process::id()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_own() {
            socket::hang_up(self.as_fd());
            // Nothing comes after the hang-up; what came before is closed as it is read.
            for _ in 0..MAX_LEFT {
                if !matches!(socket::receive(self.as_fd(), &mut [0; 8]), Ok(Some(_))) {
                    break;
                }
            }
        }
    }
}
