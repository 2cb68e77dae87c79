//! A guest process as the host sees it.

use std::{
    collections::VecDeque,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use shm_transport::{CommandExt, Hub, LinkKey, PeerId};

use super::{blocks::SELF, failure::Failure, ledger::Unanswered, options::Fault};

/// A guest process. It does not outlive this.
#[derive(Debug)]
pub struct Worker {
    /// Counts the guests from 1.
    pub number: usize,
    /// Its entry in the hub.
    pub peer: PeerId,
    /// Its link, from its attach to the end.
    pub key: Option<LinkKey>,
    /// Whether its link has ended.
    pub gone: bool,
    /// Blocks that another guest left unanswered, to be sent to this one first.
    pub again: VecDeque<u64>,
    /// Blocks sent to it and not answered.
    pub unanswered: Unanswered,
    /// What it has done.
    pub work: Work,
    child: Child,
    status: Option<ExitStatus>,
}

/// What a guest has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Blocks that it answered.
    pub blocks: u64,
    /// Bytes in those blocks.
    pub bytes: u64,
    /// From its first block to its last answer.
    pub time: Duration,
    began: Option<Instant>,
}

impl Work {
    /// A block was sent.
    pub fn sent(&mut self) {
        self.began.get_or_insert_with(Instant::now);
    }

    /// A block was answered.
    pub fn answered(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes += bytes;
    }

    /// A batch of answers ended now.
    pub fn note_time(&mut self, now: Instant) {
        if let Some(began) = self.began {
            self.time = now.saturating_duration_since(began);
        }
    }
}

impl Worker {
    /// Starts a guest process: this program, in another role.
    pub fn start(hub: &Hub, number: usize, fault: Option<Fault>) -> Result<Self, Failure> {
        let mut command = Command::new(SELF);
        command.arg0("shmctl").args(["demo", "--role", "guest"]);
        if let Some(fault) = fault {
            command.args(["--fault", fault.argument()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let started = command.spawn_guest(hub).map_err(Failure::of("start a guest"))?;
        Ok(Self {
            number,
            peer: started.peer,
            key: None,
            gone: false,
            again: VecDeque::new(),
            unanswered: Unanswered::default(),
            work: Work::default(),
            child: started.child,
            status: None,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL, and does not wait for its end.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().map_err(Failure::of("kill a guest"))
    }

    /// How its process ended, if it has.
    pub fn try_reap(&mut self) -> Result<Option<ExitStatus>, Failure> {
        if self.status.is_none() {
            self.status = self.child.try_wait().map_err(Failure::of("wait for a guest"))?;
        }
        Ok(self.status)
    }

    /// How its process ended, waiting for that until `deadline`.
    pub fn reap(&mut self, deadline: Instant) -> Result<ExitStatus, Failure> {
        loop {
            if let Some(status) = self.try_reap()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Failure::Stays { guest: self.number });
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Whether it may still be sent blocks or answer some.
    pub fn is_serving(&self) -> bool {
        !self.gone
    }

    /// Whether it has attached and owes nothing.
    pub fn is_idle(&self) -> bool {
        self.gone || (self.key.is_some() && self.unanswered.is_empty() && self.again.is_empty())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.status.is_none() {
            // Both fail only if it has ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
