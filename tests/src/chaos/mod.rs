//! Chaos under load: guests that send and receive as fast as they can while any of them is
//! killed, stopped and continued at random; every message is numbered and carries a checksum
//! over all its bytes; and afterwards nothing is left in use.
//!
//! A guest keeps account in memory that survives it, so that the host knows for each one
//! that was killed how many sends had returned: all of these must arrive, in order and once.

pub mod checker;
pub mod guest;
mod life;
mod record;
mod report;
mod server;
mod traffic;
mod trouble;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use shm_transport::{Host, LinkConfig, SizeClass};

pub use self::report::{Report, Totals};
use self::{life::Lives, record::Records, report::Held, trouble::Trouble};
use crate::Place;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program of a guest: `PROGRAM guest RECORDS NUMBER LIFE [PATH]` calls
    /// [`guest::run`].
    pub program: PathBuf,
    /// For how long.
    pub duration: Duration,
    /// What happens when is drawn from this.
    pub seed: u64,
    /// Guests at a time.
    pub guests: usize,
    /// How many are killed in a second.
    pub kills_per_second: f64,
    /// How often a line says how it goes, if at all.
    pub progress: Option<Duration>,
}

/// Memory that a run may keep: one MiB in seconds, two in half an hour were seen.
pub const MEMORY_TOLERANCE: u64 = 4 << 20;

/// How long things are stirred before what is held is counted for the first time: what is
/// made once and kept is made then.
const WARM_UP: Duration = Duration::from_secs(2);

/// Small rings and pools, so that all of their ends are met all the time.
fn config() -> LinkConfig {
    LinkConfig {
        ring_capacity: 16 << 10,
        inline_limit: None,
        size_classes: vec![
            SizeClass { slot_size: 4 << 10, extent_slots: 4, max_extents: 2 },
            SizeClass { slot_size: 32 << 10, extent_slots: 2, max_extents: 2 },
        ],
        sealed_limit: 4,
        max_message: traffic::LARGEST as u64,
        spin: Duration::from_micros(5),
        ..LinkConfig::default()
    }
}

/// Runs it. The report says what was found.
#[must_use]
pub fn run(options: &Options) -> Report {
    let warm_up = WARM_UP.min(options.duration);
    let first = storm(&Options { duration: warm_up, progress: None, ..options.clone() });
    let before = Held::settled(None);
    let start = Instant::now();
    let totals = storm(options);
    let elapsed = start.elapsed();
    let after = Held::settled(Some(&before));
    Report { totals, failures_before: first.failures, before, after, elapsed }
}

/// A host, its guests, and trouble for so long; then all are asked to leave.
fn storm(options: &Options) -> Totals {
    let place = Place::in_memory();
    let records = Records::create(place.file("records"));
    let host = Host::builder().max_guests(4 * options.guests).link(config());
    let host = host.create(place.hub()).expect("a host");
    let hub = host.hub().clone();
    let lives = Lives::new(records);
    let guests_left = thread::scope(|scope| {
        let server = scope.spawn(|| server::serve(host, &lives));
        let trouble = Trouble::new(options, place.hub(), &hub, &lives);
        trouble.cause();
        lives.no_more();
        server.join().expect("the server does not panic")
    });
    let mut totals = lives.totals();
    totals.entries_left = hub.peers().len() + guests_left;
    totals
}
