//! What each side sends: messages of all ways and sizes, by every call that sends.

use std::time::Duration;

use shm_transport::{BatchError, SendError, Sender};

use super::{
    checker::{self, HEADER, Kind},
    record::Marks,
};
use crate::pattern::Random;

/// The largest message; see [`config`](super::config).
pub const LARGEST: usize = 160 << 10;

/// What is to be sent next.
#[derive(Clone, Debug)]
enum Act {
    One(usize, Kind),
    Batch(Vec<usize>),
    /// So many bytes in place, of which so many are used.
    Grant(usize, usize),
    /// A grant that is not committed.
    Abort(usize),
}

/// The sending side of one direction of a link.
#[derive(Debug)]
pub struct Traffic {
    salt: u64,
    random: Random,
    marks: Marks,
    next: u64,
    pending: Option<Act>,
    /// The last message is to be sent, or was.
    is_finishing: bool,
    is_finished: bool,
    messages: Vec<Vec<u8>>,
}

impl Traffic {
    /// Messages with this salt, marked there.
    #[must_use]
    pub fn new(salt: u64, marks: Marks) -> Self {
        let random = Random::new(salt);
        let (pending, messages) = (None, Vec::new());
        let (is_finishing, is_finished) = (false, false);
        Self { salt, random, marks, next: 0, pending, is_finishing, is_finished, messages }
    }

    /// How many messages were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.next
    }

    /// Sends the last message next.
    pub fn finish(&mut self) {
        self.is_finishing = true;
    }

    /// Whether the last message was sent.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Does one thing: waits for room for so long, or not at all. Returns whether there was
    /// room.
    ///
    /// # Errors
    ///
    /// As the calls that send, but for a lack of room without waiting.
    pub fn push(&mut self, sender: &mut Sender, wait: Option<Duration>) -> Result<bool, SendError> {
        if self.is_finished {
            return Ok(false);
        }
        let act = self.pending.take().unwrap_or_else(|| self.choose());
        let (sent, left, error) = self.act(&act, sender, wait);
        self.next += sent;
        self.marks.set_sent(self.next);
        self.is_finished = matches!(act, Act::One(_, Kind::Last)) && sent == 1;
        self.pending = left;
        match error {
            None => Ok(self.pending.is_none()),
            Some(SendError::Full) => Ok(false),
            Some(SendError::TimedOut) if wait.is_none() => Ok(false),
            Some(error) => Err(error),
        }
    }

    fn choose(&mut self) -> Act {
        if self.is_finishing {
            return Act::One(HEADER, Kind::Last);
        }
        let len = self.length();
        match self.random.below(16) {
            0 => Act::Batch((0..2 + self.random.below(30)).map(|_| self.length()).collect()),
            1 => Act::Batch((0..2 + self.random.below(30)).map(|_| HEADER + 8).collect()),
            2 => Act::Grant(len, (len - self.random.below(16) as usize).max(HEADER)),
            3 if self.random.below(4) == 0 => Act::Abort(len),
            _ => Act::One(len, Kind::Load),
        }
    }

    /// Mostly inline, often in slots, sometimes sealed.
    fn length(&mut self) -> usize {
        let most = match self.random.below(64) {
            0 => LARGEST,
            1..4 => 32 << 10,
            4..12 => 4 << 10,
            12..32 => 512,
            _ => 64,
        };
        HEADER + self.random.below((most - HEADER) as u64 + 1) as usize
    }

    /// Returns how many were sent, what is left to be done, and what went wrong.
    fn act(
        &mut self,
        act: &Act,
        sender: &mut Sender,
        wait: Option<Duration>,
    ) -> (u64, Option<Act>, Option<SendError>) {
        let left = || Some(act.clone());
        let done = |result: Result<u64, SendError>| match result {
            Ok(sent) => (sent, None, None),
            Err(error) => (0, left(), Some(error)),
        };
        match act {
            Act::One(len, kind) => {
                self.prepare(std::slice::from_ref(len), *kind);
                let message = &self.messages[0];
                done(match wait {
                    Some(wait) => sender.send(message, wait).map(|()| 1),
                    None => sender.try_send(message).map(|()| 1),
                })
            }
            Act::Batch(lens) => {
                self.prepare(lens, Kind::Load);
                let messages = &self.messages[..lens.len()];
                let result = match wait {
                    Some(wait) => sender.send_batch(messages, wait).map(|()| lens.len()),
                    None => sender.try_send_batch(messages),
                };
                let (sent, error) = match result {
                    Ok(sent) => (sent, None),
                    Err(BatchError { sent, error, .. }) => (sent, Some(error)),
                };
                let rest = lens.get(sent..).unwrap_or_default();
                let left = (!rest.is_empty()).then(|| Act::Batch(rest.to_vec()));
                (sent as u64, left, error)
            }
            Act::Grant(len, used) => {
                self.marks.set_started(self.next + 1);
                let (number, salt) = (self.next, self.salt);
                let granted = match wait {
                    Some(wait) => sender.grant(*len, wait),
                    None => sender.try_grant(*len),
                };
                done(granted.and_then(|mut grant| {
                    checker::write(&mut grant[..*used], Kind::Load, number, salt);
                    grant.commit_prefix(*used).map(|()| 1)
                }))
            }
            Act::Abort(len) => {
                let granted = match wait {
                    Some(wait) => sender.grant(*len, wait),
                    None => sender.try_grant(*len),
                };
                done(granted.map(|mut grant| {
                    grant.fill(0xee);
                    0
                }))
            }
        }
    }

    fn prepare(&mut self, lens: &[usize], kind: Kind) {
        self.messages.resize(lens.len().max(self.messages.len()), Vec::new());
        for ((message, len), number) in self.messages.iter_mut().zip(lens).zip(self.next..) {
            message.resize(*len, 0);
            checker::write(message, kind, number, self.salt);
        }
        self.marks.set_started(self.next + lens.len() as u64);
    }
}
