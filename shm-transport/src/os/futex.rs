//! Waiting on words. Source: futex(2), and the kernel's futex2 documentation for
//! `futex_waitv`.

use std::{sync::atomic::AtomicU32, thread, time::Duration};

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

/// The most words that one call waits on (`FUTEX_WAITV_MAX`).
const MAX_WORDS: usize = 128;

/// A word to sleep on while it has the value that it was seen to have.
pub(crate) enum Word<'a> {
    /// Of memory that processes share.
    Shared(&'a AtomicU32, u32),
    /// Of this process alone.
    Private(&'a AtomicU32, u32),
}

impl Word<'_> {
    fn wait(&self) -> Wait {
        let (word, value, flags) = match *self {
            Self::Shared(word, value) => (word, value, WaitFlags::SIZE_U32),
            Self::Private(word, value) => (word, value, WaitFlags::SIZE_U32 | WaitFlags::PRIVATE),
        };
        let mut wait = Wait::new();
        wait.val = value.into();
        wait.uaddr = WaitPtr::new(word.as_ptr().cast());
        wait.flags = flags;
        wait
    }
}

/// Sleeps until one of the words has changed, somebody wakes one, or `timeout` is over. May
/// return earlier, and does so every few milliseconds when there are more words than the
/// kernel waits on at once: the caller checks again.
pub(crate) fn wait_any(words: &[Word<'_>], timeout: Option<Duration>) {
    let waits: Vec<Wait> = words.iter().take(MAX_WORDS).map(Word::wait).collect();
    let slice = timeout.map_or(SLICE, |timeout| timeout.min(SLICE));
    let all = waits.len() == words.len();
    if let Err(Errno::NOSYS | Errno::PERM) = waitv(&waits, if all { timeout } else { Some(slice) })
    {
        thread::sleep(slice);
    }
}

fn waitv(waits: &[Wait], timeout: Option<Duration>) -> Result<(), Errno> {
    let end = timeout.and_then(|timeout| {
        let now = clock_gettime(ClockId::Monotonic);
        now.checked_add(Timespec::try_from(timeout).ok()?)
    });
    futex::waitv(waits, WaitvFlags::empty(), end.as_ref(), ClockId::Monotonic).map(drop)
}

/// Sleeps until `shared` no longer is `shared_value`, `private` no longer is
/// `private_value`, somebody wakes one of the two, or `timeout` is over. May return
/// earlier: the caller checks again.
pub(crate) fn wait_either(
    (shared, shared_value): (&AtomicU32, u32),
    (private, private_value): (&AtomicU32, u32),
    timeout: Option<Duration>,
) {
    let waits =
        [Word::Shared(shared, shared_value).wait(), Word::Private(private, private_value).wait()];
    // Woken, changed before the sleep, interrupted, timed out: all the same here.
    if let Err(Errno::NOSYS | Errno::PERM) = waitv(&waits, timeout) {
        let slice = timeout.map_or(SLICE, |timeout| timeout.min(SLICE));
        let slice = Timespec::try_from(slice).ok();
        let _ = futex::wait(shared, Flags::empty(), shared_value, slice.as_ref());
    }
}

/// Sleeps until `word` no longer is `value`, somebody wakes it, or `timeout` is over.
pub(crate) fn wait_private((word, value): (&AtomicU32, u32), timeout: Duration) {
    let timeout = Timespec::try_from(timeout).ok();
    let _ = futex::wait(word, Flags::PRIVATE, value, timeout.as_ref());
}

/// Wakes whoever sleeps on a word that processes share.
pub(crate) fn wake_shared(word: &AtomicU32) {
    wake(word, Flags::empty());
}

/// Wakes whoever sleeps on a word of this process.
pub(crate) fn wake_private(word: &AtomicU32) {
    wake(word, Flags::PRIVATE);
}

/// The kernel knows no reason to refuse. Should it all the same, it is asked again: whoever
/// is not woken sleeps until its deadline.
fn wake(word: &AtomicU32, flags: Flags) {
    const ATTEMPTS: usize = 3;
    let _ = (0..ATTEMPTS).find(|_| futex::wake(word, flags, i32::MAX as u32).is_ok());
}
