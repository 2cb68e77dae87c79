//! The one door to shared memory.

use crate::order::Order;

/// A position inside a segment, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The offset `bytes` from the start of the segment.
    #[inline(always)]
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The distance from the start of the segment, in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The offset `bytes` further on. It wraps instead of panicking; a wrapped offset
    /// lies outside every segment and is refused there.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// A region of atomic words and payload bytes that several processes share.
///
/// Words are little-endian and naturally aligned. A word is always accessed at one
/// size. Payload ranges are plain bytes: whoever writes one must know, from the
/// protocol, that no honest process reads it at the same time.
///
/// Offsets given to an implementation come from geometry that was checked before, so
/// they are always inside. An implementation over real memory checks them all the
/// same and panics on one that is not: a defect of this crate must not become a wild
/// access.
///
/// Methods know their caller, so that a checker can tell one load or store in the code from
/// another.
pub trait Memory: Clone {
    /// Size of the region in bytes.
    fn size(&self) -> u64;

    /// Loads a 32-bit word.
    #[track_caller]
    fn load32(&self, at: Offset, order: Order) -> u32;
    /// Stores a 32-bit word.
    #[track_caller]
    fn store32(&self, at: Offset, value: u32, order: Order);
    /// Adds to a 32-bit word, wrapping; returns what it was.
    #[track_caller]
    fn add32(&self, at: Offset, value: u32, order: Order) -> u32;

    /// Loads a 64-bit word.
    #[track_caller]
    fn load64(&self, at: Offset, order: Order) -> u64;
    /// Stores a 64-bit word.
    #[track_caller]
    fn store64(&self, at: Offset, value: u64, order: Order);
    /// Replaces a 64-bit word if it is `current`; returns whether it did. A failed
    /// exchange orders nothing.
    #[track_caller]
    fn exchange64(&self, at: Offset, current: u64, new: u64, order: Order) -> bool;

    /// Loads the 64-bit words at `at` and after it, and puts their bytes into `to`; of the
    /// last word only as many as there is room for.
    #[inline]
    #[track_caller]
    fn load_words(&self, at: Offset, to: &mut [u8], order: Order) {
        for (at, to) in words(at, to.chunks_mut(8)) {
            let word = self.load64(at, order).to_le_bytes();
            to.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
    }

    /// Stores bytes as 64-bit words at `at` and after it; the last is filled up with zeros.
    #[inline]
    #[track_caller]
    fn store_words(&self, at: Offset, from: &[u8], order: Order) {
        for (at, from) in words(at, from.chunks(8)) {
            self.store64(at, word(from), order);
        }
    }

    /// Copies payload bytes out of the region.
    #[track_caller]
    fn read(&self, at: Offset, to: &mut [u8]);
    /// Copies payload bytes into the region.
    #[track_caller]
    fn write(&self, at: Offset, from: &[u8]);

    /// A fence between this thread's accesses.
    #[track_caller]
    fn fence(&self, order: Order);

    /// The frequent half of an asymmetric fence: what stands before it is ordered
    /// against what stands after it, for every thread that runs
    /// [`fence_heavy`](Memory::fence_heavy).
    ///
    /// By default a full fence. A memory that can make the other side's processor
    /// fence (`membarrier` on Linux) needs nothing but a compiler fence here. The idea
    /// is that of C++ proposal P1202 and of Folly's asymmetric thread fences.
    #[inline(always)]
    fn fence_light(&self, order: Order) {
        self.fence(order);
    }

    /// The rare half of an asymmetric fence.
    #[inline(always)]
    fn fence_heavy(&self, order: Order) {
        self.fence(order);
    }

    /// Says that the cache line at `at` will be written soon. Costs nothing to ignore.
    #[inline(always)]
    fn prefetch_write(&self, _at: Offset) {}

    /// Tells the processor, or the model checker, that this is a waiting loop.
    fn relax(&self);
}

/// Each piece with the word that it lies in.
fn words<T>(at: Offset, pieces: impl Iterator<Item = T>) -> impl Iterator<Item = (Offset, T)> {
    (0u64..).map(move |n| at.plus(n.wrapping_mul(8))).zip(pieces)
}

/// Up to 8 bytes as a word.
#[inline(always)]
pub(crate) fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}
