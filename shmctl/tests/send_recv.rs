//! `shmctl send` and `shmctl recv`, as a shell uses them.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use shm_transport::Host;

const WAIT: Duration = Duration::from_secs(40);

fn shmctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmctl"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(arguments: &[&str]) -> Child {
    shmctl(arguments).spawn().unwrap()
}

fn send(path: &str, more: &[&str], input: &[u8]) -> Output {
    let mut command = shmctl(&[&["send", path], more].concat());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // It ends early if nobody reads.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn ended(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn lines_come_as_they_were_sent_and_both_sides_end() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub");
    // The sender waits for the receiver, whichever comes first.
    let receiver = start(&["recv", text(&path)]);
    let sent = send(text(&path), &["--json"], b"one\n\ntwo\nwithout an end");
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let said: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!((&said["messages"], &said["bytes"]), (&4.into(), &20.into()));
    let received = ended(receiver);
    assert_eq!(received.status.code(), Some(0), "{received:?}");
    assert_eq!(received.stdout, b"one\n\ntwo\nwithout an end\n");
    assert!(!path.exists(), "nothing is left behind");
}

#[test]
fn a_path_in_a_directory_of_all_works_too() {
    let place = tempfile::tempdir().unwrap();
    let shared = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    fs::set_permissions(place.path(), shared).unwrap();
    let path = place.path().join("x");
    let receiver = start(&["recv", text(&path)]);
    assert_eq!(send(text(&path), &[], b"hi\n").status.code(), Some(0));
    assert_eq!(ended(receiver).stdout, b"hi\n");
}

#[test]
fn large_files_come_byte_for_byte() {
    let place = tempfile::tempdir().unwrap();
    let (path, from, to) =
        (place.path().join("hub"), place.path().join("from"), place.path().join("to"));
    let contents: Vec<u8> =
        (0..20_000_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&from, &contents).unwrap();
    for piece in ["1000", "262144", "5000000"] {
        let receiver = start(&["recv", text(&path), "--bytes", "-o", text(&to)]);
        let sent = send(text(&path), &[text(&from), "--bytes", "--piece", piece], b"");
        assert_eq!(sent.status.code(), Some(0), "{sent:?}");
        assert_eq!(ended(receiver).status.code(), Some(0));
        assert!(fs::read(&to).unwrap() == contents, "pieces of {piece}");
    }
}

#[test]
fn several_senders_are_received_and_their_lines_stay_whole() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub");
    // Into a file: nobody reads a pipe before the senders have ended.
    let to = place.path().join("to");
    let receiver = start(&["recv", text(&path), "-n", "3000", "--json", "-o", text(&to)]);
    let lines = |name: &str| (0..1000).map(|n| format!("{name} {n}\n")).collect::<String>();
    let all: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            let (path, input) = (path.clone(), lines(name));
            std::thread::spawn(move || send(text(&path), &[], input.as_bytes()))
        })
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    let received = ended(receiver);
    assert_eq!(received.status.code(), Some(0), "{received:?}");
    // The receiver may have had enough before a sender has seen that its last line was read.
    assert!(all.iter().all(|sent| matches!(sent.status.code(), Some(0 | 5))), "{all:?}");
    let received = fs::read_to_string(&to).unwrap();
    for name in ["a", "b", "c"] {
        let of_one: Vec<String> = received
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned()
            })
            .filter(|line| line.starts_with(name))
            .collect();
        let expected: Vec<String> = lines(name).lines().map(str::to_owned).collect();
        assert_eq!(of_one, expected);
    }
}

#[test]
fn recv_attaches_to_a_host_that_is_there() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub");
    let mut host = Host::create(&path).unwrap();
    let receiver = start(&["recv", text(&path)]);
    let mut link = host.accept(WAIT).unwrap();
    link.send(b"from a program", WAIT).unwrap();
    link.send(&[0xff, 0], WAIT).unwrap();
    link.detach(WAIT).unwrap();
    let received = ended(receiver);
    assert_eq!(received.status.code(), Some(0), "{received:?}");
    assert_eq!(received.stdout, b"from a program\n\xff\0\n");
}

#[test]
fn what_waits_in_vain_times_out_with_its_own_code() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub");
    let sent = send(text(&path), &["--timeout", "0.2"], b"nobody\n");
    assert_eq!(sent.status.code(), Some(4), "{sent:?}");
    let received = ended(start(&["recv", text(&path), "--timeout", "0.2"]));
    assert_eq!(received.status.code(), Some(4), "{received:?}");
    // A host that reads nothing.
    let host = Host::create(&path).unwrap();
    let reader = std::thread::spawn(move || {
        let mut host = host;
        let link = host.accept(WAIT).unwrap();
        (host, link)
    });
    let sent = send(text(&path), &["--timeout", "1"], &b"a line\n".repeat(100_000));
    assert_eq!(sent.status.code(), Some(4), "{sent:?}");
    drop(reader.join().unwrap());
}

#[test]
fn the_death_of_the_other_side_has_its_own_code() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub");
    let receiver = start(&["recv", text(&path)]);
    let mut sender = shmctl(&["send", text(&path)]).stdin(Stdio::piped()).spawn().unwrap();
    sender.stdin.as_mut().unwrap().write_all(b"a line\n").unwrap();
    let mut receiver = receiver;
    let mut line = [0; 7];
    receiver.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    sender.kill().unwrap();
    sender.wait().unwrap();
    let received = ended(receiver);
    assert_eq!((&line, received.status.code()), (b"a line\n", Some(5)), "{received:?}");

    let mut receiver = start(&["recv", text(&path)]);
    let mut sender = shmctl(&["send", text(&path)]).stdin(Stdio::piped()).spawn().unwrap();
    sender.stdin.as_mut().unwrap().write_all(b"a line\n").unwrap();
    receiver.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    let mut input = sender.stdin.take().unwrap();
    // Until it notices; then it reads no more.
    while input.write_all(b"another\n").is_ok() {}
    let sent = ended(sender);
    assert_eq!(sent.status.code(), Some(5), "{sent:?}");
}

#[test]
fn a_broken_pipe_ends_recv_and_is_no_success() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub");
    let mut receiver = start(&["recv", text(&path)]);
    drop(receiver.stdout.take());
    let sent = send(text(&path), &[], &b"a line\n".repeat(100_000));
    assert_ne!(sent.status.code(), Some(0), "{sent:?}");
    let received = ended(receiver);
    assert_eq!(received.status.code(), Some(1), "{received:?}");
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ended(start(&["completions", shell])).stdout;
        let script = String::from_utf8(script).unwrap();
        for command in ["ls", "inspect", "top", "send", "recv", "doctor", "store"] {
            assert!(script.contains(command), "{command} for {shell}");
        }
    }
    let page = String::from_utf8(ended(start(&["man"])).stdout).unwrap();
    assert!(page.contains(".TH") && page.contains("doctor"));
    let page = String::from_utf8(ended(start(&["man", "store", "append"])).stdout).unwrap();
    assert!(page.contains("append") && page.contains("batch"), "{page}");
    let place = tempfile::tempdir().unwrap();
    let written = ended(start(&["man", "--directory", text(place.path()), "--json"]));
    let written: Value = serde_json::from_slice(&written.stdout).unwrap();
    assert!(written["files"].as_array().unwrap().len() > 15);
    assert!(place.path().join("shmctl-top.1").exists());
    let script: Value =
        serde_json::from_slice(&ended(start(&["completions", "bash", "--json"])).stdout).unwrap();
    assert_eq!(script["shell"], "bash");
}
