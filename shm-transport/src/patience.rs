use std::time::{Duration, Instant};

use crate::deadline::Deadline;

/// How long a wait polls at least before it sleeps, while polling does not pay.
const MIN_SPIN: Duration = Duration::from_micros(1);
/// Polls between two looks at the clock.
const POLLS: u32 = 64;

/// How somebody waits: polling first, for a time that adapts to how often that was enough,
/// then asleep.
#[derive(Debug)]
pub(crate) struct Patience {
    spin: Duration,
    max_spin: Duration,
}

impl Patience {
    pub(crate) fn new(max_spin: Duration) -> Self {
        Self { spin: max_spin, max_spin }
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
                return Some(result);
            }
            std::hint::spin_loop();
        }
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
                    return Some(result);
                }
                std::hint::spin_loop();
            }
        }
        if deadline.has_passed() {
            return None;
        }
        self.spin = self.max_spin.min(MIN_SPIN.max(self.spin / 2));
        loop {
            if let Some(result) = sleep(&mut attempt, deadline) {
                // Had it come a little later, polling would have been enough.
                if start.elapsed() < self.max_spin {
                    self.spin = self.max_spin;
                }
                return Some(result);
            }
            if deadline.has_passed() {
                return None;
            }
        }
    }
}
