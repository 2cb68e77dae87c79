use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::task::coop;

use super::{
    receiver::closed,
    source::Source,
    wait::{Look, Turn, Wait},
};
use crate::{
    error::{DetachError, LinkEnd, SendError},
    link::{
        SendGrant, Sender, SharedPayload,
        staging::{Blocked, Growth, Half, StageError},
        tasks::Waits,
    },
};

/// The sending half of an [`AsyncLink`](super::AsyncLink).
///
/// One task at a time uses it; it may move between tasks.
///
/// As a [`Sink`] of [`Bytes`] it keeps at most one message that did not find room at once, until
/// it is flushed.
#[derive(Debug)]
pub struct AsyncSender {
    sender: Sender,
    wait: Wait,
    /// A message that the sink has taken and not sent.
    kept: Option<Bytes>,
}

impl AsyncSender {
    pub(crate) fn new(sender: Sender, source: Arc<Source>) -> Self {
        Self { sender, wait: Wait::new(source, Waits::Sender), kept: None }
    }

    /// The half without its runtime. A message that it keeps as a [`Sink`] is dropped: flush it
    /// first.
    ///
    /// Both halves that are no longer used in tasks leave the runtime.
    #[must_use]
    pub fn into_sync(self) -> Sender {
        let Self { mut sender, .. } = self;
        sender.disarm();
        sender
    }

    /// Sends a message, waiting for room in the task.
    ///
    /// When this returns, the peer can receive the message, even if this process dies at once.
    ///
    /// # Cancellation
    ///
    /// Dropping the future before it is ready sends nothing: a message is sent in the moment in
    /// which the future is ready, whole.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`], [`SendError::Ended`] if the link is over, [`SendError::Os`] if
    /// memory for it could not be had, or the runtime that the link is registered with is over.
    /// Nothing was sent then.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_send(cx, message)).await
    }

    /// [`send`](Self::send) for those who write futures themselves: on `Pending` nothing was
    /// sent, and `cx` is woken when there may be room, or the link ends. Each call replaces the
    /// waker of the one before.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: &[u8],
    ) -> Poll<Result<(), SendError>> {
        // First what the sink has taken.
        ready!(self.poll_kept(cx))?;
        self.poll_send_next(cx, message)
    }

    fn poll_send_next(
        &mut self,
        cx: &mut Context<'_>,
        message: &[u8],
    ) -> Poll<Result<(), SendError>> {
        let turn = ready!(coop::poll_proceed(cx));
        let sent = if self.sender.half.send_at_once(message) {
            self.wait.found(&mut self.sender.waiter);
            Ok(())
        } else {
            ready!(self.poll_stage(cx, |half, growth| {
                half.stage(message, growth)?;
                half.publish();
                Ok(())
            }))
        };
        turn.made_progress();
        Poll::Ready(sent)
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Sender::try_send`].
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        if let Some(kept) = &self.kept {
            self.sender.try_send(kept)?;
            self.kept = None;
        }
        self.sender.try_send(message)
    }

    /// Waits until there is room for a message of `len` bytes. As nobody else sends on this
    /// half, [`try_send`](Self::try_send) or [`try_grant`](Self::try_grant) then finds it, but
    /// for a message that is larger than all slots, which the system may still refuse to carry.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn ready(&mut self, len: usize) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_ready_for(cx, len)).await
    }

    /// [`ready`](Self::ready) for those who write futures themselves: on `Pending`, `cx` is
    /// woken when there may be room, or the link ends. Each call replaces the waker of the one
    /// before.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn poll_ready_for(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
    ) -> Poll<Result<(), SendError>> {
        ready!(self.poll_kept(cx))?;
        let turn = ready!(coop::poll_proceed(cx));
        let room = ready!(self.poll_stage(cx, |half, growth| half.look_for_room(len, growth)));
        turn.made_progress();
        Poll::Ready(room)
    }

    /// Room for a message of up to `len` bytes, to be written in place and then committed, if
    /// there is some now.
    ///
    /// # Errors
    ///
    /// As [`Sender::try_grant`].
    pub fn try_grant(&mut self, len: usize) -> Result<SendGrant<'_>, SendError> {
        if let Some(kept) = &self.kept {
            self.sender.try_send(kept)?;
            self.kept = None;
        }
        self.sender.try_grant(len)
    }

    /// Sends a payload that other links may get as well, waiting for room in the task: see
    /// [`Sender::send_shared`].
    ///
    /// # Cancellation
    ///
    /// As [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_shared(&mut self, payload: &SharedPayload) -> Result<(), SendError> {
        if !self.sender.half.can_share(payload.len()) {
            self.sender.half.check_size(payload.len())?;
            return self.send(&payload.to_vec()?).await;
        }
        poll_fn(|cx| {
            ready!(self.poll_kept(cx))?;
            self.poll_stage(cx, |half, _| {
                half.stage_shared(payload)?;
                half.publish();
                Ok(())
            })
        })
        .await
    }

    fn poll_stage(
        &mut self,
        cx: &mut Context<'_>,
        stage: impl FnMut(&mut Half, Growth) -> Result<(), StageError>,
    ) -> Poll<Result<(), SendError>> {
        poll_stage(&mut self.sender, &mut self.wait, cx, stage)
    }

    /// Sends what the sink has taken.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Some(kept) = self.kept.take() else { return Poll::Ready(Ok(())) };
        let sent = self.poll_send_next(cx, &kept);
        if sent.is_pending() {
            self.kept = Some(kept);
        }
        sent
    }

    /// Waits until the peer has read everything that was sent.
    pub(crate) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DetachError>> {
        let Self { sender: Sender { half, waiter, .. }, wait, .. } = self;
        let drained = ready!(wait.poll(waiter, cx, |_| match half.look_drained() {
            Some(drained) => Look::Found(drained),
            None => Look::Nothing,
        }));
        Poll::Ready(match drained {
            Ok(drained) => drained.map_err(DetachError::Ended),
            // Nobody can wait here any more.
            Err(_) => Err(DetachError::TimedOut),
        })
    }

    /// Resolves when the link has ended, and says how.
    ///
    /// It costs a poll for each wake-up of the link.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing. Any number of them may wait.
    pub fn closed(&self) -> impl Future<Output = LinkEnd> + Send + use<> {
        closed(self.wait.source())
    }

    /// [`Sender::inline_max`]
    #[must_use]
    pub fn inline_max(&self) -> usize {
        self.sender.inline_max()
    }

    /// [`Sender::max_message`]
    #[must_use]
    pub fn max_message(&self) -> u64 {
        self.sender.max_message()
    }

    /// How long [`send`](Self::send) polls before its task sleeps, at most; see
    /// [`AsyncLink::set_spin`](super::AsyncLink::set_spin).
    pub fn set_spin(&mut self, spin: Duration) {
        self.wait.set_spin(spin);
    }

    pub(crate) fn source(&self) -> &Arc<Source> {
        self.wait.source()
    }
}

/// Repeats `stage` as often as what blocks it may have changed.
pub(crate) fn poll_stage<T>(
    sender: &mut Sender,
    wait: &mut Wait,
    cx: &mut Context<'_>,
    mut stage: impl FnMut(&mut Half, Growth) -> Result<T, StageError>,
) -> Poll<Result<T, SendError>> {
    let Sender { half, waiter, .. } = sender;
    let mut last = None;
    let staged = ready!(wait.poll(waiter, cx, |turn| {
        let growth = match turn {
            Turn::Polling => Growth::Later,
            Turn::Last => Growth::Now,
        };
        if growth == Growth::Now && last == Some(Blocked::Growth) {
            half.spread();
        }
        match stage(half, growth) {
            Err(StageError::Blocked(blocked)) => {
                last = Some(blocked);
                // Nobody who has said goodbye makes room.
                match half.core.look_for_end() {
                    Some(end) => Look::Found(Err(end.into())),
                    None if blocked.is_rung_for() => Look::Nothing,
                    None => Look::Unrung,
                }
            }
            Err(StageError::Failed(error)) => Look::Found(Err(error)),
            Ok(staged) => Look::Found(Ok(staged)),
        }
    }));
    Poll::Ready(staged.unwrap_or_else(|error| Err(error.into())))
}

/// `poll_flush` is over when the peer can receive all messages; `poll_close` says nothing to the
/// peer: dropping the halves does.
impl Sink<Bytes> for AsyncSender {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_kept(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), SendError> {
        match self.try_send(&message) {
            Err(SendError::Full) if self.kept.is_none() => {
                self.kept = Some(message);
                Ok(())
            }
            sent => sent,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_kept(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_kept(cx)
    }
}
