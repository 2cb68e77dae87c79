//! A process that makes a fleet and a ring and publishes a first frame is killed after each
//! of its instructions: the next one always succeeds, and nothing else is left.
//!
//! It is traced step by step (ptrace(2)), once for each place to kill it at. By default
//! about `SHM_TEST_CREATION_POINTS=40` of them are tried; 0 is the whole form, all of them:
//! then all before the last system call are run through at once.

use std::fs;

use nix::{
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use shm_tests::{
    Place, amount,
    fleet::{NAME, NODES, RING, TINY},
    peer,
    process::Peer,
};
use shm_transport::fleet::{Fleet, Position, Start};

#[test]
fn whoever_dies_making_a_fleet_or_a_ring_leaves_nothing_that_stops_the_next_one() {
    let place = Place::in_memory();
    let points = amount("SHM_TEST_CREATION_POINTS", 40);
    let mut outcomes = [0u64; 4];
    let mut left = |done: u64| {
        outcomes[outcome(&place)] += 1;
        done
    };
    let all = run_and_kill(&place, 0, u64::MAX);
    assert_eq!(left(all), all);
    if let Some(stride) = all.checked_div(points) {
        // Odd strides do not run in step with loops.
        for instructions in (0..all).step_by((stride | 1) as usize) {
            left(run_and_kill(&place, 0, instructions));
        }
        // Where the ring and its first frame are made.
        for back in (1..400).step_by(20) {
            left(run_and_kill(&place, 0, all - back));
        }
    } else {
        let mut rest = all;
        for calls in 0.. {
            let after = run_and_kill(&place, calls + 1, u64::MAX);
            outcome(&place);
            // From the end of one system call to the end of the next one, and beyond: it is
            // not the same number each time.
            for instructions in 0..=rest.saturating_sub(after) + 50 {
                left(run_and_kill(&place, calls, instructions));
            }
            rest = after;
            if after == 0 {
                break;
            }
        }
    }
    let tried: u64 = outcomes.iter().sum();
    println!(
        "{all} instructions, killed {tried} times: {} left nothing or a directory, {} a fleet, {} \
         a ring, {} a frame",
        outcomes[0], outcomes[1], outcomes[2], outcomes[3]
    );
    for (outcome, name) in outcomes.iter().zip(["nothing", "a fleet", "a ring", "a frame"]) {
        assert!(*outcome > 0, "no death left {name}");
    }
}

/// Runs a creator for so many system calls, then for so many instructions, and kills it
/// there. Returns how many instructions it ran; none if it ended before.
fn run_and_kill(place: &Place, calls: u64, instructions: u64) -> u64 {
    let directory = place.file("fleets");
    let mut creator = start(directory.to_str().unwrap());
    let pid = Pid::from_raw(creator.pid() as i32);
    let ended = || match waitpid(pid, None).expect("it can be waited for") {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => false,
        WaitStatus::Stopped(_, Signal::SIGSTOP) => true,
        other => panic!("{other:?}"),
    };
    // It stops where a call begins and where it ends. The first one to end is the one that
    // it was stopped in.
    let mut at_end = false;
    for _ in 0..calls * 2 {
        ptrace::syscall(pid, None).expect("it can go on");
        if ended() {
            at_end = true;
            break;
        }
    }
    let mut done = 0;
    while done < instructions && !at_end {
        ptrace::step(pid, None).expect("it can be stepped");
        if ended() {
            break;
        }
        done += 1;
    }
    creator.kill();
    done
}

/// Starts a creator and waits until it stops before it starts.
fn start(directory: &str) -> Peer {
    let creator = peer!("fleet-create", directory);
    let pid = Pid::from_raw(creator.pid() as i32);
    match waitpid(pid, None).expect("it can be waited for") {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => creator,
        other => panic!("{other:?}"),
    }
}

/// Does what the creator did, checks what is there, and removes it. Returns how far the
/// creator had come: nothing, fleet, ring, or frame.
fn outcome(place: &Place) -> usize {
    let root = place.file("fleets");
    let names = |path: &std::path::Path| -> Vec<String> {
        let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert!([vec![], vec![NAME.to_owned()]].contains(&names(&root)));
    let left = names(&root.join(NAME));
    assert!(
        [&[][..], &["members"], &["members", "ring-2a"]]
            .contains(&left.iter().map(String::as_str).collect::<Vec<_>>().as_slice()),
        "{left:?}"
    );

    let fleet = Fleet::builder().directory(&root).nodes(NODES).join(NAME, 0).unwrap();
    let ring = fleet.ring(RING, &TINY).unwrap();
    assert_eq!(fleet.created(), left.is_empty());
    assert_eq!(ring.created(), left.len() < 2);
    let committed = ring.end().number();
    assert!(committed <= 1);
    let mut cursor = ring.cursor(Start::Oldest);
    if committed == 1 {
        let frame = cursor.next().unwrap().unwrap().frame;
        assert_eq!((frame.payload(), frame.id().counter()), (&b"x"[..], 0));
        assert_eq!(ring.read(frame.id()).unwrap(), Some(frame));
    }
    for number in 0..10 {
        let published = ring.publish(0, 1, b"again").unwrap();
        assert_eq!(published.position, Position::new(committed + number));
        assert_eq!(cursor.next().unwrap().unwrap().frame.id(), published.id);
        assert_eq!(ring.read(published.id).unwrap().unwrap().payload(), b"again");
    }
    fleet.unlink().unwrap();
    assert!(names(&root).is_empty());
    left.len() + committed as usize
}
