use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tokio_util::sync::PollSemaphore;
use tower_service::Service;

use super::{
    error::CallError,
    frame::CallId,
    shared::{Over, Shared},
};
use crate::deadline::Deadline;

/// Calls the other side of a link. Clones call over the same link.
///
/// It is a [`Service`], so that the layers of `tower` go around it: timeouts, retries, limits.
/// `poll_ready` waits until one more call may be in flight.
#[derive(Debug)]
pub struct Caller {
    shared: Arc<Shared>,
    room: PollSemaphore,
    /// What `poll_ready` has got.
    ready: Option<OwnedSemaphorePermit>,
}

impl Caller {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let room = PollSemaphore::new(Arc::clone(&shared.room));
        Self { shared, room, ready: None }
    }

    /// Calls the other side and waits for its answer until `deadline`, the time until one more
    /// call may be in flight included.
    ///
    /// # Panics
    ///
    /// With a deadline, in a runtime that was built without time (`enable_time`), as tokio's
    /// timers do.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels the call. If it was not sent, it never is; else the other side
    /// is told, and drops what it does about it. It may have been carried out.
    ///
    /// # Errors
    ///
    /// [`CallError`]
    pub async fn call_by(
        &self,
        request: Bytes,
        deadline: impl Into<Deadline>,
    ) -> Result<Bytes, CallError> {
        match deadline.into().remaining() {
            None => self.call_for_ever(request).await,
            Some(wait) => timeout(wait, self.call_for_ever(request))
                .await
                .unwrap_or(Err(CallError::DeadlineExceeded)),
        }
    }

    async fn call_for_ever(&self, request: Bytes) -> Result<Bytes, CallError> {
        let room = Arc::clone(&self.shared.room).acquire_owned().await;
        let room = room.map_err(|_| self.over())?;
        Call::start(&self.shared, request, room).await
    }

    fn over(&self) -> CallError {
        self.shared.over().unwrap_or(Over::Stopped).into()
    }
}

impl Clone for Caller {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

/// A call without a deadline: `tower`'s `Timeout` layer gives it one.
impl Service<Bytes> for Caller {
    type Response = Bytes;
    type Error = CallError;
    type Future = Call;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if self.ready.is_none() || self.shared.room.is_closed() {
            self.ready = ready!(self.room.poll_acquire(cx));
        }
        Poll::Ready(if self.ready.is_some() { Ok(()) } else { Err(self.over()) })
    }

    fn call(&mut self, request: Bytes) -> Call {
        match self.ready.take() {
            Some(room) => Call::start(&self.shared, request, room),
            None => Call(State::Failed(Some(CallError::NotReady))),
        }
    }
}

/// A call that waits for its answer. Dropping it cancels the call.
#[derive(Debug)]
#[must_use = "a call that is dropped is cancelled"]
pub struct Call(State);

#[derive(Debug)]
enum State {
    Waiting { shared: Arc<Shared>, call: CallId },
    Failed(Option<CallError>),
}

impl Call {
    fn start(shared: &Arc<Shared>, request: Bytes, room: OwnedSemaphorePermit) -> Self {
        Self(match shared.start(request, room) {
            Ok(call) => State::Waiting { shared: Arc::clone(shared), call },
            Err(error) => State::Failed(Some(error)),
        })
    }
}

impl Future for Call {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Waiting { shared, call } => shared.poll(*call, cx),
            State::Failed(error) => Poll::Ready(Err(error.take().unwrap_or(CallError::Stopped))),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let State::Waiting { shared, call } = &self.0 {
            shared.cancel(*call);
        }
    }
}
