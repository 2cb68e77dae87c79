//! `shmctl store` from the outside, while another process has the store open, and while none
//! has.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, ChildStdin, Command, Output, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use shm_store::{Store, StreamConfig};

fn shmctl(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_shmctl"))
        .arg("store")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Vec<Value> {
    text(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn every_command_works(directory: &str) {
    let target = |command| [command, directory];
    let run = |command, more: &[&str], input| shmctl(&[&target(command)[..], more].concat(), input);
    text(&run("create", &["letters", "--content-type", "text/plain"], ""));
    let appended = json(&run("append", &["letters", "--json"], "a\nb\nc\n"));
    assert_eq!(
        (&appended[0]["lines"], &appended[0]["acknowledgement"]),
        (&3.into(), &"durable".into())
    );
    text(&run("append", &["letters", "--batch", "2", "--close"], "d\ne\nf"));
    assert_eq!(text(&run("read", &["letters"], "")), "a\nb\nc\nd\ne\nf\n");
    let entries = json(&run("read", &["letters", "--json"], ""));
    assert_eq!(entries[3]["text"], "d");
    let from = entries[3]["offset"].as_str().unwrap();
    assert_eq!(text(&run("read", &["letters", "--from", from], "")), "d\ne\nf\n");
    assert_eq!(text(&run("read", &["letters", "--from", "now"], "")), "");
    assert_eq!(text(&run("tail", &["letters", "-n", "2"], "")), "e\nf\n");
    // It is closed, so that following it ends.
    assert_eq!(json(&run("tail", &["letters", "-f", "--json"], "")).len(), 6);
    text(&run("create", &["numbers"], ""));
    let listed = json(&run("ls", &["--json"], ""));
    let names: Vec<_> = listed.iter().map(|head| head["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["letters", "numbers"]);
    assert_eq!(text(&run("ls", &["num"], "")).lines().count(), 1);
    let stat = &json(&run("stat", &["--json"], ""))[0];
    assert_eq!((&stat["streams"], &stat["bytes"]), (&2.into(), &6.into()));
    let stat = &json(&run("stat", &["letters", "--json"], ""))[0];
    assert_eq!((&stat["closed"], &stat["content_type"]), (&true.into(), &"text/plain".into()));
    let verified = &json(&run("verify", &["--json"], ""))[0];
    assert_eq!((&verified["entries"], &verified["problems"]), (&6.into(), &Value::Array(vec![])));
    assert!(text(&run("verify", &[], "")).ends_with("0 problems\n"));
    let again = run("append", &["letters"], "too late\n");
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("closed"), "{again:?}");
}

fn directory_in(place: &tempfile::TempDir) -> String {
    place.path().join("store").to_str().unwrap().into()
}

#[test]
fn every_command_works_alone() {
    let place = tempfile::tempdir().unwrap();
    every_command_works(&directory_in(&place));
}

#[test]
fn every_command_works_beside_an_owner() {
    let place = tempfile::tempdir().unwrap();
    let directory = directory_in(&place);
    let store = Store::open(&directory).unwrap();
    every_command_works(&directory);
    assert!(store.is_owner());
    assert!(store.exists("letters").unwrap());
}

#[test]
fn tail_follows_what_others_append() {
    let place = tempfile::tempdir().unwrap();
    let directory = directory_in(&place);
    let store = Store::open(&directory).unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    store.append("s", "before").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_shmctl"))
        .args(["store", "tail", &directory, "s", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "before");
    for number in 0..3 {
        store.append("s", number.to_string()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), number.to_string());
    }
    store.close("s").unwrap();
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_stream_expires_when_create_said_so() {
    let place = tempfile::tempdir().unwrap();
    let directory = directory_in(&place);
    let store = Store::open(&directory).unwrap();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let create = |name, at: u64| {
        text(&shmctl(&["create", &directory, name, "--expires-at", &at.to_string()], ""));
    };
    create("gone", since_1970 - 1);
    create("there", since_1970 + 3600);
    let listed = json(&shmctl(&["ls", &directory, "--json"], ""));
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &"there".into()));
    assert_eq!(listed[0]["expires"].as_f64(), Some((since_1970 + 3600) as f64));
    assert_eq!(listed[0]["expires_at"], listed[0]["expires"]);
    assert!(!store.exists("gone").unwrap());
}

/// One that has a store open, the first one as its owner, and appends each line that it is told.
struct Appender(Child, ChildStdin);

impl Appender {
    fn start(directory: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_shmctl"))
            .args(["store", "append", directory, "s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let lines = child.stdin.take().unwrap();
        Self(child, lines)
    }

    fn append(&mut self, line: &str) {
        writeln!(self.1, "{line}").unwrap();
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn following(directory: &str) -> (Child, impl Iterator<Item = String>) {
    // What a shell runs in the background ignores interrupts, and so would all its children.
    let mut child = Command::new("env")
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_shmctl")])
        .args(["store", "tail", directory, "s", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    (child, lines)
}

/// How it ended, which it does soon.
fn end_of(child: &mut Child) -> std::process::ExitStatus {
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < end, "it has not ended");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn tail_follows_on_when_the_owner_is_killed_and_ends_when_it_is_interrupted() {
    let place = tempfile::tempdir().unwrap();
    let directory = directory_in(&place);
    text(&shmctl(&["create", &directory, "s"], ""));
    let mut owner = Appender::start(&directory);
    owner.append("first");
    let (mut tail, mut lines) = loop {
        // The first line says that the appender has the store open.
        if !text(&shmctl(&["read", &directory, "s"], "")).is_empty() {
            break following(&directory);
        }
    };
    assert_eq!(lines.next().unwrap(), "first");
    let mut other = Appender::start(&directory);
    other.append("second");
    assert_eq!(lines.next().unwrap(), "second");
    drop(owner);
    for number in 0..3 {
        other.append(&number.to_string());
        assert_eq!(lines.next().unwrap(), number.to_string());
    }
    kill(Pid::from_raw(tail.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(end_of(&mut tail).signal(), Some(Signal::SIGINT as i32));
    assert_eq!(text(&shmctl(&["read", &directory, "s"], "")).lines().count(), 5);
    assert!(text(&shmctl(&["verify", &directory], "")).ends_with("0 problems\n"));
}

#[test]
fn tail_ends_when_nobody_reads_what_it_prints() {
    let place = tempfile::tempdir().unwrap();
    let directory = directory_in(&place);
    let store = Store::open(&directory).unwrap();
    store.create("s", StreamConfig::default()).unwrap();
    store.append("s", "before").unwrap();
    for appends in [false, true] {
        let (mut tail, mut lines) = following(&directory);
        assert_eq!(lines.next().unwrap(), "before");
        drop(lines);
        if appends {
            store.append("s", "after").unwrap();
        }
        assert!(end_of(&mut tail).success());
    }
}

#[test]
fn verify_fails_if_the_store_is_damaged() {
    let place = tempfile::tempdir().unwrap();
    let directory = directory_in(&place);
    text(&shmctl(&["create", &directory, "s"], ""));
    fs::write(Path::new(&directory).join("layout.json"), "{}").unwrap();
    let output = shmctl(&["verify", &directory], "");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("layout.json"), "{output:?}");
}

#[test]
fn a_store_that_is_not_there_is_not_made_by_looking() {
    let place = tempfile::tempdir().unwrap();
    let directory = directory_in(&place);
    assert!(!shmctl(&["ls", &directory], "").status.success());
    assert!(!Path::new(&directory).exists());
}

#[test]
fn bench_measures_and_says_what_it_should() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().to_str().unwrap();
    let options = ["--processes", "2", "--seconds", "0.2", "--read-mib", "4", "--json"];
    let small = ["--memory-kib", "512", "--segment-kib", "256"];
    let options = [&options[..], &small].concat();
    let report = &json(&shmctl(&[&["bench", directory][..], &options].concat(), ""))[0];
    for field in [
        "appends_per_s",
        "appends_per_sync",
        "bytes_written_per_append",
        "p50_us",
        "p99_us",
        "redb_appends_per_s",
        "fdatasync_p50_us",
        "read_gb_per_s",
    ] {
        assert!(report[field].as_f64().is_some_and(|value| value >= 0.0), "{field}: {report}");
    }
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "nothing is left");
}
