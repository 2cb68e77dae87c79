//! Systems that take turns.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    far::{Joining, Order, Others, Task},
    processors::{pin, two_processors},
    system::{Error, Far, Runner, Setup, System, Workload},
};

/// The near ends of systems, with their far ends.
pub struct Round<'a> {
    lanes: Vec<Lane<'a>>,
    process: Option<Others>,
    thread: Option<Others>,
    /// For the order of the turns.
    chance: u64,
}

struct Lane<'a> {
    system: &'a dyn System,
    near: Box<dyn Runner>,
    /// Where its far end is among those of the same kind.
    index: usize,
    /// The number of the next message.
    next: u64,
}

impl<'a> Round<'a> {
    /// Opens the systems that carry messages of this size, and passes them to `measure`.
    pub fn with<R>(
        systems: &[&'a dyn System],
        path: &[&str],
        (workload, size): (Workload, usize),
        measure: impl FnOnce(&mut Self) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let (here, there) = two_processors()?;
        let directory = tempfile::tempdir()?;
        let setup = Setup { workload, size, directory: directory.path().to_owned() };
        pin(here)?;
        let (mut processes, mut threads) = (Vec::new(), Vec::new());
        let mut lanes = Vec::new();
        for &system in systems.iter().filter(|system| system.carries(workload, size)) {
            let opened = system.open(&setup).map_err(named(system))?;
            let joining: &mut Vec<Joining> = match system.far() {
                Far::Process => &mut processes,
                Far::Thread => &mut threads,
            };
            lanes.push(Lane { system, near: opened.near, index: joining.len(), next: 1 });
            joining.push((system, opened.ticket));
        }
        thread::scope(|scope| {
            let process = match processes.is_empty() {
                true => None,
                false => Some(Others::start_process(path, &setup, &processes, there)?),
            };
            let thread = match threads.is_empty() {
                true => None,
                false => Some(Others::start_thread(scope, &setup, threads, there)?),
            };
            let mut round = Self { lanes, process, thread, chance: 1 };
            round.ready()?;
            measure(&mut round)
        })
    }

    /// Waits for the far ends.
    fn ready(&mut self) -> Result<(), Error> {
        for others in self.process.iter_mut().chain(&mut self.thread) {
            others.wait()?;
        }
        for Lane { system, near, .. } in &mut self.lanes {
            near.ready().map_err(named(*system))?;
        }
        Ok(())
    }

    /// The systems, by lane.
    pub fn systems(&self) -> Vec<&'a dyn System> {
        self.lanes.iter().map(|lane| lane.system).collect()
    }

    /// The lanes in another order each time, so that no system always follows the same one.
    pub fn lanes(&mut self) -> Vec<usize> {
        let mut lanes: Vec<usize> = (0..self.lanes.len()).collect();
        for end in (1..lanes.len()).rev() {
            // A linear congruential generator; the multiplier is Knuth's.
            self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            lanes.swap(end, (self.chance >> 33) as usize % (end + 1));
        }
        lanes
    }

    /// The turn of one system: its far end does `task` with `count` messages, and `near` is
    /// called with the near end and the first message's number. Returns how long both took.
    pub fn turn(
        &mut self,
        lane: usize,
        task: Task,
        count: usize,
        near: impl FnOnce(&mut dyn Runner, u64) -> Result<(), Error>,
    ) -> Result<Duration, Error> {
        let Lane { system, near: runner, index, next } = &mut self.lanes[lane];
        let others = match system.far() {
            Far::Process => &mut self.process,
            Far::Thread => &mut self.thread,
        };
        let others = others.as_mut().ok_or("there is no other end")?;
        let first = *next;
        // Of both directions.
        *next += 2 * count as u64;
        let turn = || {
            others.begin(&Order { index: *index, task, first, count })?;
            let start = Instant::now();
            near(runner.as_mut(), first)?;
            others.end()?;
            Ok(start.elapsed())
        };
        turn().map_err(named(*system))
    }
}

/// Puts a system's name in front of what went wrong with it.
fn named(system: &dyn System) -> impl Fn(Error) -> Error {
    move |error| format!("{}: {error}", system.name()).into()
}
