//! Model-checked: the seqlock slot.

use loom_tests::models::seqlock;

#[test]
fn a_value_is_never_read_torn_or_older_than_the_one_before() {
    seqlock::one_reader();
}

#[test]
fn two_readers_do_not_disturb_each_other() {
    seqlock::two_readers();
}

#[test]
fn a_writer_that_dies_anywhere_leaves_the_old_value_the_new_one_or_busy() {
    seqlock::dying_writer();
}
