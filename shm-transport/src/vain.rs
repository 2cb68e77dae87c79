use std::time::{Duration, Instant};

/// How long somebody who was woken for nothing too often does not listen to the bell, at
/// least. What was published meanwhile is found at the end of it.
const NAP: Duration = Duration::from_millis(1);
/// Wake-ups for nothing that an honest peer may cause at once: one may come for each message
/// that was found by polling, and for each slot that was given back and is not large enough.
const AT_ONCE: u32 = 16;
/// In so long, one more.
const FORGOTTEN: Duration = Duration::from_millis(4);
/// So many more, and the naps are longer by one.
const LONGER: u32 = 4;
/// So many more are counted at most: they decide for how long a flood is remembered.
const MOST: u32 = 16;

/// Counts wake-ups for nothing. A peer that rings and publishes nothing costs whoever waits
/// for it a little, and no more: beyond a few wake-ups at once, one for each nap.
#[derive(Debug, Default)]
pub(crate) struct VainWakeUps {
    level: u32,
    last: Option<Instant>,
}

impl VainWakeUps {
    /// Counts one; returns how long a nap the waiter is to take, if any.
    pub(crate) fn count(&mut self) -> Option<Duration> {
        self.count_at(Instant::now())
    }

    fn count_at(&mut self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(*self.last.get_or_insert(now));
        let forgotten = u32::try_from(since.as_nanos() / FORGOTTEN.as_nanos()).unwrap_or(u32::MAX);
        if forgotten > 0 {
            self.last = Some(now);
        }
        self.level = self.level.saturating_sub(forgotten).saturating_add(1).min(AT_ONCE + MOST);
        let beyond = self.level.checked_sub(AT_ONCE).filter(|beyond| *beyond > 0)?;
        Some(NAP * (1 + beyond / LONGER))
    }

    /// A wake-up was not for nothing.
    pub(crate) fn forget(&mut self) {
        self.level = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_wake_ups_for_nothing_are_nobody_s_fault() {
        let mut vain = VainWakeUps::default();
        let now = Instant::now();
        assert!((0..AT_ONCE).all(|_| vain.count_at(now).is_none()));
        assert_eq!(vain.count_at(now), Some(NAP));
        vain.forget();
        assert_eq!(vain.count_at(now), None);
    }

    #[test]
    fn wake_ups_for_nothing_now_and_then_are_forgotten() {
        let mut vain = VainWakeUps::default();
        let start = Instant::now();
        assert!((0..10_000).all(|n| vain.count_at(start + n * FORGOTTEN).is_none()));
    }

    /// Each nap is followed by one wake-up at once.
    #[test]
    fn who_goes_on_ringing_is_listened_to_ever_more_seldom() {
        let mut vain = VainWakeUps::default();
        let mut now = Instant::now();
        let mut nap = loop {
            if let Some(nap) = vain.count_at(now) {
                break nap;
            }
        };
        for _ in 0..10_000 {
            now += nap;
            nap = vain.count_at(now).expect("a nap");
            assert!((NAP..=5 * NAP).contains(&nap));
        }
        assert!(nap >= 4 * NAP);
        // A flood that is over is forgotten.
        now += (AT_ONCE + MOST) * FORGOTTEN;
        assert!((0..AT_ONCE).all(|_| vain.count_at(now).is_none()));
    }
}
