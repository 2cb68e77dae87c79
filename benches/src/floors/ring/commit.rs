#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Layout, Progress, READ};
use crate::{
    memory::{Shared, WORD},
    patience::poll,
    system::{Error, Side},
};

/// One end of two rings with a word in front of each message that says its number, and a
/// count of what was read, at which the writer looks only when the ring seems full.
pub struct CommitEnd {
    pub(super) memory: Shared,
    pub(super) layout: Layout,
    pub(super) out: Progress,
    pub(super) back: Progress,
}

impl CommitEnd {
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: callers pass the offsets of the count and of the words in front of the
        // messages, which are only used so.
        unsafe { self.memory.word(at) }
    }
}

impl Side for CommitEnd {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        assert!(message.len() == self.layout.size);
        let Progress { base, done, mut seen } = self.out;
        if done - seen == self.layout.frames {
            poll(|| {
                seen = self.word(base + READ).load(Ordering::Acquire);
                done - seen < self.layout.frames
            })?;
            self.out.seen = seen;
        }
        let at = base + self.layout.at(done);
        // SAFETY: in bounds, as the length is right. The reader is done with this frame.
        unsafe { self.memory.write(at + WORD, message) };
        self.out.done = done + 1;
        self.word(at).store(done + 1, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        assert!(buffer.len() == self.layout.size);
        let Progress { base, done, .. } = self.back;
        let at = base + self.layout.at(done);
        poll(|| self.word(at).load(Ordering::Acquire) == done + 1)?;
        // SAFETY: in bounds, as the length is right. The writer is done with this frame.
        unsafe { self.memory.read(at + WORD, buffer) };
        self.back.done = done + 1;
        self.word(base + READ).store(done + 1, Ordering::Release);
        Ok(())
    }
}
