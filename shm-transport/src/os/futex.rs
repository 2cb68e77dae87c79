//! Waiting on words. Source: futex(2), and the kernel's futex2 documentation for
//! `futex_waitv`.

use std::{sync::atomic::AtomicU32, time::Duration};

use rustix::{
    io::Errno,
    thread::{
        ClockId,
        futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags},
    },
    time::{Timespec, clock_gettime},
};

/// A kernel without `futex_waitv` (before 5.16) waits on the bell alone, in slices of
/// this length, and looks at the private word between them.
const SLICE: Duration = Duration::from_millis(5);

/// Sleeps until `shared` no longer is `shared_value`, `private` no longer is
/// `private_value`, somebody wakes one of the two, or `timeout` is over. May return
/// earlier: the caller checks again.
pub(crate) fn wait_either(
    (shared, shared_value): (&AtomicU32, u32),
    (private, private_value): (&AtomicU32, u32),
    timeout: Option<Duration>,
) {
    let wait = |word: &AtomicU32, value: u32, flags| {
        let mut wait = Wait::new();
        wait.val = value.into();
        wait.uaddr = WaitPtr::new(word.as_ptr().cast());
        wait.flags = flags;
        wait
    };
    let waits = [
        wait(shared, shared_value, WaitFlags::SIZE_U32),
        wait(private, private_value, WaitFlags::SIZE_U32 | WaitFlags::PRIVATE),
    ];
    let end = timeout.and_then(|timeout| {
        let now = clock_gettime(ClockId::Monotonic);
        now.checked_add(Timespec::try_from(timeout).ok()?)
    });
    let waited = futex::waitv(&waits, WaitvFlags::empty(), end.as_ref(), ClockId::Monotonic);
    // Woken, changed before the sleep, interrupted, timed out: all the same here.
    if let Err(Errno::NOSYS | Errno::PERM) = waited {
        let slice = timeout.map_or(SLICE, |timeout| timeout.min(SLICE));
        let slice = Timespec::try_from(slice).ok();
        let _ = futex::wait(shared, Flags::empty(), shared_value, slice.as_ref());
    }
}

/// Wakes whoever sleeps on a word that processes share.
pub(crate) fn wake_shared(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}

/// Wakes whoever sleeps on a word of this process.
pub(crate) fn wake_private(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::PRIVATE, i32::MAX as u32);
}
