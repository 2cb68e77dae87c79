//! Who starts guests, kills, stops and continues them, and asks them to leave.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shm_transport::{CommandExt, Hub};

use super::{
    Options,
    life::{Life, Lives},
    record::Phase,
    report::memory,
};
use crate::{WAIT, pattern::Random};

/// How long a guest is stopped at most.
const LONGEST_STOP: Duration = Duration::from_millis(400);
/// Guests that are stopped in a second.
const STOPS_PER_SECOND: f64 = 4.0;
/// Guests that are asked to leave in a second.
const FAREWELLS_PER_SECOND: f64 = 1.0;
/// How often links that do not end are looked for, in a second.
const LOOKS_PER_SECOND: f64 = 0.2;
/// A link of a killed guest that has not ended after this hangs.
const HANG: Duration = Duration::from_secs(20);

/// A guest process and its life.
struct Guest {
    child: Child,
    life: Arc<Life>,
    stopped_until: Option<Instant>,
}

/// The trouble of one storm.
pub struct Trouble<'a> {
    options: &'a Options,
    path: PathBuf,
    hub: &'a Hub,
    lives: &'a Lives,
    random: Random,
    guests: Vec<Option<Guest>>,
}

/// Something that happens again and again, at random.
struct Recurring {
    every: f64,
    next: Instant,
}

impl Recurring {
    fn new(per_second: f64) -> Self {
        Self { every: 1.0 / per_second, next: Instant::now() }
    }

    /// Whether it is due. What is long overdue, because the machine is busy, is left out.
    fn is_due(&mut self, random: &mut Random) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        let share = random.below(2000) as f64 / 1000.0;
        let next = self.next + Duration::from_secs_f64(self.every * share);
        self.next = next.max(now - Duration::from_secs(1));
        true
    }
}

impl<'a> Trouble<'a> {
    /// For the guests of this hub.
    pub fn new(options: &'a Options, path: PathBuf, hub: &'a Hub, lives: &'a Lives) -> Self {
        let guests = (0..options.guests).map(|_| None).collect();
        Self { options, path, hub, lives, random: Random::new(options.seed), guests }
    }

    /// Causes it, then lets everybody leave in peace.
    pub fn cause(mut self) {
        let start = Instant::now();
        let mut kills = Recurring::new(self.options.kills_per_second);
        let mut stops = Recurring::new(STOPS_PER_SECOND);
        let mut farewells = Recurring::new(FAREWELLS_PER_SECOND);
        let mut looks = Recurring::new(LOOKS_PER_SECOND);
        let mut progress = self.options.progress.map(|every| (every, start + every));
        while start.elapsed() < self.options.duration {
            self.keep_alive();
            if kills.is_due(&mut self.random) {
                self.kill_one();
            } else if stops.is_due(&mut self.random) {
                self.stop_one();
            } else if farewells.is_due(&mut self.random) {
                self.ask_one_to_leave();
            } else if looks.is_due(&mut self.random) {
                self.look_for_hangs();
            } else {
                thread::sleep(Duration::from_millis(1));
            }
            if let Some((every, at)) = &mut progress
                && Instant::now() >= *at
            {
                *at += *every;
                self.say_how_it_goes(start);
            }
        }
        self.farewell();
    }

    /// Starts those that are not there, continues those that were stopped for long enough.
    fn keep_alive(&mut self) {
        for place in 0..self.guests.len() {
            let Some(guest) = &mut self.guests[place] else {
                self.guests[place] = self.start();
                continue;
            };
            if guest.stopped_until.is_some_and(|until| Instant::now() >= until) {
                guest.signal(Signal::SIGCONT);
                guest.stopped_until = None;
            }
            match guest.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) if status.success() => self.guests[place] = None,
                ended => {
                    let number = guest.life.number;
                    self.lives.fail(format!("guest {number} ended by itself: {ended:?}"));
                    self.guests[place] = None;
                }
            }
        }
    }

    fn start(&mut self) -> Option<Guest> {
        let started = self.lives.begin(|life| {
            let mut command = Command::new(&self.options.program);
            command.arg("guest").arg(self.lives.records.path());
            command.args([life.record.number, life.number].map(|number| number.to_string()));
            command.stdin(Stdio::null()).stdout(Stdio::null());
            // Both ways in, on links of both ways to be served.
            let child = if life.number / 2 % 2 == 0 {
                command.arg(&self.path).spawn().map_err(|error| error.to_string())
            } else {
                let spawned = command.spawn_guest(self.hub);
                spawned.map(|spawned| spawned.child).map_err(|error| error.to_string())
            };
            child.map(|child| (child.id(), child))
        });
        match started {
            Ok((life, child)) => {
                self.lives.account().started += 1;
                Some(Guest { child, life, stopped_until: None })
            }
            Err(error) => {
                self.lives.fail(format!("a guest does not start: {error}"));
                thread::sleep(Duration::from_millis(100));
                None
            }
        }
    }

    /// Any of them.
    fn one(&mut self) -> usize {
        self.random.below(self.guests.len() as u64) as usize
    }

    fn kill_one(&mut self) {
        let place = self.one();
        let Some(mut guest) = self.guests[place].take() else { return };
        let is_attached = guest.life.record.phase() != Phase::Started;
        guest.life.mark_killed();
        // It may have left just now.
        let _ = guest.child.kill();
        let _ = guest.child.wait();
        let mut totals = self.lives.account();
        totals.kills += 1;
        totals.kills_before_attach += u64::from(!is_attached);
        totals.kills_while_stopped += u64::from(guest.stopped_until.is_some());
    }

    fn stop_one(&mut self) {
        let place = self.one();
        let length = LONGEST_STOP.mul_f64(self.random.below(1000) as f64 / 1000.0);
        if let Some(guest) = &mut self.guests[place]
            && guest.stopped_until.is_none()
        {
            guest.signal(Signal::SIGSTOP);
            guest.stopped_until = Some(Instant::now() + length);
            self.lives.account().stops += 1;
        }
    }

    fn ask_one_to_leave(&mut self) {
        let place = self.one();
        if let Some(guest) = &self.guests[place] {
            guest.life.record.ask_to_leave();
        }
    }

    /// Continues all, asks all to leave and waits for them.
    fn farewell(mut self) {
        for guest in self.guests.iter_mut().flatten() {
            guest.stopped_until = None;
            guest.signal(Signal::SIGCONT);
            guest.life.record.ask_to_leave();
        }
        let end = Instant::now() + WAIT;
        for guest in self.guests.iter_mut().flatten() {
            let status = loop {
                match guest.child.try_wait() {
                    Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(1)),
                    status => break status,
                }
            };
            if !matches!(status, Ok(Some(status)) if status.success()) {
                let number = guest.life.number;
                self.lives.fail(format!("guest {number} does not leave well: {status:?}"));
                guest.life.mark_killed();
                let _ = guest.child.kill();
                let _ = guest.child.wait();
            }
        }
    }

    fn look_for_hangs(&self) {
        let hang = self.lives.prune(HANG);
        if hang > 0 {
            self.lives.fail(format!("{hang} links of killed guests do not end"));
        }
    }

    fn say_how_it_goes(&self, start: Instant) {
        let totals = self.lives.totals();
        println!(
            "{:>5.0} s  {}  {} MiB",
            start.elapsed().as_secs_f64(),
            totals.in_short(),
            memory() >> 20
        );
    }
}

impl Guest {
    fn signal(&self, signal: Signal) {
        // It may have left just now, and is then still to be waited for.
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }
}
