//! Model-checked: the slot pool.

use loom_tests::models::pool;

#[test]
fn a_slot_is_written_again_only_after_its_receiver_read_it() {
    pool::two_receivers();
}

#[test]
fn a_reference_arrives_after_its_slot_was_written() {
    pool::slot_and_ring();
}
