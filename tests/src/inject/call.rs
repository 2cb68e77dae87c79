use std::fmt;

use nix::{errno::Errno, libc};

use super::Left;

const STARTS_THREAD: [i64; 3] = [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_clone3];

/// A system call that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub(super) number: u64,
    pub(super) arguments: [u64; 6],
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "call {}", self.number),
        }
    }
}

impl Call {
    pub(super) fn is(&self, number: i64) -> bool {
        self.number == number as u64
    }

    fn name(&self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| self.is(*number)).map(|(_, name)| *name)
    }

    /// Whether `errno` is left out for this call, because it cannot fail so and whoever makes
    /// it relies on that:
    ///
    /// - what never fails: asking for the process's own numbers, and for the time;
    /// - sleeping, which can only be interrupted;
    /// - what the allocator takes memory by (`brk`, `mremap`, private anonymous `mmap` that is
    ///   not a thread's stack): a Rust process that gets none ends;
    /// - where the standard library panics: what it draws the keys of its maps by
    ///   (`getrandom` with a flag), and what it hears of a process that it starts (`recvfrom`
    ///   of 8 bytes; ours are of 1);
    /// - waking one thread (`futex`), as the standard library's locks do and nothing of ours:
    ///   whoever is not woken waits for the lock for ever;
    /// - `EAGAIN` of `recvmsg`, which is an answer and no failure: nothing is there. To be
    ///   told so of what is there is to be told that the peer broke the protocol.
    #[must_use]
    pub fn is_beyond(&self, errno: Errno) -> bool {
        const NEVER_FAIL: [i64; 5] = [
            libc::SYS_clock_gettime,
            libc::SYS_getpid,
            libc::SYS_gettid,
            libc::SYS_getuid,
            libc::SYS_geteuid,
        ];
        let anonymous = (libc::MAP_ANONYMOUS | libc::MAP_PRIVATE) as u64;
        let flags = self.arguments[3];
        let is_allocator = self.is(libc::SYS_brk)
            || self.is(libc::SYS_mremap)
            || (self.is(libc::SYS_mmap)
                && flags & anonymous == anonymous
                && flags & libc::MAP_STACK as u64 == 0);
        let is_sleep = self.is(libc::SYS_clock_nanosleep) || self.is(libc::SYS_nanosleep);
        let is_answer = self.is(libc::SYS_recvmsg) && errno == Errno::EAGAIN;
        let is_library = (self.is(libc::SYS_getrandom) && self.arguments[2] != 0)
            || (self.is(libc::SYS_recvfrom) && self.arguments[2] == 8 && errno != Errno::EINTR);
        let operation = self.arguments[1] & !(libc::FUTEX_PRIVATE_FLAG as u64);
        let is_lock = self.is(libc::SYS_futex)
            && operation == libc::FUTEX_WAKE as u64
            && self.arguments[2] == 1;
        NEVER_FAIL.iter().any(|number| self.is(*number))
            || is_allocator
            || is_answer
            || is_library
            || is_lock
            || (is_sleep && errno != Errno::EINTR)
    }

    /// Whether an error that reads `text` is a true account of this failure, beside those
    /// that name the system's error.
    #[must_use]
    pub fn may_be_told_as(&self, errno: Errno, text: &str) -> bool {
        let any = |texts: &[&str]| texts.iter().any(|part| text.contains(part));
        let told = match errno {
            Errno::EAGAIN if self.is(libc::SYS_sendmsg) => any(&["no room now"]),
            // Of a lock: somebody else has it.
            Errno::EAGAIN if self.is(libc::SYS_fcntl) => {
                any(&["a living host", "somebody locks", "has joined as node"])
            }
            Errno::EPERM => any(&["this process may not", "run as different users"]),
            // The C library says so of a thread that cannot be started for lack of memory.
            Errno::ENOMEM if STARTS_THREAD.iter().any(|number| self.is(*number)) => {
                any(&["(os error 11)"])
            }
            _ => false,
        };
        // Memory cannot be sealed while a mapping that was not removed is there.
        told || (self.is(libc::SYS_munmap) && any(&["cannot seal"]))
    }

    /// What stays behind, by no fault of whoever made it, when this call is not made.
    #[must_use]
    pub fn leaves(&self) -> Left {
        let removes = [libc::SYS_unlink, libc::SYS_unlinkat, libc::SYS_rmdir];
        Left {
            mappings: u64::from(self.is(libc::SYS_munmap)),
            names: u64::from(removes.iter().any(|number| self.is(*number))),
            ..Left::default()
        }
    }
}

macro_rules! names {
    ($($call:ident => $name:literal),+ $(,)?) => {
        const NAMES: &[(i64, &str)] = &[$((libc::$call, $name)),+];
    };
}

names! {
    SYS_accept4 => "accept4",
    SYS_bind => "bind",
    SYS_brk => "brk",
    SYS_chmod => "chmod",
    SYS_clock_nanosleep => "clock_nanosleep",
    SYS_clone => "clone",
    SYS_clone3 => "clone3",
    SYS_close => "close",
    SYS_close_range => "close_range",
    SYS_connect => "connect",
    SYS_dup => "dup",
    SYS_epoll_create1 => "epoll_create1",
    SYS_epoll_ctl => "epoll_ctl",
    SYS_epoll_pwait => "epoll_pwait",
    SYS_epoll_pwait2 => "epoll_pwait2",
    SYS_epoll_wait => "epoll_wait",
    SYS_eventfd2 => "eventfd2",
    SYS_execve => "execve",
    SYS_fallocate => "fallocate",
    SYS_fchmod => "fchmod",
    SYS_fcntl => "fcntl",
    SYS_fdatasync => "fdatasync",
    SYS_fstat => "fstat",
    SYS_fstatfs => "fstatfs",
    SYS_fsync => "fsync",
    SYS_ftruncate => "ftruncate",
    SYS_futex => "futex",
    SYS_futex_waitv => "futex_waitv",
    SYS_getdents64 => "getdents64",
    SYS_geteuid => "geteuid",
    SYS_getpid => "getpid",
    SYS_getrandom => "getrandom",
    SYS_getsockname => "getsockname",
    SYS_getsockopt => "getsockopt",
    SYS_gettid => "gettid",
    SYS_getuid => "getuid",
    SYS_kill => "kill",
    SYS_link => "link",
    SYS_linkat => "linkat",
    SYS_listen => "listen",
    SYS_lseek => "lseek",
    SYS_lstat => "lstat",
    SYS_madvise => "madvise",
    SYS_membarrier => "membarrier",
    SYS_memfd_create => "memfd_create",
    SYS_mkdir => "mkdir",
    SYS_mkdirat => "mkdirat",
    SYS_mmap => "mmap",
    SYS_mprotect => "mprotect",
    SYS_munmap => "munmap",
    SYS_newfstatat => "newfstatat",
    SYS_open => "open",
    SYS_openat => "openat",
    SYS_pidfd_open => "pidfd_open",
    SYS_pidfd_send_signal => "pidfd_send_signal",
    SYS_pipe2 => "pipe2",
    SYS_poll => "poll",
    SYS_ppoll => "ppoll",
    SYS_prctl => "prctl",
    SYS_pread64 => "pread64",
    SYS_pwrite64 => "pwrite64",
    SYS_read => "read",
    SYS_readlinkat => "readlinkat",
    SYS_recvfrom => "recvfrom",
    SYS_recvmsg => "recvmsg",
    SYS_readlink => "readlink",
    SYS_rename => "rename",
    SYS_renameat2 => "renameat2",
    SYS_rmdir => "rmdir",
    SYS_rseq => "rseq",
    SYS_rt_sigaction => "rt_sigaction",
    SYS_rt_sigprocmask => "rt_sigprocmask",
    SYS_sched_yield => "sched_yield",
    SYS_sendmsg => "sendmsg",
    SYS_sendto => "sendto",
    SYS_set_robust_list => "set_robust_list",
    SYS_setsockopt => "setsockopt",
    SYS_shutdown => "shutdown",
    SYS_sigaltstack => "sigaltstack",
    SYS_socket => "socket",
    SYS_socketpair => "socketpair",
    SYS_stat => "stat",
    SYS_statx => "statx",
    SYS_sysinfo => "sysinfo",
    SYS_tgkill => "tgkill",
    SYS_uname => "uname",
    SYS_unlink => "unlink",
    SYS_unlinkat => "unlinkat",
    SYS_vfork => "vfork",
    SYS_wait4 => "wait4",
    SYS_waitid => "waitid",
    SYS_write => "write",
}
