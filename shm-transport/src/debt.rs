use std::time::{Duration, Instant};

/// One in so many parts of a processor is what peers may cost for nothing, in the long run.
const SHARE: u32 = 64;
/// The longest time for which nothing more is done for them.
const LONGEST: Duration = Duration::from_millis(250);
/// What it takes to be woken for a request, and to wait for the next, beside the work itself.
pub(crate) const WAKE_UP: Duration = Duration::from_micros(20);

/// Processor time spent on requests that are worth nothing. Some at once is nobody's fault; of
/// whoever goes on, nothing is heard for [`SHARE`] times as long as its requests took. What is
/// spent meanwhile, on requests that were taken before, makes that longer.
#[derive(Debug)]
pub(crate) struct Debt {
    /// What is nobody's fault.
    credit: Duration,
    owed: Duration,
    counted: Option<Instant>,
}

impl Debt {
    pub(crate) fn new(credit: Duration) -> Self {
        Self { credit, owed: Duration::ZERO, counted: None }
    }

    /// Adds what was spent now; returns for how long nothing more is to be done, if at all.
    pub(crate) fn add(&mut self, spent: Duration) -> Option<Duration> {
        self.add_at(Instant::now(), spent)
    }

    fn add_at(&mut self, now: Instant, spent: Duration) -> Option<Duration> {
        let since = now.saturating_duration_since(*self.counted.get_or_insert(now));
        self.counted = Some(now);
        let owed = self.owed.saturating_sub(since / SHARE).saturating_add(spent);
        self.owed = owed.min(self.credit + LONGEST / SHARE);
        let beyond = self.owed.checked_sub(self.credit).filter(|beyond| !beyond.is_zero())?;
        Some(beyond * SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_little_at_once_is_nobody_s_fault() {
        let mut debt = Debt::new(2 * MS);
        let now = Instant::now();
        assert_eq!(debt.add_at(now, MS), None);
        assert_eq!(debt.add_at(now, MS), None);
        assert_eq!(debt.add_at(now, MS / 2), Some(32 * MS));
        // Paid, but for the credit.
        assert_eq!(debt.add_at(now + 32 * MS, Duration::ZERO), None);
        assert_eq!(debt.add_at(now + 32 * MS, MS), Some(64 * MS));
        // What was spent meanwhile comes on top.
        assert_eq!(debt.add_at(now + 48 * MS, MS), Some(112 * MS));
    }

    #[test]
    fn what_comes_again_and_again_costs_its_share_and_no_more() {
        let mut debt = Debt::new(2 * MS);
        let start = Instant::now();
        let (mut now, mut spent) = (start, Duration::ZERO);
        while now < start + 10_000 * MS {
            spent += MS / 5;
            now += MS / 5 + debt.add_at(now, MS / 5).unwrap_or_default();
        }
        assert!(spent < 10_000 * MS / SHARE + 3 * MS, "{spent:?}");
    }

    #[test]
    fn nobody_waits_for_longer_than_the_longest_time() {
        let mut debt = Debt::new(MS);
        let now = Instant::now();
        assert_eq!(debt.add_at(now, Duration::from_secs(60)), Some(LONGEST));
        assert_eq!(debt.add_at(now + LONGEST, Duration::ZERO), None);
    }
}
