//! A side of a link is killed after each instruction of what it does there: guests, whose
//! host lives on and has the same entry for the next one, and hosts, whose guests live on and
//! attach to the next one at the same path. See `shm_tests::steps`; `SHM_TEST_STEPS=0` is the
//! whole form.
//!
//! After each kill: what was committed is received once, in order and whole, and nothing
//! else; slots and sealed payloads are in use or not, as was said before the death; the end
//! is reported; and this process holds what it held before.

use shm_tests::{
    WAIT,
    pattern::message,
    steps::{
        alone,
        operation::{
            INLINE,
            Operation::{self, *},
        },
        scene::{kill_guests, kill_hosts},
    },
};
use shm_transport::Link;

fn kill_both(operations: &[Operation]) {
    let _alone = alone();
    for operation in operations {
        kill_guests(env!("CARGO_BIN_EXE_peer"), *operation);
        kill_hosts(env!("CARGO_BIN_EXE_peer"), *operation);
    }
}

#[test]
fn of_a_message_in_the_ring_there_is_all_or_nothing() {
    kill_both(&[SendInline, SendAtTheWrap]);
}

/// Without this the sweeps of it could pass and be about something else.
#[test]
fn what_is_sent_at_the_wrap_lies_at_the_beginning_of_the_ring() {
    let (mut victim, mut survivor) = Link::pair(&SendAtTheWrap.config()).expect("a link");
    let beginning = victim.sender.grant(INLINE, WAIT).expect("room").as_ptr();
    for (number, len) in (0..).zip([10].into_iter().chain(SendAtTheWrap.before())) {
        victim.send(&message(number, len), WAIT).expect("sent");
        survivor.recv(WAIT).expect("received");
    }
    for len in SendAtTheWrap.sends() {
        assert_eq!(victim.sender.grant(len, WAIT).expect("room").as_ptr(), beginning);
    }
}

#[test]
fn of_a_batch_there_is_nothing_or_what_is_published_together() {
    kill_both(&[SendBatch, SendBatchAtTheWrap, SendBatchInParts]);
}

#[test]
fn of_a_message_beside_the_ring_there_is_all_or_nothing() {
    kill_both(&[SendSlot, SendFirstSlot, SendSlotOfNextExtent, SendSealed, SendShared]);
}

#[test]
fn a_grant_is_sent_when_it_is_committed_and_never_when_it_is_aborted() {
    kill_both(&[GrantInline, GrantSlot, GrantSealed, GrantsAborted]);
}

#[test]
fn whoever_sleeps_is_woken_or_told_of_the_death() {
    kill_both(&[SendToSleeper, SendToSleepingSet, RecvFromSleeper]);
}

#[test]
fn whoever_dies_receiving_has_given_back_a_message_or_has_not() {
    kill_both(&[
        RecvInline,
        RecvInlineInto,
        RecvSlot,
        RecvFirstSlot,
        RecvSlotInto,
        RecvSealed,
        RecvSealedInto,
    ]);
}

#[test]
fn messages_are_given_back_one_by_one_in_any_order() {
    kill_both(&[ReleaseInOrder, ReleaseOutOfOrder]);
}

#[test]
fn whoever_dies_on_the_way_into_sleep_or_out_of_it_is_dead() {
    kill_both(&[Sleep, SleepInSet, SleepForRoom]);
}

#[test]
fn whoever_dies_leaving_is_dead_before_the_goodbye_and_has_departed_after_it() {
    kill_both(&[Detach, Drop]);
}
