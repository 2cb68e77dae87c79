//! The example of calls does what it says.

use std::process::Command;

#[test]
fn calls_are_answered_fail_come_too_late_and_end_with_the_worker() {
    let output = Command::new(env!("CARGO_BIN_EXE_call")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    // Half of them tea for 3, half cake for 5.
    let sum = (2..=100).step_by(2).sum::<u32>() * 3 + (1..100).step_by(2).sum::<u32>() * 5;
    let expected = [
        &format!("100 calls: {sum} in all"),
        "the call failed at the other side: the call failed at the other side: not for sale",
        "no answer came before the deadline: the call was cancelled",
        "the peer is dead: attach or accept anew",
        "the link: the peer is dead: attach or accept anew",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}
