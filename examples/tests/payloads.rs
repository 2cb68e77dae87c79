//! The example of large payloads does what it says.

use std::process::Command;

#[test]
fn every_picture_is_viewed_whole_and_the_newest_are_kept() {
    let output = Command::new(env!("CARGO_BIN_EXE_payloads")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("40 pictures of 2073600 bytes are sent"), "{text}");
    let viewed = "40 pictures are viewed, the newest begin with [37, 38, 39]";
    assert!(text.contains(viewed), "{text}");
}
