//! Model-checked: no ordering of shm-primitives is stronger than a model can tell.

use std::process::Command;

#[test]
fn every_ordering_that_is_weakened_fails_a_model() {
    let output = Command::new(env!("CARGO_BIN_EXE_weaken")).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    println!("{table}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
