//! One trial after the other.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{route::Route, strike::Strike};
use crate::{
    amount,
    counts::{Holdings, holdings},
    eventually,
};

/// How many kills an operation gets in the short form, beside the search for where its outcome
/// changes.
const SHORT: u64 = 40;

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

/// Kills in this process.
static KILLS: AtomicU64 = AtomicU64::new(0);

impl Sweep<'_> {
    /// Makes a trial for each place to kill at; after each, this process holds no more than it
    /// held before. Prints what became of all.
    ///
    /// # Panics
    ///
    /// If a trial does, if there is an outcome that there must not be, if that of a kill
    /// before or after the operation did not occur, or, in the whole form, any of them.
    pub fn run(&self, mut trial: impl FnMut(&mut Strike<'_>) -> &'static str) {
        let begun = Instant::now();
        let mut route = Route::default();
        let mut tally = Tally::new(self);
        let mut at_end = Strike::at_end(&mut route);
        let last = tally.trial(&mut at_end, "at its end", &mut trial);
        let all = at_end.steps();
        assert_eq!(last, self.outcomes.len() - 1, "{}: the outcome of all of it", self.name);
        let mut at = |instructions: u64, tally: &mut Tally<'_>| {
            let place = format!("after {instructions} of {all} instructions");
            tally.trial(&mut Strike::after(instructions, &route), &place, &mut trial)
        };
        let wanted = amount("SHM_TEST_STEPS", SHORT);
        // Odd strides do not run in step with loops.
        let stride = all.checked_div(wanted).map_or(1, |stride| stride | 1);
        let mut before = (0, 0);
        for instructions in (0..all).step_by(stride as usize).chain([all]) {
            let now = (instructions, at(instructions, &mut tally));
            // The instructions between two kills that make the differences.
            let mut between = vec![(before, now)];
            while let Some((low, high)) = between.pop() {
                if low.1 != high.1 && high.0 - low.0 > 1 {
                    let middle = low.0 + (high.0 - low.0) / 2;
                    let found = (middle, at(middle, &mut tally));
                    between.extend([(low, found), (found, high)]);
                }
            }
            before = now;
        }
        if self.sleeps {
            tally.trial(&mut Strike::asleep(), "asleep", &mut trial);
        }
        let counts = tally.finish(wanted == 0);
        println!(
            "{}: {all} instructions, {} system calls, {} kills ({} elsewhere), 0 bad: \
             {counts} ({:.1} s; {} kills so far)",
            self.name,
            route.calls(),
            tally.kills,
            tally.elsewhere,
            begun.elapsed().as_secs_f64(),
            KILLS.load(Ordering::Relaxed),
        );
    }
}

/// What became of the trials of a sweep.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    sweep: &'a Sweep<'a>,
    /// How often each outcome occurred.
    counts: Vec<u64>,
    /// Victims that were killed in the middle of their operation.
    pub(super) kills: u64,
    /// Those of them that went another way and were killed at another place than was meant.
    elsewhere: u64,
    /// What this process holds between two trials.
    held: Option<Holdings>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(sweep: &'a Sweep<'a>) -> Self {
        Self { sweep, counts: vec![0; sweep.outcomes.len()], kills: 0, elsewhere: 0, held: None }
    }

    /// Makes one. `place` says where its victim is killed. Returns the rank of its outcome.
    pub(super) fn trial(
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
        if !strike.came_to_its_end() {
            self.kills += 1;
            self.elsewhere += u64::from(strike.went_elsewhere());
            KILLS.fetch_add(1, Ordering::Relaxed);
        }
        self.held = Some(match self.held {
            None => settled(),
            // A thread that has just ended may still be about to let go, now or then.
            Some(held) => {
                let is_no_more = |now: &Holdings| {
                    now.descriptors <= held.descriptors
                        && now.memfds <= held.memfds
                        && now.mappings <= held.mappings
                };
                let mut now = holdings();
                if !is_no_more(&now) {
                    let wait = || eventually(|| Some(holdings()).filter(is_no_more));
                    now = catch_unwind(AssertUnwindSafe(wait)).unwrap_or_else(|_| holdings());
                }
                let what = "what this process holds";
                assert!(is_no_more(&now), "{name}: killed {place}: {what}: {now:?}, {held:?}");
                now
            }
        });
        rank
    }

    /// Checks that outcomes occurred, all of them or the first and the last, and tells how
    /// often.
    pub(super) fn finish(&self, whole: bool) -> String {
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
        thread::sleep(Duration::from_millis(20));
        let now = holdings();
        if now == last {
            return now;
        }
        last = now;
    }
}
