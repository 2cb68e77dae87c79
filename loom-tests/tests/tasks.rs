//! Model-checked: tasks that wait over one socket.

use loom_tests::models::tasks::{Without, halves, halves_without};

#[test]
fn two_tasks_that_share_a_socket_lose_no_wake_up() {
    halves();
}

#[test]
#[should_panic(expected = "deadlock")]
fn one_is_lost_if_the_waker_is_left_after_the_announcement() {
    halves_without(Without::EarlyWaker);
}

#[test]
#[should_panic(expected = "deadlock")]
fn one_is_lost_if_readers_of_the_socket_wake_nobody() {
    halves_without(Without::WakesByReaders);
}

#[test]
#[should_panic(expected = "deadlock")]
fn one_is_lost_if_a_used_up_announcement_counts() {
    halves_without(Without::NewAnnouncements);
}
