//! System calls of a helper process that fail, one at a time: the helper runs an operation
//! between two marks, and its tracer (ptrace(2)) makes the k-th call between them fail.
//!
//! The call is not made: its number is replaced by one that there is not, and what that
//! returns by the error. Only `close` is made all the same, because Linux closes the
//! descriptor also when it reports an error.
//!
//! Only calls of the thread that runs the operation fail. For x86-64 alone.

use std::{fmt, process::Command, time::Duration};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace,
        signal::Signal,
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};

use crate::process::Peer;

/// The errors that are tried.
pub const ERRORS: [Errno; 6] =
    [Errno::ENOSPC, Errno::EMFILE, Errno::ENOMEM, Errno::EINTR, Errno::EPERM, Errno::EAGAIN];

/// What the helper calls before and after its operation, and nowhere else.
const MARK: u64 = libc::SYS_getppid as u64;

const STARTS_THREAD: [i64; 3] = [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_clone3];

/// A system call that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    number: u64,
    arguments: [u64; 6],
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
    fn is(&self, number: i64) -> bool {
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

/// What an operation left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Descriptors that are open.
    pub descriptors: u64,
    /// Mappings of shared memory.
    pub mappings: u64,
    /// Files and directories.
    pub names: u64,
    /// Threads that run.
    pub threads: u64,
}

impl Left {
    /// All of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors + other.descriptors,
            mappings: self.mappings + other.mappings,
            names: self.names + other.names,
            threads: self.threads + other.threads,
        }
    }

    /// What is more than before.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            descriptors: self.descriptors.saturating_sub(before.descriptors),
            mappings: self.mappings.saturating_sub(before.mappings),
            names: self.names.saturating_sub(before.names),
            threads: self.threads.saturating_sub(before.threads),
        }
    }

    /// Whether it is not more than `most`.
    #[must_use]
    pub fn is_within(self, most: Self) -> bool {
        self.since(most) == Self::default()
    }

    /// As a line of a command.
    #[must_use]
    pub fn line(self) -> String {
        format!("{} {} {} {}", self.descriptors, self.mappings, self.names, self.threads)
    }

    /// Of such a line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next()?;
        Some(Self { descriptors: next()?, mappings: next()?, names: next()?, threads: next()? })
    }
}

/// One run of an operation.
#[derive(Debug)]
pub struct Round {
    /// The calls that it made.
    pub calls: Vec<Call>,
    /// The one that failed, if it came so far.
    pub failed: Option<Call>,
    /// What the operation returned: `ok`, or `error ` with what it says. Otherwise how the
    /// process ended.
    pub outcome: Result<String, String>,
}

/// A helper process that runs an operation again and again.
#[derive(Debug)]
pub struct Subject {
    peer: Peer,
    pid: Pid,
}

impl Subject {
    /// Starts a helper that lets itself be traced. Only the calling thread can use it.
    pub fn start(command: &mut Command) -> Self {
        let peer = Peer::start(command);
        let pid = Pid::from_raw(peer.pid() as i32);
        Self { peer, pid }
    }

    /// Runs the operation once. `fault` says which of its calls fails, counted from 0, and how.
    ///
    /// # Panics
    ///
    /// If the kernel does not let it be traced.
    pub fn round(&mut self, fault: Option<(usize, Errno)>) -> Round {
        self.peer.tell("round");
        let mut round = Round { calls: Vec::new(), failed: None, outcome: Ok(String::new()) };
        let traced = self.begin().and_then(|()| self.trace(fault, &mut round));
        round.outcome = traced.and_then(|()| self.answer());
        round
    }

    /// Lets the helper look what the round left that may be no more than `most`. Returns
    /// what it left.
    ///
    /// # Errors
    ///
    /// How the process ended.
    pub fn settle(&mut self, most: Left) -> Result<Left, String> {
        self.peer.tell(&format!("settle {}", most.line()));
        let answer = self.answer()?;
        Left::parse(&answer).ok_or(answer)
    }

    /// Waits for the stop before the operation.
    fn begin(&mut self) -> Result<(), String> {
        loop {
            match self.next_stop()? {
                WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                    ptrace::setoptions(
                        self.pid,
                        ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL,
                    )
                    .expect("it is traced");
                    return Ok(());
                }
                WaitStatus::Stopped(_, signal) => self.go_on(Some(signal)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// From the first mark to the second one.
    fn trace(&mut self, fault: Option<(usize, Errno)>, round: &mut Round) -> Result<(), String> {
        let mut signal = None;
        let mut entering = false;
        let mut marks = 0;
        let mut failing = None;
        loop {
            ptrace::syscall(self.pid, signal.take()).expect("it can go on");
            match self.next_stop()? {
                WaitStatus::PtraceSyscall(_) => entering = !entering,
                WaitStatus::Stopped(_, other) => {
                    signal = Some(other);
                    continue;
                }
                other => panic!("{other:?}"),
            }
            if !entering {
                if let Some(errno) = failing.take() {
                    registers::set_result(self.pid, errno);
                }
                if marks == 2 {
                    self.go_on(None);
                    return Ok(());
                }
                continue;
            }
            let call = registers::call(self.pid);
            if call.number == MARK {
                marks += 1;
            } else if marks == 1 {
                if let Some((at, errno)) = fault
                    && at == round.calls.len()
                    && !call.is_beyond(errno)
                {
                    if !call.is(libc::SYS_close) {
                        registers::replace_call(self.pid);
                    }
                    failing = Some(errno);
                    round.failed = Some(call);
                }
                round.calls.push(call);
            }
        }
    }

    /// What the helper says next.
    fn answer(&mut self) -> Result<String, String> {
        loop {
            if let Some(line) = self.peer.answer_within(Duration::from_millis(2)) {
                return Ok(line);
            }
            if let Some(stop) = self.poll()? {
                match stop {
                    WaitStatus::Stopped(_, signal) => self.go_on(Some(signal)),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn go_on(&self, signal: Option<Signal>) {
        ptrace::cont(self.pid, signal).expect("it can go on");
    }

    fn next_stop(&mut self) -> Result<WaitStatus, String> {
        loop {
            // A process that ended stays for `Peer`, which waits for it.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
            let _ = waitid(Id::Pid(self.pid), flags);
            if let Some(stop) = self.poll()? {
                return Ok(stop);
            }
        }
    }

    /// Its stop if it has one, an error if it ended.
    fn poll(&mut self) -> Result<Option<WaitStatus>, String> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.pid), flags).expect("it can be waited for") {
            WaitStatus::StillAlive => Ok(None),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                Err(format!("it ended: {}", self.peer.wait()))
            }
            _ => Ok(Some(waitpid(self.pid, None).expect("it can be waited for"))),
        }
    }
}

mod registers {
    use nix::{errno::Errno, sys::ptrace, unistd::Pid};

    use super::Call;

    pub(super) fn call(pid: Pid) -> Call {
        let registers = ptrace::getregs(pid).expect("its registers");
        Call {
            number: registers.orig_rax,
            arguments: [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.r10,
                registers.r8,
                registers.r9,
            ],
        }
    }

    /// By one that there is not.
    pub(super) fn replace_call(pid: Pid) {
        let mut registers = ptrace::getregs(pid).expect("its registers");
        registers.orig_rax = u64::MAX;
        ptrace::setregs(pid, registers).expect("its registers");
    }

    pub(super) fn set_result(pid: Pid, errno: Errno) {
        let mut registers = ptrace::getregs(pid).expect("its registers");
        registers.rax = -i64::from(errno as i32) as u64;
        ptrace::setregs(pid, registers).expect("its registers");
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
    SYS_tgkill => "tgkill",
    SYS_uname => "uname",
    SYS_unlink => "unlink",
    SYS_unlinkat => "unlinkat",
    SYS_vfork => "vfork",
    SYS_wait4 => "wait4",
    SYS_waitid => "waitid",
    SYS_write => "write",
}
