//! What is fuzzed: parsers of what another process writes, and what must hold of whatever
//! they make of it. Each takes any bytes; `fuzz/` runs them under a fuzzer, and
//! `tests/fuzz_corpus.rs` with the inputs that it found.

mod fleet;
mod header;
mod hub;
mod lease;
mod pool;
mod ring;

pub use self::{fleet::fleet, header::header, hub::hub, lease::lease, pool::pool, ring::ring};

use shm_primitives::Mapped;

/// Memory on the heap that ends with its value.
struct Region {
    /// What [`Mapped`] points to; aligned to 16 bytes.
    _words: Box<[u128]>,
    mapped: Mapped,
}

impl Region {
    /// `size` bytes that begin with `content`; the rest is 0.
    fn new(size: usize, content: &[u8]) -> Self {
        let mut words = vec![0u128; size.div_ceil(16)].into_boxed_slice();
        let base: *mut u8 = words.as_mut_ptr().cast();
        let count = content.len().min(size);
        // SAFETY: at least `size` bytes are there, and nobody else knows of them.
        unsafe { base.copy_from_nonoverlapping(content.as_ptr(), count) };
        // SAFETY: aligned, readable and writable, and there as long as `words`, which is
        // never used as anything else from here on.
        let mapped = unsafe { Mapped::new(base, size) };
        Self { _words: words, mapped }
    }
}

/// Takes numbers off the front of an input; 0 when it is used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        first
    }
}
