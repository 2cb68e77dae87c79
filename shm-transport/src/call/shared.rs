//! What the callers of a side share with its driver.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    error::CallError,
    frame::{CallId, Frame, HEADER, Kind},
};
use crate::error::LinkEnd;

/// Why no call of this side is answered any more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    Ended(LinkEnd),
    Stopped,
}

impl From<Over> for CallError {
    fn from(over: Over) -> Self {
        match over {
            Over::Ended(end) => Self::Ended(end),
            Over::Stopped => Self::Stopped,
        }
    }
}

/// The calls of one side.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// One permit for each call that may be in flight; none before the other side has said how
    /// many. Closed when the link is over.
    pub(crate) room: Arc<Semaphore>,
    /// The longest request, in bytes.
    max_request: u64,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// At most as many as there are permits: each keeps one.
    calls: HashMap<CallId, Pending>,
    /// Those that are not sent, in order.
    unsent: VecDeque<CallId>,
    /// Those whose cancellation is not sent, in order.
    cancelled: VecDeque<CallId>,
    driver: Option<Waker>,
    over: Option<Over>,
}

#[derive(Debug)]
struct Pending {
    stage: Stage,
    waker: Option<Waker>,
    _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Stage {
    Unsent(Bytes),
    Sent,
    Done(Result<Bytes, CallError>),
    /// Sent, and nobody waits for its answer.
    Cancelled,
}

impl Shared {
    pub(crate) fn new(max_message: u64) -> Self {
        Self {
            state: Mutex::new(State {
                next: 0,
                calls: HashMap::new(),
                unsent: VecDeque::new(),
                cancelled: VecDeque::new(),
                driver: None,
                over: None,
            }),
            room: Arc::new(Semaphore::new(0)),
            max_request: max_message.saturating_sub(HEADER as u64),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock leaves half a change behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a call.
    pub(crate) fn start(
        &self,
        request: Bytes,
        room: OwnedSemaphorePermit,
    ) -> Result<CallId, CallError> {
        let len = request.len() as u64;
        if len > self.max_request {
            return Err(CallError::TooLarge { len, max: self.max_request });
        }
        let mut state = self.state();
        if let Some(over) = state.over {
            return Err(over.into());
        }
        let call = CallId(state.next);
        state.next += 1;
        let pending = Pending { stage: Stage::Unsent(request), waker: None, _room: room };
        state.calls.insert(call, pending);
        state.unsent.push_back(call);
        wake(state);
        Ok(call)
    }

    /// What the call has ended with.
    pub(crate) fn poll(
        &self,
        call: CallId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, CallError>> {
        let mut state = self.state();
        match state.calls.get_mut(&call) {
            Some(pending) if !matches!(pending.stage, Stage::Done(_)) => {
                match &mut pending.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            _ => match state.calls.remove(&call) {
                Some(Pending { stage: Stage::Done(result), .. }) => Poll::Ready(result),
                // It was ready before.
                _ => Poll::Ready(Err(CallError::Stopped)),
            },
        }
    }

    /// Nobody waits for the call any more.
    pub(crate) fn cancel(&self, call: CallId) {
        let mut state = self.state();
        let Some(pending) = state.calls.get_mut(&call) else { return };
        match pending.stage {
            Stage::Sent => {
                // It keeps its permit until the other side is told.
                pending.stage = Stage::Cancelled;
                pending.waker = None;
                state.cancelled.push_back(call);
                wake(state);
            }
            Stage::Unsent(_) => {
                let pending = state.calls.remove(&call);
                state.unsent.retain(|unsent| *unsent != call);
                // The permit wakes others.
                drop(state);
                drop(pending);
            }
            Stage::Done(_) | Stage::Cancelled => {
                let pending = state.calls.remove(&call);
                drop(state);
                drop(pending);
            }
        }
    }

    /// Why no call is answered any more.
    pub(crate) fn over(&self) -> Option<Over> {
        self.state().over
    }

    /// Whoever polls is woken when there is something to send.
    pub(crate) fn register_driver(&self, waker: &Waker) {
        match &mut self.state().driver {
            Some(driver) => driver.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// The next frame that is to be sent. Cancellations go first: each makes room.
    pub(crate) fn next_frame(&self) -> Option<Frame> {
        let mut state = self.state();
        if let Some(&call) = state.cancelled.front() {
            return Some(Frame { kind: Kind::Cancel, call, body: Bytes::new() });
        }
        loop {
            let call = *state.unsent.front()?;
            match state.calls.get(&call) {
                Some(Pending { stage: Stage::Unsent(request), .. }) => {
                    let body = request.clone();
                    return Some(Frame { kind: Kind::Request, call, body });
                }
                _ => {
                    state.unsent.pop_front();
                }
            }
        }
    }

    /// Sends the frame of `next_frame`, if it is still to be sent: what `send` says, or `None`.
    ///
    /// The lock is held meanwhile, so that a call is cancelled either before it is sent, and
    /// never is, or after.
    pub(crate) fn send_frame<E>(
        &self,
        frame: &Frame,
        send: impl FnOnce() -> Result<(), E>,
    ) -> Option<Result<(), E>> {
        let mut state = self.state();
        let call = frame.call;
        if frame.kind == Kind::Cancel {
            let sent = send();
            let done = sent.is_ok().then(|| {
                state.cancelled.retain(|cancelled| *cancelled != call);
                state.calls.remove(&call)
            });
            drop(state);
            drop(done);
            return Some(sent);
        }
        let pending = state.calls.get_mut(&call)?;
        if !matches!(pending.stage, Stage::Unsent(_)) {
            return None;
        }
        let sent = send();
        if sent.is_ok() {
            pending.stage = Stage::Sent;
            state.unsent.retain(|unsent| *unsent != call);
        }
        Some(sent)
    }

    /// The call has ended with this. A call that nobody knows, or that was never sent, has not:
    /// answers come late, and from anybody.
    pub(crate) fn finish(&self, call: CallId, result: Result<Bytes, CallError>) -> bool {
        let mut state = self.state();
        let Some(pending) = state.calls.get_mut(&call) else { return false };
        if !matches!(pending.stage, Stage::Sent) {
            return false;
        }
        let waker = pending.finish(result);
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// The call cannot be sent.
    pub(crate) fn fail_unsent(&self, call: CallId, error: CallError) {
        let mut state = self.state();
        state.unsent.retain(|unsent| *unsent != call);
        let waker = state.calls.get_mut(&call).and_then(|pending| pending.finish(Err(error)));
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// No call is answered any more.
    pub(crate) fn end(&self, over: Over) {
        let mut state = self.state();
        if state.over.is_some() {
            return;
        }
        state.over = Some(over);
        state.unsent.clear();
        state.cancelled.clear();
        state.driver = None;
        let mut wakers = Vec::new();
        let mut gone = Vec::new();
        for (call, pending) in &mut state.calls {
            match pending.stage {
                Stage::Unsent(_) | Stage::Sent => {
                    wakers.extend(pending.finish(Err(over.into())));
                }
                Stage::Cancelled => gone.push(*call),
                Stage::Done(_) => {}
            }
        }
        let gone: Vec<_> = gone.iter().filter_map(|call| state.calls.remove(call)).collect();
        drop(state);
        drop(gone);
        self.room.close();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Pending {
    fn finish(&mut self, result: Result<Bytes, CallError>) -> Option<Waker> {
        self.stage = Stage::Done(result);
        self.waker.take()
    }
}

/// Wakes the driver.
fn wake(mut state: MutexGuard<'_, State>) {
    let driver = state.driver.take();
    drop(state);
    driver.into_iter().for_each(Waker::wake);
}
