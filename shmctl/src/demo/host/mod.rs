//! The host's side: one thread deals blocks to all guests and checks their answers.

mod farewell;
mod kill;

use std::time::{Duration, Instant};

use shm_transport::{Host, Hub, LinkEnd, LinkEvent, LinkKey, LinkSet, RecvError, SendError};
use tempfile::TempDir;

use super::{
    blocks::Blocks,
    failure::Failure,
    interrupt::Interrupt,
    ledger::{Faults, Ledger},
    options::Options,
    progress::Progress,
    recovery::Recovery,
    wire,
    worker::{Work, Worker},
};

/// Blocks sent to a guest and not answered, at most.
const WINDOW: usize = 128;
/// Blocks sent to a guest in one go at the start, so that a small file goes to all of them.
const FIRST_SHARE: usize = 4;
/// Answers received from a guest before the next guest's turn.
const BATCH: usize = 64;
/// How long a wait is at most: signals and dead children are looked for in between.
const TICK: Duration = Duration::from_millis(20);
/// How long guests may take to attach, to leave, and the hub to free an entry.
const GRACE: Duration = Duration::from_secs(10);

/// A host, its guests, and how far they have come.
pub struct Demo<'a> {
    options: &'a Options,
    blocks: &'a Blocks,
    interrupt: &'a Interrupt,
    progress: &'a Progress,
    // Dropped in this order: guests, links, host, and the directory of its path.
    workers: Vec<Worker>,
    links: LinkSet,
    host: Host,
    _directory: TempDir,
    events: Vec<LinkEvent>,
    ledger: Ledger,
    recovery: Option<Recovery>,
    has_begun: bool,
    began: Instant,
    last_answer: Instant,
    last_tick: Instant,
    all_dealt: bool,
    slots_left: usize,
}

/// What came of it.
pub struct Outcome {
    /// Every guest, in the order of their start, with its process id and work.
    pub guests: Vec<(usize, u32, Work)>,
    /// From the first block to the last answer.
    pub time: Duration,
    /// Blocks without an answer.
    pub lost: u64,
    /// What was wrong with answers.
    pub faults: Faults,
    /// The kill, if there was one.
    pub recovery: Option<Recovery>,
    /// Slots that guests had not given back when they left.
    pub slots_left: usize,
}

impl<'a> Demo<'a> {
    /// Makes the host and starts the guests.
    pub fn start(
        options: &'a Options,
        blocks: &'a Blocks,
        interrupt: &'a Interrupt,
        progress: &'a Progress,
    ) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("shmctl-demo-")
            .tempdir()
            .map_err(Failure::of("make a directory for the hub"))?;
        let host = Host::builder()
            // Exactly: a guest that is to replace a dead one needs its entry.
            .max_guests(options.guests.into())
            .create(directory.path().join("hub"))
            .map_err(Failure::of("create the host"))?;
        let now = Instant::now();
        let mut demo = Self {
            options,
            blocks,
            interrupt,
            progress,
            workers: Vec::new(),
            links: LinkSet::new().map_err(Failure::of("make a set of links"))?,
            host,
            _directory: directory,
            events: Vec::new(),
            ledger: Ledger::default(),
            recovery: None,
            has_begun: false,
            began: now,
            last_answer: now,
            last_tick: now,
            all_dealt: false,
            slots_left: 0,
        };
        for number in 1..=usize::from(options.guests) {
            let fault = options.fault.filter(|_| number == 1);
            demo.workers.push(Worker::start(demo.hub(), number, fault)?);
        }
        Ok(demo)
    }

    /// Deals all blocks, collects all answers, and sends the guests home.
    pub fn run(mut self) -> Result<Outcome, Failure> {
        self.await_guests()?;
        self.has_begun = true;
        self.began = Instant::now();
        self.last_answer = self.began;
        self.deal_first_shares()?;
        while !self.is_done() && self.last_answer.elapsed() < self.options.patience {
            self.serve_once()?;
            self.replace_the_dead()?;
        }
        let time = self.last_answer.saturating_duration_since(self.began);
        self.send_home()?;
        Ok(Outcome {
            guests: self.workers.iter().map(|w| (w.number, w.pid(), w.work)).collect(),
            time,
            lost: self.ledger.unanswered(),
            faults: self.ledger.faults,
            recovery: self.recovery.take(),
            slots_left: self.slots_left,
        })
    }

    fn hub(&self) -> &Hub {
        self.host.hub()
    }

    /// Waits until the guests have attached, so that none begins before the others.
    fn await_guests(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + GRACE;
        while self.workers.iter().any(|worker| worker.key.is_none()) {
            if Instant::now() >= until {
                return Err(Failure::SlowToAttach);
            }
            self.serve_once()?;
        }
        Ok(())
    }

    /// Deals the first blocks in small shares, round by round, until no guest takes more.
    fn deal_first_shares(&mut self) -> Result<(), Failure> {
        for round in 1..=WINDOW / FIRST_SHARE {
            for index in 0..self.workers.len() {
                self.deal(index, round * FIRST_SHARE)?;
            }
        }
        Ok(())
    }

    /// One wait, and what came of it.
    fn serve_once(&mut self) -> Result<(), Failure> {
        let mut events = std::mem::take(&mut self.events);
        self.links
            .wait_with(&mut self.host, &mut events, TICK)
            .map_err(Failure::of("wait for guests"))?;
        for event in &events {
            match *event {
                LinkEvent::Attached(key) => self.admit(key)?,
                LinkEvent::Ready(key) => self.receive(key)?,
                _ => {}
            }
        }
        self.events = events;
        let now = Instant::now();
        if now.saturating_duration_since(self.last_tick) >= TICK {
            self.last_tick = now;
            self.tick(now)?;
        }
        Ok(())
    }

    /// What is done now and then.
    fn tick(&mut self, now: Instant) -> Result<(), Failure> {
        self.interrupt.check()?;
        for worker in &mut self.workers {
            if worker.key.is_none()
                && worker.is_serving()
                && let Some(status) = worker.try_reap()?
            {
                return Err(Failure::NeverAttached { guest: worker.number, status });
            }
        }
        // Who had no room, and has answered nothing since.
        for index in 0..self.workers.len() {
            self.deal(index, WINDOW)?;
        }
        let (messages, bytes) = self
            .workers
            .iter()
            .fold((0, 0), |(m, b), worker| (m + worker.work.blocks, b + worker.work.bytes));
        let serving = self.workers.iter().filter(|worker| worker.is_serving()).count();
        self.progress.show(now, self.share_done(now, messages), messages, bytes, serving);
        Ok(())
    }

    /// How much of the whole is done, from 0 to 1.
    fn share_done(&self, now: Instant, answered: u64) -> f64 {
        let passes = self.options.passes.unwrap_or(1);
        let of_blocks = answered as f64 / (passes * self.blocks.per_pass()) as f64;
        let elapsed = now.saturating_duration_since(self.began).as_secs_f64();
        let of_time = match self.options.passes {
            Some(_) => 1.0,
            None => elapsed / self.options.seconds.as_secs_f64().max(0.001),
        };
        of_blocks.min(of_time)
    }

    /// A guest attached.
    fn admit(&mut self, key: LinkKey) -> Result<(), Failure> {
        let peer = self.links.get_mut(key).map(|link| link.peer());
        let found = self.workers.iter().position(|w| Some(w.peer) == peer && !w.gone);
        let Some(index) = found else {
            // A stranger, which came by the path.
            self.links.remove(key);
            return Ok(());
        };
        self.workers[index].key = Some(key);
        // The first guests wait for each other: this is for the one that comes later.
        self.deal(index, WINDOW)
    }

    /// Receives answers of one guest, and sends it more blocks.
    fn receive(&mut self, key: LinkKey) -> Result<(), Failure> {
        let Some(index) = self.workers.iter().position(|w| w.key == Some(key)) else {
            return Ok(());
        };
        let end = self.receive_batch(index, key)?;
        self.workers[index].work.note_time(self.last_answer);
        match end {
            Some(end) => self.ended(index, key, end),
            None => self.deal(index, WINDOW),
        }
    }

    fn receive_batch(&mut self, index: usize, key: LinkKey) -> Result<Option<LinkEnd>, Failure> {
        let Self { links, workers, ledger, blocks, last_answer, .. } = self;
        let worker = &mut workers[index];
        let Some(link) = links.get_mut(key) else { return Ok(None) };
        let mut any = false;
        let mut ended = None;
        for _ in 0..BATCH {
            let answer = match link.try_recv() {
                Ok(Some(message)) => wire::decode_answer(&message),
                Ok(None) => break,
                Err(RecvError::Ended(end)) => {
                    ended = Some(end);
                    break;
                }
                Err(error) => return Err(Failure::of("receive an answer")(error)),
            };
            let Some((id, digest)) = answer else {
                ledger.nonsense();
                continue;
            };
            let is_right = blocks.digest(id) == &digest;
            if ledger.answer(id, &mut worker.unanswered, is_right) {
                worker.work.answered(blocks.bytes(id).len() as u64);
                any = true;
            }
        }
        if any {
            *last_answer = Instant::now();
        }
        Ok(ended)
    }

    /// Sends blocks to a guest until it has `window` unanswered ones, or there is no room.
    fn deal(&mut self, index: usize, window: usize) -> Result<(), Failure> {
        let key = self.workers[index].key;
        if !self.has_begun {
            return Ok(());
        }
        while self.workers[index].unanswered.len() < window {
            let again = self.workers[index].again.front().copied();
            let id = match again {
                Some(id) => id,
                None if self.has_more() => self.ledger.dealt(),
                None => break,
            };
            let Some(link) = key.and_then(|key| self.links.get_mut(key)) else { break };
            match wire::try_send_block(link, id, self.blocks.bytes(id)) {
                Ok(()) => {}
                // Its end is reported when its last answers have been received.
                Err(SendError::Full | SendError::Ended(_)) => break,
                Err(error) => return Err(Failure::of("send a block")(error)),
            }
            let worker = &mut self.workers[index];
            if worker.again.pop_front().is_none() {
                self.ledger.deal();
            }
            worker.unanswered.push(id);
            worker.work.sent();
        }
        self.note_reclaimed(index);
        self.kill_in_the_middle(index)
    }

    /// Whether there are more blocks to deal.
    fn has_more(&mut self) -> bool {
        let dealt = self.ledger.dealt();
        let between_passes = dealt.is_multiple_of(self.blocks.per_pass());
        if between_passes && dealt > 0 && !self.all_dealt {
            self.all_dealt = match self.options.passes {
                Some(passes) => dealt >= passes * self.blocks.per_pass(),
                None => {
                    let kill_is_due = self.options.kill && self.recovery.is_none();
                    self.began.elapsed() >= self.options.seconds && !kill_is_due
                }
            };
        }
        !self.all_dealt
    }

    /// Whether every block is dealt and answered, and the dead guest replaced.
    fn is_done(&mut self) -> bool {
        self.workers.iter().all(Worker::is_idle)
            && self.recovery.as_ref().is_none_or(|recovery| recovery.reclaimed.is_some())
            && !self.has_more()
    }
}
