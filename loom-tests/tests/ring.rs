//! Model-checked: the ring.

use loom_tests::models::ring;

#[test]
fn frames_over_the_end_come_out_whole_in_order_and_once() {
    ring::frames_wrap();
}

#[test]
fn frames_through_more_than_a_lap_come_out_whole_in_order_and_once() {
    ring::frames_lap();
}

#[test]
fn what_stands_behind_a_frame_published_at_once_is_never_taken_for_one() {
    ring::frames_at_once();
}

#[test]
fn a_batch_is_seen_as_a_whole_or_not_at_all_and_an_aborted_one_never() {
    ring::batches();
}

#[test]
fn a_grant_committed_short_shows_what_was_committed() {
    ring::short_grants();
}

#[test]
fn space_given_back_in_pieces_is_all_given_back_when_nothing_is_left() {
    ring::deferred_release();
}

#[test]
fn a_producer_that_dies_anywhere_leaves_exactly_what_it_published() {
    ring::dying_producer();
}

#[test]
fn a_consumer_that_dies_anywhere_keeps_what_it_did_not_release() {
    ring::dying_consumer();
}
