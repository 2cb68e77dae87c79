#![allow(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd,
    path::Path,
    sync::atomic::{AtomicU32, AtomicU64},
};

use memmap2::{MmapOptions, MmapRaw};

/// Words that the processes of a benchmark share, each in cache lines of its own.
#[derive(Debug)]
pub struct Words {
    map: MmapRaw,
    file: File,
}

const COUNT: usize = 32;
/// Processors fetch lines in pairs.
const APART: usize = 128;

impl Words {
    /// New words, all 0.
    pub fn create() -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("words", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.set_len((COUNT * APART) as u64)?;
        Self::map(file)
    }

    /// The words that another process made.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::map(OpenOptions::new().read(true).write(true).open(path)?)
    }

    fn map(file: File) -> io::Result<Self> {
        let map = MmapOptions::new().len(COUNT * APART).populate().map_raw(&file)?;
        Ok(Self { map, file })
    }

    /// Where others open them.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// One of the words.
    pub fn word(&self, number: usize) -> &AtomicU64 {
        assert!(number < COUNT);
        // SAFETY: within the mapping, which is page-aligned, as just checked; whoever uses
        // this word uses it atomically.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(number * APART).cast()) }
    }

    /// The futex beside a word, in the line behind it.
    pub fn futex(&self, number: usize) -> &AtomicU32 {
        assert!(number < COUNT);
        let at = number * APART + APART / 2;
        // SAFETY: as for `word`: the second half of that place, which nothing else uses.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }
}
