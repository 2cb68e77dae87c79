//! What the host process holds: descriptors, and mappings of shared memory.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use shm_transport::{Link, LinkConfig};

use super::failure::Failure;

/// The thread that watches over links may hold the last of one for a moment longer.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// Has the transport make what it keeps for the life of the process: the descriptor of the
/// thread that watches for deaths.
pub fn warm_up() -> Result<(), Failure> {
    Link::pair(&LinkConfig::default()).map(drop).map_err(Failure::of("make a link"))
}

/// Keeps a link for ever: a leak, for the test that leaks are seen.
pub fn leak() -> Result<(), Failure> {
    let pair = Link::pair(&LinkConfig::default()).map_err(Failure::of("make a link"))?;
    std::mem::forget(pair);
    Ok(())
}

/// What this process holds at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    descriptors: usize,
    mappings: usize,
}

/// What is held that was not held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaks {
    /// Open descriptors.
    pub descriptors: usize,
    /// Mappings of shared memory.
    pub mappings: usize,
}

impl Footprint {
    /// What this process holds now.
    pub fn now() -> Result<Self, Failure> {
        Self::read().map_err(Failure::of("look at the own process in /proc"))
    }

    fn read() -> io::Result<Self> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        let mappings = maps.lines().filter(|line| line.contains("/memfd:shm-")).count();
        Ok(Self { descriptors: fs::read_dir("/proc/self/fd")?.count(), mappings })
    }

    /// What is held now beyond this.
    pub fn leaked(&self) -> Result<Leaks, Failure> {
        let start = Instant::now();
        loop {
            let now = Self::now()?;
            let leaks = Leaks {
                descriptors: now.descriptors.saturating_sub(self.descriptors),
                mappings: now.mappings.saturating_sub(self.mappings),
            };
            let none = leaks == Leaks { descriptors: 0, mappings: 0 };
            if none || start.elapsed() > SETTLES_WITHIN {
                return Ok(leaks);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
