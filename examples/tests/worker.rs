//! The example of a worker does what it says.

use std::process::Command;

#[test]
fn a_worker_that_dies_is_replaced_and_no_job_is_lost() {
    let output = Command::new(env!("CARGO_BIN_EXE_worker")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("the worker died in job 13: signal: 6"), "{text}");
    assert_eq!(
        lines[1..],
        ["20 jobs are done, the sum is 2870", "the worker left: exit status: 0"]
    );
}
