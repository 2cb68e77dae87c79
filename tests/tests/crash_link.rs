//! A side of a link is killed after each instruction of what it does there: guests, whose
//! host lives on and has the same entry for the next one, and hosts, whose guests live on and
//! attach to the next one at the same path. See `shm_tests::steps`; `SHM_TEST_STEPS=0` is the
//! whole form.
//!
//! After each kill: what was committed is received once, in order and whole, and nothing
//! else; slots and sealed payloads are in use or not, as was said before the death; the end
//! is reported; and this process holds what it held before.

use shm_tests::steps::{
    alone,
    operation::Operation::{self, *},
    scene::{kill_guests, kill_hosts},
};

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
