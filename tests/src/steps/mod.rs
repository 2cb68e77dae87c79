//! One operation of another process, run instruction by instruction and ended by a kill after
//! any of them. What survives is checked after each kill.
//!
//! The *victim* is a role of the helper. It prepares, [`begin`]s, does the operation and
//! [`end`]s: both stop it for the test that traces it; see ptrace(2). Only the thread of the
//! operation is traced and stepped, its others run as ever. A *trial* makes a victim, kills
//! it where the [`Strike`] says, and returns what became of the operation. [`sweep`] makes
//! trials for one instruction after the other.
//!
//! `SHM_TEST_STEPS=0` is the whole form: a kill after every instruction of every operation,
//! but in stretches of more than 2,000 instructions without a system call (loops that poll)
//! after every 97th of what is beyond. Any other number is about how many kills there are for
//! each operation, at even distances and not in what is beyond; where the outcome differs
//! between two of them, the instruction that makes the difference is searched for.

pub mod operation;
pub mod scene;
pub mod survivor;
mod victim;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

pub use self::victim::{Stop, Victim, Wake, begin, end};
use crate::{
    amount,
    counts::{Holdings, holdings},
    eventually,
};

/// How many kills an operation gets in the short form.
const SHORT: u64 = 8;
/// How many places in each of two victims are paired in the short form.
const SHORT_PAIRS: u64 = 2;
/// Instructions after a system call that are reached quickly.
const NEAR: u64 = 2000;
/// The distance of kills further on.
const FAR: u64 = 97;

/// Where a trial kills its victim.
#[derive(Debug)]
pub struct Strike<'a> {
    plan: Plan<'a>,
    /// Instructions that the victim has done.
    steps: u64,
    came_to_its_end: bool,
}

#[derive(Debug)]
enum Plan<'a> {
    /// At the end of the operation. Notes after how many instructions each of its system
    /// calls returned.
    AtEnd(&'a mut Vec<u64>),
    /// After so many instructions. It is let run up to the last system call before.
    After(u64, &'a [u64]),
    /// Asleep in a system call.
    Asleep,
}

impl<'a> Strike<'a> {
    /// At the end of the operation; notes its way.
    pub fn at_end(route: &'a mut Vec<u64>) -> Self {
        Self::new(Plan::AtEnd(route))
    }

    /// After so many instructions of an operation whose way is known.
    #[must_use]
    pub fn after(instructions: u64, route: &'a [u64]) -> Self {
        Self::new(Plan::After(instructions, route))
    }

    fn new(plan: Plan<'a>) -> Self {
        Self { plan, steps: 0, came_to_its_end: false }
    }

    /// Runs the victim from its beginning to where it is to be killed, and stops it there.
    pub fn run(&mut self, victim: &Victim) {
        self.go(victim, None);
    }

    /// Like [`run`](Self::run). Whenever the victim sleeps in a system call, `wake` is called
    /// and says whether it does something about it. If not the victim stays there.
    ///
    /// # Panics
    ///
    /// If the victim ends or hangs.
    pub fn run_beside(&mut self, victim: &Victim, mut wake: impl FnMut() -> bool) {
        self.go(victim, Some(&mut wake));
    }

    fn go(&mut self, victim: &Victim, mut wake: Wake<'_>) {
        let stop = match &mut self.plan {
            Plan::AtEnd(route) => loop {
                let is_call = victim.is_at_call();
                match victim.step(&mut wake) {
                    Stop::Trap => self.steps += 1,
                    stop => break stop,
                }
                if is_call {
                    route.push(self.steps);
                }
            },
            Plan::After(instructions, route) => {
                let calls = route.partition_point(|returned| returned <= instructions);
                // A stop where each begins and where it ends.
                let mut stop = Stop::Trap;
                for _ in 0..calls * 2 {
                    stop = victim.to_call(&mut wake);
                    if stop != Stop::Trap {
                        break;
                    }
                }
                self.steps =
                    calls.checked_sub(1).and_then(|last| route.get(last)).map_or(0, |n| *n);
                while stop == Stop::Trap && self.steps < *instructions {
                    stop = victim.step(&mut wake);
                    self.steps += 1;
                }
                stop
            }
            Plan::Asleep => loop {
                match victim.to_call(&mut Some(&mut || false)) {
                    Stop::Trap => {}
                    stop => break stop,
                }
            },
        };
        if matches!(self.plan, Plan::Asleep) {
            assert_eq!(stop, Stop::Asleep, "it is to sleep");
        }
        self.came_to_its_end = stop == Stop::End;
    }

    /// Whether the victim came to the end of its operation.
    #[must_use]
    pub fn came_to_its_end(&self) -> bool {
        self.came_to_its_end
    }
}

/// What a sweep needs to know of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Sweep<'a> {
    /// Its name; that of both for two victims.
    pub name: &'a str,
    /// Every outcome that there can be, from that of a kill before the first instruction to
    /// that of a kill after the last one.
    pub outcomes: &'a [&'static str],
    /// Whether it sleeps in a system call; then it is also killed there.
    pub sleeps: bool,
}

/// Kills operations of a test file are counted here.
static KILLS: AtomicU64 = AtomicU64::new(0);

/// Only one test of a process sweeps at a time: what the process holds is counted.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After how many instructions an operation of so many is killed, and whether that is the
/// whole form; `route` is when its system calls returned.
#[must_use]
pub fn places(instructions: u64, route: &[u64], kills: u64) -> (Vec<u64>, bool) {
    let last_call = |at: u64| match route.partition_point(|returned| *returned <= at) {
        0 => 0,
        calls => route[calls - 1],
    };
    let is_near = |at: &u64| at - last_call(*at) <= NEAR;
    match kills {
        0 => ((0..=instructions).filter(|at| is_near(at) || at % FAR == 0).collect(), true),
        _ => ((0..=instructions).filter(is_near).collect(), false),
    }
}

impl Sweep<'_> {
    /// Makes a trial for each place to kill at; after each, this process holds what it held
    /// after the first one. Prints what became of all.
    ///
    /// # Panics
    ///
    /// If a trial does, if there is an outcome that there must not be, if that of a kill
    /// before or after the operation did not occur, or, in the whole form, any of them.
    pub fn run(&self, mut trial: impl FnMut(&mut Strike<'_>) -> &'static str) {
        let begun = Instant::now();
        let mut route = Vec::new();
        let mut tally = Tally { sweep: self, counts: vec![0; self.outcomes.len()], held: None };
        let mut at_end = Strike::at_end(&mut route);
        let last = tally.trial(&mut at_end, "at its end", &mut trial);
        let all = at_end.steps;
        assert_eq!(last, self.outcomes.len() - 1, "{}: the outcome of all of it", self.name);
        let mut at = |instructions: u64, tally: &mut Tally<'_>| {
            let place = format!("after {instructions} of {all} instructions");
            tally.trial(&mut Strike::after(instructions, &route), &place, &mut trial)
        };
        let wanted = amount("SHM_TEST_STEPS", SHORT);
        let (places, whole) = places(all, &route, wanted);
        // Odd strides do not run in step with loops.
        let stride = if whole { 1 } else { (places.len() / wanted as usize) | 1 };
        let (mut before, mut kills) = ((0, 0), 0);
        for index in (0..places.len()).step_by(stride).chain([places.len() - 1]) {
            let now = (index, at(places[index], &mut tally));
            kills += 1;
            // The instruction between two kills that makes the difference.
            let (mut low, mut high) = (before, now);
            while low.1 != high.1 && high.0 - low.0 > 1 {
                let middle = low.0 + (high.0 - low.0) / 2;
                let found = (middle, at(places[middle], &mut tally));
                kills += 1;
                if found.1 == low.1 { low = found } else { high = found }
            }
            before = now;
        }
        if self.sleeps {
            tally.trial(&mut Strike::new(Plan::Asleep), "asleep", &mut trial);
            kills += 1;
        }
        let counts = tally.finish(whole);
        println!(
            "{}: {all} instructions, {} system calls, {kills} kills, 0 bad: {counts} \
             ({:.1} s; {} kills so far)",
            self.name,
            route.len(),
            begun.elapsed().as_secs_f64(),
            KILLS.load(Ordering::Relaxed),
        );
    }
}

impl Sweep<'_> {
    /// Kills two victims one after the other: `first` kills the first where it is told to,
    /// and `trial` the second, which comes upon what the first one left, and returns what a
    /// third one finds. About `SHM_TEST_PAIRS` places in each of both are paired.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run); no outcome between the first and the last has to occur.
    pub fn run_pairs(
        &self,
        mut first: impl FnMut(&mut Strike<'_>),
        mut trial: impl FnMut(&mut Strike<'_>) -> &'static str,
    ) {
        let begun = Instant::now();
        let mut tally = Tally { sweep: self, counts: vec![0; self.outcomes.len()], held: None };
        let mut route = Vec::new();
        let mut at_end = Strike::at_end(&mut route);
        first(&mut at_end);
        let all = at_end.steps;
        let mut kill_second = |strike: &mut Strike<'_>, place: &str, tally: &mut Tally<'_>| {
            tally.trial(strike, place, &mut trial)
        };
        let mut second_route = Vec::new();
        let mut at_end = Strike::at_end(&mut second_route);
        kill_second(&mut at_end, "at the end of both", &mut tally);
        let mut second_all = at_end.steps;
        let wanted = amount("SHM_TEST_PAIRS", SHORT_PAIRS);
        let (mut pairs, mut longest) = (0u64, 0);
        for (round, instructions) in spread(&places(all, &route, 1).0, wanted, 0).enumerate() {
            let place = format!("the first after {instructions} of {all} instructions");
            // What the second one does depends on what it finds. To look costs much time.
            if wanted > SHORT_PAIRS {
                second_route.clear();
                first(&mut Strike::after(instructions, &route));
                let mut at_end = Strike::at_end(&mut second_route);
                kill_second(&mut at_end, &format!("{place}, the second at its end"), &mut tally);
                second_all = at_end.steps;
            }
            longest = longest.max(second_all);
            let second_places = places(second_all, &second_route, 1).0;
            for second_instructions in spread(&second_places, wanted, round) {
                let place = format!("{place}, the second after {second_instructions}");
                first(&mut Strike::after(instructions, &route));
                let mut strike = Strike::after(second_instructions, &second_route);
                kill_second(&mut strike, &place, &mut tally);
                pairs += 1;
            }
        }
        let counts = tally.finish(false);
        println!(
            "{}: {all} instructions, then up to {longest}: {pairs} pairs of kills, 0 bad: {counts} \
             ({:.1} s)",
            self.name,
            begun.elapsed().as_secs_f64(),
        );
    }
}

/// So many of the places, from the first to the last; those between are others for each
/// round.
fn spread(places: &[u64], wanted: u64, round: usize) -> impl Iterator<Item = u64> {
    let last = places.len() - 1;
    let stride = (last / wanted.max(1) as usize).max(1);
    let between = (1 + round * 7 % stride..last).step_by(stride);
    [0].into_iter().chain(between).chain([last]).map(|index| places[index])
}

struct Tally<'a> {
    sweep: &'a Sweep<'a>,
    counts: Vec<u64>,
    /// What this process holds between two trials.
    held: Option<Holdings>,
}

impl Tally<'_> {
    fn trial(
        &mut self,
        strike: &mut Strike<'_>,
        place: &str,
        trial: &mut impl FnMut(&mut Strike<'_>) -> &'static str,
    ) -> usize {
        let name = self.sweep.name;
        // The place is what is needed to see it again.
        let outcome = catch_unwind(AssertUnwindSafe(|| trial(strike))).unwrap_or_else(|panic| {
            eprintln!("{name}: killed {place}: bad");
            resume_unwind(panic)
        });
        let rank = self.sweep.outcomes.iter().position(|known| *known == outcome);
        let rank = rank.unwrap_or_else(|| panic!("{name}: killed {place}: {outcome}"));
        self.counts[rank] += 1;
        KILLS.fetch_add(1, Ordering::Relaxed);
        match self.held {
            None => self.held = Some(settled()),
            // A thread that has just ended may still be about to let go.
            Some(held) => {
                let mut now = holdings();
                if now != held {
                    let wait = || eventually(|| (holdings() == held).then_some(()));
                    let _ = catch_unwind(AssertUnwindSafe(wait));
                    now = holdings();
                }
                assert_eq!(now, held, "{name}: killed {place}: what this process holds");
            }
        }
        rank
    }

    fn finish(&self, whole: bool) -> String {
        let all = self.sweep.outcomes.iter().zip(&self.counts);
        let ends = [0, self.counts.len() - 1];
        for (rank, (outcome, count)) in all.clone().enumerate() {
            let must_be = whole || ends.contains(&rank);
            assert!(*count > 0 || !must_be, "{}: never {outcome}", self.sweep.name);
        }
        all.map(|(outcome, count)| format!("{outcome} {count}")).collect::<Vec<_>>().join(", ")
    }
}

/// What this process holds when that does not change any more.
fn settled() -> Holdings {
    let mut last = holdings();
    loop {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let now = holdings();
        if now == last {
            return now;
        }
        last = now;
    }
}
