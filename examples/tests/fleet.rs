//! The example of a fleet does what it says.

use std::process::Command;

#[test]
fn a_leader_is_killed_and_another_one_takes_over() {
    let output = Command::new(env!("CARGO_BIN_EXE_fleet")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in ["15 readings of 3 members, 0 lost", "is killed", "is gone, 5 signs of life"] {
        assert!(text.contains(line), "{text}");
    }
    let leaders: Vec<_> = text.lines().filter(|line| line.starts_with("the leader is")).collect();
    assert_eq!(leaders.len(), 2);
    assert_ne!(leaders[0], leaders[1]);
}
