use std::time::{Duration, Instant};

use crate::deadline::Deadline;

/// How long a wait polls at least before it sleeps, while polling does not pay.
const MIN_SPIN: Duration = Duration::from_micros(1);
/// Polls between two looks at the clock.
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
    /// Short sleeps to come before polling is given its full time again. Where what is
    /// waited for cannot happen meanwhile, as on a machine with one processor, all sleeps
    /// are short and polling never helps.
    untried: u32,
    /// What `untried` becomes if the full time is not enough once more.
    next_untried: u32,
    /// Whether the last wait was over before the clock was looked at.
    brief: bool,
}

impl Patience {
    pub(crate) fn new(max_spin: Duration) -> Self {
        Self { spin: max_spin, max_spin, untried: 0, next_untried: 0, brief: false }
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
    /// changed or the deadline has passed; it returns what its own attempts found.
    #[inline(always)]
    pub(crate) fn wait<T, A: FnMut() -> Option<T>>(
        &mut self,
        deadline: Deadline,
        mut attempt: A,
        sleep: impl FnMut(&mut A, Deadline) -> Option<T>,
    ) -> Option<T> {
        for _ in 0..POLLS {
            if let Some(result) = attempt() {
                self.brief = true;
                return Some(result);
            }
            std::hint::spin_loop();
        }
        self.brief = false;
        self.wait_long(deadline, attempt, sleep)
    }

    #[cold]
    fn wait_long<T, A: FnMut() -> Option<T>>(
        &mut self,
        deadline: Deadline,
        mut attempt: A,
        mut sleep: impl FnMut(&mut A, Deadline) -> Option<T>,
    ) -> Option<T> {
        let deadline = deadline.fixed();
        let start = Instant::now();
        let spin = deadline.remaining_at_most(Some(self.spin)).unwrap_or_default();
        while start.elapsed() < spin {
            for _ in 0..POLLS {
                if let Some(result) = attempt() {
                    self.spin = self.max_spin.min(self.spin.saturating_mul(2));
                    self.next_untried = 0;
                    return Some(result);
                }
                std::hint::spin_loop();
            }
        }
        if deadline.has_passed() {
            return None;
        }
        if self.spin == self.max_spin {
            self.untried = self.next_untried;
            self.next_untried = MOST_UNTRIED.min(self.next_untried * 2 + 1);
        }
        self.spin = self.max_spin.min(MIN_SPIN.max(self.spin / 2));
        loop {
            if let Some(result) = sleep(&mut attempt, deadline) {
                // The full time might have been enough.
                if start.elapsed() < self.max_spin {
                    match self.untried.checked_sub(1) {
                        Some(less) => self.untried = less,
                        None => self.spin = self.max_spin,
                    }
                }
                return Some(result);
            }
            if deadline.has_passed() {
                return None;
            }
        }
    }
}
