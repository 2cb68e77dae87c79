//! Tests that run themselves in other processes: a test that finds its role in the environment
//! plays it, instead of doing what it does otherwise.

use std::{
    env,
    process::{Command, Stdio},
};

const ROLE: &str = "SHM_STORE_TEST_ROLE";

/// What this process is to do in a test, if it is not the one that tests.
pub(super) fn role() -> Option<Vec<String>> {
    Some(env::var(ROLE).ok()?.split(' ').map(Into::into).collect())
}

/// A process that runs the test of this name in a role.
pub(super) fn command(test: &str, role: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args([test.trim_start_matches("shm_store::"), "--exact", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Kills this process.
pub(super) fn die() -> ! {
    let this = rustix::process::getpid();
    loop {
        // A kill of oneself cannot fail; it may take a moment.
        let _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
    }
}
