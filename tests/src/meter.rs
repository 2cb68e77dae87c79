//! How long calls take, and how busy this process is.

use std::{
    cell::OnceCell,
    fmt,
    fs::File,
    os::unix::fs::FileExt,
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

/// For how long the calling thread was ready to run and waited for a processor, so far; nothing
/// where the kernel does not tell.
fn queued_time() -> Duration {
    thread_local! {
        static STATISTICS: OnceCell<Option<File>> = const { OnceCell::new() };
    }
    let mut text = [0; 64];
    let len = STATISTICS.with(|file| {
        let file = file.get_or_init(|| File::open("/proc/thread-self/schedstat").ok());
        file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok())
    });
    // Time on a processor, time in a queue for one, and how often.
    let text = str::from_utf8(&text[..len.unwrap_or(0)]).unwrap_or("");
    let queued = text.split(' ').nth(1).and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(queued.unwrap_or(0))
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
    /// The longest time beyond its deadline, by the clock, without the time for which the thread
    /// was ready to go on and others had the processors.
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
        let queued = queued_time();
        let (start, used) = (Instant::now(), thread_time());
        let result = call();
        self.calls += 1;
        self.work.see(thread_time().saturating_sub(used), what);
        let late = start.elapsed().saturating_sub(wait);
        self.late.see(late.saturating_sub(queued_time().saturating_sub(queued)), what);
        result
    }

    /// Takes the measurements of another together with these.
    pub fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.late.see(other.late.time, other.late.what);
        self.work.see(other.work.time, other.work.what);
    }
}
