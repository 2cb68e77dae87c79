//! Chaos under load, for a few seconds. The program `chaos` does it for as long as it is
//! told. All is in one test, because it counts what its whole process holds.
//!
//! `SHM_TEST_CHAOS_SECONDS=1800` is the whole form.

use std::time::Duration;

use shm_tests::{
    amount,
    chaos::{self, Options},
};

#[test]
fn guests_are_killed_and_stopped_under_load_and_nothing_is_lost_or_left() {
    let options = Options {
        program: env!("CARGO_BIN_EXE_chaos").into(),
        duration: Duration::from_secs(amount("SHM_TEST_CHAOS_SECONDS", 6)),
        seed: amount("SHM_TEST_SEED", 1),
        guests: 8,
        kills_per_second: 20.0,
        progress: Some(Duration::from_secs(10)),
    };
    let report = chaos::run(&options);
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    // It was what it says.
    let totals = &report.totals;
    assert!(totals.kills > 0 && totals.stops > 0 && totals.died > 0, "{report}");
    assert!(totals.in_mid_send > 0 && totals.to_guest.received > 0, "{report}");
}
