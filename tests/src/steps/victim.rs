use std::{
    cell::Cell,
    fs,
    ops::Range,
    panic,
    process::{self, Child, Command},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
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

/// A system call in the code, and which bits of a word it is.
#[cfg(target_arch = "x86_64")]
const SYSTEM_CALL: (i64, i64) = (0x050f, 0xffff);
#[cfg(target_arch = "aarch64")]
const SYSTEM_CALL: (i64, i64) = (0xd400_0001, 0xffff_ffff);

/// A place in the code of a program or a library, whatever address that has in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    name: String,
    offset: u64,
}

/// Where the code of a process is.
#[derive(Debug)]
pub(super) struct Code(Vec<(Range<u64>, Spot)>);

impl Code {
    /// What is at an address.
    pub(super) fn spot(&self, address: u64) -> Option<Spot> {
        let (range, spot) = self.0.iter().find(|(range, _)| range.contains(&address))?;
        Some(Spot { name: spot.name.clone(), offset: address - range.start + spot.offset })
    }

    /// Where something is.
    pub(super) fn address(&self, spot: &Spot) -> Option<u64> {
        self.0.iter().find_map(|(range, begin)| {
            let address = range.start + spot.offset.checked_sub(begin.offset)?;
            (begin.name == spot.name && range.contains(&address)).then_some(address)
        })
    }
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

    /// Where its next instruction is, and whether that is a system call.
    pub(super) fn next_instruction(&self) -> (u64, bool) {
        let (address, call, mask) = (self.address(), SYSTEM_CALL.0, SYSTEM_CALL.1);
        let code = ptrace::read(self.thread, address as ptrace::AddressType).expect("its code");
        (address, code & mask == call)
    }

    /// Where its next instruction is.
    fn address(&self) -> u64 {
        let registers = ptrace::getregs(self.thread).expect("registers");
        #[cfg(target_arch = "x86_64")]
        let address = registers.rip;
        #[cfg(target_arch = "aarch64")]
        let address = registers.pc;
        address
    }

    /// Where its code is.
    pub(super) fn code(&self) -> Code {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.thread)).expect("its memory");
        let parse = |line: &str| {
            let mut words = line.split_whitespace();
            let (begin, end) = words.next()?.split_once('-')?;
            let is_code = words.next()?.contains('x');
            let number = |text| u64::from_str_radix(text, 16).ok();
            let (begin, end, offset) = (number(begin)?, number(end)?, number(words.next()?)?);
            let name = words.nth(2)?.to_owned();
            is_code.then_some((begin..end, Spot { name, offset }))
        };
        Code(maps.lines().filter_map(parse).collect())
    }

    /// Lets it run until it comes to an instruction, or to where a system call begins, and
    /// whether it came to the instruction. `None` if the processor cannot do that.
    pub(super) fn to_address(&self, address: u64, wake: &mut Wake<'_>) -> Option<(Stop, bool)> {
        self.set_breakpoint(Some(address))?;
        let stop = self.to_call(wake);
        let came = stop == Stop::Trap && self.address() == address;
        self.set_breakpoint(None)?;
        Some((stop, came))
    }

    /// Has this thread, and no other, stop before an instruction, by its debug registers.
    #[cfg(target_arch = "x86_64")]
    fn set_breakpoint(&self, address: Option<u64>) -> Option<()> {
        let register = |number: usize, value: u64| {
            let at = std::mem::offset_of!(libc::user, u_debugreg) + 8 * number;
            ptrace::write_user(self.thread, at as ptrace::AddressType, value as i64).ok()
        };
        match address {
            Some(address) => register(0, address).and_then(|()| register(7, 1)),
            None => register(7, 0),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn set_breakpoint(&self, _: Option<u64>) -> Option<()> {
        None
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
