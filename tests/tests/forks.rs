//! Processes that fork, and processes that start others: no memory is inherited, by exec no
//! descriptor either, and what a forked child does with what it finds costs its parent
//! nothing.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shm_tests::{Place, WAIT, amount, eventually, peer};
use shm_transport::{CommandExt, Link, SendError};

/// What a process has open, by name, without the numbers that tell sockets and pipes apart.
fn descriptors_of(pid: u32) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("/proc/pid/fd").flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        let name = target.split_once(":[").map_or(&*target, |(kind, _)| kind);
        *found.entry(name.to_owned()).or_default() += 1;
    }
    found
}

/// What this library has made of the memory that a process has mapped: anonymous segments
/// and payloads, and files in this directory.
fn memory_of(pid: u32, place: &Place) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("/proc/pid/maps");
    let directory = place.file("");
    let is_ours =
        |line: &&str| line.contains("/memfd:") || line.contains(&*directory.to_string_lossy());
    maps.lines().filter(is_ours).map(Into::into).collect()
}

/// The child of a process that holds something of everything: a host with links, a guest,
/// messages of all kinds, grants, a set, a topic with its publisher and a subscriber, a lease
/// with a reader, a fleet with a ring, claims and a cache.
#[test]
fn a_forked_child_has_no_memory_and_costs_its_parent_nothing() {
    let place = Place::in_memory();
    let mut holder = peer!("forks", place.file(""));
    let mut child = None;
    loop {
        let answer = holder.answer();
        match answer.split_once(": ") {
            Some(("stays", pid)) => child = Some(pid.parse().expect("a process")),
            // It has dropped what it found, and exited.
            Some((what, how)) => assert_eq!(how, "well", "a child that drops {what}"),
            None => {
                assert_eq!(answer, "done");
                break;
            }
        }
    }
    let child: u32 = child.expect("a child");
    assert_eq!(memory_of(child, &place), Vec::<String>::new());
    assert_ne!(memory_of(holder.pid(), &place), Vec::<String>::new());
    let (found, held) = (descriptors_of(child), descriptors_of(holder.pid()));
    // Nor a lock that it would hold when its parent is dead.
    let locks = |all: &BTreeMap<String, usize>| all.keys().filter(|name| is_lock(name)).count();
    assert_eq!(locks(&found), 0, "{found:?}");
    assert_eq!(locks(&held), 3, "{held:?}");
    kill(Pid::from_raw(child as i32), Signal::SIGKILL).expect("it is there");
    assert!(holder.is_running());
}

/// A child has none of its parent's threads, and its links are none of its parent's.
#[test]
fn a_forked_child_attaches_anew_learns_of_its_hosts_death_and_its_parent_does_not() {
    let (place, other) = (Place::new(), Place::new());
    let mut host = place.small_host();
    let mut dying = peer!("host", other.hub());
    assert_eq!(dying.answer(), "host");
    let mut parent = peer!("forks-anew", place.hub(), other.hub());
    let mut links = vec![host.accept(WAIT).expect("the parent, before it forks")];
    assert_eq!(dying.ask("accept"), "accepted 1");
    assert_eq!(parent.answer(), "attached");
    links.push(host.accept(WAIT).expect("the parent, again"));
    dying.kill();
    assert_eq!(parent.answer(), "well");
    for (link, message) in links.iter_mut().zip(["before", "after"]) {
        assert_eq!(link.recv(WAIT).expect("its link goes on").to_bytes(), message);
    }
    drop(links);
    assert_eq!(parent.answer(), "done");
    parent.succeeds();
}

/// The files whose locks say that a host, an owner of data or a member of a fleet lives.
fn is_lock(name: &str) -> bool {
    ["/hub.lock", "/data-shm", "/members"].iter().any(|lock| name.ends_with(lock))
}

/// A program that is started while its parent holds everything has what its parent gives it
/// and nothing else.
#[test]
fn a_program_that_is_started_inherits_nothing() {
    let place = Place::in_memory();
    // What this test was started with goes to all programs.
    let mut before = Command::new("sleep");
    before.arg("60").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut before = before.spawn().expect("started");
    let mut holder = peer!("forks", place.file(""));
    while holder.answer() != "done" {}
    let started: u32 = holder.ask("start").parse().expect("a process");
    // The kernel closes what does not go on one by one.
    eventually(|| (descriptors_of(started) == descriptors_of(before.id())).then_some(()));
    before.kill().expect("killed");
    before.wait().expect("it is over");
    assert_eq!(memory_of(started, &place), Vec::<String>::new());
    kill(Pid::from_raw(started as i32), Signal::SIGKILL).expect("it is there");
}

/// A mapping that a child gets because it was forked just then would be a second one that can
/// write, and the kernel would not seal the payload.
#[test]
fn a_payload_is_sealed_while_other_threads_fork() {
    let place = Place::new();
    let mut host = place.small_host();
    let is_over = AtomicBool::new(false);
    let (mut left, mut right) = Link::pair(&shm_tests::small()).expect("a pair");
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                let mut grant = left.sender.grant(20_000, WAIT)?;
                grant.fill(7);
                grant.commit()?;
                drop(right.recv(WAIT));
                sent += 1;
            }
            Ok::<u64, SendError>(sent)
        });
        for _ in 0..amount("SHM_TEST_FORKS", 200) {
            // This forks; a command that nothing is done for in the child does not.
            let mut spawned = Command::new("true").spawn_guest(host.hub()).expect("started");
            spawned.child.wait().expect("it ends");
            assert!(host.try_accept().expect("it goes on").is_none());
        }
        is_over.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("it does not panic").expect("all are sent");
        assert!(sent > 0);
    });
}
