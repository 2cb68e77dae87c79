#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Layout, Progress, READ, WRITTEN};
use crate::{
    memory::Shared,
    patience::poll,
    system::{Error, Side},
};

/// One end of two rings with a count of what was written and one of what was read. Each
/// end looks at the other's count only when the ring seems full, or empty.
pub struct IndexEnd {
    pub(super) memory: Shared,
    pub(super) layout: Layout,
    pub(super) out: Progress,
    pub(super) back: Progress,
}

impl IndexEnd {
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: callers pass the offsets of the counts, which are only used so.
        unsafe { self.memory.word(at) }
    }

    /// Waits for room; returns for how many messages.
    #[inline]
    fn room(&mut self) -> Result<u64, Error> {
        let Progress { base, done, mut seen } = self.out;
        if done - seen == self.layout.frames {
            poll(|| {
                seen = self.word(base + READ).load(Ordering::Acquire);
                done - seen < self.layout.frames
            })?;
            self.out.seen = seen;
        }
        Ok(self.layout.frames - (done - seen))
    }

    /// Writes a message without saying so.
    #[inline]
    fn write(&mut self, message: &[u8]) {
        assert!(message.len() == self.layout.size);
        let at = self.out.base + self.layout.at(self.out.done);
        // SAFETY: in bounds, as the length is right. There is room, as the caller has seen.
        unsafe { self.memory.write(at, message) };
        self.out.done += 1;
    }

    #[inline]
    fn say_written(&self) {
        self.word(self.out.base + WRITTEN).store(self.out.done, Ordering::Release);
    }

    /// Waits for messages; returns how many there are.
    #[inline]
    fn there(&mut self) -> Result<u64, Error> {
        let Progress { base, done, mut seen } = self.back;
        if seen == done {
            poll(|| {
                seen = self.word(base + WRITTEN).load(Ordering::Acquire);
                seen != done
            })?;
            self.back.seen = seen;
        }
        Ok(seen - done)
    }

    /// Reads a message without saying so.
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) {
        assert!(buffer.len() == self.layout.size);
        let at = self.back.base + self.layout.at(self.back.done);
        // SAFETY: in bounds, as the length is right. It is there, as the caller has seen.
        unsafe { self.memory.read(at, buffer) };
        self.back.done += 1;
    }

    #[inline]
    fn say_read(&self) {
        self.word(self.back.base + READ).store(self.back.done, Ordering::Release);
    }
}

impl Side for IndexEnd {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        self.room()?;
        self.write(message);
        self.say_written();
        Ok(())
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        self.there()?;
        self.read(buffer);
        self.say_read();
        Ok(())
    }

    fn send_batch(&mut self, mut messages: &[Vec<u8>]) -> Result<(), Error> {
        while !messages.is_empty() {
            let count = messages.len().min(self.room()? as usize);
            let (now, later) = messages.split_at(count);
            now.iter().for_each(|message| self.write(message));
            self.say_written();
            messages = later;
        }
        Ok(())
    }

    fn receive_batch(
        &mut self,
        buffer: &mut [u8],
        mut count: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        while count > 0 {
            let now = count.min(self.there()? as usize);
            for _ in 0..now {
                self.read(buffer);
                each(buffer);
            }
            self.say_read();
            count -= now;
        }
        Ok(())
    }
}
