//! Which of a line of forked processes this is.
//!
//! A forked child has its parent's handles and not their memory: using one would be a fault.
//! Languages that fork at will, as Python's `multiprocessing` does, are told so instead.

use std::sync::{
    Once,
    atomic::{AtomicU32, Ordering},
};

/// How many forks lie between the first process that asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Names this process among those that were forked from one another.
pub(crate) fn generation() -> u32 {
    static HANDLER: Once = Once::new();
    // SAFETY: the handler changes one atomic and nothing else, as the child of a process with
    // several threads may.
    HANDLER.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(in_child));
    });
    FORKS.load(Ordering::Relaxed)
}
