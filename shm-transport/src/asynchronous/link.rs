use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_sink::Sink;

use super::{AsyncReceiver, AsyncSender, source::Source};
use crate::{
    error::{DetachError, LinkEnd, OsError, RecvError, SendError},
    link::{Heartbeat, Link, Message},
};
use shm_primitives::peer::PeerId;

/// A [`Link`] for tasks.
///
/// A deadline is the caller's: `tokio::time::timeout(wait, link.recv())`. Dropping the link says
/// goodbye: the peer still receives what was sent, and then learns of the end.
///
/// ```
/// use shm_transport::{Link, LinkConfig, asynchronous::AsyncLink};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (left, right) = Link::pair(&LinkConfig::default())?;
/// let (mut left, right) = (AsyncLink::new(left)?, AsyncLink::new(right)?);
/// let (mut sender, mut receiver) = right.split();
/// let echo = tokio::spawn(async move {
///     let question = receiver.recv().await?.to_bytes();
///     sender.send(&question).await?;
///     Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// });
/// left.send(b"echo?").await?;
/// assert_eq!(left.recv().await?.to_bytes(), "echo?");
/// echo.await?.unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncLink {
    /// The sending half.
    pub sender: AsyncSender,
    /// The receiving half.
    pub receiver: AsyncReceiver,
    peer: PeerId,
}

impl AsyncLink {
    /// Registers a link with the runtime of the calling thread.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, and in one that was built without I/O (`enable_io`), as all of
    /// tokio's sockets do.
    ///
    /// # Errors
    ///
    /// [`OsError`] if the runtime could not take one more descriptor; the link is closed.
    #[track_caller]
    pub fn new(link: Link) -> Result<Self, OsError> {
        let peer = link.peer();
        let (sender, receiver) = link.split();
        let source = Arc::new(Source::new(Arc::clone(&sender.half.core))?);
        Ok(Self {
            sender: AsyncSender::new(sender, Arc::clone(&source)),
            receiver: AsyncReceiver::new(receiver, source),
            peer,
        })
    }

    /// Its two halves, for two tasks. The link is closed when both are dropped.
    #[must_use]
    pub fn split(self) -> (AsyncSender, AsyncReceiver) {
        (self.sender, self.receiver)
    }

    /// [`AsyncSender::send`]: cancellation-safe, as there.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.send(message).await
    }

    /// [`AsyncReceiver::recv`]: cancellation-safe, as there.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        self.receiver.recv().await
    }

    /// [`AsyncSender::poll_send`]
    ///
    /// # Errors
    ///
    /// As there.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: &[u8],
    ) -> Poll<Result<(), SendError>> {
        self.sender.poll_send(cx, message)
    }

    /// [`AsyncReceiver::poll_recv`]
    ///
    /// # Errors
    ///
    /// As there.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message<'_>, RecvError>> {
        self.receiver.poll_recv(cx)
    }

    /// Resolves when the link has ended, and says how: see [`AsyncReceiver::closed`].
    pub fn closed(&self) -> impl Future<Output = LinkEnd> + Send + use<> {
        self.receiver.closed()
    }

    /// How long each half polls before its task sleeps, at most: a message that comes within
    /// this time wakes nobody. Between two polls the other tasks of the thread have their turns.
    /// It polls less while that does not pay. Default [`DEFAULT_SPIN`](super::DEFAULT_SPIN);
    /// zero sleeps at once.
    pub fn set_spin(&mut self, spin: Duration) {
        self.sender.set_spin(spin);
        self.receiver.set_spin(spin);
    }

    /// [`Link::peer`]
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// [`Link::peer_pid`]
    #[must_use]
    pub fn peer_pid(&self) -> u32 {
        self.sender.source().core().process.pid
    }

    /// [`Link::end`]
    #[must_use]
    pub fn end(&self) -> Option<LinkEnd> {
        self.sender.source().core().look_for_end()
    }

    /// [`Link::heartbeat`]
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat::new(self.sender.source().core())
    }

    /// Says goodbye, waits until the peer has read everything that was sent, and closes the
    /// link.
    ///
    /// # Cancellation
    ///
    /// The link is closed when the future is dropped, whether it was ready or not: what was sent
    /// can still be received, but a message that the sender keeps as a `Sink` may be lost.
    ///
    /// # Errors
    ///
    /// [`DetachError`] if the link ended before the peer had read everything. The link is closed
    /// all the same.
    pub async fn detach(mut self) -> Result<(), DetachError> {
        // A link that is over cannot be flushed, and is reported below.
        let _ = poll_fn(|cx| Pin::new(&mut self.sender).poll_flush(cx)).await;
        self.sender.source().core().say_goodbye();
        poll_fn(|cx| self.sender.poll_drained(cx)).await
    }
}
