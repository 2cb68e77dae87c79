//! How long calls take, and how busy this process is.

use std::{
    fmt,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// Processor time of the calling thread.
#[must_use]
pub fn thread_time() -> Duration {
    time(ClockId::ThreadCPUTime)
}

/// Processor time of this process.
#[must_use]
pub fn process_time() -> Duration {
    time(ClockId::ProcessCPUTime)
}

fn time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The share of one processor that this process used during `quiet`, in percent.
pub fn busy_share(quiet: impl FnOnce()) -> f64 {
    let (start, used) = (Instant::now(), process_time());
    quiet();
    let used = process_time().saturating_sub(used);
    100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64()
}

/// The longest of many calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    /// How many were measured.
    pub calls: u64,
    /// The longest time beyond its deadline, by the clock: on a machine that is busy with other
    /// things most of it is waiting for a processor.
    pub late: Longest,
    /// The longest time on a processor.
    pub work: Longest,
}

/// A time, and what took it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Longest {
    /// How long.
    pub time: Duration,
    /// Which call.
    pub what: &'static str,
}

impl Longest {
    fn see(&mut self, time: Duration, what: &'static str) {
        if time >= self.time {
            *self = Self { time, what };
        }
    }
}

impl fmt::Display for Longest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ms ({})", self.time.as_secs_f64() * 1e3, self.what)
    }
}

impl Meter {
    /// Makes a call that may wait for `wait`.
    pub fn call<T>(&mut self, what: &'static str, wait: Duration, call: impl FnOnce() -> T) -> T {
        let (start, used) = (Instant::now(), thread_time());
        let result = call();
        self.calls += 1;
        self.work.see(thread_time().saturating_sub(used), what);
        self.late.see(start.elapsed().saturating_sub(wait), what);
        result
    }

    /// Takes the measurements of another together with these.
    pub fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.late.see(other.late.time, other.late.what);
        self.work.see(other.work.time, other.work.what);
    }
}
