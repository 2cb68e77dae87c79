//! Each system call that an operation makes fails once, with each error: the operation is
//! done all the same, or fails with an error that says what is wrong; nothing is left behind,
//! and it is done when it is tried again. Nobody panics, hangs, or dies of a signal.
//!
//! By default two errors are tried for each call, others for the next one;
//! `SHM_TEST_FAULTS=0` is the whole form, all six of them. For each operation a line is
//! printed: its calls, how many of them failed, what became of it, and how many went wrong.

#[cfg(target_arch = "x86_64")]
mod sweep;

#[cfg(not(target_arch = "x86_64"))]
#[test]
fn each_call_may_fail() {
    println!("skipped: calls are made to fail on x86-64 alone");
}
