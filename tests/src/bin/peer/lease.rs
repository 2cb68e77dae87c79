//! A process that leases data files and does what it is told.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::Signal, wait::waitpid},
    unistd::{ForkResult, Uid, fork, setuid},
};
use shm_tests::{WAIT, counts::holdings, monotonic};
use shm_transport::{
    Lease, LeaseError, LeasePolicy,
    lease::{BeatError, Reader, ReaderError},
};

use crate::{command, number, say};

/// Obeys commands about one data file.
pub(crate) fn run(path: &str) {
    let mut lease = None;
    let mut readers: Vec<Reader> = Vec::new();
    while let Some(line) = command() {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match (words.as_slice(), lease.as_mut()) {
            (["open"], _) => keep(&mut lease, Lease::open(path)),
            (["open-on"], _) => {
                keep(&mut lease, Lease::builder().policy(LeasePolicy::On).open(path))
            }
            // At a time of the clock that all processes share.
            (["open-at", nanoseconds], _) => {
                let left = number(nanoseconds).saturating_sub(monotonic());
                thread::sleep(Duration::from_nanos(left));
                keep(&mut lease, Lease::open(path))
            }
            (["wait", milliseconds], Some(held)) => {
                match held.wait_for_ownership(Duration::from_millis(number(milliseconds))) {
                    Ok(_) => describe(held),
                    Err(error) => format!("error {error:?}"),
                }
            }
            (["beat"], Some(lease)) => format!("{:?}", lease.beat()),
            (["attach", position], Some(lease)) => match lease.attach_reader(number(position)) {
                Ok(reader) => {
                    readers.push(reader);
                    format!("attached {}", readers.len())
                }
                Err(error) => format!("error {error:?}"),
            },
            (["readers"], Some(lease)) => {
                format!("{:?} {:?}", lease.reader_count(), lease.oldest_pin())
            }
            (["detach"], _) => {
                readers.clear();
                "detached".into()
            }
            (["drop"], _) => {
                lease = None;
                "dropped".into()
            }
            // A child that is the first process of another namespace, too.
            (["fork-inside"], Some(_)) => match unshare(CloneFlags::CLONE_NEWPID) {
                Ok(()) => fork_with(lease.take(), &mut readers),
                Err(error) => format!("error {error:?}"),
            },
            (["fork"], Some(_)) => fork_with(lease.take(), &mut readers),
            (["churn-readers"], Some(lease)) => churn_readers(lease),
            (["nobody"], _) => match setuid(Uid::from_raw(65534)) {
                Ok(()) => "nobody".into(),
                Err(error) => format!("error {error:?}"),
            },
            (["read"], _) => match Lease::read_header(path) {
                Ok(reading) => format!("{:?} {:?}", reading.ownership, reading.header),
                Err(error) => format!("error {error:?}"),
            },
            (["leak"], _) => leak(path),
            _ => format!("unknown command {line}"),
        };
        say(&answer);
    }
}

fn keep(place: &mut Option<Lease>, opened: Result<Lease, LeaseError>) -> String {
    match opened {
        Ok(lease) => describe(place.insert(lease)),
        Err(error) => format!("error {error:?}"),
    }
}

/// Such as `owner Created 17`.
fn describe(lease: &Lease) -> String {
    let role = if lease.is_owner() { "owner" } else { "guest" };
    let generation = lease.generation().map_or(0, |generation| generation.get());
    format!("{role} {:?} {generation}", lease.outcome())
}

/// A child that finds that it has nothing of its parent's lease, and lives on.
fn fork_with(lease: Option<Lease>, readers: &mut Vec<Reader>) -> String {
    // SAFETY: no other thread runs in this process.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let mut lease = lease.expect("a lease");
            assert!(matches!(lease.beat(), Err(BeatError::Forked)));
            assert!(matches!(lease.wait_for_ownership(WAIT), Err(LeaseError::Forked)));
            assert!(matches!(lease.attach_reader(0), Err(ReaderError::Forked)));
            assert!(matches!(lease.oldest_pin(), Err(ReaderError::Forked)));
            for reader in readers.iter_mut() {
                assert!(matches!(reader.pin(u64::MAX >> 4), Err(ReaderError::Forked)));
            }
            assert!(!lease.is_owner());
            readers.clear();
            drop(lease);
            say("the child has nothing");
            // Longer than the test, and not for ever if that fails.
            thread::sleep(WAIT);
            std::process::exit(0);
        }
        Ok(ForkResult::Parent { child }) => {
            // Held until the process ends, like what it was forked with.
            std::mem::forget((lease, std::mem::take(readers)));
            child.to_string()
        }
        Err(error) => format!("error {error:?}"),
    }
}

fn churn_readers(lease: &Lease) -> String {
    say("churning");
    for round in 0.. {
        let mut reader = match lease.attach_reader(1000 + round) {
            Ok(reader) => reader,
            Err(error) => return format!("error {error:?}"),
        };
        reader.pin(2000).expect("pinned");
        reader.pin(1500 + round % 1000).expect("pinned");
    }
    String::new()
}

fn leak(path: &str) -> String {
    let cycle = || {
        let mut lease = Lease::open(path).expect("a lease");
        let attached = Lease::open(path).expect("a second one");
        let mut reader = attached.attach_reader(7).expect("a reader");
        reader.pin(8).expect("pinned");
        lease.beat().expect("alive");
        drop(lease);
        Lease::open(path).expect("a third one").beat().expect("the owner");
    };
    cycle();
    let before = holdings();
    (0..200).for_each(|_| cycle());
    if holdings() == before { "ok".into() } else { format!("{before:?} {:?}", holdings()) }
}

/// Opens and gives up a lease for ever. Its ownerships are logged: whoever looks into the
/// log sees two owners at a time, or a generation that does not grow.
///
/// `careful` ends with the first error.
pub(crate) fn churn(path: &str, log: &str, careful: bool) {
    let log = OpenOptions::new().append(true).open(log).expect("a log");
    say("churning");
    for round in 0u64.. {
        match Lease::open(path) {
            Ok(lease) => own(lease, &log, round, careful),
            Err(error) => assert!(!careful, "{error:?}: {error}"),
        }
    }
}

fn own(mut lease: Lease, log: &File, round: u64, careful: bool) {
    let check = |error: &dyn std::fmt::Debug| assert!(!careful, "{error:?}");
    match lease.attach_reader(round) {
        Ok(mut reader) => reader.pin(round + 1).expect("pinned"),
        Err(error) => check(&error),
    }
    if !lease.is_owner() {
        if let Err(error) = lease.header() {
            // The owner may be any, and leave any time.
            assert!(!format!("{error}").is_empty());
        }
        match lease.wait_for_ownership(Duration::from_micros(300 * (round % 4))) {
            Ok(_) => {}
            Err(LeaseError::TimedOut) => return,
            Err(error) => return check(&error),
        }
    }
    let generation = lease.generation().expect("leases are on");
    note(log, &format!("begin {generation}\n"));
    for _ in 0..round % 4 {
        if let Err(error) = lease.beat() {
            check(&error);
        }
    }
    lease.oldest_pin().expect("an answer");
    note(log, &format!("end {generation}\n"));
}

/// One write: a death in between leaves no half of a line.
fn note(mut log: &File, line: &str) {
    log.write_all(line.as_bytes()).expect("logged");
}

/// Does this as the first process of a pid namespace of its own.
pub(crate) fn in_namespace(path: &str, what: impl FnOnce(&str)) {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWPID) {
        return say(&format!("no namespace: {error}"));
    }
    // SAFETY: no other thread runs in this process.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            // Kills the child when the test kills its parent.
            prctl::set_pdeathsig(Signal::SIGKILL).expect("a signal");
            say(&format!("inside {}", std::process::id()));
            what(path);
        }
        Ok(ForkResult::Parent { child }) => {
            let _ = waitpid(child, None);
        }
        Err(error) => say(&format!("no namespace: {error}")),
    }
    // Whichever of the two it is.
    assert!(Path::new(path).exists());
}
