use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::task::coop;
use tower_service::Service;

use super::{
    caller::Caller,
    config::CallConfig,
    error::{BoxError, CallError},
    frame::{Frame, Kind, MAGIC, MAX_FAILURE},
    outgoing::Outgoing,
    served::Served,
    shared::{Over, Shared},
};
use crate::{
    asynchronous::{AsyncLink, AsyncReceiver},
    error::{Corruption, LinkEnd, OsError, RecvError},
};

/// Carries the calls of both sides of a link: a future for a task of its own.
///
/// It is ready when the link has ended: [`LinkEnd::Departed`] if the other side has dropped its
/// driver. Its calls are served and its answers taken until then, whether there is a [`Caller`]
/// or not.
///
/// Each call of the other side is handled in a task of its own, in the runtime that polls the
/// driver.
///
/// # Cancellation
///
/// Dropping it closes the link: the calls of this side that have no answer end with
/// [`CallError::Stopped`], and the tasks of the other side's calls are aborted.
///
/// # Errors
///
/// [`OsError`] if the memory of a message could not be mapped; the link is closed.
#[derive(Debug)]
#[must_use = "it does nothing unless it is polled"]
pub struct Driver<S> {
    shared: Arc<Shared>,
    service: S,
    served: Served,
    link: Option<Halves>,
    /// Whether the other side has said how many calls it takes.
    welcomed: bool,
    max_in_flight: u32,
}

impl<S> Unpin for Driver<S> {}

pub(crate) fn connect<S>(link: AsyncLink, service: S, config: &CallConfig) -> (Caller, Driver<S>) {
    let (sender, receiver) = link.split();
    let shared = Arc::new(Shared::new(sender.max_message()));
    let driver = Driver {
        shared: Arc::clone(&shared),
        service,
        served: Served::new(config.max_served),
        link: Some(Halves {
            outgoing: Outgoing::new(sender, config.max_served),
            receiver,
            handed_on: false,
        }),
        welcomed: false,
        max_in_flight: config.max_in_flight,
    };
    (Caller::new(shared), driver)
}

impl<S> Future for Driver<S>
where
    S: Service<Bytes, Response = Bytes>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Output = Result<LinkEnd, OsError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let end = loop {
            let Some(link) = &mut this.link else {
                // It was ready before.
                return Poll::Ready(Ok(LinkEnd::Departed));
            };
            link.handed_on |= this.served.advance(&mut this.service, cx);
            // Before the look for something to send, so that what comes after it wakes.
            this.shared.register_driver(cx.waker());
            link.outgoing.send_all(&this.shared, &mut this.served, cx);
            let frame = match ready!(link.poll_frame(cx)) {
                Ok(frame) => frame,
                Err(RecvError::Ended(end)) => break Ok(end),
                Err(RecvError::Os(error)) => break Err(error),
                // Neither waits nor has a buffer.
                Err(RecvError::TimedOut | RecvError::BufferTooSmall { .. }) => continue,
            };
            if this.receive(frame).is_none() {
                break Ok(LinkEnd::Corrupt(Corruption::Call));
            }
        };
        this.finish(end.as_ref().map_or(Over::Stopped, |end| Over::Ended(*end)));
        Poll::Ready(end)
    }
}

impl<S> Driver<S> {
    /// Does what a frame says; `None` if no honest peer sends it.
    fn receive(&mut self, frame: Option<Frame>) -> Option<()> {
        let Frame { kind, call, body } = frame?;
        if !self.welcomed {
            if kind != Kind::Hello || body != MAGIC[..] {
                return None;
            }
            self.welcomed = true;
            let room = call.0.min(self.max_in_flight.into());
            self.shared.room.add_permits(room as usize);
            return Some(());
        }
        let ended = match kind {
            Kind::Hello => return None,
            Kind::Request => return self.served.take(call, body).ok(),
            Kind::Cancel => {
                self.served.cancel(call);
                return Some(());
            }
            Kind::Answer => self.shared.finish(call, Ok(body)),
            Kind::Failure => {
                let said = body.get(..MAX_FAILURE).unwrap_or(&body);
                let message = String::from_utf8_lossy(said).into_owned();
                self.shared.finish(call, Err(CallError::Failed { message }))
            }
        };
        if let Some(link) = &mut self.link {
            link.handed_on |= ended;
        }
        Some(())
    }

    /// Closes the link.
    fn finish(&mut self, over: Over) {
        self.link = None;
        self.served = Served::new(0);
        self.shared.end(over);
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.finish(Over::Stopped);
    }
}

#[derive(Debug)]
struct Halves {
    outgoing: Outgoing,
    receiver: AsyncReceiver,
    /// Whether other tasks have got something to do since this one last left them the thread.
    handed_on: bool,
}

impl Halves {
    /// The next frame, if that is what the next message is.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, RecvError>> {
        if !self.handed_on {
            let message = ready!(self.receiver.poll_recv(cx))?;
            return Poll::Ready(Ok(Frame::parse(&message)));
        }
        let turn = ready!(coop::poll_proceed(cx));
        if let Some(message) = self.receiver.try_recv()? {
            turn.made_progress();
            return Poll::Ready(Ok(Frame::parse(&message)));
        }
        // They first: to wait for a message would only keep them from the thread.
        self.handed_on = false;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
