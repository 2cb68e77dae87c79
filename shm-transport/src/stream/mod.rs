//! Byte streams over links, for protocols that were written for sockets.
//!
//! A [`ShmStream`] behaves as a [`UnixStream`](std::os::unix::net::UnixStream) does: it reads and
//! writes bytes without boundaries, blocks, times out, ends and breaks alike. [`ShmListener`]
//! and [`ShmStream::connect`] make one by a path.
//!
//! # Protocol
//!
//! What flows is described by these rules, one direction at a time:
//!
//! - A message that is not empty is the next bytes of the stream. Where messages begin and end
//!   means nothing.
//! - An empty message is the end of the stream: nothing follows it. What a peer sends behind it
//!   all the same is not read.
//! - The writer leaves room for the empty message in its ring at all times, so that it can end
//!   its direction at once, however slowly the other side reads.
//! - The end of the link ends both directions. Bytes that were sent before are read first.
//! - Who reads takes a message out of the ring only when all of its bytes were read. So at the
//!   end of a link the other side's position in the ring tells whether it has read all that was
//!   sent to it, as for a socket whether it was closed with bytes unread.
//!
//! A peer that breaks the protocol of its link ends this stream and no other.

#[cfg(feature = "tokio")]
mod asynchronous;
mod failure;
mod halves;
mod listener;
mod reading;
mod space;
mod writing;

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    net::Shutdown,
    path::Path,
    time::Duration,
};

#[cfg(feature = "tokio")]
pub use self::asynchronous::{AsyncShmListener, AsyncShmReader, AsyncShmStream, AsyncShmWriter};
pub use self::{
    halves::{ShmReader, ShmWriter},
    listener::{Incoming, ShmListener},
};
use self::{reading::Reading, writing::Writing};
use crate::{config::LinkConfig, deadline::Deadline, guest::Guest, link::Link};

/// The sizes of the links of streams, unless they are configured: rings that take all bytes,
/// without slots, so that a stream needs no more memory later than at its beginning.
///
/// For a listener with other sizes see [`ShmListener::from`].
#[must_use]
pub fn stream_config() -> LinkConfig {
    LinkConfig {
        ring_capacity: 512 << 10,
        inline_limit: Some(64 << 10),
        size_classes: Vec::new(),
        sealed_limit: 0,
        // Protocols of questions and answers sleep for nearly each of them.
        asymmetric_fence: false,
        ..LinkConfig::default()
    }
}

/// A stream of bytes to another process and one from it, through shared memory, which
/// behaves as a [`UnixStream`](std::os::unix::net::UnixStream).
///
/// - A read returns what is there, as soon as something is; a write takes what fits, as
///   soon as something does. No call waits for more.
/// - Dropping the stream, or [`shutdown`](Self::shutdown), ends what this side writes: the other
///   side reads all of it, and then `Ok(0)`.
/// - Writing to a stream whose other end is gone is [`BrokenPipe`](io::ErrorKind::BrokenPipe).
///   A read after the other end has gone is `Ok(0)`; but once
///   [`ConnectionReset`](io::ErrorKind::ConnectionReset) if it has not read all that was
///   written to it. Whether it was dropped, or died, makes no difference. The link's own
///   error is inside, for [`io::Error::get_ref`].
///
/// There are three differences. [`connect`](Self::connect) waits until the listener accepts, not
/// only until it has room to. `shutdown(Shutdown::Read)` is not told to the other side, whose
/// writes wait for room in the end. And a peer that breaks the protocol is a read error of kind
/// [`InvalidData`](io::ErrorKind::InvalidData).
///
/// ```
/// use std::io::{Read, Write};
/// use shm_transport::stream::{ShmListener, ShmStream};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("echo");
/// let mut listener = ShmListener::bind(&path)?;
/// // In another process:
/// let client = std::thread::spawn(move || -> std::io::Result<String> {
///     let mut stream = ShmStream::connect(&path)?;
///     stream.write_all(b"are you there?")?;
///     stream.shutdown(std::net::Shutdown::Write)?;
///     let mut answer = String::new();
///     stream.read_to_string(&mut answer)?;
///     Ok(answer)
/// });
/// let mut stream = listener.accept()?;
/// let mut question = String::new();
/// stream.read_to_string(&mut question)?;
/// stream.write_all(question.to_uppercase().as_bytes())?;
/// drop(stream);
/// assert_eq!(client.join().unwrap()?, "ARE YOU THERE?");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ShmStream {
    reader: ShmReader,
    writer: ShmWriter,
    peer_pid: u32,
}

impl ShmStream {
    /// A stream to the listener at `path`. It waits until the listener accepts it.
    ///
    /// # Errors
    ///
    /// An [`AttachError`](crate::AttachError), as an I/O error of the kind that a socket has:
    /// [`NotFound`](io::ErrorKind::NotFound) if nothing is there,
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if nobody listens there any more
    /// or it serves as many as it can.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_until(path.as_ref(), Deadline::NEVER)
    }

    /// A stream to the listener at `path`, if it accepts it within so long.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and [`TimedOut`](io::ErrorKind::TimedOut).
    pub fn connect_timeout(path: impl AsRef<Path>, wait: Duration) -> io::Result<Self> {
        Self::connect_until(path.as_ref(), wait.into())
    }

    fn connect_until(path: &Path, deadline: Deadline) -> io::Result<Self> {
        Ok(Guest::attach(path, deadline)?.into())
    }

    /// Both ends of a stream inside this process.
    ///
    /// # Errors
    ///
    /// A [`CreateError`](crate::CreateError) if memory or descriptors ran out.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = Link::pair(&stream_config())?;
        Ok((left.into(), right.into()))
    }

    /// Ends one direction or both. To end an ended one does nothing.
    ///
    /// After `Shutdown::Write`, the other side reads what was written and then `Ok(0)`; writing
    /// here is a broken pipe. It does not wait. After `Shutdown::Read`, reads here return what
    /// is there already and then `Ok(0)`. After both, writing is a broken pipe on the other side
    /// as well.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.writer.writing.end();
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.reader.reading.shut();
        }
        if self.writer.writing.is_over() && self.reader.reading.is_shut() {
            self.writer.writing.say_goodbye();
        }
        Ok(())
    }

    /// How long a read waits for something to read, at most; then it is
    /// [`WouldBlock`](io::ErrorKind::WouldBlock). `None`, the default, is for ever.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for no time at all.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.reader.set_timeout(timeout)
    }

    /// How long a write waits for room, at most; then it is
    /// [`WouldBlock`](io::ErrorKind::WouldBlock). `None`, the default, is for ever.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for no time at all.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.writer.set_timeout(timeout)
    }

    /// Whether calls that cannot go on at once are
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn set_nonblocking(&mut self, nonblocking: bool) -> io::Result<()> {
        self.reader.set_nonblocking(nonblocking);
        self.writer.set_nonblocking(nonblocking);
        Ok(())
    }

    /// The process at the other end, 0 if it is not visible here.
    #[must_use]
    pub fn peer_pid(&self) -> u32 {
        self.peer_pid
    }

    /// Its two directions, for two threads. What is written ends when the writer is dropped;
    /// the link when both are.
    #[must_use]
    pub fn split(self) -> (ShmReader, ShmWriter) {
        (self.reader, self.writer)
    }
}

/// A stream over a link that the two sides have agreed to use as one, both from here on.
impl From<Link> for ShmStream {
    fn from(link: Link) -> Self {
        let peer_pid = link.peer_pid();
        let (sender, receiver) = link.split();
        let writing = Writing::new(sender);
        let reading = Reading::new(receiver, writing.ended());
        Self { reader: ShmReader::new(reading), writer: ShmWriter::new(writing), peer_pid }
    }
}

/// A stream over the link to the host, which does not use it in another way.
impl From<Guest> for ShmStream {
    fn from(guest: Guest) -> Self {
        guest.link.into()
    }
}

impl Read for ShmStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reader.read_vectored(buffers)
    }
}

impl Write for ShmStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writer.write_vectored(slices)
    }

    /// Does nothing: what was written can be read.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
