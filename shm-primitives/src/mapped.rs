//! The door to shared memory over real memory.
#![allow(unsafe_code)]
// The bounds check is the one place where this crate may panic: see `Memory`.

use alloc::vec;
use core::{
    ptr::{self, NonNull},
    slice,
    sync::atomic::{self, AtomicU32, AtomicU64, Ordering},
};

#[cfg(feature = "audit")]
use core::panic::Location;

#[cfg(feature = "audit")]
use crate::audit;
use crate::{
    memory::{self, Memory, Offset},
    order::Order,
};

/// Shared memory at an address of this process.
///
/// It does not own the memory: whoever makes one keeps the mapping alive.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    base: NonNull<u8>,
    size: u64,
    /// Makes all processors that run the other side fence, so that the light half of
    /// the asymmetric fence need not.
    heavy: Option<fn()>,
}

// SAFETY: a `Mapped` is an address and a size. Every access through it is an atomic
// operation or a raw copy whose exclusiveness the protocols guarantee between all
// threads and processes, not only between those of one process.
unsafe impl Send for Mapped {}
// SAFETY: as above; all methods take `&self` and keep no state.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// The region of `size` bytes at `base`.
    ///
    /// # Safety
    ///
    /// `base` is not null, aligned to 8 bytes, and points to `size` bytes of readable
    /// memory that stay mapped as long as this value or a copy of it is used; they are
    /// writable as well if anything is stored through it. Nobody holds a Rust
    /// reference to a byte of it while another thread or process writes that byte.
    #[must_use]
    pub const unsafe fn new(base: *mut u8, size: usize) -> Self {
        // SAFETY: the caller says that it is not null.
        let base = unsafe { NonNull::new_unchecked(base) };
        Self { base, size: size as u64, heavy: None }
    }

    /// Zeroed memory of `size` bytes, rounded up to 8, on the heap, for ever: for tests,
    /// benchmarks and examples.
    #[must_use]
    pub fn leaked(size: u64) -> Self {
        let words: &'static mut [u64] = vec![0u64; size.div_ceil(8) as usize].leak();
        let size = size_of_val(words);
        // SAFETY: aligned, writable, never freed, and the only reference to it ends here.
        unsafe { Self::new(words.as_mut_ptr().cast(), size) }
    }

    /// The same region, with an asymmetric fence: `heavy` makes every processor that
    /// runs a thread of the other side issue a full fence, and the other side's `heavy`
    /// does so for this side's.
    #[must_use]
    pub const fn with_asymmetric_fence(mut self, heavy: fn()) -> Self {
        self.heavy = Some(heavy);
        self
    }

    /// Whether it is [with an asymmetric fence](Self::with_asymmetric_fence).
    #[must_use]
    pub const fn has_asymmetric_fence(&self) -> bool {
        self.heavy.is_some()
    }

    /// The address of `len` bytes at `at`.
    ///
    /// # Panics
    ///
    /// If they are not all inside the region.
    #[inline(always)]
    #[must_use]
    pub fn address(&self, at: Offset, len: u64) -> *mut u8 {
        // `len` is mostly a constant: nothing is added up that could overflow.
        let inside = self.size.checked_sub(len).is_some_and(|last| at.bytes() <= last);
        assert!(inside, "offset outside the segment: a defect of shm-primitives");
        // SAFETY: `at + len <= size`, so the address stays within the region.
        unsafe { self.base.as_ptr().add(at.bytes() as usize) }
    }

    /// The 32-bit word at `at`, for what needs its address, such as a futex.
    ///
    /// # Panics
    ///
    /// If it is not inside the region or not aligned.
    #[inline(always)]
    #[must_use]
    pub fn word32(&self, at: Offset) -> &AtomicU32 {
        assert!(at.bytes().is_multiple_of(4), "misaligned word: a defect of shm-primitives");
        // SAFETY: in bounds (checked by `address`) and aligned, as `base` is and `at`
        // is; shared words are accessed atomically only, at one size.
        unsafe { AtomicU32::from_ptr(self.address(at, 4).cast()) }
    }

    #[inline(always)]
    fn word64(&self, at: Offset) -> &AtomicU64 {
        assert!(at.bytes().is_multiple_of(8), "misaligned word: a defect of shm-primitives");
        // SAFETY: as for `word32`.
        unsafe { AtomicU64::from_ptr(self.address(at, 8).cast()) }
    }
}

/// Words in which this process counts, and others may look: of its own memory, which no other
/// process writes.
///
/// Bounds are checked once, so that to count costs an addition. As with [`Mapped`], whoever made
/// that keeps the memory mapped. All is relaxed: a count advises, and orders nothing.
#[derive(Clone, Copy, Debug)]
pub struct Counters<const N: usize>(NonNull<[AtomicU64; N]>);

// SAFETY: an address of atomics, as for `Mapped`.
unsafe impl<const N: usize> Send for Counters<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for Counters<N> {}

impl<const N: usize> Counters<N> {
    #[inline(always)]
    fn word(&self, word: usize) -> Option<&AtomicU64> {
        // SAFETY: `Mapped::counters` checked that they lie inside memory that stays mapped; they
        // are accessed atomically only.
        unsafe { self.0.as_ref() }.get(word)
    }

    /// Adds to a word that one thread at a time adds to.
    #[inline(always)]
    pub fn add(&self, word: usize, more: u64) {
        if let Some(word) = self.word(word) {
            word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        }
    }

    /// Adds to a word that any thread of this process may add to.
    #[inline]
    pub fn add_from_anywhere(&self, word: usize, more: u64) {
        if let Some(word) = self.word(word) {
            word.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Changes a word.
    #[inline]
    pub fn set(&self, word: usize, value: u64) {
        if let Some(word) = self.word(word) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// A word, 0 if there is none such.
    #[inline]
    #[must_use]
    pub fn get(&self, word: usize) -> u64 {
        self.word(word).map_or(0, |word| word.load(Ordering::Relaxed))
    }
}

impl Mapped {
    /// The `N` words at `at`, to count in.
    ///
    /// # Panics
    ///
    /// If they are not all inside the region, or not aligned.
    #[must_use]
    pub fn counters<const N: usize>(&self, at: Offset) -> Counters<N> {
        assert!(at.bytes().is_multiple_of(8), "misaligned words: a defect of shm-primitives");
        let first = self.address(at, (N as u64).wrapping_mul(8));
        // SAFETY: `address` returns what lies inside the region, which is not at null.
        Counters(unsafe { NonNull::new_unchecked(first.cast()) })
    }
}

/// Of words in a row, bounds are checked once.
impl Mapped {
    #[inline(always)]
    fn words64(&self, at: Offset, bytes: usize) -> &[AtomicU64] {
        assert!(at.bytes().is_multiple_of(8), "misaligned words: a defect of shm-primitives");
        let count = bytes.div_ceil(8);
        let first = self.address(at, (count as u64).wrapping_mul(8));
        // SAFETY: in bounds (checked by `address`) and aligned; shared words are accessed
        // atomically only, at one size, and an atomic may change under a shared reference.
        unsafe { slice::from_raw_parts(first.cast(), count) }
    }
}

impl Memory for Mapped {
    #[inline(always)]
    fn size(&self) -> u64 {
        self.size
    }

    #[inline(always)]
    fn load32(&self, at: Offset, order: Order) -> u32 {
        #[cfg(feature = "audit")]
        audit::loaded(self.address(at, 4), 4, Location::caller());
        self.word32(at).load(order.ordering())
    }

    #[inline(always)]
    fn store32(&self, at: Offset, value: u32, order: Order) {
        self.word32(at).store(value, order.ordering());
    }

    #[inline(always)]
    fn add32(&self, at: Offset, value: u32, order: Order) -> u32 {
        self.word32(at).fetch_add(value, order.ordering())
    }

    #[inline(always)]
    fn load64(&self, at: Offset, order: Order) -> u64 {
        #[cfg(feature = "audit")]
        audit::loaded(self.address(at, 8), 8, Location::caller());
        self.word64(at).load(order.ordering())
    }

    #[inline(always)]
    fn store64(&self, at: Offset, value: u64, order: Order) {
        self.word64(at).store(value, order.ordering());
    }

    #[inline(always)]
    fn exchange64(&self, at: Offset, current: u64, new: u64, order: Order) -> bool {
        self.word64(at).compare_exchange(current, new, order.ordering(), Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    fn load_words(&self, at: Offset, to: &mut [u8], order: Order) {
        let words = self.words64(at, to.len());
        #[cfg(feature = "audit")]
        audit::loaded(words.as_ptr().cast(), size_of_val(words), Location::caller());
        let (whole, rest) = to.as_chunks_mut::<8>();
        for (to, word) in whole.iter_mut().zip(words) {
            *to = word.load(order.ordering()).to_le_bytes();
        }
        if let Some(word) = words.get(whole.len()) {
            let last = word.load(order.ordering()).to_le_bytes();
            rest.iter_mut().zip(last).for_each(|(to, from)| *to = from);
        }
    }

    #[inline]
    fn store_words(&self, at: Offset, from: &[u8], order: Order) {
        let words = self.words64(at, from.len());
        let (whole, rest) = from.as_chunks::<8>();
        for (word, from) in words.iter().zip(whole) {
            word.store(u64::from_le_bytes(*from), order.ordering());
        }
        if let Some(last) = words.get(whole.len()) {
            last.store(memory::word(rest), order.ordering());
        }
    }

    #[inline(always)]
    fn read(&self, at: Offset, to: &mut [u8]) {
        let from = self.address(at, to.len() as u64);
        #[cfg(feature = "audit")]
        audit::loaded(from, to.len(), Location::caller());
        // SAFETY: `from` is in bounds for `to.len()` bytes, and `to` is ordinary memory
        // of this process, which is not part of the region. An honest writer is done
        // with the bytes; a dishonest one of another process can only change the
        // values that are copied.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) }
    }

    #[inline(always)]
    fn write(&self, at: Offset, from: &[u8]) {
        let to = self.address(at, from.len() as u64);
        // SAFETY: `to` is in bounds for `from.len()` bytes, and the caller is the only
        // writer of the range by the protocol that it follows.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }

    #[inline(always)]
    fn fence(&self, order: Order) {
        atomic::fence(order.ordering());
    }

    #[inline(always)]
    fn fence_light(&self, order: Order) {
        if self.heavy.is_some() {
            atomic::compiler_fence(order.ordering());
        } else {
            atomic::fence(order.ordering());
        }
    }

    #[inline]
    fn fence_heavy(&self, order: Order) {
        atomic::fence(order.ordering());
        if let Some(heavy) = self.heavy {
            heavy();
        }
    }

    #[inline(always)]
    fn prefetch_write(&self, at: Offset) {
        let _line = self.address(at, 1);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch faults on no address and changes no value.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_ET0>(_line.cast());
        }
    }

    #[inline(always)]
    fn relax(&self) {
        core::hint::spin_loop();
    }
}
