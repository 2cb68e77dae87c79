//! What the integration tests share: messages whose contents prove themselves, helper
//! processes, a guest that speaks the protocol by hand, and counts of what a process holds.
//!
//! No test depends on how fast anything runs. Every wait has an end, [`WAIT`], which is
//! long enough for a machine that is busy with other things.

pub mod async_bytes;
pub mod attempt;
pub mod bytes;
pub mod calls;
pub mod chaos;
pub mod counts;
pub mod creators;
pub mod fleet;
pub mod fuzz;
pub mod guarded;
#[cfg(target_arch = "x86_64")]
pub mod inject;
pub mod meter;
pub mod pattern;
pub mod process;
pub mod raw;
pub mod raw_host;
pub mod service;
pub mod steps;
pub mod store;
pub mod tasks;
pub mod typed;

use std::{
    env, fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use shm_transport::{Host, HostBuilder, LinkConfig, SizeClass};

/// How long a test waits for what must happen.
pub const WAIT: Duration = Duration::from_secs(40);

/// A directory of its own with the path of a hub in it. It goes with the value.
#[derive(Debug)]
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// A new directory that this user alone can use.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it has an effect")]
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory for the test") }
    }

    /// A new directory in memory, where fleets have theirs.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { directory: tempfile::tempdir_in("/dev/shm").expect("a directory for the test") }
    }

    /// Where the hub goes.
    #[must_use]
    pub fn hub(&self) -> PathBuf {
        self.file("hub")
    }

    /// A file beside the hub.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A host here with small rings and pools, so that tests reach their ends.
    #[must_use]
    pub fn small_host(&self) -> Host {
        self.host(Host::builder().link(small()))
    }

    /// A host here.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn host(&self, builder: HostBuilder) -> Host {
        builder.create(self.hub()).expect("a host")
    }
}

/// Links with a ring of 1 KiB (128 B inline), two small classes and four sealed payloads of
/// up to 64 KiB.
#[must_use]
pub fn small() -> LinkConfig {
    LinkConfig {
        ring_capacity: 1 << 10,
        inline_limit: None,
        size_classes: vec![
            SizeClass { slot_size: 1 << 10, extent_slots: 2, max_extents: 2 },
            SizeClass { slot_size: 8 << 10, extent_slots: 2, max_extents: 1 },
        ],
        sealed_limit: 4,
        max_message: 64 << 10,
        ..LinkConfig::default()
    }
}

/// Runs `test` on a thread of its own and returns what it returns.
///
/// # Panics
///
/// If it panics, or has not returned after [`WAIT`]: then it hangs.
pub fn within_wait<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = test();
        // The receiver is gone if it gave up.
        let _ = sender.send(());
        result
    });
    if receiver.recv_timeout(WAIT) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("it hangs: no result after {WAIT:?}");
    }
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Asks `what` again and again until it returns something.
///
/// # Panics
///
/// If it has returned nothing after [`WAIT`].
pub fn eventually<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + WAIT;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < end, "it did not happen within {WAIT:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The number in an environment variable, or `default`: the size of a test's whole form.
#[must_use]
pub fn amount(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|text| u64::from_str(&text).ok()).unwrap_or(default)
}

/// Nanoseconds of the clock that is the same in all processes.
#[must_use]
pub fn monotonic() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How many ownerships a log of them has: lines of `begin` or `end` and a generation, each
/// written by an owner while it was one. An owner that was killed has no `end`.
///
/// # Panics
///
/// If there were two owners at a time, or a generation that was not higher than all before.
#[must_use]
pub fn ownerships(log: &Path) -> usize {
    let mut newest = 0;
    let mut begun = 0;
    for line in fs::read_to_string(log).expect("a log").lines() {
        let (what, generation) = line.split_once(' ').expect("two words");
        let generation: u64 = generation.parse().expect("a generation");
        if what == "begin" {
            assert!(generation > newest, "{generation} after {newest}");
            newest = generation;
            begun += 1;
        } else {
            assert_eq!(generation, newest, "an owner beside another");
        }
    }
    begun
}
