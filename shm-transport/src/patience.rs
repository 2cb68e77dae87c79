use std::time::{Duration, Instant};

use crate::{deadline::Deadline, vain::VainWakeUps};

/// How long a wait polls at least before it sleeps, while polling does not pay.
const MIN_SPIN: Duration = Duration::from_micros(1);
/// Polls between two looks at the clock, if they cost nanoseconds.
const POLLS: u32 = 64;

/// Of so many sleeps that polling would have saved, by their length, at least one is
/// polled for to see whether it does.
const MOST_UNTRIED: u32 = 1023;

/// How somebody waits: polling first, for a time that adapts to how often that was enough,
/// then asleep.
#[derive(Debug)]
pub(crate) struct Patience {
    spin: Duration,
    max_spin: Duration,
    /// Polls between two looks at the clock.
    polls: u32,
    /// Whether other threads may have the processor between two polls.
    yields: bool,
    /// Short sleeps to come before polling is given its full time again. Where what is
    /// waited for cannot happen meanwhile, as on a machine with one processor, all sleeps
    /// are short and polling never helps.
    untried: u32,
    /// What `untried` becomes if the full time is not enough once more.
    next_untried: u32,
    /// Whether the last wait was over before the clock was looked at.
    brief: bool,
    /// Wake-ups that found nothing.
    vain: VainWakeUps,
}

impl Patience {
    pub(crate) fn new(max_spin: Duration) -> Self {
        Self {
            spin: max_spin,
            max_spin,
            polls: POLLS,
            yields: false,
            untried: 0,
            next_untried: 0,
            brief: false,
            vain: VainWakeUps::default(),
        }
    }

    /// One that lets other threads have the processor between two polls.
    pub(crate) fn yielding(max_spin: Duration) -> Self {
        Self { polls: 1, yields: true, ..Self::new(max_spin) }
    }

    /// Whether the last wait was over within less than a microsecond.
    pub(crate) fn was_brief(&self) -> bool {
        self.brief
    }

    pub(crate) fn max_spin(&self) -> Duration {
        self.max_spin
    }

    /// Calls `attempt` until it returns something, or until the deadline. `sleep` announces
    /// that it is about to sleep, attempts once more, and sleeps until something may have
    /// changed or the deadline has passed; it returns what its own attempts found. After too
    /// many sleeps that ended for nothing, `nap` sleeps for so long, whoever rings.
    #[inline(always)]
    pub(crate) fn wait<T, A: FnMut() -> Option<T>>(
        &mut self,
        deadline: Deadline,
        mut attempt: A,
        sleep: impl FnMut(&mut A, Deadline) -> Option<T>,
        nap: impl FnMut(Duration),
    ) -> Option<T> {
        for _ in 0..self.polls {
            if let Some(result) = attempt() {
                self.brief = true;
                return Some(result);
            }
            std::hint::spin_loop();
        }
        self.brief = false;
        self.wait_long(deadline, attempt, sleep, nap)
    }

    #[cold]
    fn wait_long<T, A: FnMut() -> Option<T>>(
        &mut self,
        deadline: Deadline,
        mut attempt: A,
        mut sleep: impl FnMut(&mut A, Deadline) -> Option<T>,
        mut nap: impl FnMut(Duration),
    ) -> Option<T> {
        let deadline = deadline.fixed();
        let start = Instant::now();
        let spin = deadline.remaining_at_most(Some(self.spin)).unwrap_or_default();
        if let Some(result) = self.poll_for(spin, start, &mut attempt) {
            return Some(result);
        }
        if deadline.has_passed() {
            return None;
        }
        self.polled_in_vain();
        loop {
            if let Some(result) = sleep(&mut attempt, deadline) {
                self.slept(start);
                self.vain.forget();
                return Some(result);
            }
            if deadline.has_passed() {
                return None;
            }
            if let Some(time) = self.vain.count() {
                nap(deadline.remaining_at_most(Some(time)).unwrap_or(time));
                if let Some(result) = attempt() {
                    return Some(result);
                }
            }
        }
    }
}

impl Patience {
    /// Polls for `spin` from `start` on.
    fn poll_for<T>(
        &mut self,
        spin: Duration,
        start: Instant,
        attempt: &mut impl FnMut() -> Option<T>,
    ) -> Option<T> {
        while start.elapsed() < spin {
            for _ in 0..self.polls {
                if let Some(result) = attempt() {
                    self.polled();
                    return Some(result);
                }
                if self.yields {
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
        }
        None
    }

    /// Polling was enough.
    pub(crate) fn polled(&mut self) {
        self.spin = self.max_spin.min(self.spin.saturating_mul(2));
        self.next_untried = 0;
    }

    fn polled_in_vain(&mut self) {
        if self.spin == self.max_spin {
            self.untried = self.next_untried;
            self.next_untried = MOST_UNTRIED.min(self.next_untried * 2 + 1);
        }
        self.spin = self.max_spin.min(MIN_SPIN.max(self.spin / 2));
    }

    /// What was waited for from `start` on came after a sleep.
    pub(crate) fn slept(&mut self, start: Instant) {
        // The full time might have been enough.
        if start.elapsed() < self.max_spin {
            match self.untried.checked_sub(1) {
                Some(less) => self.untried = less,
                None => self.spin = self.max_spin,
            }
        }
    }

    /// Whether a wait that began at `start` goes on polling, for a caller that polls and sleeps
    /// in a way of its own, and then calls [`polled`](Self::polled) or [`slept`](Self::slept).
    #[cfg(feature = "tokio")]
    pub(crate) fn polls_on(&mut self, start: Instant) -> bool {
        let polls = start.elapsed() < self.spin;
        if !polls {
            self.polled_in_vain();
        }
        polls
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::*;

    fn no_nap(_: Duration) {
        panic!("a nap");
    }

    /// Nobody polls for as long.
    const LONG: Duration = Duration::from_secs(3600);

    /// Waits for what polling never finds and a sleep always does. Returns how often it was
    /// polled for.
    fn sleep_once(patience: &mut Patience) -> u32 {
        let mut polls = 0;
        let poll = || {
            polls += 1;
            None
        };
        assert_eq!(patience.wait(Deadline::NEVER, poll, |_, _| Some(()), no_nap), Some(()));
        polls
    }

    /// Waits for what polling finds when somebody waits for longer than a moment.
    fn poll_once(patience: &mut Patience) {
        let mut polls = 0;
        let poll = || {
            polls += 1;
            (polls > POLLS).then_some(())
        };
        assert_eq!(patience.wait(Deadline::NEVER, poll, |_, _| panic!("asleep"), no_nap), Some(()));
    }

    /// A pause of this process makes a sleep a long one, after which there are still fewer.
    #[test]
    fn the_full_time_is_polled_ever_more_seldom_where_polling_never_helps() {
        let mut patience = Patience::new(Duration::from_millis(20));
        let mut full = 0;
        let mut untried = 0;
        for _ in 0..3_000 {
            if patience.spin == patience.max_spin {
                full += 1;
                assert_eq!(patience.untried, 0);
            }
            sleep_once(&mut patience);
            assert!(patience.untried <= MOST_UNTRIED);
            assert!(patience.next_untried >= untried);
            untried = patience.next_untried;
        }
        // After 1, 2, 4, … 1024 and again 1024 others.
        assert!((2..=12).contains(&full), "{full} times");
    }

    #[test]
    fn polling_that_helps_once_is_given_its_full_time_again() {
        let mut patience = Patience::new(Duration::from_millis(1));
        for _ in 0..100 {
            sleep_once(&mut patience);
        }
        assert!(patience.next_untried > 0);
        patience.spin = LONG;
        poll_once(&mut patience);
        assert_eq!((patience.spin, patience.next_untried), (patience.max_spin, 0));
        assert!(!patience.was_brief());
        assert_eq!(patience.wait(Deadline::NOW, || Some(1), |_, _| None, no_nap), Some(1));
        assert!(patience.was_brief());
    }

    #[test]
    fn who_is_not_to_poll_polls_for_a_moment_only() {
        let [polling, yielding] =
            [Patience::new, Patience::yielding].map(|new| new(Duration::ZERO));
        for (mut patience, polls) in [(polling, POLLS), (yielding, 1)] {
            for _ in 0..3_000 {
                assert_eq!(sleep_once(&mut patience), polls);
                assert_eq!(patience.spin, Duration::ZERO);
            }
        }
    }

    /// Two threads on one processor wait for each other in turn. Without a word to the system each
    /// would poll for as long as it is let run, some ten thousand times.
    #[test]
    fn who_yields_lets_others_do_what_is_waited_for() {
        const TURNS: u32 = 1_000;
        let allowed = sched_getaffinity(None).unwrap();
        let mut processor = CpuSet::new();
        processor.set((0..).find(|&cpu| allowed.is_set(cpu)).unwrap());
        let turn = AtomicU32::new(0);
        // Takes every second turn; returns how often it was polled for them.
        let take_turns = |first: u32| {
            sched_setaffinity(None, &processor).unwrap();
            let mut patience = Patience::yielding(LONG);
            let mut polls = 0;
            for mine in (first..2 * TURNS).step_by(2) {
                let poll = || {
                    polls += 1;
                    (turn.load(Ordering::Relaxed) == mine).then_some(())
                };
                let found = patience.wait(Deadline::NEVER, poll, |_, _| panic!("asleep"), no_nap);
                assert_eq!(found, Some(()));
                turn.store(mine + 1, Ordering::Relaxed);
            }
            polls
        };
        let polls = thread::scope(|scope| {
            let other = scope.spawn(|| take_turns(1));
            scope.spawn(|| take_turns(0)).join().unwrap() + other.join().unwrap()
        });
        assert!(polls < 100 * 2 * TURNS, "{polls} polls");
    }

    #[test]
    fn a_deadline_ends_polling_and_sleeping() {
        let mut patience = Patience::new(LONG);
        for deadline in [Deadline::NOW, Duration::from_millis(2).into()] {
            let found: Option<()> = patience.wait(
                deadline,
                || None,
                |_, _| panic!("asleep after the deadline"),
                no_nap,
            );
            assert_eq!(found, None);
        }
        let mut patience = Patience::new(Duration::ZERO);
        let wait = Duration::from_millis(2);
        // Woken for nothing, again and again.
        let found: Option<()> = patience.wait(
            wait.into(),
            || None,
            |_, deadline| {
                assert!(deadline.remaining() <= Some(wait));
                None
            },
            |nap| assert!(nap <= wait),
        );
        assert_eq!(found, None);
    }

    /// What comes during a nap is found after it.
    #[test]
    fn who_is_woken_for_nothing_too_often_takes_naps() {
        let mut patience = Patience::new(Duration::ZERO);
        let (sleeps, naps) = (Cell::new(0), Cell::new(0));
        let attempt = || (naps.get() == 100).then_some(());
        let sleep = |_: &mut _, _| {
            sleeps.set(sleeps.get() + 1);
            None
        };
        let found = patience.wait(Deadline::NEVER, attempt, sleep, |_| naps.set(naps.get() + 1));
        assert_eq!((found, naps.get()), (Some(()), 100));
        assert!(sleeps.get() > 100, "{} sleeps", sleeps.get());
    }
}
