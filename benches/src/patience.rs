//! Waiting and timing in a benchmark.

use std::time::{Duration, Instant};

use crate::system::Error;

/// How long one end waits for the other before it gives up.
pub const WAIT: Duration = Duration::from_secs(30);

/// Looks in vain before the clock is read.
const LOOKS: u32 = 1 << 16;

/// Polls until something is there.
///
/// # Errors
///
/// The other end is gone, or stopped for very long.
#[inline]
pub fn poll(mut is_there: impl FnMut() -> bool) -> Result<(), Error> {
    let mut deadline = None;
    loop {
        for _ in 0..LOOKS {
            if is_there() {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if now > *deadline.get_or_insert(now + WAIT) {
            return Err("the other end does not answer".into());
        }
    }
}

/// Tells the nanoseconds since it was made or last asked.
#[inline]
pub fn stopwatch() -> impl FnMut() -> u64 {
    let mut start = Instant::now();
    move || {
        let end = Instant::now();
        let time = end - start;
        start = end;
        time.as_nanos() as u64
    }
}

/// Keeps the processor busy for a while.
pub fn work(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}
