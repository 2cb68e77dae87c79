//! Requests and their answers over one link, for any number of threads.
//!
//! No thread of its own receives: one of the threads that wait receives for all, hands each
//! answer to the one that waits for it, and passes this duty on when it has its own.

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use bytes::Bytes;
use shm_transport::{Deadline, Receiver, RecvError, SendError, Sender};

use super::buffers::Buffers;
use crate::protocol::number_of;

/// One link to the owner, seen from a client.
#[derive(Debug)]
pub(crate) struct Calls {
    sender: Mutex<Place>,
    sender_is_back: Condvar,
    receiver: Mutex<Receiver>,
    state: Mutex<State>,
    buffers: Buffers,
}

/// Where the sender is, unless somebody sends.
#[derive(Debug)]
struct Place {
    sender: Option<Sender>,
    /// How many threads wait for it: if none does, nobody need be told that it is back.
    waiting: usize,
}

#[derive(Debug, Default)]
struct State {
    last_number: u64,
    /// Answers that somebody waits for, as far as they are there.
    answers: HashMap<u64, Option<Bytes>>,
    /// Sent and not answered, given up ones too; and how many there may be.
    under_way: usize,
    limit: usize,
    /// Somebody receives for all.
    is_led: bool,
    /// Who sleeps until something happened.
    sleepers: HashMap<u64, Thread>,
    end: Option<End>,
}

/// How a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the owner's farewell: what is not answered was not done.
    Farewell,
    /// What is not answered may have been done.
    Lost,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The link is over, and what was asked for was surely not done.
    NotDone,
    /// The link is over, and nobody knows whether it was done.
    Unknown,
    /// It could not be sent before the deadline.
    NotSent,
    /// It was sent, and the answer has not come before the deadline.
    NotAnswered,
    /// The link does not carry so much.
    TooLarge,
}

impl Calls {
    pub(crate) fn new((sender, receiver): (Sender, Receiver), limit: usize) -> Self {
        Self {
            sender: Mutex::new(Place { sender: Some(sender), waiting: 0 }),
            sender_is_back: Condvar::new(),
            receiver: Mutex::new(receiver),
            state: Mutex::new(State { limit, ..State::default() }),
            buffers: Buffers::default(),
        }
    }

    /// Sends the request that `encode` makes with its number, and waits for the answer.
    pub(crate) fn call(
        &self,
        encode: impl FnOnce(u64) -> Vec<u8>,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let number = self.begin(encode, deadline)?;
        self.finish(number, deadline)
    }

    /// Sends the request that `encode` makes with its number. Then comes
    /// [`finish`](Self::finish) or [`forget`](Self::forget).
    pub(super) fn begin(
        &self,
        encode: impl FnOnce(u64) -> Vec<u8>,
        deadline: Instant,
    ) -> Result<u64, CallError> {
        let number = self.state().next_number();
        let admit = |state: &mut State| {
            (state.under_way < state.limit).then(|| {
                state.under_way += 1;
                state.answers.insert(number, None);
            })
        };
        match self.wait(number, deadline, admit) {
            Ok(()) => {}
            Err(Some(_)) => return Err(CallError::NotDone),
            Err(None) => return Err(CallError::NotSent),
        }
        if let Err(error) = self.send(&encode(number), deadline) {
            let mut state = self.state();
            state.answers.remove(&number);
            state.under_way -= 1;
            if matches!(error, CallError::NotDone) && !state.is_led {
                // What came before the end, and how the link ended, if nobody else sees to it.
                state.is_led = true;
                drop(state);
                self.receive(Instant::now());
            }
            return Err(error);
        }
        Ok(number)
    }

    /// Waits for the answer.
    pub(super) fn finish(&self, number: u64, deadline: Instant) -> Result<Bytes, CallError> {
        let take = |state: &mut State| state.answers.get_mut(&number).and_then(Option::take);
        let answer = self.wait(number, deadline, take);
        self.state().answers.remove(&number);
        answer.map_err(|end| match end {
            Some(End::Farewell) => CallError::NotDone,
            Some(End::Lost) => CallError::Unknown,
            None => CallError::NotAnswered,
        })
    }

    /// Nobody waits for the answer.
    pub(super) fn forget(&self, number: u64) {
        self.state().answers.remove(&number);
    }

    /// Whether it is known that the link is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: &[u8], deadline: Instant) -> Result<(), CallError> {
        let mut sender = self.take_sender(deadline).ok_or(CallError::NotSent)?;
        let sent = sender.send(message, deadline);
        let mut place = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        place.sender = Some(sender);
        if place.waiting > 0 {
            self.sender_is_back.notify_one();
        }
        drop(place);
        sent.map_err(|error| match error {
            SendError::TooLarge { .. } => CallError::TooLarge,
            SendError::Ended(_) => CallError::NotDone,
            // Memory that is short now may be there before the deadline, or never.
            _ => CallError::NotSent,
        })
    }

    /// The sender, when nobody else sends.
    fn take_sender(&self, deadline: Instant) -> Option<Sender> {
        let mut place = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(sender) = place.sender.take() {
                return Some(sender);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            place.waiting += 1;
            let waited = self.sender_is_back.wait_timeout(place, left);
            place = waited.unwrap_or_else(PoisonError::into_inner).0;
            place.waiting -= 1;
        }
    }

    /// Receives for all, or sleeps while another does, until `found` finds something. The
    /// error is the link's end, or none if the deadline has passed.
    fn wait<T>(
        &self,
        number: u64,
        deadline: Instant,
        mut found: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, Option<End>> {
        loop {
            let mut state = self.state();
            state.sleepers.remove(&number);
            if let Some(found) = found(&mut state) {
                state.wake_one_to_lead();
                return Ok(found);
            }
            if state.end.is_some() {
                return Err(state.end);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                state.wake_one_to_lead();
                return Err(None);
            }
            if state.is_led {
                state.sleepers.insert(number, thread::current());
                drop(state);
                thread::park_timeout(left);
            } else {
                state.is_led = true;
                drop(state);
                self.receive(deadline);
            }
        }
    }

    /// Receives what comes first, and what is there with it.
    fn receive(&self, deadline: Instant) {
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        let mut until = Deadline::from(deadline);
        loop {
            match receiver.recv(until) {
                Ok(message) => {
                    let message = self.buffers.copied(&message);
                    self.state().deliver(message);
                }
                Err(RecvError::TimedOut) => break,
                // A message that cannot be mapped stays; there may be memory later.
                Err(RecvError::Os(_)) => {
                    thread::sleep(Duration::from_millis(1));
                    break;
                }
                Err(_) => {
                    self.state().end(End::Lost);
                    break;
                }
            }
            until = Deadline::NOW;
        }
        drop(receiver);
        self.state().is_led = false;
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn deliver(&mut self, message: Bytes) {
        match number_of(&message) {
            Ok(0) => self.end(End::Farewell),
            Ok(number) => {
                if self.under_way >= self.limit {
                    // Some may wait for room.
                    self.sleepers.values().for_each(Thread::unpark);
                }
                self.under_way = self.under_way.saturating_sub(1);
                // Nobody waits any more for one whose deadline has passed.
                if let Some(answer) = self.answers.get_mut(&number) {
                    *answer = Some(message);
                }
                if let Some(thread) = self.sleepers.get(&number) {
                    thread.unpark();
                }
            }
            Err(_) => self.end(End::Lost),
        }
    }

    fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.sleepers.values().for_each(Thread::unpark);
    }

    /// Has somebody receive, or find that there is room, if anybody waits.
    fn wake_one_to_lead(&self) {
        if !self.is_led
            && let Some(thread) = self.sleepers.values().next()
        {
            thread.unpark();
        }
    }
}
