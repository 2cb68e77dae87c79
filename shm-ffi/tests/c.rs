//! A guest in C, compiled with the committed header and every warning, against a host in
//! another process. What it checks is in `c/guest.c`.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// A host with a path of its own. It is killed when this is dropped.
struct EchoHost {
    child: Child,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl EchoHost {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hub");
        let mut command = Command::new(common::ECHO_HOST);
        command.arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the host starts");
        let output = child.stdout.take().expect("its output is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("the host says something");
        assert_eq!(line, "ready\n");
        Self { child, path, _directory: directory }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for EchoHost {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compiles the guest, once for all tests, and links it with the shared library or the archive.
fn compile(output: &str, link: impl FnOnce(&mut Command, &Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let output = directory.join(output);
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cc::Build::new();
    build.target(&target).host(&target).opt_level(1).out_dir(&directory).cargo_metadata(false);
    build.std("c11").warnings(true).extra_warnings(true).warnings_into_errors(true);
    let mut command = build.get_compiler().to_command();
    command.arg("-pedantic").arg(root.join("tests/c/guest.c"));
    command.arg("-I").arg(root.join("include")).arg("-o").arg(&output);
    link(&mut command, &common::libraries());
    let made = command
        .output()
        .unwrap_or_else(|error| panic!("no C compiler ({error}): apt-get install gcc, or set CC"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    output
}

fn guest() -> &'static Path {
    static GUEST: OnceLock<PathBuf> = OnceLock::new();
    GUEST.get_or_init(|| {
        compile("c-guest", |command, libraries| {
            command.arg("-L").arg(libraries).arg("-lshm_ffi").arg("-pthread");
            command.arg(format!("-Wl,-rpath,{}", libraries.display()));
        })
    })
}

/// Runs one of the guest's tests against a host of its own.
fn run(guest: &Path, test: &str) {
    let host = EchoHost::start();
    let output = Command::new(guest).arg(host.path()).arg(test).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}: {}\n{said}", output.status);
}

#[test]
fn messages_of_every_size_come_back_whole_and_in_order() {
    run(guest(), "echo");
}

#[test]
fn a_buffer_that_is_too_small_loses_nothing_and_learns_the_size() {
    run(guest(), "small buffer");
}

#[test]
fn a_poll_loop_misses_no_message_and_sleeps_when_there_is_none() {
    run(guest(), "poll");
}

#[test]
fn a_wait_ends_at_its_deadline_and_what_it_refused_was_not_sent() {
    run(guest(), "deadline");
}

#[test]
fn a_killed_host_ends_waits_after_what_it_had_sent() {
    run(guest(), "killed");
    run(guest(), "killed, by poll");
}

#[test]
fn null_and_impossible_arguments_are_refused_and_do_no_harm() {
    run(guest(), "arguments");
}

#[test]
fn one_thread_sends_while_another_receives_and_more_are_refused() {
    run(guest(), "threads");
}

#[test]
fn a_forked_child_is_refused_and_costs_its_parent_nothing() {
    run(guest(), "fork");
}

#[test]
fn a_guest_that_its_host_started_attaches_over_the_inherited_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(common::ECHO_HOST);
    command.arg(directory.path().join("hub")).arg(guest()).arg("-").arg("inherited");
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
}

#[test]
fn the_archive_links_too() {
    let archive = compile("c-guest-static", |command, libraries| {
        command.arg(libraries.join("libshm_ffi.a")).args(["-pthread", "-ldl", "-lm", "-lgcc_s"]);
    });
    run(&archive, "echo");
    fs::remove_file(archive).expect("it is there");
}

/// What C++ makes of the header.
#[test]
fn the_header_is_also_one_of_cpp() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = directory.join("header.cpp");
    fs::write(&source, "#include \"shm.h\"\nint main() { return !shm_version(); }\n").unwrap();
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cc::Build::new();
    build.cpp(true).target(&target).host(&target).opt_level(0).out_dir(&directory);
    build.cargo_metadata(false).warnings(true).extra_warnings(true).warnings_into_errors(true);
    let mut command = build.get_compiler().to_command();
    command.arg("-fsyntax-only").arg("-I").arg(root.join("include")).arg(&source);
    let made = command.output().expect("a C++ compiler: apt-get install g++, or set CXX");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
