#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::{
    io::Errno,
    thread::futex::{self, Flags, Timespec},
};

use crate::{
    memory::{APART, Shared},
    patience::{WAIT, poll},
    system::{Error, Opened, Runner, Setup, Side, System, Workload},
};

/// The bare wake of a sleeping process: the near end changes a word and wakes the far one,
/// which sleeps on it and answers in another word as soon as it runs; the near end polls
/// that. Only the number in the first word of a message is passed on.
pub struct FutexWake;

/// What the far end sleeps on, the number it is told, and its answer.
const BELL: usize = 0;
const NUMBER: usize = 8;
const ANSWER: usize = APART;

impl System for FutexWake {
    fn name(&self) -> &'static str {
        "futex wake"
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        workload == Workload::Wake
    }

    fn open(&self, _: &Setup) -> Result<Opened, Error> {
        let memory = Shared::create(2 * APART)?;
        let ticket = memory.ticket();
        Ok(Opened { near: Box::new(Near { memory, seen: 0 }), ticket })
    }

    fn join(&self, _: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        Ok(Box::new(Sleeper { memory: Shared::open(ticket)?, seen: 0 }))
    }
}

fn word(memory: &Shared, at: usize) -> &AtomicU64 {
    // SAFETY: callers pass the offset of a number, which is only used so.
    unsafe { memory.word(at) }
}

fn bell(memory: &Shared) -> &AtomicU32 {
    // SAFETY: it lies at the start of the memory, where nothing else is.
    unsafe { AtomicU32::from_ptr(memory.word(BELL).as_ptr().cast()) }
}

fn put(number: u64, buffer: &mut [u8]) {
    buffer[..8].copy_from_slice(&number.to_ne_bytes());
}

fn get(message: &[u8]) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&message[..8]);
    u64::from_ne_bytes(number)
}

struct Near {
    memory: Shared,
    /// The last answer.
    seen: u64,
}

impl Side for Near {
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        word(&self.memory, NUMBER).store(get(message), Ordering::Relaxed);
        bell(&self.memory).fetch_add(1, Ordering::Release);
        futex::wake(bell(&self.memory), Flags::empty(), 1)?;
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let mut number = self.seen;
        poll(|| {
            number = word(&self.memory, ANSWER).load(Ordering::Acquire);
            number != self.seen
        })?;
        self.seen = number;
        put(number, buffer);
        Ok(())
    }
}

struct Sleeper {
    memory: Shared,
    /// How often the bell had rung.
    seen: u32,
}

impl Side for Sleeper {
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        word(&self.memory, ANSWER).store(get(message), Ordering::Release);
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let timeout = Timespec { tv_sec: WAIT.as_secs() as i64, tv_nsec: 0 };
        while bell(&self.memory).load(Ordering::Acquire) == self.seen {
            match futex::wait(bell(&self.memory), Flags::empty(), self.seen, Some(&timeout)) {
                // It had rung already, or a signal came.
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.seen = self.seen.wrapping_add(1);
        put(word(&self.memory, NUMBER).load(Ordering::Relaxed), buffer);
        Ok(())
    }
}
