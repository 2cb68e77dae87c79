//! Threads of this library's own: they take no signals.
//!
//! A signal to a process goes to any thread that does not block it. A program that waits for
//! signals in one thread (`sigwait`, `signalfd`) blocks them in its others, and knows nothing
//! of ours.
//!
//! Source: pthread_sigmask(3), signal(7).
#![allow(unsafe_code)]

use std::{io, mem::MaybeUninit, ptr, thread};

/// Starts a thread.
pub(crate) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // A thread inherits what its maker blocks.
    // SAFETY: the first call fills `all`, the second reads it and fills `before`, and neither
    // keeps a pointer.
    let blocked = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) == 0
    };
    let started = thread::Builder::new().name(name.into()).spawn(work);
    if blocked {
        // SAFETY: the call that succeeded above has filled `before`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    }
    started.map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc};

    use super::*;

    /// The signals that the calling thread blocks, one bit each.
    fn blocked() -> u64 {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap()
    }

    #[test]
    fn a_thread_of_ours_takes_no_signals_and_others_do_as_before() {
        let before = blocked();
        let (sender, receiver) = mpsc::channel();
        start("shm-test", move || sender.send(blocked()).unwrap()).unwrap();
        let ours = receiver.recv().unwrap();
        for signal in 1..=libc::SIGRTMAX() {
            // These two cannot be blocked, nor those that the C library keeps for itself.
            let exempt = [libc::SIGKILL, libc::SIGSTOP].contains(&signal)
                || (32..libc::SIGRTMIN()).contains(&signal);
            assert_eq!(ours >> (signal - 1) & 1 == 1, !exempt, "signal {signal}");
        }
        assert_eq!(blocked(), before);
    }
}
