//! Four creators race for one path, round after round: exactly one becomes the host, and all
//! others are told that there is one and nothing else, whatever the last round has left
//! there: nothing, a host that is just being dropped, or what a killed one leaves.
//!
//! `SHM_TEST_CREATOR_ROUNDS=100000` is the whole form.

use std::{os::unix::process::ExitStatusExt, thread, time::Instant};

use nix::libc::SIGKILL;
use shm_tests::{
    Place, amount,
    creators::{self, CREATORS, Creator},
    peer,
    process::Peer,
};

fn rounds() -> u64 {
    amount("SHM_TEST_CREATOR_ROUNDS", 1000)
}

#[test]
fn of_four_processes_that_race_for_a_path_one_becomes_the_host() {
    let (place, rounds, start) = (Place::new(), rounds(), Instant::now());
    let meeting = place.file("meeting");
    creators::prepare(&meeting);
    let begin = |number: u64| {
        let arguments = [number, rounds].map(|number| number.to_string());
        let [number, rounds] = &arguments;
        peer!("creator", place.hub(), &meeting, number, rounds)
    };
    let mut racing: Vec<(u64, Peer)> =
        (0..CREATORS).map(|number| (number, begin(number))).collect();
    let mut killed = 0;
    while !racing.is_empty() {
        racing.retain_mut(|(number, creator)| {
            if creator.is_running() {
                return true;
            }
            let status = creator.wait();
            if status.signal() == Some(SIGKILL) {
                killed += 1;
                *creator = begin(*number);
                return true;
            }
            assert!(status.success(), "creator {number}: {status}");
            assert_eq!(creator.answer(), "done");
            false
        });
        thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(killed, creators::deaths(rounds));
    println!("{rounds} rounds of processes, {killed} hosts killed, in {:?}", start.elapsed());
}

#[test]
fn of_four_threads_that_race_for_a_path_one_becomes_the_host() {
    let (place, rounds, start) = (Place::new(), rounds(), Instant::now());
    let meeting = place.file("meeting");
    creators::prepare(&meeting);
    let racing: Vec<_> = (0..CREATORS)
        .map(|number| {
            let creator = Creator::new(&meeting, number, place.hub(), false);
            thread::spawn(move || creator.race(rounds))
        })
        .collect();
    for creator in racing {
        creator.join().expect("each round has one host");
    }
    println!("{rounds} rounds of threads, in {:?}", start.elapsed());
}
