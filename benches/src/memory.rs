#![allow(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    os::fd::AsRawFd,
    ptr,
    sync::atomic::AtomicU64,
};

use memmap2::{MmapOptions, MmapRaw};

use crate::system::Error;

/// A distance at which two words never share a cache line, nor a pair of lines that the
/// processor fetches together.
pub const APART: usize = 128;

/// Bytes of a word.
pub const WORD: usize = size_of::<u64>();

/// Memory that both ends map: zeros at first, without a name.
pub struct Shared {
    map: MmapRaw,
    file: File,
}

impl Shared {
    pub fn create(len: usize) -> Result<Self, Error> {
        let file = File::from(rustix::fs::memfd_create("bench", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.set_len(len as u64)?;
        Self::map(file)
    }

    /// Maps what another process, or this one, has made.
    pub fn open(ticket: &str) -> Result<Self, Error> {
        Self::map(OpenOptions::new().read(true).write(true).open(ticket)?)
    }

    fn map(file: File) -> Result<Self, Error> {
        let len = usize::try_from(file.metadata()?.len())?;
        Ok(Self { map: MmapOptions::new().len(len).populate().map_raw(&file)?, file })
    }

    /// What another process needs to map it, while this one lives.
    pub fn ticket(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// The word at an offset.
    ///
    /// # Safety
    ///
    /// The offset is a multiple of 8 within the memory, and what lies there is used in no
    /// other way.
    #[inline]
    pub unsafe fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(WORD) && at + WORD <= self.map.len());
        // SAFETY: aligned, as the mapping is; in bounds and atomic only, as the caller says.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    /// Copies a message into the memory.
    ///
    /// # Safety
    ///
    /// It lies within the memory, and nobody else uses this part of it meanwhile.
    #[inline]
    pub unsafe fn write(&self, at: usize, message: &[u8]) {
        debug_assert!(at + message.len() <= self.map.len());
        // SAFETY: both are valid for the length, as the caller says.
        unsafe { copy(message.as_ptr(), self.map.as_mut_ptr().add(at), message.len()) }
    }

    /// Copies a message out of the memory.
    ///
    /// # Safety
    ///
    /// It lies within the memory, and nobody writes this part of it meanwhile.
    #[inline]
    pub unsafe fn read(&self, at: usize, message: &mut [u8]) {
        debug_assert!(at + message.len() <= self.map.len());
        // SAFETY: both are valid for the length, as the caller says.
        unsafe { copy(self.map.as_ptr().add(at), message.as_mut_ptr(), message.len()) }
    }
}

/// Copies a message. The smallest ones go without a call: two loads and two stores, which
/// overlap in the middle, do for any length from one to two units.
///
/// # Safety
///
/// As `ptr::copy_nonoverlapping`.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: each unit lies within the first `len` bytes.
    unsafe {
        match len {
            8..=16 => copy_ends::<u64>(from, to, len),
            17..=32 => copy_ends::<u128>(from, to, len),
            _ => ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

/// # Safety
///
/// As `ptr::copy_nonoverlapping`, and `len` is at least the size of the unit.
#[inline(always)]
unsafe fn copy_ends<Unit: Copy>(from: *const u8, to: *mut u8, len: usize) {
    let last = len - size_of::<Unit>();
    // SAFETY: both units lie within the first `len` bytes.
    unsafe {
        let (head, tail) =
            (from.cast::<Unit>().read_unaligned(), from.add(last).cast::<Unit>().read_unaligned());
        to.cast::<Unit>().write_unaligned(head);
        to.add(last).cast::<Unit>().write_unaligned(tail);
    }
}
