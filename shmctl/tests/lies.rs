//! A process that has anything under the names of this library's memory: whoever looks at it from
//! outside says what is wrong, and goes on. A process of its own, because the other tests' would
//! seem to lie as well.

use std::{
    fs,
    os::fd::AsFd,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use shm_transport::{Guest, Host};

const WAIT: Duration = Duration::from_secs(40);

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmctl"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Memory under the name of a hub's, with anything in it.
fn lying(name: &str, contents: &[u8], sealed: bool) -> std::os::fd::OwnedFd {
    use rustix::fs::{MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create};
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    fallocate(&fd, rustix::fs::FallocateFlags::empty(), 0, contents.len() as u64).unwrap();
    rustix::io::write(&fd, contents).unwrap();
    if sealed {
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
        fcntl_add_seals(fd.as_fd(), seals).unwrap();
    }
    fd
}

#[test]
fn a_process_that_lies_about_its_memory_ends_no_command() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub");
    let mut host = Host::create(&path).unwrap();
    let to = path.clone();
    let attaching = thread::spawn(move || Guest::attach(to, WAIT).unwrap());
    let link = host.accept(WAIT).unwrap();
    let guest = attaching.join().unwrap();
    // What a hub and a ledger look like, spoilt in many ways; and what is no memory of ours.
    let real: Vec<Vec<u8>> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = fs::read_link(&path).ok()?.to_string_lossy().into_owned();
            name.starts_with("/memfd:shm-").then(|| fs::read(path).unwrap())
        })
        .collect();
    assert!(real.len() >= 2, "a hub and a ledger");
    let mut held = Vec::new();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for round in 0..40 {
        for contents in &real {
            let mut contents = contents.clone();
            for _ in 0..=round % 8 {
                let at = if round % 2 == 0 { random(512) } else { random(contents.len()) };
                contents[at] = random(256) as u8;
            }
            for name in ["shm-hub", "shm-ledger"] {
                held.push(lying(name, &contents, true));
            }
        }
    }
    for name in ["shm-hub", "shm-ledger"] {
        held.push(lying(name, &[0xff; 4096], true));
        held.push(lying(name, &[0; 4], true));
        held.push(lying(name, &real[0], false));
    }
    let pid = std::process::id().to_string();
    for arguments in [
        &["ls", text(place.path())][..],
        &["inspect", text(&path)],
        &["inspect", &pid],
        &["top", "--once"],
        &["doctor"],
    ] {
        for more in [&["--json"][..], &[]] {
            let output = run(&[arguments, more].concat());
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 3)), "{arguments:?} {more:?}: {output:?}");
        }
    }
    let output = run(&["inspect", &pid, "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["problems"].as_array().unwrap().len() > 3, "{report:?}");
    drop((held, link, guest, host));
}
