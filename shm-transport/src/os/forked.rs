//! Which of a line of forked processes this is.
//!
//! A child that was forked finds its parent's values and not its mappings. What it drops must
//! not write where memory was, must not unmap what it has put there itself since, and must
//! not shut down what it shares with its parent. To ask costs one load, so also what a
//! message's way ends with can. A child that is made without the handlers of
//! `pthread_atfork` (a bare `clone`) is not told from its parent here.
#![allow(unsafe_code)]

use std::{
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

/// How many forks lie between the first process that asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The process that made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(u32);

impl Origin {
    /// This process.
    pub(crate) fn here() -> Self {
        static HANDLER: Once = Once::new();
        // SAFETY: the handler changes an atomic and nothing else, as the child of a process
        // with several threads may.
        HANDLER.call_once(|| unsafe {
            libc::pthread_atfork(None, None, Some(in_child));
        });
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
