use std::{path::PathBuf, time::Duration};

use crate::{
    burst::{Checked, stamp},
    patience::{stopwatch, work},
};

/// What goes wrong with a benchmark, for people to read.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What the two ends do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Round trips of one message. Both ends poll, unless the system's name says that it
    /// blocks.
    Pingpong,
    /// Messages one way, one by one and in batches. Both ends poll, as before.
    Stream,
    /// Round trips of one message to an end that sleeps in the kernel.
    Wake,
}

/// What both ends are set up for.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What they will do.
    pub workload: Workload,
    /// Bytes in a message, at least 8.
    pub size: usize,
    /// A temporary directory that both processes see, for sockets and the like.
    pub directory: PathBuf,
}

/// Where the far end runs. It is pinned on the second processor, the near one on the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// In another process.
    Process,
    /// In another thread of the measuring process.
    Thread,
}

/// A way to pass messages between two processes, or two threads of one.
pub trait System: Sync {
    /// What the reports call it; no other system has the same name.
    fn name(&self) -> &'static str;

    /// Where its far end runs.
    fn far(&self) -> Far {
        Far::Process
    }

    /// Whether it takes part in this workload at this size.
    fn carries(&self, workload: Workload, size: usize) -> bool;

    /// Makes the near end, in the measuring process. The far end joins later.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn open(&self, setup: &Setup) -> Result<Opened, Error>;

    /// Makes the far end, where [`far`](Self::far) says.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn join(&self, setup: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error>;
}

/// The near end of a system.
pub struct Opened {
    /// The end itself.
    pub near: Box<dyn Runner>,
    /// What the far end has to know to join: an argument of the other process.
    pub ticket: String,
}

/// One end of a way to pass messages. All messages of one end have the same length.
///
/// No method waits for ever for an end that is gone.
pub trait Side {
    /// Passes on a message; waits for room. It writes every byte into what is shared.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn send(&mut self, message: &[u8]) -> Result<(), Error>;

    /// Waits for the next message and copies it into `buffer`, which has its length.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error>;

    /// Passes on messages together, if the system has a way to do so.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn send_batch(&mut self, messages: &[Vec<u8>]) -> Result<(), Error> {
        messages.iter().try_for_each(|message| self.send(message))
    }

    /// Receives `count` messages, each into `buffer`, and shows each to `each`.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn receive_batch(
        &mut self,
        buffer: &mut [u8],
        count: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Error>
    where
        Self: Sized,
    {
        for _ in 0..count {
            self.receive(buffer)?;
            each(buffer);
        }
        Ok(())
    }

    /// Called once on the near side when the far side has joined.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn ready(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// The loops over a side, compiled for each: one virtual call a burst, none a message.
///
/// Each message carries a number in its first bytes, which the receiving end checks. A
/// burst's numbers go up from `first`, and no number comes twice.
pub trait Runner: Send {
    /// As [`Side::ready`].
    ///
    /// # Errors
    ///
    /// What the system says.
    fn ready(&mut self) -> Result<(), Error>;

    /// Makes as many round trips as `times` has room for, and puts there how long each
    /// took, in nanoseconds. Both messages of a round trip have a number. Before each it
    /// does something else for `pause`, which does not count.
    ///
    /// # Errors
    ///
    /// What the system says, or that a message is not the expected one.
    fn ping(
        &mut self,
        message: &mut [u8],
        first: u64,
        pause: Duration,
        times: &mut [u64],
    ) -> Result<(), Error>;

    /// Answers `count` messages, for `ping`.
    ///
    /// # Errors
    ///
    /// As `ping`.
    fn echo(&mut self, message: &mut [u8], first: u64, count: usize) -> Result<(), Error>;

    /// Sends `count` messages one by one.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn send(&mut self, message: &mut [u8], first: u64, count: usize) -> Result<(), Error>;

    /// Receives `count` messages one by one.
    ///
    /// # Errors
    ///
    /// As `ping`.
    fn receive(&mut self, message: &mut [u8], first: u64, count: usize) -> Result<(), Error>;

    /// Sends `count` messages, as many at a time as `batch` has.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn send_batches(
        &mut self,
        batch: &mut [Vec<u8>],
        first: u64,
        count: usize,
    ) -> Result<(), Error>;

    /// Receives `count` messages, at most `batch` at a time.
    ///
    /// # Errors
    ///
    /// As `ping`.
    fn receive_batches(
        &mut self,
        message: &mut [u8],
        batch: usize,
        first: u64,
        count: usize,
    ) -> Result<(), Error>;
}

impl<S: Side + Send> Runner for S {
    fn ready(&mut self) -> Result<(), Error> {
        Side::ready(self)
    }

    fn ping(
        &mut self,
        message: &mut [u8],
        first: u64,
        pause: Duration,
        times: &mut [u64],
    ) -> Result<(), Error> {
        let mut checked = Checked::starting_at(first);
        let mut lap = stopwatch();
        for time in times {
            if !pause.is_zero() {
                work(pause);
                lap();
            }
            stamp(message, checked.take());
            Side::send(self, message)?;
            Side::receive(self, message)?;
            *time = lap();
            checked.check(message);
        }
        checked.result()
    }

    fn echo(&mut self, message: &mut [u8], first: u64, count: usize) -> Result<(), Error> {
        let mut checked = Checked::starting_at(first);
        for _ in 0..count {
            Side::receive(self, message)?;
            checked.check(message);
            stamp(message, checked.take());
            Side::send(self, message)?;
        }
        checked.result()
    }

    fn send(&mut self, message: &mut [u8], first: u64, count: usize) -> Result<(), Error> {
        for number in first..first + count as u64 {
            stamp(message, number);
            Side::send(self, message)?;
        }
        Ok(())
    }

    fn receive(&mut self, message: &mut [u8], first: u64, count: usize) -> Result<(), Error> {
        let mut checked = Checked::starting_at(first);
        for _ in 0..count {
            Side::receive(self, message)?;
            checked.check(message);
        }
        checked.result()
    }

    fn send_batches(
        &mut self,
        batch: &mut [Vec<u8>],
        first: u64,
        count: usize,
    ) -> Result<(), Error> {
        let mut number = first;
        let end = first + count as u64;
        while number < end {
            let few = batch.len().min((end - number) as usize);
            for message in &mut batch[..few] {
                stamp(message, number);
                number += 1;
            }
            self.send_batch(&batch[..few])?;
        }
        Ok(())
    }

    fn receive_batches(
        &mut self,
        message: &mut [u8],
        batch: usize,
        first: u64,
        count: usize,
    ) -> Result<(), Error> {
        let mut checked = Checked::starting_at(first);
        let mut left = count;
        while left > 0 {
            let few = batch.min(left);
            self.receive_batch(message, few, |message| checked.check(message))?;
            left -= few;
        }
        checked.result()
    }
}
