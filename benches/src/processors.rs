use std::error::Error;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two processors for two processes.
pub fn two_processors() -> Result<(usize, usize), Box<dyn Error>> {
    let allowed = sched_getaffinity(None)?;
    let mut processors = (0..CpuSet::MAX_CPU).filter(|&number| allowed.is_set(number));
    match (processors.next(), processors.next()) {
        (Some(one), Some(other)) => Ok((one, other)),
        _ => Err("two processors are needed to measure two processes".into()),
    }
}

/// Stays on a processor.
pub fn pin(processor: usize) -> Result<(), Box<dyn Error>> {
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}
