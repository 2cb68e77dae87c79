use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    time::Duration,
};

use super::{reading::Reading, space::Buffers, writing::Writing};
use crate::deadline::Deadline;

/// How long a call waits.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    timeout: Option<Duration>,
    nonblocking: bool,
}

impl Waits {
    /// `None` if a call does not wait.
    fn deadline(self) -> Option<Deadline> {
        let deadline = self.timeout.map_or(Deadline::NEVER, Deadline::from);
        (!self.nonblocking).then_some(deadline)
    }

    fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            let advice = "a timeout of no time: use set_nonblocking instead";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, advice));
        }
        self.timeout = timeout;
        Ok(())
    }
}

/// The reading direction of a [`ShmStream`](super::ShmStream).
#[derive(Debug)]
pub struct ShmReader {
    pub(super) reading: Reading,
    waits: Waits,
}

/// The writing direction of a [`ShmStream`](super::ShmStream). Dropping it ends what is written:
/// the other side reads all of it and then `Ok(0)`.
#[derive(Debug)]
pub struct ShmWriter {
    pub(super) writing: Writing,
    waits: Waits,
}

impl ShmReader {
    pub(super) fn new(reading: Reading) -> Self {
        Self { reading, waits: Waits::default() }
    }

    /// [`ShmStream::set_read_timeout`](super::ShmStream::set_read_timeout)
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.waits.set_timeout(timeout)
    }

    /// Whether a read that finds nothing is [`WouldBlock`](io::ErrorKind::WouldBlock) instead of
    /// waiting.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.waits.nonblocking = nonblocking;
    }
}

impl Read for ShmReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Ok(0);
        }
        let deadline = self.waits.deadline();
        Ok(self.reading.read(&mut Buffers::new(buffers), deadline)?)
    }
}

impl ShmWriter {
    pub(super) fn new(writing: Writing) -> Self {
        Self { writing, waits: Waits::default() }
    }

    /// Ends what is written, as dropping the writer does: the other side reads all of it, and
    /// then `Ok(0)`. It does not wait.
    pub fn shutdown(&mut self) {
        self.writing.end();
    }

    /// [`ShmStream::set_write_timeout`](super::ShmStream::set_write_timeout)
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.waits.set_timeout(timeout)
    }

    /// Whether a write that finds no room is [`WouldBlock`](io::ErrorKind::WouldBlock) instead of
    /// waiting.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.waits.nonblocking = nonblocking;
    }
}

impl Write for ShmWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(self.writing.write(slices, self.waits.deadline())?)
    }

    /// Does nothing: what was written can be read.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
