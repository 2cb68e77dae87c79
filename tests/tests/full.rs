//! A file system that is full, but for any number of pages or of names: fleets, rings, lanes,
//! leases and hosts are not made, and say so, or are made whole. What is there goes on. When
//! there is room again, all of it works. Nobody dies of a signal.

use shm_tests::{Place, WAIT, peer};

#[test]
fn a_full_file_system_is_said_and_survived() {
    let place = Place::new();
    let mut process = peer!("full", place.file(""));
    let mut lines = Vec::new();
    while let Some(line) = process.answer_within(WAIT) {
        println!("{line}");
        lines.push(line);
    }
    match lines.last() {
        Some(line) if line == "ok" => process.succeeds(),
        Some(line) if line.starts_with("no file system can be mounted here") => {
            println!("skipped");
        }
        _ => panic!("{:?}", process.wait()),
    }
}
