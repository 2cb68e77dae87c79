//! `shmctl demo` as a stranger runs it: the built program, its output and its exit status.
//!
//! The counts are counted: for each there is a process that misbehaves so that it is not 0.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

const COUNTS: [&str; 6] =
    ["lost", "duplicated", "reordered", "mismatched", "leaked_slots", "leaked_fds"];

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmctl"));
    command.arg("demo").args(arguments);
    command
}

fn file_of(len: usize) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..len as u64).map(|i| ((i * i) >> 3) as u8).collect();
    fs::write(file.path(), bytes).unwrap();
    file
}

fn run_with(file: &NamedTempFile, arguments: &[&str]) -> Output {
    demo(arguments).arg("--input").arg(file.path()).output().unwrap()
}

fn object(output: &Output) -> Value {
    let text = str::from_utf8(&output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "one object on one line: {output:?}");
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn assert_counts(report: &Value, expected: [u64; 6]) {
    let found = COUNTS.map(|name| report[name].as_u64().unwrap());
    assert_eq!(found, expected, "{COUNTS:?} of {report}");
}

fn assert_is_an_error(output: &Output, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.status.code().is_some(), "{output:?}");
    assert!(stderr.contains(says), "{says:?} in {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Processes whose parent is `pid`.
fn children_of(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|child| stat(*child).is_some_and(|(_, parent)| parent == pid)).collect()
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_block_is_answered_once_though_a_guest_is_killed() {
    let file = file_of(300_000);
    let output = run_with(&file, &["--guests", "3", "--kill", "--json", "--seconds", "0.5"]);
    let report = object(&output);
    assert_counts(&report, [0; 6]);
    assert_eq!(report["guests"], 3);
    assert_eq!(report["killed"], 1);
    assert!(report["messages"].as_u64().unwrap() > 100, "{report}");
    assert!(report["bytes"].as_u64().unwrap() >= 300_000, "{report}");
    assert!(report["seconds"].as_f64().unwrap() >= 0.4, "{report}");
    let [detect, reclaim] = ["detect_ms", "reclaim_ms"].map(|name| report[name].as_f64().unwrap());
    assert!(0.0 < detect && detect < reclaim && reclaim < 5000.0, "{report}");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_only_guest_can_be_killed() {
    let file = file_of(100_000);
    let output = run_with(&file, &["--guests", "1", "--kill", "--json", "--passes", "20"]);
    let report = object(&output);
    assert_counts(&report, [0; 6]);
    assert_eq!(report["killed"], 1);
    assert_eq!(report["bytes"], 20 * 100_000);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn passes_cover_the_file_exactly() {
    for len in [1, 8, 100, 70_000] {
        let file = file_of(len);
        let output = run_with(&file, &["--passes", "3", "--json"]);
        let report = object(&output);
        assert_counts(&report, [0; 6]);
        assert_eq!(report["bytes"], 3 * len);
        assert_eq!(report["killed"], 0);
        assert!(report["detect_ms"].is_null() && report["reclaim_ms"].is_null(), "{report}");
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_single_block_can_be_the_middle() {
    let file = file_of(5);
    let output = run_with(&file, &["--passes", "1", "--kill", "--json"]);
    let report = object(&output);
    assert_counts(&report, [0; 6]);
    assert_eq!((&report["messages"], &report["killed"]), (&1.into(), &1.into()));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn blocks_beyond_the_largest_slot_arrive() {
    let file = file_of(5 << 20);
    let output = run_with(&file, &["--passes", "2", "--kill", "--json"]);
    let report = object(&output);
    assert_counts(&report, [0; 6]);
    assert_eq!(report["bytes"], 2 * (5 << 20));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_pipe_gets_a_table_and_no_progress_bar() {
    let file = file_of(50_000);
    let output = run_with(&file, &["--passes", "5", "--kill"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = str::from_utf8(&output.stdout).unwrap();
    for part in ["guest", "messages/s", "killed", "replaces guest", "detected", "reclaimed", "ok:"]
    {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains(['\r', '\x1b', '█']), "{text}");
}

#[test]
fn each_fault_is_counted_and_fails_the_demo() {
    let file = file_of(200_000);
    for (fault, expected) in [
        ("lose", [1, 0, 0, 0, 0, 0]),
        ("duplicate", [0, 1, 0, 0, 0, 0]),
        ("reorder", [0, 0, 1, 0, 0, 0]),
        ("mismatch", [0, 0, 0, 1, 0, 0]),
        ("keep", [0, 0, 0, 0, 1, 0]),
    ] {
        // One guest, so that it surely gets the blocks with which it misbehaves.
        let arguments =
            ["--guests", "1", "--passes", "5", "--json", "--patience", "0.5", "--fault", fault];
        let output = run_with(&file, &arguments);
        assert_counts(&object(&output), expected);
        assert_eq!(output.status.code(), Some(1), "{fault}");
    }
}

#[test]
fn what_the_host_leaks_is_counted_and_fails_the_demo() {
    let file = file_of(1000);
    let output = run_with(&file, &["--passes", "1", "--json", "--fault", "forget"]);
    let report = object(&output);
    // Two ends of a link: each has a socket, and maps both outboxes. And the memory in which
    // they count.
    assert_counts(&report, [0, 0, 0, 0, 5, 3]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_guest_that_dies_by_itself_is_an_error() {
    let file = file_of(200_000);
    let output = run_with(&file, &["--fault", "exit", "--json"]);
    assert_is_an_error(&output, "guest 1");
    assert!(output.stdout.is_empty());
}

#[test]
fn bad_options_and_inputs_are_errors_and_no_panics() {
    let empty = file_of(0);
    assert_is_an_error(&run_with(&empty, &[]), "is empty");
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("missing");
    for (path, says) in [(missing, "No such file"), (PathBuf::from("/"), "directory")] {
        assert_is_an_error(&demo(&["--input"]).arg(path).output().unwrap(), says);
    }
    for bad in [
        "--guests=0",
        "--guests=257",
        "--guests=many",
        "--passes=0",
        "--seconds=NaN",
        "--seconds=-1",
        "--patience=",
    ] {
        let option = bad.split('=').next().unwrap();
        assert_is_an_error(&demo(&[bad]).output().unwrap(), option);
    }
}

#[test]
fn a_guest_that_no_host_started_is_an_error() {
    assert_is_an_error(&demo(&["--role", "guest"]).output().unwrap(), "no socket was inherited");
}

#[test]
fn an_interrupt_ends_the_guests_and_cleans_up() {
    let directory = TempDir::new().unwrap();
    let host = demo(&["--guests", "2", "--seconds", "60"])
        .env("TMPDIR", directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("guests start", || children_of(host.id()).len() == 2);
    let guests = children_of(host.id());
    kill(Pid::from_raw(host.id() as i32), Signal::SIGINT).unwrap();
    let output = host.wait_with_output().unwrap();
    assert_is_an_error(&output, "interrupted");
    assert!(!guests.iter().any(|guest| is_running(*guest)));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn guests_end_when_their_host_is_killed() {
    let directory = TempDir::new().unwrap();
    let mut host = demo(&["--guests", "3", "--seconds", "60"])
        .env("TMPDIR", directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("guests start", || children_of(host.id()).len() == 3);
    thread::sleep(Duration::from_millis(100));
    let guests = children_of(host.id());
    host.kill().unwrap();
    host.wait().unwrap();
    wait_until("guests end", || !guests.iter().any(|guest| is_running(*guest)));
}
