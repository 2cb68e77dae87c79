//! What a process tries to make or use at a path, in words: for tests of what stands there,
//! of modes and of users.

use std::{path::Path, time::Duration};

use shm_transport::{
    Guest, Host, Lease,
    fleet::{Fleet, RingConfig},
};

/// The fleet that is tried.
pub const FLEET: &str = "fleet";
/// The kind of its ring.
pub const RING: u8 = 7;

/// Tries it, lets go of it, and says `ok` or the error.
///
/// # Panics
///
/// If nobody knows what it is.
#[must_use]
pub fn attempt(what: &str, path: &Path) -> String {
    let config = RingConfig { capacity: 4, max_payload: 8 };
    let fleet = || Fleet::builder().directory(path).nodes(2).join(FLEET, 0);
    match what {
        "host" => said(Host::create(path)),
        "guest" => said(Guest::attach(path, Duration::from_millis(50))),
        "fleet" => said(fleet()),
        "ring" => match fleet() {
            Ok(fleet) => said(fleet.ring(RING, &config)),
            Err(error) => said::<(), _>(Err(error)),
        },
        "lease" => said(Lease::open(path)),
        _ => panic!("unknown: {what}"),
    }
}

fn said<T, E: std::error::Error>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(error) => format!("{error:?} | {error}"),
    }
}
