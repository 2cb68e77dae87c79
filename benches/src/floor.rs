#![allow(unsafe_code)]

use std::{
    fs::File,
    io, ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};

/// The least that a round trip can cost: one buffer, shared by two processes, that holds
/// a commit word and the payload behind it. Each side writes every byte, then the word;
/// the other polls the word, then reads every byte.
#[derive(Debug)]
pub struct Floor {
    map: MmapRaw,
    payload: usize,
    turn: u64,
}

const WORD: usize = size_of::<u64>();

/// Where the number of hearings lies: behind the payload.
fn heard_at(payload: usize) -> usize {
    (WORD + payload).next_multiple_of(WORD)
}

impl Floor {
    /// Memory for payloads of up to `payload` bytes.
    pub fn create(payload: usize) -> io::Result<File> {
        let file = File::from(rustix::fs::memfd_create("floor", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.set_len((heard_at(payload) + WORD) as u64)?;
        Ok(file)
    }

    /// One side's view of the memory.
    pub fn map(file: &File, payload: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(heard_at(payload) + WORD).populate().map_raw(file)?;
        Ok(Self { map, payload, turn: 0 })
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the mapping is page-aligned and starts with the word, which is accessed
        // atomically only.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast()) }
    }

    /// Tells all who share the buffer a number.
    pub fn say(&self, number: u64) {
        self.word().store(number, Ordering::Release);
    }

    /// The number that was said last.
    pub fn said(&self) -> u64 {
        self.word().load(Ordering::Acquire)
    }

    /// Says that this process has heard the number.
    pub fn hear(&self) {
        self.heard_word().fetch_add(1, Ordering::Release);
    }

    /// How often any process has heard a number.
    pub fn heard(&self) -> u64 {
        self.heard_word().load(Ordering::Acquire)
    }

    fn heard_word(&self) -> &AtomicU64 {
        // SAFETY: the mapping ends with this word, aligned and accessed atomically only.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(heard_at(self.payload)).cast()) }
    }

    /// Writes `payload` and hands the buffer to the other side.
    #[inline]
    pub fn send(&mut self, payload: &[u8]) {
        assert!(payload.len() <= self.payload);
        // SAFETY: in bounds as just checked; it is this side's turn to write.
        unsafe {
            let to = self.map.as_mut_ptr().add(WORD);
            ptr::copy_nonoverlapping(payload.as_ptr(), to, payload.len());
        }
        self.turn += 1;
        self.word().store(self.turn, Ordering::Release);
    }

    /// Waits for the other side's turn to end and reads the payload.
    #[inline]
    pub fn receive(&mut self, payload: &mut [u8]) {
        assert!(payload.len() <= self.payload);
        self.turn += 1;
        while self.word().load(Ordering::Acquire) != self.turn {
            std::hint::spin_loop();
        }
        // SAFETY: in bounds as just checked; the other side is done writing.
        unsafe {
            let from = self.map.as_ptr().add(WORD);
            ptr::copy_nonoverlapping(from, payload.as_mut_ptr(), payload.len());
        }
    }
}
