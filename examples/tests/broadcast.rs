//! The broadcast example does what it says.

use std::process::Command;

#[test]
fn everybody_gets_the_prices_or_knows_how_many_are_missing() {
    let output = Command::new(env!("CARGO_BIN_EXE_broadcast")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let counts: Vec<(u64, u64)> = text
        .lines()
        .filter_map(|line| {
            let (received, lost) =
                line.strip_prefix("received ")?.split_once(" prices and lost ")?;
            Some((received.parse().ok()?, lost.parse().ok()?))
        })
        .collect();
    assert_eq!(counts.len(), 2, "{text}");
    for (received, lost) in &counts {
        assert_eq!(received + lost, 1000, "{text}");
    }
    assert!(counts[1].1 > 0, "the slow one loses some: {text}");
    assert!(text.contains("the last price is 10005 cents"), "{text}");
}
