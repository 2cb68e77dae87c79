//! The package for Python passes its own tests, against a host in another process.

mod common;

use std::{path::Path, process::Command};

#[test]
fn the_package_for_python_passes_its_tests() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let mut command = Command::new("python3");
    command.args([
        "-W",
        "error::ResourceWarning",
        "-B",
        "-m",
        "unittest",
        "discover",
        "-v",
        "tests",
    ]);
    command.current_dir(&python).env("PYTHONPATH", &python);
    command.env("SHM_ECHO_HOST", common::ECHO_HOST);
    command.env("SHM_TRANSPORT_LIBRARY", common::libraries().join("libshm_ffi.so"));
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("no Python ({error}): apt-get install python3"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
    // None was left out: it ends with how many there were.
    assert!(said.contains("\nOK\n") || said.ends_with("\nOK\n"), "{said}");
}
