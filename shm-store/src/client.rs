//! A process's way to a store's owner, whoever that is: another process, or this one.
//!
//! ```text
//!            attached                        the owner left or died
//! nobody ───────────────▶ connected ─────────────────────────────────▶ nobody
//!   │ no host is there                                                    ▲
//!   ▼                                                                     │
//! lease ── another has it: wait 1 to 5 ms ────────────────────────────────┤
//!   │ taken                                                               │
//!   ▼                                                                     │
//! owner: opens the engine, serves ── then attaches to itself like others ─┘
//! ```

mod buffers;
mod calls;
mod connection;

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use shm_transport::{Guest, Lease, LeaseError, LeasePolicy, lease::Reader};

use self::connection::{Refused, attach};
pub(crate) use self::{calls::CallError, connection::Connection};
#[cfg(test)]
mod tests;
use crate::{
    Durability, Lsn, OpenError, Options, ReadError, WriteError, Written,
    operation::Write,
    place::Home,
    protocol::{self, Answer, Request},
    service::Owner,
};

/// Pauses of one that is not the owner, between two looks for one.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// Pauses after an error that may pass.
const RETRIES: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(25), Duration::from_millis(50)];

/// What all handles of one opening share.
#[derive(Debug)]
pub(crate) struct Client {
    home: Home,
    options: Options,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// Some thread looks for an owner.
    is_connecting: bool,
    /// If this process is the owner.
    owner: Option<Owner>,
}

impl Client {
    pub(crate) fn new(home: Home, options: Options) -> Self {
        Self { home, options, state: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.home.place().directory()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process is the owner, through this opening.
    pub(crate) fn is_owner(&self) -> bool {
        self.state().owner.as_ref().is_some_and(Owner::serves)
    }

    /// A connection that is not known to be over, made if there is none.
    pub(crate) fn connection(&self, deadline: Instant) -> Result<Arc<Connection>, OpenError> {
        let mut state = self.state();
        loop {
            if let Some(connection) = &state.connection
                && !connection.has_ended()
            {
                return Ok(Arc::clone(connection));
            }
            if !state.is_connecting {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(OpenError::Busy);
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_connecting = true;
        state.connection = None;
        drop(state);
        let connecting = Connecting(self);
        let connected = self.connect(deadline);
        if let Ok(connection) = &connected {
            self.state().connection = Some(Arc::clone(connection));
        }
        drop(connecting);
        connected
    }

    fn connect(&self, deadline: Instant) -> Result<Arc<Connection>, OpenError> {
        let mut pause = SHORTEST_PAUSE;
        let mut retries = RETRIES.into_iter();
        loop {
            match Connection::attach(self.home.place(), self.options.spin, deadline) {
                Ok(connection) => return Ok(Arc::new(connection)),
                Err(Refused::ForGood(error)) => return Err(error),
                Err(Refused::NobodyThere) => {}
            }
            let rest = match self.become_owner() {
                Ok(true) => continue,
                Ok(false) => {
                    let rest = pause;
                    pause = LONGEST_PAUSE.min(pause * 2);
                    rest
                }
                Err(error) if error.is_retryable() && Instant::now() < deadline => {
                    retries.next().unwrap_or(RETRIES[RETRIES.len() - 1])
                }
                Err(error) => return Err(error),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(OpenError::Busy);
            }
            thread::sleep(rest.min(left));
        }
    }

    /// Becomes the owner if nobody is. Returns whether this process is it now.
    fn become_owner(&self) -> Result<bool, OpenError> {
        // One that has ended without having been asked to.
        drop(self.state().owner.take());
        let lease = match &self.home {
            Home::Memory(..) => None,
            Home::Directory(place, _) => {
                let lease = Lease::builder().policy(LeasePolicy::On).open(place.lease()?);
                let lease = match lease {
                    Ok(lease) => lease,
                    Err(LeaseError::Busy(_)) => return Ok(false),
                    Err(error) => return Err(std::io::Error::other(error).into()),
                };
                if !lease.is_owner() {
                    return Ok(false);
                }
                Some(lease)
            }
        };
        match Owner::start(&self.home, &self.options, lease)? {
            Some(owner) => {
                self.state().owner = Some(owner);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Has a write done. It is repeated if it was surely not done, or if the owner tells
    /// repetitions by their producer.
    pub(crate) fn write(
        &self,
        write: Write,
        deadline: Instant,
    ) -> Result<(Durability, Written), WriteError> {
        let is_known_again =
            matches!(&write, Write::Append { append, .. } if append.producer.is_some());
        let request = Request::Write(write);
        let mut maybe_done = false;
        loop {
            let connection = self.connection(deadline).map_err(|error| match error {
                _ if maybe_done => WriteError::Indeterminate,
                OpenError::Busy => WriteError::TimedOut,
                error => WriteError::Open(error),
            })?;
            match connection.commit.call(|number| request.encode(number), deadline) {
                Ok(answer) => {
                    return match Answer::decode(&answer) {
                        Ok(Answer::Written(durability, Ok(written))) => Ok((durability, written)),
                        // The refusal is of the repetition. It says nothing of the first call,
                        // unless that is known to be done.
                        Ok(Answer::Written(_, Err(error)))
                            if !maybe_done || matches!(error, WriteError::AlreadyDone) =>
                        {
                            Err(error)
                        }
                        _ => Err(WriteError::Indeterminate),
                    };
                }
                Err(CallError::NotDone) => {}
                Err(CallError::Unknown) if is_known_again => maybe_done = true,
                Err(CallError::Unknown | CallError::NotAnswered) => {
                    return Err(WriteError::Indeterminate);
                }
                Err(CallError::NotSent) if maybe_done => return Err(WriteError::Indeterminate),
                Err(CallError::NotSent) => return Err(WriteError::TimedOut),
                Err(CallError::TooLarge) => {
                    let limit = self.options.max_operation_bytes;
                    return Err(WriteError::TooLarge { limit });
                }
            }
        }
    }

    /// Asks for something. It is asked again if the owner leaves or dies.
    pub(crate) fn ask(&self, request: &Request, deadline: Instant) -> Result<Answer, ReadError> {
        loop {
            let connection = self.connection(deadline).map_err(open_to_read)?;
            match connection.read.call(|number| request.encode(number), deadline) {
                Ok(answer) => {
                    return Answer::decode(&answer).map_err(|_| strange_answer());
                }
                Err(CallError::NotDone | CallError::Unknown) => {}
                Err(CallError::NotSent | CallError::NotAnswered | CallError::TooLarge) => {
                    return Err(ReadError::TimedOut);
                }
            }
        }
    }

    /// Asks for what will be wanted soon, if that can be done at once.
    pub(crate) fn ask_ahead(&self, request: &Request) -> Option<Ahead> {
        let connection = self.state().connection.clone()?;
        let number = connection.read.begin(|number| request.encode(number), Instant::now()).ok()?;
        Some(Ahead { connection, number })
    }

    /// Up to where the owner has synced, as it shows to everybody.
    pub(crate) fn durable(&self, deadline: Instant) -> Result<Lsn, ReadError> {
        loop {
            // `None` if it has left or died: the next one knows.
            if let Some(durable) = self.connection(deadline).map_err(open_to_read)?.durable()? {
                return Ok(durable);
            }
        }
    }

    /// A link of its own to the owner, to subscribe by.
    pub(crate) fn attach_for_tail(&self, deadline: Instant) -> Result<Guest, ReadError> {
        loop {
            drop(self.connection(deadline).map_err(open_to_read)?);
            match attach(self.home.place(), protocol::READ, deadline) {
                Ok(guest) => return Ok(guest),
                Err(Refused::ForGood(error)) => return Err(open_to_read(error)),
                Err(Refused::NobodyThere) if Instant::now() >= deadline => {
                    return Err(ReadError::TimedOut);
                }
                Err(Refused::NobodyThere) => thread::sleep(SHORTEST_PAUSE),
            }
        }
    }

    /// Keeps the log from an operation on, until the pin is dropped or this process ends. None
    /// if the store is in memory, or if it cannot be had now: reading is right without it.
    pub(crate) fn pin(&self, at: Lsn) -> Option<Reader> {
        let Home::Directory(place, _) = &self.home else { return None };
        let lease = Lease::builder().policy(LeasePolicy::On).open(place.lease().ok()?).ok()?;
        // Nobody owns the store, and this is not the time to own it by accident.
        if lease.is_owner() {
            return None;
        }
        lease.attach_reader(at.0).ok()
    }
}

/// A question that was asked ahead of time.
#[derive(Debug)]
pub(crate) struct Ahead {
    connection: Arc<Connection>,
    number: u64,
}

impl Ahead {
    /// The answer; `None` if there is none, for whatever reason: ask again.
    pub(crate) fn answer(self, deadline: Instant) -> Option<Answer> {
        let answer = self.connection.read.finish(self.number, deadline).ok()?;
        Answer::decode(&answer).ok()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.connection.read.forget(self.number);
    }
}

/// Another answer than to the question.
pub(crate) fn strange_answer() -> ReadError {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "the owner's answer makes no sense").into()
}

fn open_to_read(error: OpenError) -> ReadError {
    match error {
        OpenError::Busy => ReadError::TimedOut,
        error => ReadError::Open(error),
    }
}

/// Says, in the end, that nobody connects any more, whatever happens meanwhile.
struct Connecting<'a>(&'a Client);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.state().is_connecting = false;
        self.0.changed.notify_all();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        // The owner answers those who are still there, this one first.
        state.connection = None;
        state.owner = None;
    }
}
