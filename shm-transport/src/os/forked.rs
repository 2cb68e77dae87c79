//! Which of a line of forked processes this is.
//!
//! A child that was forked finds its parent's values and not its mappings. What it drops must
//! not write where memory was, must not unmap what it has put there itself since, and must
//! not shut down what it shares with its parent. To ask costs one load, so also what a
//! message's way ends with can. And what must not be half done in a child is done while
//! nobody [forks](none_forked). A child that is made without the handlers of
//! `pthread_atfork` (a bare `clone`) is not told from its parent here.
#![allow(unsafe_code)]

use std::{
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

/// How many forks lie between the first process that asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// How many threads must not be forked from just now, and whether one forks.
static HELD: AtomicU32 = AtomicU32::new(0);
const FORKING: u32 = 1 << 31;

extern "C" fn before_fork() {
    // Another thread may fork as well. Acquire and Release make a lock of it.
    while HELD.fetch_or(FORKING, Ordering::Acquire) & FORKING != 0 {
        thread::yield_now();
    }
    while HELD.load(Ordering::Acquire) != FORKING {
        thread::yield_now();
    }
}

extern "C" fn after_fork() {
    HELD.fetch_and(!FORKING, Ordering::Release);
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    after_fork();
}

fn register() {
    static HANDLERS: Once = Once::new();
    // SAFETY: in the child the handlers change atomics and nothing else, as the child of a
    // process with several threads may.
    HANDLERS.call_once(|| unsafe {
        libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child));
    });
}

/// While it lives, no thread of this process forks: between the two calls that make a mapping
/// and keep it from children. It is held for those two only.
#[derive(Debug)]
pub(crate) struct NoneForked(());

/// Waits until nobody forks, and keeps it so.
pub(crate) fn none_forked() -> NoneForked {
    register();
    let hold = |held: u32| (held & FORKING == 0).then(|| held.wrapping_add(1));
    while HELD.fetch_update(Ordering::Acquire, Ordering::Relaxed, hold).is_err() {
        thread::yield_now();
    }
    NoneForked(())
}

impl Drop for NoneForked {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Release);
    }
}

/// The process that made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(u32);

impl Origin {
    /// This process.
    pub(crate) fn here() -> Self {
        register();
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether it is this process, and not one that was forked from it.
    #[inline(always)]
    pub(crate) fn is_here(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }
}

/// A mapping that a forked child does not get, and so does not unmap.
#[derive(Debug)]
pub(crate) struct NotForked<T> {
    value: ManuallyDrop<T>,
    origin: Origin,
}

impl<T> NotForked<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: ManuallyDrop::new(value), origin: Origin::here() }
    }
}

impl<T> Drop for NotForked<T> {
    fn drop(&mut self) {
        if self.origin.is_here() {
            // SAFETY: dropped here only, and never used again.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

impl<T> Deref for NotForked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for NotForked<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
