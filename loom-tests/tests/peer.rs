//! Model-checked: the peer table.

use loom_tests::models::peer;

#[test]
fn two_threads_that_reserve_the_only_entry_get_it_once() {
    peer::two_reserve_one_entry();
}

#[test]
fn two_threads_that_reserve_get_different_entries() {
    peer::two_reserve_two_entries();
}

#[test]
fn a_claim_comes_before_the_release_or_is_stale() {
    peer::claim_against_release();
}

#[test]
fn of_two_releases_one_succeeds() {
    peer::two_release();
}

#[test]
fn a_ticket_of_an_earlier_life_claims_nothing() {
    peer::stale_epoch();
}

#[test]
fn the_details_of_a_next_life_replace_those_of_the_one_before() {
    peer::details_of_the_next_life();
}

#[test]
fn an_attached_entry_has_the_details_of_its_guest() {
    peer::details_of_the_attached();
}
