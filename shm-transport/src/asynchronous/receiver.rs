use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use tokio::task::coop;

use super::{
    source::{Ending, Source},
    wait::{Look, Wait},
};
use crate::{
    error::{LinkEnd, RecvError},
    link::{Message, Receiver, reception::Taken, tasks::Waits},
};

/// The receiving half of an [`AsyncLink`](super::AsyncLink).
///
/// One task at a time uses it; it may move between tasks. What the peer sent before its end is
/// received before the end is reported; after an eviction or a breach of the protocol nothing
/// more is.
///
/// As a [`Stream`] it yields the messages as [`Bytes`], ends when the peer has said goodbye and
/// all was received, and yields any other end as its last item. The bytes of a message larger
/// than all slots are not a copy: the sender has so many of them at once (`sealed_limit`), and this
/// one again when they are dropped.
#[derive(Debug)]
pub struct AsyncReceiver {
    receiver: Receiver,
    wait: Wait,
    /// Whether the stream has yielded its last item.
    over: bool,
}

impl AsyncReceiver {
    pub(crate) fn new(receiver: Receiver, source: Arc<Source>) -> Self {
        Self { receiver, wait: Wait::new(source, Waits::Receiver), over: false }
    }

    /// The half without its runtime. What was sent and not received is still to be received.
    ///
    /// Both halves that are no longer used in tasks leave the runtime.
    #[must_use]
    pub fn into_sync(self) -> Receiver {
        let Self { mut receiver, .. } = self;
        receiver.disarm();
        receiver
    }

    /// The next message, waiting for one in the task.
    ///
    /// An inline message is still in the ring, and its space the sender's again when the
    /// [`Message`] is dropped: so do not keep it across another `await`, but
    /// [`into_owned`](Message::into_owned) or [`to_bytes`](Message::to_bytes).
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses nothing: a message is taken in the moment in which the future
    /// is ready, and not before.
    ///
    /// # Errors
    ///
    /// As [`Receiver::try_recv`]; and [`RecvError::Os`] when the runtime that the link is
    /// registered with is over.
    ///
    /// ```
    /// use shm_transport::{Link, LinkConfig, asynchronous::AsyncLink};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (left, right) = Link::pair(&LinkConfig::default())?;
    /// let (mut left, mut right) = (AsyncLink::new(left)?, AsyncLink::new(right)?);
    /// left.send(b"hello").await?;
    /// assert_eq!(right.recv().await?.to_bytes(), "hello");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        let taken = std::future::poll_fn(|cx| self.poll_taken(cx)).await?;
        Ok(Message::new(&mut self.receiver.half, taken))
    }

    /// [`recv`](Self::recv) for those who write futures themselves: on `Pending`, `cx` is woken
    /// when there may be a message, or the link ends. Each call replaces the waker of the one
    /// before.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message<'_>, RecvError>> {
        let taken = ready!(self.poll_taken(cx))?;
        Poll::Ready(Ok(Message::new(&mut self.receiver.half, taken)))
    }

    /// [`poll_recv`](Self::poll_recv) without waiting.
    ///
    /// # Errors
    ///
    /// As [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>, RecvError> {
        self.receiver.try_recv()
    }

    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, RecvError>> {
        // A sender that is always ahead must not keep the other tasks of this thread waiting.
        let turn = ready!(coop::poll_proceed(cx));
        let Self { receiver: Receiver { half, waiter, .. }, wait, .. } = self;
        let found = if let Some(entry) = half.take_inline() {
            wait.found(waiter);
            Ok(Taken::Inline(entry))
        } else {
            ready!(wait.poll(waiter, cx, |_| match half.take() {
                Ok(Some(taken)) => Look::Found(Ok(taken)),
                Ok(None) => Look::Nothing,
                Err(error) => Look::Found(Err(error)),
            }))
            .unwrap_or_else(|error| Err(error.into()))
        };
        turn.made_progress();
        Poll::Ready(found)
    }

    /// Resolves when the link has ended, and says how. What the peer sent before may still be
    /// there to be received.
    ///
    /// It costs a poll for each wake-up of the link.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing. Any number of them may wait.
    pub fn closed(&self) -> impl Future<Output = LinkEnd> + Send + use<> {
        closed(self.wait.source())
    }

    /// [`Receiver::missed`]
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.receiver.missed()
    }

    /// How long [`recv`](Self::recv) polls before its task sleeps, at most; see
    /// [`AsyncLink::set_spin`](super::AsyncLink::set_spin).
    pub fn set_spin(&mut self, spin: Duration) {
        self.wait.set_spin(spin);
    }
}

pub(crate) fn closed(source: &Arc<Source>) -> impl Future<Output = LinkEnd> + Send + use<> {
    let mut ending = Ending::new(source);
    std::future::poll_fn(move |cx| ending.poll(cx))
}

impl Stream for AsyncReceiver {
    type Item = Result<Bytes, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let item = match ready!(self.poll_recv(cx)) {
            Ok(message) => Some(Ok(message.to_bytes())),
            Err(RecvError::Ended(LinkEnd::Departed)) => None,
            Err(error) => Some(Err(error)),
        };
        self.over = matches!(item, None | Some(Err(RecvError::Ended(_))));
        Poll::Ready(item)
    }
}

impl FusedStream for AsyncReceiver {
    fn is_terminated(&self) -> bool {
        self.over
    }
}
