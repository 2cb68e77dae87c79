//! How many system calls messages take: none while both sides are awake. Each process is
//! traced with all of its threads; see ptrace(2).
//!
//! The auditor keeps its books by system calls, so there is none of this where it is built in.
#![cfg(not(feature = "audit"))]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use shm_tests::{Place, peer_command};

const MESSAGES: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
/// What a process calls before and after what counts.
const MARK: i64 = libc::SYS_getppid;

/// The tests would take the processors from one another.
static PROCESSORS: Mutex<()> = Mutex::new(());

/// Runs processes to their ends. Returns the numbers of the system calls that each made
/// between its marks.
#[expect(clippy::zombie_processes, reason = "the tracer waits for all of them")]
fn calls_between_marks<const N: usize>(commands: [Command; N]) -> [Vec<i64>; N] {
    let _alone = PROCESSORS.lock().unwrap_or_else(PoisonError::into_inner);
    let processes = commands.map(|mut command| {
        let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
        // Only this thread can be its tracer; if it panics, the kernel kills the process.
        let main = Pid::from_raw(process.id() as i32);
        ptrace::attach(main).unwrap();
        assert!(matches!(waitpid(main, None), Ok(WaitStatus::Stopped(..))));
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(main, options).unwrap();
        ptrace::syscall(main, None).unwrap();
        process.stdin.take().unwrap().write_all(b"go\n").unwrap();
        main
    });
    let mut calls: BTreeMap<Pid, Vec<i64>> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    // Other threads' children are other tests'.
    let ours = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    while !processes.iter().all(|process| ended.contains(process)) {
        let (thread, signal) = match waitpid(None, Some(ours)).unwrap() {
            WaitStatus::PtraceSyscall(thread) => {
                if let Some(number) = begun_call(thread) {
                    calls.entry(process_of(thread)).or_default().push(number);
                }
                (thread, None)
            }
            WaitStatus::PtraceEvent(thread, ..) | WaitStatus::Stopped(thread, Signal::SIGSTOP) => {
                (thread, None)
            }
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            WaitStatus::Exited(thread, status) => {
                assert!(!processes.contains(&thread) || status == 0, "exit status {status}");
                ended.insert(thread);
                continue;
            }
            other => panic!("{other:?}"),
        };
        match ptrace::syscall(thread, signal) {
            // The end of its process has ended it, too.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("{error}"),
        }
    }
    processes.map(|process| {
        let calls = calls.remove(&process).unwrap();
        let parts: Vec<&[i64]> = calls.split(|&number| number == MARK).collect();
        assert_eq!(parts.len(), 3, "the two marks of a process");
        // Where the kernel does not let processes read the clock it is a system call.
        parts[1].iter().copied().filter(|&number| number != libc::SYS_clock_gettime).collect()
    })
}

/// The number of the system call that a thread stopped in; none if it is at its end.
fn begun_call(thread: Pid) -> Option<i64> {
    let info = ptrace::syscall_info(thread).unwrap();
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    let call = fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap();
    call.split_whitespace().next()?.parse().ok()
}

fn process_of(thread: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:")).unwrap();
    Pid::from_raw(line.trim().parse().unwrap())
}

/// Both sides of a link, which exchange messages of 64 bytes.
fn between_processes(way: &str, spin: Duration, work: Duration, count: u64) -> [Vec<i64>; 2] {
    let place = Place::new();
    let [spin, work, count] =
        [spin.as_nanos() as u64, work.as_nanos() as u64, count].map(|number| number.to_string());
    calls_between_marks(
        ["host", "guest"]
            .map(|role| peer_command!("messages", place.hub(), role, way, &spin, &work, &count)),
    )
}

fn say(what: &str, messages: u64, calls: &[Vec<i64>]) {
    let all: usize = calls.iter().map(Vec::len).sum();
    let per_million = all as f64 * 1e6 / messages as f64;
    println!("{what}: system calls per million messages: {per_million}");
}

#[test]
fn messages_within_a_process_take_no_system_call() {
    let calls = calls_between_marks([peer_command!("messages", MESSAGES.to_string())]);
    say("in one process", MESSAGES, &calls);
    assert_eq!(calls, [vec![]]);
}

/// Neither side sleeps, however long it waits.
#[test]
fn messages_between_processes_that_are_awake_take_no_system_call() {
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() < 2) {
        println!("skipped: two processes that do not sleep need two processors");
        return;
    }
    let never = Duration::from_secs(3600);
    for (way, messages) in [("one-way", MESSAGES), ("in-turn", 2 * MESSAGES)] {
        let calls = between_processes(way, never, Duration::ZERO, MESSAGES);
        say(way, messages, &calls);
        assert_eq!(calls, [vec![], vec![]], "{way}");
    }
}

/// Tasks leave each other their turns, after 128 operations and while they poll. Then the runtime
/// looks at its descriptors, which is its system call. There is no other, and nobody is woken.
#[test]
fn messages_between_tasks_that_are_awake_take_no_system_call_of_their_own() {
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() < 2) {
        println!("skipped: two processes that do not sleep need two processors");
        return;
    }
    let place = Place::new();
    let round_trips = MESSAGES / 2;
    let calls = calls_between_marks(["host", "guest"].map(|role| {
        peer_command!("messages-in-a-task", place.hub(), role, &round_trips.to_string())
    }));
    say("between tasks", 2 * round_trips, &calls);
    for (calls, role) in calls.iter().zip(["host", "guest"]) {
        let others = calls.iter().filter(|&&call| call != libc::SYS_epoll_wait).count();
        assert_eq!(others, 0, "of {} calls", calls.len());
        // How often the task gave others their turn.
        let turns = fs::read_to_string(format!("{}.{role}", place.hub().display())).unwrap();
        let turns: u64 = turns.parse().unwrap();
        println!("{role}: {turns} turns of others, {} system calls", calls.len());
        assert!(calls.len() as u64 <= turns + 2, "{} calls, {turns} turns", calls.len());
    }
}

/// Both on one processor, which each lets the other have. Neither sleeps, and nobody is woken.
#[test]
fn messages_between_processes_that_yield_take_no_other_system_call() {
    let round_trips = MESSAGES / 100;
    let never = Duration::from_secs(3600);
    let calls = between_processes("yielding", never, Duration::ZERO, round_trips);
    say("yielding", 2 * round_trips, &calls);
    for calls in calls {
        assert!(calls.len() as u64 >= round_trips / 2, "{} calls", calls.len());
        assert!(calls.iter().all(|&call| call == libc::SYS_sched_yield), "{calls:?}");
    }
}

/// With work of 5 µs before each message and the default limit of spinning. When the machine
/// is busy with other things, one side is not running for longer than that limit and the other
/// one sleeps; the tracer, too, takes its time on one of the processors. So the count is
/// printed, and that all messages arrive is tested.
#[test]
fn messages_with_work_between_them_arrive() {
    let spin = shm_transport::LinkConfig::default().spin;
    let round_trips = MESSAGES / 20;
    let calls = between_processes("in-turn", spin, Duration::from_micros(5), round_trips);
    say("in turn, with 5 µs of work", 2 * round_trips, &calls);
}

/// The method finds the system calls that there are.
#[test]
fn processes_that_do_not_spin_take_system_calls() {
    let calls = between_processes("in-turn", Duration::ZERO, Duration::from_micros(50), 1000);
    say("in turn, without spinning", 2000, &calls);
    assert!(calls.iter().all(|calls| calls.contains(&libc::SYS_futex)), "{calls:?}");
}
