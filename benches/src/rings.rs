#![allow(unsafe_code)]

use std::{
    fs::File,
    io, ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};

/// The least that any ring between two processes must do, by hand, for messages of one
/// size: to write every byte where there is room, to say so, to read every byte, to say
/// that too. In two ways: with an index for the whole ring, or with a commit word in each
/// frame.
#[derive(Debug)]
pub struct Ring {
    map: MmapRaw,
    way: Way,
    payload: usize,
    frame: usize,
    frames: u64,
    /// Frames written, or read, by this side.
    done: u64,
    /// What this side last saw of the other's count.
    seen: u64,
}

/// How the writer says that a frame is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a count in a line of its own.
    Index,
    /// By a word in front of the frame.
    CommitWord,
}

const WRITTEN: usize = 0;
const READ: usize = 128;
const FRAMES: usize = 256;
const WORD: usize = size_of::<u64>();
const LEAST: usize = 64 << 10;

impl Ring {
    fn sizes(payload: usize) -> (usize, u64) {
        let frame = WORD + payload.next_multiple_of(WORD);
        let frames = (LEAST / frame).max(4).next_power_of_two();
        (frame, frames as u64)
    }

    /// Memory for a ring of messages of `payload` bytes: 64 KiB, or four messages.
    pub fn create(payload: usize) -> io::Result<File> {
        let file = File::from(rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC)?);
        let (frame, frames) = Self::sizes(payload);
        file.set_len((FRAMES + frame * frames as usize) as u64)?;
        Ok(file)
    }

    /// One side's view of a ring that is empty.
    pub fn map(file: &File, payload: usize, way: Way) -> io::Result<Self> {
        let (frame, frames) = Self::sizes(payload);
        let len = FRAMES + frame * frames as usize;
        let map = MmapOptions::new().len(len).populate().map_raw(file)?;
        Ok(Self { map, way, payload, frame, frames, done: 0, seen: 0 })
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: all callers pass an aligned offset within the mapping, which is
        // page-aligned; these words are accessed atomically only.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    /// Where the next frame of this side stands.
    #[inline]
    fn at(&self) -> usize {
        FRAMES + (self.done & (self.frames - 1)) as usize * self.frame
    }

    /// Writes a message, waiting for room.
    #[inline]
    pub fn send(&mut self, payload: &[u8]) {
        assert!(payload.len() == self.payload);
        while self.done - self.seen == self.frames {
            self.seen = self.word(READ).load(Ordering::Acquire);
            std::hint::spin_loop();
        }
        let at = self.at();
        // SAFETY: within the mapping, and the reader is done with this frame.
        unsafe {
            let to = self.map.as_mut_ptr().add(at + WORD);
            ptr::copy_nonoverlapping(payload.as_ptr(), to, payload.len());
        }
        self.done += 1;
        match self.way {
            Way::Index => self.word(WRITTEN).store(self.done, Ordering::Release),
            Way::CommitWord => self.word(at).store(self.done, Ordering::Release),
        }
    }

    /// Reads a message, waiting for it.
    #[inline]
    pub fn receive(&mut self, payload: &mut [u8]) {
        assert!(payload.len() == self.payload);
        let at = self.at();
        self.done += 1;
        match self.way {
            Way::Index => {
                while self.seen < self.done {
                    self.seen = self.word(WRITTEN).load(Ordering::Acquire);
                    std::hint::spin_loop();
                }
            }
            Way::CommitWord => {
                while self.word(at).load(Ordering::Acquire) != self.done {
                    std::hint::spin_loop();
                }
            }
        }
        // SAFETY: within the mapping, and the writer is done with this frame.
        unsafe {
            let from = self.map.as_ptr().add(at + WORD);
            ptr::copy_nonoverlapping(from, payload.as_mut_ptr(), payload.len());
        }
        self.word(READ).store(self.done, Ordering::Release);
    }
}
