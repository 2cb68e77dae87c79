//! The calls of the other side.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::task::{AbortHandle, Id, JoinSet};
use tower_service::Service;

use super::{
    error::BoxError,
    frame::{CallId, Frame, Kind},
};

/// Calls of the other side: those that wait for the service, those that are handled in tasks, and
/// answers to be sent. Together they are at most as many as were allowed.
#[derive(Debug)]
pub(crate) struct Served {
    max: usize,
    waiting: VecDeque<(CallId, Bytes)>,
    handled: HashMap<CallId, AbortHandle>,
    /// Those of cancelled calls are here until they have ended.
    tasks: JoinSet<Result<Bytes, BoxError>>,
    calls: HashMap<Id, CallId>,
    answers: VecDeque<Frame>,
    answered: HashSet<CallId>,
}

/// The other side has more calls in flight than it may, or one twice.
#[derive(Debug)]
pub(crate) struct Misbehaved;

impl Served {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            max: max as usize,
            waiting: VecDeque::new(),
            handled: HashMap::new(),
            tasks: JoinSet::new(),
            calls: HashMap::new(),
            answers: VecDeque::new(),
            answered: HashSet::new(),
        }
    }

    /// Takes a call.
    pub(crate) fn take(&mut self, call: CallId, request: Bytes) -> Result<(), Misbehaved> {
        let known = self.handled.contains_key(&call)
            || self.answered.contains(&call)
            || self.waiting.iter().any(|(waiting, _)| *waiting == call);
        let all = self.waiting.len() + self.handled.len() + self.answers.len();
        if known || all >= self.max {
            return Err(Misbehaved);
        }
        self.waiting.push_back((call, request));
        Ok(())
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn cancel(&mut self, call: CallId) {
        if let Some(task) = self.handled.remove(&call) {
            task.abort();
        } else if self.answered.remove(&call) {
            self.answers.retain(|answer| answer.call != call);
        } else {
            self.waiting.retain(|(waiting, _)| *waiting != call);
        }
    }

    /// Hands waiting calls to the service, and takes what has become of others. Whether it has
    /// given other tasks something to do.
    pub(crate) fn advance<S>(&mut self, service: &mut S, cx: &mut Context<'_>) -> bool
    where
        S: Service<Bytes, Response = Bytes>,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        let mut started = false;
        loop {
            // A task that does not end though it is cancelled counts as well.
            while !self.waiting.is_empty() && self.tasks.len() < self.max {
                let ready = match service.poll_ready(cx) {
                    Poll::Ready(ready) => ready,
                    Poll::Pending => break,
                };
                let Some((call, request)) = self.waiting.pop_front() else { break };
                if let Err(error) = ready {
                    self.answer(Frame::failure(call, &error.into().to_string()));
                    continue;
                }
                let answer = service.call(request);
                let task = self.tasks.spawn(async { answer.await.map_err(Into::into) });
                self.calls.insert(task.id(), call);
                self.handled.insert(call, task);
                started = true;
            }
            let (task, answer) = match self.tasks.poll_join_next_with_id(cx) {
                Poll::Ready(Some(Ok((task, answer)))) => (task, answer),
                Poll::Ready(Some(Err(error))) => {
                    (error.id(), Err("the handler ended without an answer".into()))
                }
                Poll::Ready(None) | Poll::Pending => return started,
            };
            let Some(call) = self.calls.remove(&task) else { continue };
            // Cancelled meanwhile if it is not there, and if it is another one, its number was
            // used again.
            if self.handled.get(&call).is_some_and(|handled| handled.id() == task) {
                self.handled.remove(&call);
                self.answer(match answer {
                    Ok(body) => Frame { kind: Kind::Answer, call, body },
                    Err(error) => Frame::failure(call, &error.to_string()),
                });
            }
        }
    }

    fn answer(&mut self, frame: Frame) {
        self.answered.insert(frame.call);
        self.answers.push_back(frame);
    }

    /// The answer to be sent next.
    pub(crate) fn next_answer(&mut self) -> Option<&mut Frame> {
        self.answers.front_mut()
    }

    /// It was sent.
    pub(crate) fn answer_sent(&mut self) {
        if let Some(frame) = self.answers.pop_front() {
            self.answered.remove(&frame.call);
        }
    }
}

/// The service of a side that is not called: each call fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCalls;

impl Service<Bytes> for NoCalls {
    type Response = Bytes;
    type Error = BoxError;
    type Future = Ready<Result<Bytes, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Bytes) -> Self::Future {
        ready(Err("this side takes no calls".into()))
    }
}
