//! The example of a store does what it says.

use std::process::Command;

#[test]
fn everything_is_there_once_and_in_order_though_owners_are_killed() {
    let output = Command::new(env!("CARGO_BIN_EXE_store")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (done, said) = text.split_once("what was said:\n").expect(&text);
    let appended: Vec<&str> = done
        .lines()
        .filter(|line| line.contains(" appends "))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let said: Vec<&str> = said.lines().map(|line| line.trim().split(':').next().unwrap()).collect();
    assert_eq!(appended, said, "{text}");
    assert!(appended.len() > 10, "{text}");
    assert_eq!(done.lines().filter(|line| line.ends_with(" is killed")).count(), 2, "{text}");
}
