use std::{
    cell::Cell,
    fs, panic,
    process::{self, Child, Command},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::process::{Signal as RawSignal, getpid, kill_process};

use crate::WAIT;

/// A helper process whose main thread is stepped. It is killed when this is dropped.
#[derive(Debug)]
pub struct Victim {
    child: Child,
    thread: Pid,
    /// It ended by itself, so its number may be another process's.
    gone: Cell<bool>,
}

/// What is called when a victim sleeps in a system call: whether somebody does something about
/// it. Without it nobody does, and it is waited for as long as it takes.
pub type Wake<'a> = Option<&'a mut dyn FnMut() -> bool>;

/// Why a stepped thread stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It has done its step.
    Trap,
    /// It stopped itself.
    End,
    /// It sleeps in a system call.
    Asleep,
}

/// In the victim: what comes next is the operation.
///
/// # Panics
///
/// If it cannot be traced.
pub fn begin() {
    // Instruction by instruction, a backtrace would take for ever.
    panic::set_hook(Box::new(|panic| {
        eprintln!("the victim: {panic}");
        process::abort();
    }));
    ptrace::traceme().expect("it can be traced");
    end();
}

/// In the victim: the operation is over. To be called by the main thread.
///
/// # Panics
///
/// If there are no signals.
#[inline(never)]
pub fn end() {
    // Few instructions, and the main thread takes the signal.
    kill_process(getpid(), RawSignal::STOP).expect("a signal");
}

impl Victim {
    /// Starts a victim. It is traced, and can be killed, by this thread.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start(command: &mut Command) -> Self {
        Self::adopt(command.spawn().expect("the helper starts"))
    }

    /// Takes over a process that this thread has started.
    #[must_use]
    pub fn adopt(child: Child) -> Self {
        let thread = Pid::from_raw(child.id() as i32);
        Self { child, thread, gone: Cell::new(false) }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is about to begin.
    ///
    /// # Panics
    ///
    /// If it ends before.
    pub fn wait_for_begin(&self) {
        assert_eq!(self.wait(&mut None), Stop::End, "it begins");
    }

    /// Lets it run to its next marker.
    pub fn run_on(&self, wake: &mut Wake<'_>) -> Stop {
        ptrace::cont(self.thread, None).expect("it goes on");
        self.wait(wake)
    }

    /// Lets it do one instruction.
    pub(super) fn step(&self, wake: &mut Wake<'_>) -> Stop {
        ptrace::step(self.thread, None).expect("it can be stepped");
        self.wait(wake)
    }

    /// Lets it run to where its next system call begins, or to where the one that it is in
    /// ends.
    pub(super) fn to_call(&self, wake: &mut Wake<'_>) -> Stop {
        ptrace::syscall(self.thread, None).expect("it can be traced");
        self.wait(wake)
    }

    /// Whether its next instruction is a system call.
    pub(super) fn is_at_call(&self) -> bool {
        let registers = ptrace::getregs(self.thread).expect("registers");
        #[cfg(target_arch = "x86_64")]
        let (counter, call, mask) = (registers.rip, 0x050f, 0xffff);
        #[cfg(target_arch = "aarch64")]
        let (counter, call, mask) = (registers.pc, 0xd400_0001, 0xffff_ffff);
        let code = ptrace::read(self.thread, counter as ptrace::AddressType).expect("its code");
        code & mask == call
    }

    /// Waits until it stands still.
    fn wait(&self, wake: &mut Wake<'_>) -> Stop {
        let (mut begun, mut asleep) = (None, 0);
        for looks in 0u32.. {
            // Nobody is to be woken: its calls have deadlines of their own.
            let look = if wake.is_none() { WaitPidFlag::empty() } else { WaitPidFlag::WNOHANG };
            match waitpid(self.thread, Some(look)).expect("it can be waited for") {
                WaitStatus::StillAlive => {}
                WaitStatus::Stopped(_, Signal::SIGSTOP) => return Stop::End,
                WaitStatus::Stopped(_, Signal::SIGTRAP) => return Stop::Trap,
                WaitStatus::Stopped(_, signal) => panic!("the victim: {signal}"),
                other => {
                    self.gone.set(true);
                    panic!("the victim: {other:?}");
                }
            }
            if looks < 300 {
                thread::yield_now();
                continue;
            }
            // Not for a moment only.
            asleep = if self.is_asleep() { asleep + 1 } else { 0 };
            if asleep > 3 && wake.as_mut().is_some_and(|wake| !wake()) {
                return Stop::Asleep;
            }
            let begun: &Instant = begun.get_or_insert_with(Instant::now);
            assert!(begun.elapsed() < WAIT, "the victim hangs");
            thread::sleep(Duration::from_micros(50));
        }
        Stop::Trap
    }

    /// Whether it sleeps in a system call: without an end, as far as the kernel knows.
    fn is_asleep(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.thread)).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|state| state.trim_start().starts_with('S'))
    }

    /// Kills it where it is. What it held is gone when this returns.
    ///
    /// # Panics
    ///
    /// If it was gone already.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        let _ = self.child.wait();
        self.gone.set(true);
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if !self.gone.get() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
