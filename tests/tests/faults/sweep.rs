use std::collections::BTreeMap;

use nix::errno::Errno;
use shm_tests::{
    Place, amount,
    inject::{Call, ERRORS, Left, Round, Subject},
    peer, peer_command,
};

/// What became of the failures of one operation.
#[derive(Default)]
struct Tally {
    calls: usize,
    injected: u64,
    absorbed: u64,
    errors: BTreeMap<String, u64>,
    bad: Vec<String>,
}

/// Each with a process that has done it before, or with a new one for each failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Process {
    Used,
    New,
}

fn errors_of(call: usize) -> Vec<Errno> {
    match amount("SHM_TEST_FAULTS", 2) as usize {
        0 => ERRORS.to_vec(),
        count => (0..count).map(|n| ERRORS[(call * count + n) % ERRORS.len()]).collect(),
    }
}

/// What no operation leaves more of.
const ANYTHING: Left = Left {
    descriptors: u64::MAX / 2,
    mappings: u64::MAX / 2,
    names: u64::MAX / 2,
    threads: u64::MAX / 2,
};

/// The thread that the first link of a process starts.
const WATCH: Left = Left { descriptors: 1, mappings: 0, names: 0, threads: 1 };

fn sweep(name: &str, process: Process) -> Tally {
    let place = Place::in_memory();
    let directory = place.file("");
    let start = || {
        let mut subject = Subject::start(&mut peer_command!("inject", name, &directory));
        if process == Process::Used {
            let first = subject.round(None);
            assert_eq!(first.outcome.as_deref(), Ok("ok"), "{name}");
            subject.settle(ANYTHING).unwrap();
        }
        subject
    };
    let mut subject = start();
    let sound = subject.round(None);
    assert_eq!(sound.outcome.as_deref(), Ok("ok"), "{name}");
    // What stays for the life of a process, and the files that the operation is there to make.
    let kept = if process == Process::Used { Left::default() } else { WATCH };
    let usual = subject.settle(Left { names: ANYTHING.names, ..kept }).unwrap();
    assert!(Left { names: 0, ..usual }.is_within(kept), "{name}: {usual:?}");
    let usual = Left { names: usual.names, ..kept };

    let mut tally = Tally { calls: sound.calls.len(), ..Tally::default() };
    // How often it sleeps is not the same each time.
    for call in 0..sound.calls.len() + 1 {
        for errno in errors_of(call) {
            if sound.calls.get(call).is_some_and(|call| call.is_beyond(errno)) {
                continue;
            }
            if process == Process::New {
                subject = start();
            }
            let round = subject.round(Some((call, errno)));
            let Some(failed) = round.failed else {
                if round.outcome.as_deref() != Ok("ok") {
                    tally.bad.push(format!("{name} without a failure: {:?}", round.outcome));
                }
                let _ = subject.settle(ANYTHING);
                continue;
            };
            tally.injected += 1;
            let most = usual.plus(failed.leaves());
            if let Err(bad) = judge(&mut subject, &round, failed, errno, most, &mut tally) {
                tally.bad.push(format!("{name}: call {call}, {failed}, {errno:?}: {bad}"));
                subject = start();
            }
        }
    }
    tally
}

fn judge(
    subject: &mut Subject,
    round: &Round,
    failed: Call,
    errno: Errno,
    most: Left,
    tally: &mut Tally,
) -> Result<(), String> {
    match round.outcome.as_ref()?.strip_prefix("error ") {
        None => tally.absorbed += 1,
        Some(error) => {
            *tally.errors.entry(kind(error)).or_default() += 1;
            check_error(error, failed, errno)?;
        }
    }
    let left = subject.settle(most)?;
    if left.is_within(most) { Ok(()) } else { Err(format!("it left {left:?} and not {most:?}")) }
}

/// The names in an error: `Os(OutOfMemory`.
fn kind(error: &str) -> String {
    error.split([' ', '"']).next().unwrap_or_default().trim_end_matches(')').to_owned()
}

/// An error names what the system said, and nobody who is not at fault.
fn check_error(error: &str, failed: Call, errno: Errno) -> Result<(), String> {
    let (debug, text) = error.split_once(" | ").ok_or(error)?;
    let told = match errno {
        Errno::ENOSPC => debug.contains("OutOfSpace") && text.contains("free some space"),
        Errno::EMFILE => debug.contains("OutOfDescriptors") && text.contains("ulimit -n"),
        Errno::ENOMEM => debug.contains("OutOfMemory") && text.contains("free some"),
        errno => text.contains(&format!("(os error {})", errno as i32)),
    };
    if told || failed.may_be_told_as(errno, text) { Ok(()) } else { Err(error.to_owned()) }
}

fn run(operations: &[(String, Process)]) {
    let mut bad = Vec::new();
    let mut all = (0, 0);
    for (name, process) in operations {
        let tally = sweep(name, *process);
        let new = if *process == Process::New { ", the first of its process" } else { "" };
        println!(
            "{name}{new}: {} calls, {} failed, {} absorbed, errors {:?}, {} bad",
            tally.calls,
            tally.injected,
            tally.absorbed,
            tally.errors,
            tally.bad.len()
        );
        all.0 += tally.calls;
        all.1 += tally.injected;
        bad.extend(tally.bad);
    }
    println!(
        "{} operations, {} calls, {} failures injected, {} bad",
        operations.len(),
        all.0,
        all.1,
        bad.len()
    );
    assert!(bad.is_empty(), "{bad:#?}");
}

fn group(name: &str) -> Vec<(String, Process)> {
    let mut names = peer!("inject", name);
    let mut operations = Vec::new();
    while let Some(name) = names.answer_within(shm_tests::WAIT) {
        operations.push((name, Process::Used));
    }
    assert!(operations.len() > 10);
    operations
}

#[test]
fn each_call_that_a_link_makes_may_fail() {
    run(&group("links"));
}

#[test]
fn each_call_that_a_host_or_guest_makes_may_fail() {
    run(&group("hubs"));
}

#[test]
fn each_call_that_a_fleet_or_lease_makes_may_fail() {
    run(&group("shared"));
}

/// What is done once in a process is done with them.
#[test]
fn each_call_of_the_first_operation_of_a_process_may_fail() {
    let operations = ["pair", "host create", "guest attach", "fleet create", "lease create"];
    run(&operations.map(|name| (name.to_owned(), Process::New)));
}
