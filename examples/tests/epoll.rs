//! The example of a plain epoll loop does what it says.

use std::process::Command;

#[test]
fn a_plain_epoll_loop_answers_every_question_of_every_guest() {
    let output = Command::new(env!("CARGO_BIN_EXE_epoll")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text, "answered 2000 questions\n".repeat(4));
}
