//! Model-checked: the doorbell.

use loom_tests::models::doorbell;

#[test]
fn a_consumer_never_sleeps_on_frames() {
    doorbell::data();
}

#[test]
fn a_consumer_never_sleeps_on_frames_of_a_producer_that_does_not_fence() {
    doorbell::data_by_membarrier();
}

#[test]
fn a_producer_never_sleeps_on_space() {
    doorbell::space();
}

#[test]
fn a_producer_never_sleeps_on_space_that_is_given_back_in_pieces() {
    doorbell::deferred_space();
}

#[test]
fn two_wakers_of_one_sleeper_lose_no_wake_up() {
    doorbell::two_wakers();
}

#[test]
fn two_wakers_that_do_not_fence_lose_no_wake_up() {
    doorbell::two_wakers_by_membarrier();
}

#[test]
fn a_new_count_of_the_bell_carries_what_was_published() {
    doorbell::bell_carries();
}
