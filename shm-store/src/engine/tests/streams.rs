//! What each operation on a stream does, before and after a checkpoint and opening again.

use super::*;

/// Runs a check on what the log has, on what the shards have, and on a mixture.
fn everywhere(mut change: impl FnMut(&mut Bench), mut check: impl FnMut(&mut Bench)) {
    let mut bench = Bench::new(Options::default());
    change(&mut bench);
    check(&mut bench);
    bench.reopen();
    check(&mut bench);
    bench.engine().checkpoint().expect("a checkpoint");
    check(&mut bench);
    bench.reopen();
    check(&mut bench);
}

#[test]
fn entries_are_read_in_order_wherever_they_are() {
    everywhere(
        |bench| {
            bench.create("a");
            bench.append("a", &["one", "two"]).expect("appended");
            bench.append("a", &["", "three"]).expect("appended");
        },
        |bench| {
            assert_eq!(bench.all("a"), ["one", "two", "", "three"]);
            let end = bench.page("a", From::Now).expect("a page").next;
            assert_eq!(end, Offset::new(4, 11));
        },
    );
}
