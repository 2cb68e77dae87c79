//! What options of several commands have in common.

use std::time::Duration;

/// A time in seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// The exit code of what gave up waiting.
pub const TIMED_OUT: u8 = 4;
/// The exit code of what was left alone by the other side.
pub const DIED: u8 = 5;
/// The exit code of what found something wrong.
pub const WRONG: u8 = 3;
