//! Streams of both kinds, for tests that compare them.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    time::Duration,
};

use shm_transport::stream::{ShmListener, ShmStream};

use crate::pattern::Random;

/// The bytes of a stream from a position on: those of no two positions near each other are
/// alike.
#[must_use]
pub fn bytes(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at ^ (at >> 8) ^ (at >> 16).wrapping_mul(31)) as u8).collect()
}

/// A size from 1 to `large`, and mostly to `small`.
pub fn size(random: &mut Random, large: usize, small: usize) -> usize {
    let most = if random.below(4) == 0 { large } else { small };
    1 + random.below(most as u64) as usize
}

/// What a `UnixStream` and a `ShmStream` have in common.
pub trait ByteStream: Read + Write + Send + Sized + 'static {
    /// Its listener.
    type Listener: Send;
    /// Both ends.
    fn pair() -> (Self, Self);
    /// A listener at a path.
    fn bind(path: &Path) -> io::Result<Self::Listener>;
    /// The next stream of a listener.
    fn accept(listener: &mut Self::Listener) -> io::Result<Self>;
    /// A stream to the listener at a path.
    fn connect(path: &Path) -> io::Result<Self>;
    /// Ends one direction, or both.
    fn shutdown(&mut self, how: Shutdown) -> io::Result<()>;
    /// How long a read waits.
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()>;
    /// How long a write waits.
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()>;
    /// Whether calls do not wait.
    fn set_nonblocking(&mut self, nonblocking: bool) -> io::Result<()>;
}

impl ByteStream for UnixStream {
    type Listener = UnixListener;

    fn pair() -> (Self, Self) {
        UnixStream::pair().expect("a pair")
    }

    fn bind(path: &Path) -> io::Result<Self::Listener> {
        UnixListener::bind(path)
    }

    fn accept(listener: &mut Self::Listener) -> io::Result<Self> {
        listener.accept().map(|(stream, _)| stream)
    }

    fn connect(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path)
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        UnixStream::shutdown(self, how)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        UnixStream::set_read_timeout(self, timeout)
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        UnixStream::set_write_timeout(self, timeout)
    }

    fn set_nonblocking(&mut self, nonblocking: bool) -> io::Result<()> {
        UnixStream::set_nonblocking(self, nonblocking)
    }
}

impl ByteStream for ShmStream {
    type Listener = ShmListener;

    fn pair() -> (Self, Self) {
        ShmStream::pair().expect("a pair")
    }

    fn bind(path: &Path) -> io::Result<Self::Listener> {
        ShmListener::bind(path)
    }

    fn accept(listener: &mut Self::Listener) -> io::Result<Self> {
        listener.accept()
    }

    fn connect(path: &Path) -> io::Result<Self> {
        ShmStream::connect(path)
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        ShmStream::shutdown(self, how)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        ShmStream::set_read_timeout(self, timeout)
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        ShmStream::set_write_timeout(self, timeout)
    }

    fn set_nonblocking(&mut self, nonblocking: bool) -> io::Result<()> {
        ShmStream::set_nonblocking(self, nonblocking)
    }
}
