//! Each peer passes messages both ways, in order and whole.

use std::{thread, time::Duration};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use shm_benches::{Error, Setup, System, Workload};
use shm_peers::{SYSTEMS, clean_up};

const MESSAGES: usize = 1000;
const SIZES: [usize; 3] = [8, 1024, 65536];
const BATCH: usize = 64;

/// Two ends that poll must not wait for each other on one processor.
fn stay_on(which: usize) -> Result<(), Error> {
    let allowed = sched_getaffinity(None)?;
    let mut processors = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
    if let Some(processor) = processors.nth(which) {
        let mut set = CpuSet::new();
        set.set(processor);
        sched_setaffinity(None, &set)?;
    }
    Ok(())
}

/// A message whose bytes tell its size and purpose. Its number replaces the first eight.
fn message(size: usize, purpose: u8) -> Vec<u8> {
    (0..size).map(|at| (at / 7 + size / 1024) as u8 ^ purpose).collect()
}

fn is_whole(message: &[u8], purpose: u8) -> Result<(), Error> {
    let right = message[8..] == self::message(message.len(), purpose)[8..];
    if right { Ok(()) } else { Err("a message has changed on its way".into()) }
}

fn far(
    system: &dyn System,
    setup: &Setup,
    ticket: &str,
    joined: impl FnOnce(),
) -> Result<(), Error> {
    stay_on(1)?;
    let mut far = system.join(setup, ticket)?;
    joined();
    let mut buffer = vec![0; setup.size];
    far.echo(&mut buffer, 1, MESSAGES)?;
    is_whole(&buffer, 1)?;
    far.receive(&mut buffer, 1, MESSAGES)?;
    is_whole(&buffer, 2)?;
    far.receive_batches(&mut buffer, BATCH, 1, MESSAGES)?;
    is_whole(&buffer, 3)?;
    far.send(&mut message(setup.size, 4), 1, MESSAGES)?;
    far.send_batches(&mut vec![message(setup.size, 5); BATCH], 1, MESSAGES)
}

fn near(system: &dyn System, setup: &Setup) -> Result<(), Error> {
    let mut opened = system.open(setup)?;
    let near = &mut opened.near;
    thread::scope(|scope| {
        let (joined, has_joined) = std::sync::mpsc::channel();
        let joined = move || joined.send(()).expect("the near end waits for this");
        let far = scope.spawn(|| far(system, setup, &opened.ticket, joined));
        stay_on(0)?;
        if has_joined.recv().is_ok() {
            near.ready()?;
            let mut buffer = message(setup.size, 1);
            near.ping(&mut buffer, 1, Duration::ZERO, &mut [0; MESSAGES])?;
            is_whole(&buffer, 1)?;
            near.send(&mut message(setup.size, 2), 1, MESSAGES)?;
            near.send_batches(&mut vec![message(setup.size, 3); BATCH], 1, MESSAGES)?;
            near.receive(&mut buffer, 1, MESSAGES)?;
            is_whole(&buffer, 4)?;
            near.receive_batches(&mut buffer, BATCH, 1, MESSAGES)?;
            is_whole(&buffer, 5)?;
        }
        far.join().expect("the far end does not panic")
    })
}

#[test]
fn each_peer_passes_messages_whole_and_in_order() {
    let mut passed = 0;
    for system in SYSTEMS {
        for workload in [Workload::Pingpong, Workload::Stream, Workload::Wake] {
            for size in SIZES.into_iter().filter(|size| system.carries(workload, *size)) {
                let directory = tempfile::tempdir().expect("there is room for a directory");
                let directory = directory.path().to_owned();
                let setup = Setup { workload, size, directory };
                let start = std::time::Instant::now();
                // In a thread of its own, which stays on a processor.
                let result = thread::scope(|scope| scope.spawn(|| near(*system, &setup)).join());
                if let Err(error) = result.expect("the near end does not panic") {
                    panic!("{}, {workload:?}, {size} bytes: {error}", system.name());
                }
                println!("{:>28} {workload:?} {size} {:?}", system.name(), start.elapsed());
                passed += 1;
            }
        }
    }
    clean_up();
    assert_eq!(passed, 13 * 3 * 2 + 5 * 3);
}
