//! The host's side: one thread deals blocks to all guests and checks their answers.

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
/// How long they may take to leave if they have not answered all.
const SHORT_GRACE: Duration = Duration::from_secs(1);

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

/// Ends: wanted and unwanted.
impl Demo<'_> {
    /// Kills a guest that has just been sent blocks, if the middle has come.
    fn kill_in_the_middle(&mut self, index: usize) -> Result<(), Failure> {
        if !self.options.kill || self.recovery.is_some() {
            return Ok(());
        }
        let elapsed = self.began.elapsed();
        let is_middle = match self.options.passes {
            Some(passes) => self.ledger.dealt() * 2 >= passes * self.blocks.per_pass(),
            None => elapsed * 2 >= self.options.seconds,
        };
        let worker = &mut self.workers[index];
        if !is_middle || worker.unanswered.is_empty() {
            return Ok(());
        }
        let killed_at = Instant::now();
        worker.kill()?;
        self.recovery = Some(Recovery {
            guest: worker.number,
            pid: worker.pid(),
            peer: worker.peer,
            after: elapsed,
            detected: None,
            slots_held: 0,
            heir: None,
            handed_over: 0,
            reclaimed: None,
            killed_at,
        });
        Ok(())
    }

    /// A link ended, and all answers that came before its end have been received.
    fn ended(&mut self, index: usize, key: LinkKey, end: LinkEnd) -> Result<(), Failure> {
        let worker = &mut self.workers[index];
        let killed = self.recovery.as_mut().filter(|killed| killed.guest == worker.number);
        let Some(recovery) = killed.filter(|_| end == LinkEnd::PeerDead) else {
            // A signal of the terminal goes to the guests as well.
            self.interrupt.check()?;
            return Err(Failure::Ended { guest: worker.number, end });
        };
        recovery.detected = Some(recovery.killed_at.elapsed());
        worker.gone = true;
        worker.key = None;
        if let Some(mut link) = self.links.remove(key) {
            recovery.slots_held = link.sender.slots_in_flight();
        }
        Ok(())
    }

    /// Starts a new guest in the place of the one that was killed, when its entry is free.
    fn replace_the_dead(&mut self) -> Result<(), Failure> {
        let Some(recovery) = &mut self.recovery else { return Ok(()) };
        let Some(detected) = recovery.detected.filter(|_| recovery.heir.is_none()) else {
            return Ok(());
        };
        if self.host.hub().peers().iter().any(|entry| entry.id == recovery.peer) {
            return if recovery.killed_at.elapsed() < detected + GRACE {
                Ok(())
            } else {
                Err(Failure::NotFreed { guest: recovery.guest })
            };
        }
        let number = self.workers.len() + 1;
        let mut heir = Worker::start(self.host.hub(), number, None)?;
        if let Some(dead) = self.workers.iter_mut().find(|w| w.number == recovery.guest) {
            heir.again = dead.unanswered.take_all();
            dead.reap(Instant::now() + GRACE)?;
        }
        recovery.handed_over = heir.again.len();
        recovery.heir = Some(number);
        self.workers.push(heir);
        Ok(())
    }

    /// Notes when the new guest has been sent all that the killed one left.
    fn note_reclaimed(&mut self, index: usize) {
        let worker = &self.workers[index];
        if let Some(recovery) = &mut self.recovery
            && recovery.heir == Some(worker.number)
            && recovery.reclaimed.is_none()
            && worker.again.is_empty()
        {
            recovery.reclaimed = Some(recovery.killed_at.elapsed());
        }
    }

    /// Says goodbye, and waits until every guest has left and its process has ended.
    fn send_home(&mut self) -> Result<(), Failure> {
        // Whoever did not answer may not leave either: the blocks tell enough.
        let must_leave = self.ledger.unanswered() == 0;
        self.hub().say_goodbye();
        let until = Instant::now() + if must_leave { GRACE } else { SHORT_GRACE };
        while !self.links.is_empty() && Instant::now() < until {
            self.interrupt.check()?;
            let mut events = std::mem::take(&mut self.events);
            self.links.wait(&mut events, TICK).map_err(Failure::of("wait for guests"))?;
            for event in &events {
                if let LinkEvent::Ready(key) = *event {
                    self.see_off(key)?;
                }
            }
            self.events = events;
        }
        for (_, link) in self.links.iter_mut() {
            self.slots_left += link.sender.slots_in_flight();
        }
        for worker in self.workers.iter_mut().filter(|worker| worker.is_serving()) {
            match worker.reap(until) {
                Ok(status) if !status.success() => {
                    self.interrupt.check()?;
                    return Err(Failure::BadExit { guest: worker.number, status });
                }
                // It is killed with the rest.
                Err(Failure::Stays { .. }) if !must_leave => {}
                result => drop(result?),
            }
        }
        Ok(())
    }

    /// Receives what a guest still says, until it has left.
    fn see_off(&mut self, key: LinkKey) -> Result<(), Failure> {
        let Some(index) = self.workers.iter().position(|w| w.key == Some(key)) else {
            self.links.remove(key);
            return Ok(());
        };
        match self.receive_batch(index, key)? {
            None => {}
            Some(LinkEnd::Departed) => {
                if let Some(mut link) = self.links.remove(key) {
                    self.slots_left += link.sender.slots_in_flight();
                }
            }
            Some(end) => {
                self.interrupt.check()?;
                return Err(Failure::Ended { guest: self.workers[index].number, end });
            }
        }
        Ok(())
    }
}
