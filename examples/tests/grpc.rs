//! The gRPC example does what it says.

use std::process::Command;

#[test]
fn calls_of_each_kind_are_answered_over_shared_memory() {
    let output = Command::new(env!("CARGO_BIN_EXE_grpc")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let expected =
        "once: are you there?\nrepeat: 20971520 bytes\nchat: one\nchat: two\nchat: three\n";
    assert_eq!(text, expected);
}
