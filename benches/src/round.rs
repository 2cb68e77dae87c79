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

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    };

    use super::*;
    use crate::system::{Opened, Side};

    /// A system of two threads.
    #[derive(Default)]
    struct Channels {
        far: Mutex<Option<End>>,
        /// The message that is passed on wrongly.
        wrong: Option<usize>,
    }

    struct End {
        out: Sender<Vec<u8>>,
        back: Receiver<Vec<u8>>,
        ready: bool,
        sent: usize,
        wrong: Option<usize>,
    }

    impl System for Channels {
        fn name(&self) -> &'static str {
            "channels"
        }

        fn far(&self) -> Far {
            Far::Thread
        }

        fn carries(&self, _: Workload, size: usize) -> bool {
            size <= 64
        }

        fn open(&self, _: &Setup) -> Result<Opened, Error> {
            let ((out, there), (answer, back)) = (channel(), channel());
            let end = |out, back| End { out, back, ready: false, sent: 0, wrong: self.wrong };
            *self.far.lock().unwrap() = Some(end(answer, there));
            Ok(Opened { near: Box::new(end(out, back)), ticket: "--a ticket".to_owned() })
        }

        fn join(&self, _: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
            assert_eq!(ticket, "--a ticket");
            Ok(Box::new(self.far.lock().unwrap().take().unwrap()))
        }
    }

    impl Side for End {
        fn send(&mut self, message: &[u8]) -> Result<(), Error> {
            let mut message = message.to_vec();
            if self.wrong == Some(self.sent) {
                message[0] ^= 1;
            }
            self.sent += 1;
            Ok(self.out.send(message)?)
        }

        fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
            buffer.copy_from_slice(&self.back.recv()?);
            Ok(())
        }

        fn ready(&mut self) -> Result<(), Error> {
            assert!(!self.ready, "once");
            self.ready = true;
            Ok(())
        }
    }

    /// Round trips, and messages one by one and in batches that do not come out even.
    fn all_tasks(system: &Channels) -> Result<(), Error> {
        Round::with(&[system], &[], (Workload::Pingpong, 16), |round| {
            assert_eq!(round.lanes(), [0]);
            for _ in 0..2 {
                let mut times = [0; 100];
                round.turn(0, Task::Echo, 100, |near, first| {
                    near.ping(&mut [0; 16], first, Duration::from_nanos(1), &mut times)
                })?;
                assert!(times.iter().all(|time| *time > 0));
                round
                    .turn(0, Task::Receive, 50, |near, first| near.send(&mut [0; 16], first, 50))?;
                round.turn(0, Task::ReceiveBatches(7), 50, |near, first| {
                    near.send_batches(&mut vec![vec![0; 16]; 8], first, 50)
                })?;
            }
            Ok(())
        })
    }

    #[test]
    fn the_far_end_may_be_a_thread() {
        all_tasks(&Channels::default()).unwrap();
    }

    #[test]
    fn a_message_that_is_not_the_expected_one_is_an_error_and_nobody_hangs() {
        for wrong in [0, 42, 99, 120, 160] {
            let result = all_tasks(&Channels { wrong: Some(wrong), ..Channels::default() });
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with("channels: "), "{error}");
        }
    }

    #[test]
    fn systems_that_do_not_carry_the_messages_take_no_part() {
        let (system, size) = (Channels::default(), (Workload::Stream, 65));
        Round::with(&[&system], &[], size, |round| {
            assert!(round.systems().is_empty());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn nobody_always_follows_the_same_one() {
        let systems: [Channels; 4] = Default::default();
        let systems: [&dyn System; 4] = systems.each_ref().map(|system| system as _);
        Round::with(&systems, &[], (Workload::Stream, 16), |round| {
            let mut pairs = [[0; 4]; 4];
            for _ in 0..1000 {
                round.lanes().windows(2).for_each(|two| pairs[two[0]][two[1]] += 1);
            }
            for (one, follow) in pairs.iter().enumerate() {
                let others = follow.iter().enumerate().filter(|(other, _)| *other != one);
                assert!(others.clone().all(|(_, count)| *count > 200), "{pairs:?}");
            }
            Ok(())
        })
        .unwrap();
    }
}
