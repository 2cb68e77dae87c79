//! Model-checked: the broadcast ring.

use loom_tests::models::broadcast;

#[test]
fn values_in_one_slot_come_whole_and_in_order_or_are_counted_as_lost() {
    broadcast::follow_one_slot();
}

#[test]
fn values_in_two_slots_come_whole_and_in_order_or_are_counted_as_lost() {
    broadcast::follow_two_slots();
}

#[test]
fn the_newest_value_of_one_slot_is_whole_and_never_older_than_the_one_before() {
    broadcast::newest_one_slot();
}

#[test]
fn the_newest_value_of_two_slots_is_whole_and_there_from_the_first_on() {
    broadcast::newest_two_slots();
}

#[test]
fn the_newest_value_is_never_older_than_one_that_was_read_in_order() {
    broadcast::newest_after_next();
}

#[test]
fn a_writer_that_dies_anywhere_leaves_its_value_whole_or_not_at_all() {
    broadcast::dying_writer();
}

#[test]
fn a_writer_after_a_death_goes_on_behind_what_the_dead_one_published() {
    broadcast::writer_after_a_death();
}

#[test]
fn a_reader_never_sleeps_on_values() {
    broadcast::alarm();
}

#[test]
fn a_reader_never_sleeps_on_values_of_a_publisher_that_does_not_fence() {
    broadcast::alarm_by_membarrier();
}

#[test]
fn a_new_count_of_the_bell_carries_what_was_published() {
    broadcast::bell_carries();
}

#[test]
fn a_new_count_of_the_bell_carries_what_the_alarm_saw() {
    broadcast::bell_of_the_agent_carries();
}
