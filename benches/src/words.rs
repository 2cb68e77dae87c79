#![allow(unsafe_code)]

use std::sync::atomic::AtomicU64;

use crate::{
    memory::{APART, Shared},
    system::Error,
};

/// Words that the processes of a benchmark share, each in cache lines of its own.
pub struct Words(Shared);

const COUNT: usize = 32;

impl Words {
    /// New words, all 0.
    pub fn create() -> Result<Self, Error> {
        Ok(Self(Shared::create(COUNT * APART)?))
    }

    /// The words that another process made.
    pub fn open(ticket: &str) -> Result<Self, Error> {
        Ok(Self(Shared::open(ticket)?))
    }

    /// What another process needs to open them.
    pub fn ticket(&self) -> String {
        self.0.ticket()
    }

    /// One of the words.
    pub fn word(&self, number: usize) -> &AtomicU64 {
        assert!(number < COUNT);
        // SAFETY: a multiple of 8, in bounds as just checked; the words are only used so.
        unsafe { self.0.word(number * APART) }
    }
}
