//! System calls of a helper process that fail, one at a time: the helper runs an operation
//! between two marks, and its tracer (ptrace(2)) makes the k-th call between them fail.
//!
//! The call is not made: its number is replaced by one that there is not, and what that
//! returns by the error. Only `close` is made all the same, because Linux closes the
//! descriptor also when it reports an error.
//!
//! Only calls of the thread that runs the operation fail. For x86-64 alone.

mod call;
mod left;

pub use self::{call::Call, left::Left};

use std::{process::Command, time::Duration};

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
