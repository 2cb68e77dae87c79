//! The example of a lease does what it says.

use std::process::Command;

#[test]
fn each_owner_but_the_last_is_killed_and_another_takes_over() {
    let output = Command::new(env!("CARGO_BIN_EXE_lease")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "anna owns the file: it is the first",
            "ben is attached to a living owner",
            "carla is attached to a living owner",
            "dan is attached to a living owner",
            "  4 readers, from position 100 on",
            "anna is killed",
        ],
        "{text}"
    );
    let count = |end: &str| lines.iter().filter(|line| line.ends_with(end)).count();
    assert_eq!(count("owns the file: the owner before died"), 3, "{text}");
    assert_eq!(count("is killed"), 3, "{text}");
    for left in 1..=4 {
        let readers = format!("  {left} readers, from position ");
        assert!(lines.iter().any(|line| line.starts_with(&readers)), "{text}");
    }
    assert_eq!(lines[lines.len() - 2].split(' ').nth(1), Some("leaves"), "{text}");
    assert_eq!(lines.last(), Some(&"  Free, Closed, exit status: 0"), "{text}");
}
