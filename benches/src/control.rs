#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    memory::{APART, Shared},
    patience::poll,
    system::Error,
};

/// By which the near end sees how far the far end is with its turns, without a system call.
pub struct Control(Shared);

/// Turns that the far end has begun, and that it has done; `FAILED` if it is over.
const BEGUN: usize = 0;
const DONE: usize = APART;
const FAILED: u64 = u64::MAX;

impl Control {
    pub fn create() -> Result<Self, Error> {
        Ok(Self(Shared::create(2 * APART)?))
    }

    pub fn open(ticket: &str) -> Result<Self, Error> {
        Ok(Self(Shared::open(ticket)?))
    }

    pub fn ticket(&self) -> String {
        self.0.ticket()
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: callers pass one of the two offsets, which are only used so.
        unsafe { self.0.word(at) }
    }

    pub fn begin(&self, turn: u64) {
        self.word(BEGUN).store(turn, Ordering::Release);
    }

    pub fn end(&self, turn: u64) {
        self.word(DONE).store(turn, Ordering::Release);
    }

    /// Tells the near end that it waits in vain.
    pub fn fail(&self) {
        self.begin(FAILED);
        self.end(FAILED);
    }

    pub fn wait_for_begin(&self, turn: u64) -> Result<(), Error> {
        self.wait(BEGUN, turn)
    }

    pub fn wait_for_end(&self, turn: u64) -> Result<(), Error> {
        self.wait(DONE, turn)
    }

    fn wait(&self, at: usize, turn: u64) -> Result<(), Error> {
        let mut now = 0;
        poll(|| {
            now = self.word(at).load(Ordering::Acquire);
            now >= turn
        })?;
        if now == turn { Ok(()) } else { Err("the other end has failed".into()) }
    }
}
