//! The example of many guests does what it says.

use std::process::Command;

#[test]
fn all_are_served_and_who_is_killed_costs_the_others_nothing() {
    let output = Command::new(env!("CARGO_BIN_EXE_guests")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("a guest is gone: the peer said goodbye"), 7, "{text}");
    assert_eq!(count("a guest is gone: the peer is dead"), 1, "{text}");
    for line in ["8 guests came, 1 died", "even has 4000", "odd has 3500"] {
        assert_eq!(count(line), 1, "{text}");
    }
}
