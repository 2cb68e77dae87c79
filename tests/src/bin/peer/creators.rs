//! A process that races with others to become the host at a path.

use std::path::Path;

use shm_tests::creators::Creator;

use crate::say;

pub(crate) fn race(path: &str, meeting: &str, number: u64, rounds: u64) {
    Creator::new(Path::new(meeting), number, path.into(), true).race(rounds);
    say("done");
}
