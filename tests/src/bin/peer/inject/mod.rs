//! Operations between two marks, for who makes their system calls fail: see
//! `shm_tests::inject`. Each is a whole round: it sets up, runs the operation, and checks
//! that it failed cleanly or was done, and that it is done when it is tried again.

mod hubs;
mod links;
mod shared;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        ptrace,
        signal::{Signal, raise},
    },
    unistd::{alarm, getppid},
};
use shm_tests::inject::Left;

use crate::{command, say};

/// How long an operation waits for the other side.
const PATIENCE: Duration = Duration::from_secs(30);
/// After which an operation hangs, in seconds.
const HANG: u32 = 120;

/// What an operation returned.
type Outcome = Result<(), Failure>;

/// An error, as it is and as it reads.
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(format!("{error:?} | {error}"))
    }
}

/// Where an operation's files go.
struct Spot<'a>(&'a Path);

impl Spot<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn hub(&self) -> PathBuf {
        self.file("hub")
    }
}

type Operation = fn(&Spot<'_>) -> Outcome;

/// Says the names of a group of operations.
pub(crate) fn names_of(group: &str) {
    let operations = match group {
        "links" => links::OPERATIONS,
        "hubs" => hubs::OPERATIONS,
        "shared" => shared::OPERATIONS,
        _ => panic!("unknown group {group}"),
    };
    operations.iter().for_each(|(name, _)| say(name));
}

/// Runs the operation of this name in a directory of its own, round by round.
pub(crate) fn run(name: &str, directory: &str) {
    let directory = Path::new(directory);
    let all = links::OPERATIONS.iter().chain(hubs::OPERATIONS).chain(shared::OPERATIONS);
    let (_, operation) = all.clone().find(|(known, _)| *known == name).expect("an operation");
    let operation: Operation = *operation;
    ptrace::traceme().expect("it can be traced");
    while let Some(line) = command() {
        assert_eq!(line, "round");
        for entry in fs::read_dir(directory).expect("the directory").map_while(Result::ok) {
            let path = entry.path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("an empty directory");
        }
        let before = held(directory);
        alarm::set(HANG);
        match operation(&Spot(directory)) {
            Ok(()) => say("ok"),
            Err(Failure(text)) => say(&format!("error {}", text.replace('\n', " "))),
        }
        alarm::cancel();
        let line = command().expect("what may be left");
        let most = line.strip_prefix("settle ").and_then(Left::parse).expect("what may be left");
        say(&settled(directory, before, most).line());
    }
}

/// Runs an operation between the marks.
fn marked<T>(operation: impl FnOnce() -> T) -> T {
    raise(Signal::SIGSTOP).expect("a signal");
    getppid();
    let result = operation();
    getppid();
    result
}

/// What is more than before, once it is no more than `most` or stays more.
fn settled(directory: &Path, before: Left, most: Left) -> Left {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let left = held(directory).since(before);
        if left.is_within(most) || Instant::now() > end {
            return left;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn held(directory: &Path) -> Left {
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
    let path = directory.to_string_lossy();
    let is_ours = |line: &&str| line.contains("/memfd:shm-") || line.contains(&*path);
    let count = |path: &str| fs::read_dir(path).expect("proc(5)").count() as u64;
    Left {
        descriptors: count("/proc/self/fd"),
        mappings: maps.lines().filter(is_ours).count() as u64,
        names: names(directory).len() as u64,
        threads: count("/proc/self/task"),
    }
}

fn names(directory: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("a directory").map_while(Result::ok) {
        if entry.path().is_dir() {
            all.extend(names(&entry.path()));
        }
        all.insert(entry.path());
    }
    all
}

/// Returns when a thread of this process sleeps, or `done` says that it never will.
fn wait_for_sleep(thread: i32, done: impl Fn() -> bool) {
    let path = format!("/proc/self/task/{thread}/stat");
    let mut asleep = 0;
    // Twice in a row: between two sleeps it may look once as if it slept.
    while asleep < 2 && !done() {
        let stat = fs::read_to_string(&path).unwrap_or_default();
        let sleeps = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'));
        asleep = if sleeps { asleep + 1 } else { 0 };
        thread::sleep(Duration::from_micros(300));
    }
}
