//! A connected socket, closed so that the other end cannot make it last.
//!
//! The other end may leave descriptors in the socket that take long to close; see
//! [`foreign`](super::foreign). The kernel would close them together with the socket. So it
//! is emptied first.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process,
};

use super::socket;

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
