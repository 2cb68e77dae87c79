use std::{io, sync::OnceLock};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two processors for two processes: the same ones, whenever it is asked.
pub fn two_processors() -> io::Result<(usize, usize)> {
    // From before this thread was pinned to one of them.
    static CHOSEN: OnceLock<(usize, usize)> = OnceLock::new();
    if let Some(chosen) = CHOSEN.get() {
        return Ok(*chosen);
    }
    let allowed = sched_getaffinity(None)?;
    let mut processors = (0..CpuSet::MAX_CPU).filter(|&number| allowed.is_set(number));
    match (processors.next(), processors.next()) {
        (Some(one), Some(other)) => Ok(*CHOSEN.get_or_init(|| (one, other))),
        _ => Err(io::Error::other("two processors are needed to measure two processes")),
    }
}

/// Stays on a processor.
pub fn pin(processor: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}
