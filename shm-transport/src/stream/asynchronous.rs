use std::{
    future::poll_fn,
    io::{self, IoSlice},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop,
};

use super::{
    ShmReader, ShmStream, ShmWriter,
    failure::WriteFailure,
    listener,
    reading::{Filled, Reading},
    space::Space,
    writing::{Writing, gather, length},
};
use crate::{
    asynchronous::{
        AsyncHost,
        sender::poll_stage,
        source::Source,
        wait::{Look, Wait},
    },
    error::OsError,
    guest::GuestBuilder,
    host::Host,
    link::{Receiver, SendGrant, tasks::Waits},
};

/// A [`ShmStream`] for tasks, which behaves as a [`tokio::net::UnixStream`].
///
/// ```
/// use shm_transport::stream::{AsyncShmListener, AsyncShmStream};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("echo");
/// let mut listener = AsyncShmListener::bind(&path)?;
/// // In another process:
/// let client = tokio::spawn(async move {
///     let mut stream = AsyncShmStream::connect(&path).await?;
///     stream.write_all(b"are you there?").await?;
///     stream.shutdown().await?;
///     let mut answer = String::new();
///     stream.read_to_string(&mut answer).await?;
///     Ok::<_, std::io::Error>(answer)
/// });
/// let mut stream = listener.accept().await?;
/// let mut question = String::new();
/// stream.read_to_string(&mut question).await?;
/// stream.write_all(question.to_uppercase().as_bytes()).await?;
/// drop(stream);
/// assert_eq!(client.await??, "ARE YOU THERE?");
/// # Ok(())
/// # }
/// ```
///
/// # Cancellation
///
/// Each poll reads or writes what it reports, and nothing when it is pending.
#[derive(Debug)]
pub struct AsyncShmStream {
    reader: AsyncShmReader,
    writer: AsyncShmWriter,
    peer_pid: u32,
}

/// The reading direction of an [`AsyncShmStream`].
#[derive(Debug)]
pub struct AsyncShmReader {
    reading: Reading,
    wait: Wait,
}

/// The writing direction of an [`AsyncShmStream`]. Dropping it ends what is written, as
/// shutting it down does.
#[derive(Debug)]
pub struct AsyncShmWriter {
    writing: Writing,
    wait: Wait,
}

impl AsyncShmStream {
    /// Registers a stream with the runtime of the calling thread.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, and in one that was built without I/O (`enable_io`), as all of
    /// tokio's sockets do.
    ///
    /// # Errors
    ///
    /// If the runtime could not take one more descriptor; the stream is closed.
    #[track_caller]
    pub fn new(stream: ShmStream) -> io::Result<Self> {
        let ShmStream {
            reader: ShmReader { reading, .. },
            writer: ShmWriter { writing, .. },
            peer_pid,
        } = stream;
        let source = Arc::new(Source::new(Arc::clone(&writing.sender.half.core))?);
        let reader = Wait::new(Arc::clone(&source), Waits::Receiver);
        let writer = Wait::new(source, Waits::Sender);
        Ok(Self {
            reader: AsyncShmReader { reading, wait: reader },
            writer: AsyncShmWriter { writing, wait: writer },
            peer_pid,
        })
    }

    /// A stream to the listener at `path`. It waits until the listener accepts it.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    ///
    /// As [`ShmStream::connect`].
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let guest = GuestBuilder::default().attach_in_task(path.as_ref()).await?;
        Self::new(guest.into())
    }

    /// Both ends of a stream inside this process.
    ///
    /// # Errors
    ///
    /// As [`ShmStream::pair`] and [`new`](Self::new).
    #[track_caller]
    pub fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = ShmStream::pair()?;
        Ok((Self::new(left)?, Self::new(right)?))
    }

    /// How long a read or a write polls before its task sleeps, at most: see
    /// [`AsyncLink::set_spin`](crate::asynchronous::AsyncLink::set_spin).
    pub fn set_spin(&mut self, spin: Duration) {
        self.reader.wait.set_spin(spin);
        self.writer.wait.set_spin(spin);
    }

    /// The process at the other end, 0 if it is not visible here.
    #[must_use]
    pub fn peer_pid(&self) -> u32 {
        self.peer_pid
    }

    /// Its two directions, for two tasks. What is written ends when the writer is dropped; the
    /// link when both are.
    #[must_use]
    pub fn split(self) -> (AsyncShmReader, AsyncShmWriter) {
        (self.reader, self.writer)
    }
}

/// The room in a buffer of tokio's.
struct Unfilled<'a, 'b>(&'a mut ReadBuf<'b>);

impl Space for Unfilled<'_, '_> {
    fn room(&mut self, most: usize) -> &mut [u8] {
        let most = most.min(self.0.remaining());
        self.0.initialize_unfilled_to(most)
    }

    fn filled(&mut self, count: usize) {
        self.0.advance(count);
    }
}

impl AsyncRead for AsyncShmReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // A writer that is always ahead must not keep the other tasks of this thread waiting.
        let turn = ready!(coop::poll_proceed(cx));
        let Self { reading: Reading { receiver: Receiver { half, waiter, .. }, state }, wait } =
            &mut *self;
        let mut space = Unfilled(buffer);
        let found =
            ready!(wait.poll(waiter, cx, |_| match state.read_at_once(half, None, &mut space) {
                Ok(Filled::Nothing) => Look::Nothing,
                found => Look::Found(found.map(drop)),
            }))?;
        turn.made_progress();
        Poll::Ready(Ok(found?))
    }
}

impl AsyncShmWriter {
    fn poll_write_slices(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(coop::poll_proceed(cx));
        let Self { writing, wait } = self;
        let len = writing.begin(length(slices))?;
        if len > 0 {
            let sender = &mut writing.sender;
            let place = ready!(poll_stage(sender, wait, cx, |half, growth| {
                half.find_place(len, growth)
            }))
            .map_err(WriteFailure::from)?;
            let grant = SendGrant::new(&mut sender.half, place, len).map_err(WriteFailure::from)?;
            gather(grant, slices)?;
        }
        turn.made_progress();
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for AsyncShmWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_slices(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_slices(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: what was written can be read.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends what is written: the other side reads all of it and then the end. It does not wait.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing.end();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for AsyncShmStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for AsyncShmStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

/// A [`ShmListener`](super::ShmListener) for tasks. As a [`Stream`] it yields the streams that it
/// accepts, for ever.
#[derive(Debug)]
pub struct AsyncShmListener {
    host: AsyncHost,
}

impl AsyncShmListener {
    /// A listener at `path`, for tasks of the runtime of the calling thread. For another
    /// configuration than that of [`ShmListener::bind`](super::ShmListener::bind) there is
    /// [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// As [`AsyncShmStream::new`].
    ///
    /// # Errors
    ///
    /// As [`ShmListener::bind`](super::ShmListener::bind).
    #[track_caller]
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::new(listener::host().create(path)?)?)
    }

    /// A listener whose streams are the links of this host.
    ///
    /// # Panics
    ///
    /// As [`AsyncShmStream::new`].
    ///
    /// # Errors
    ///
    /// [`OsError`] if the runtime could not take one more descriptor.
    #[track_caller]
    pub fn new(host: Host) -> Result<Self, OsError> {
        Ok(Self { host: AsyncHost::new(host)? })
    }

    /// The next stream; waits for one. Clients connect only while this is called.
    ///
    /// # Cancellation
    ///
    /// As [`AsyncHost::accept`]: nobody is turned away.
    ///
    /// # Errors
    ///
    /// As [`ShmListener::accept`](super::ShmListener::accept).
    pub async fn accept(&mut self) -> io::Result<AsyncShmStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// [`accept`](Self::accept) for those who write futures themselves.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<AsyncShmStream>> {
        let link = ready!(self.host.poll_accept_link(cx))?;
        Poll::Ready(AsyncShmStream::new(link.into()))
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.host.get().path()
    }
}

impl Stream for AsyncShmListener {
    type Item = io::Result<AsyncShmStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(cx).map(Some)
    }
}
