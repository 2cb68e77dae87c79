#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    memory::{APART, Shared},
    patience::poll,
    system::{Error, Opened, Runner, Setup, Side, System, Workload},
};

/// The bare ping-pong of cache lines: of a message only the number in its first word is
/// passed on, in one line that both ends write, or in one for each.
pub struct Lines {
    pub name: &'static str,
    pub lines: usize,
}

/// Messages that could go in a line or two, and so are compared with that.
const LARGEST: usize = 32;

impl System for Lines {
    fn name(&self) -> &'static str {
        self.name
    }

    fn carries(&self, workload: Workload, size: usize) -> bool {
        workload == Workload::Pingpong && size <= LARGEST
    }

    fn open(&self, _: &Setup) -> Result<Opened, Error> {
        let memory = Shared::create(2 * APART)?;
        let ticket = memory.ticket();
        let near = Box::new(End { memory, own: 0, other: (self.lines - 1) * APART, seen: 0 });
        Ok(Opened { near, ticket })
    }

    fn join(&self, _: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        let memory = Shared::open(ticket)?;
        Ok(Box::new(End { memory, own: (self.lines - 1) * APART, other: 0, seen: 0 }))
    }
}

struct End {
    memory: Shared,
    /// Where the line lies that this end writes, and the one that the other end writes.
    own: usize,
    other: usize,
    /// What was in the other's line.
    seen: u64,
}

impl End {
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: both offsets are in bounds and aligned; the lines are only used so.
        unsafe { self.memory.word(at) }
    }
}

impl Side for End {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        let mut number = [0; 8];
        number.copy_from_slice(&message[..8]);
        let number = u64::from_ne_bytes(number);
        if self.own == self.other {
            self.seen = number;
        }
        self.word(self.own).store(number, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let mut number = self.seen;
        poll(|| {
            number = self.word(self.other).load(Ordering::Acquire);
            number != self.seen
        })?;
        self.seen = number;
        buffer[..8].copy_from_slice(&number.to_ne_bytes());
        Ok(())
    }
}
