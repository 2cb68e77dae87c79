//! Model-checked: the ring of a fleet.

use loom_tests::models::fleet;

#[test]
fn two_that_publish_at_once_are_both_committed_in_one_order() {
    fleet::two_publishers();
}

#[test]
fn a_publisher_that_was_lapped_commits_at_the_end() {
    fleet::lapped_publisher();
}

#[test]
fn a_frame_that_is_committed_is_whole() {
    fleet::committed_is_whole();
}

#[test]
fn a_reader_that_is_lapped_gets_the_whole_frame_or_knows_that_it_is_lost() {
    fleet::lapped_reader();
}

#[test]
fn a_reader_that_others_lap_gets_the_whole_frame_or_knows_that_it_is_lost() {
    fleet::reader_lapped_by_another();
}

#[test]
fn the_newest_frame_is_whole_and_never_an_older_one_than_before() {
    fleet::newest();
}

#[test]
fn a_frame_is_found_by_its_id_as_soon_as_it_is_committed() {
    fleet::by_id();
}

#[test]
fn a_frame_that_was_not_committed_is_never_found() {
    fleet::uncommitted_is_never_found();
}

#[test]
fn a_publisher_that_dies_anywhere_loses_nothing_and_holds_up_nobody() {
    fleet::dying_publisher();
}
