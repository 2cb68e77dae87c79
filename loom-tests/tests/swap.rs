//! Model-checked: no two neighbouring stores of shm-primitives may change places unnoticed.

use std::process::Command;

#[test]
fn every_pair_of_neighbouring_stores_that_is_swapped_fails_a_model_or_has_a_reason() {
    let output = Command::new(env!("CARGO_BIN_EXE_swap")).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    println!("{table}");
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
}
