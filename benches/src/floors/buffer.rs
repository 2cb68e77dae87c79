#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    memory::{Shared, WORD},
    patience::poll,
    system::{Error, Opened, Runner, Setup, Side, System, Workload},
};

/// The ping-pong through a buffer that holds a commit word and the message behind it. Each
/// end writes every byte, then the word; the other polls the word, then reads every byte.
/// Both ends share one buffer, or each writes its own.
pub struct SharedBuffer {
    pub name: &'static str,
    pub buffers: usize,
}

impl SharedBuffer {
    /// Where the far end's buffer lies.
    fn second(&self, size: usize) -> usize {
        (self.buffers - 1) * (WORD + size).next_multiple_of(4096)
    }
}

impl System for SharedBuffer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        workload == Workload::Pingpong
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        let size = setup.size;
        let second = self.second(size);
        let memory = Shared::create(second + WORD + size)?;
        let ticket = memory.ticket();
        Ok(Opened { near: Box::new(End { memory, size, own: 0, other: second, turn: 0 }), ticket })
    }

    fn join(&self, setup: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        let size = setup.size;
        let memory = Shared::open(ticket)?;
        Ok(Box::new(End { memory, size, own: self.second(size), other: 0, turn: 0 }))
    }
}

struct End {
    memory: Shared,
    size: usize,
    /// Where the buffer lies that this end writes, and the one that the other end writes.
    own: usize,
    other: usize,
    /// Messages so far, of both ends.
    turn: u64,
}

impl End {
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: both buffers start with a word that is only used so.
        unsafe { self.memory.word(at) }
    }
}

impl Side for End {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        assert!(message.len() == self.size);
        // SAFETY: in bounds, as the length is right. It is this end's turn to write.
        unsafe { self.memory.write(self.own + WORD, message) };
        self.turn += 1;
        self.word(self.own).store(self.turn, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        assert!(buffer.len() == self.size);
        self.turn += 1;
        poll(|| self.word(self.other).load(Ordering::Acquire) == self.turn)?;
        // SAFETY: in bounds, as the length is right. The other end is done writing.
        unsafe { self.memory.read(self.other + WORD, buffer) };
        Ok(())
    }
}
