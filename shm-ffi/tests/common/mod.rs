//! What the tests of other languages need: the host's program and the library.

use std::path::PathBuf;

/// The host's program.
pub const ECHO_HOST: &str = env!("CARGO_BIN_EXE_shm-echo-host");

/// Where this build has put the libraries: beside the test.
pub fn libraries() -> PathBuf {
    let test = std::env::current_exe().expect("it runs");
    test.parent().expect("it is in a directory").to_owned()
}
