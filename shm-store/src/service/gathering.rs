//! How long to wait for more writes before a sync.
//!
//! A sync that takes long is worth sharing. A client that was answered a moment ago and
//! usually asks again at once is waited for, up to twice the time of a sync: as long as more
//! come, a batch that waits so long and is full takes less of each than two that are not. Nobody
//! else is waited for, so who is alone never waits.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use shm_transport::LinkKey;

/// However long a sync takes.
const LONGEST: Duration = Duration::from_millis(4);
/// To sleep and to be woken takes about as long.
const BRIEF: Duration = Duration::from_micros(150);
/// Of the newest measurement in an average: an eighth.
const WEIGHT: u32 = 8;

/// What is known of clients' habits.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    clients: HashMap<LinkKey, Client>,
    /// The clients that the last batch was of.
    last: Vec<LinkKey>,
    /// How long batches take, on average.
    sync: Duration,
    /// How long all batches took: what came meanwhile is seen only afterwards.
    busy: Duration,
}

#[derive(Debug, Default)]
struct Client {
    /// When, and how long batches had taken until then.
    answered: Option<(Instant, Duration)>,
    /// How long it took to ask again, the last time; `None` if that is not known.
    returned_in: Option<Duration>,
    /// It has something in the batch that is being gathered.
    is_in: bool,
}

impl Gathering {
    /// A client asks for something.
    pub(super) fn asked(&mut self, key: LinkKey, now: Instant) {
        let client = self.clients.entry(key).or_default();
        if let Some((answered, busy)) = client.answered.take() {
            let away = now.saturating_duration_since(answered);
            client.returned_in = Some(away.saturating_sub(self.busy - busy));
        }
        client.is_in = true;
    }

    pub(super) fn left(&mut self, key: LinkKey) {
        self.clients.remove(&key);
    }

    /// How long it pays to wait for others.
    pub(super) fn patience(&self) -> Duration {
        (2 * self.sync).min(LONGEST)
    }

    /// How long it pays to look for those of the last batch, before sleeping: about until they
    /// are back, if all are quicker than to be woken takes.
    pub(super) fn lull(&self) -> Duration {
        let times = self.last.iter().map(|key| self.clients.get(key)?.returned_in);
        let longest = times.map(|time| time.filter(|time| *time <= BRIEF)).max().flatten();
        longest.map_or(Duration::ZERO, |time| 2 * time)
    }

    /// Whether one of the last batch is expected back soon and is not there yet.
    pub(super) fn expects_more(&self) -> bool {
        let patience = self.patience();
        self.last.iter().any(|key| {
            self.clients.get(key).is_some_and(|client| {
                !client.is_in && client.returned_in.is_some_and(|time| time <= patience)
            })
        })
    }

    /// A batch was answered that took so long.
    pub(super) fn answered(&mut self, took: Duration, now: Instant) {
        self.busy += took;
        self.sync = match self.sync {
            Duration::ZERO => took,
            average => average - average / WEIGHT + took / WEIGHT,
        };
        for key in self.last.drain(..) {
            // Who was waited for in vain is not waited for again, until it has been quick.
            if let Some(client) = self.clients.get_mut(&key)
                && !client.is_in
            {
                client.returned_in = None;
            }
        }
        for (key, client) in &mut self.clients {
            if std::mem::take(&mut client.is_in) {
                client.answered = Some((now, self.busy));
                self.last.push(*key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shm_transport::{Link, LinkConfig, LinkSet};

    use super::*;

    const SYNC: Duration = Duration::from_micros(1000);

    fn clients<const N: usize>() -> [LinkKey; N] {
        let mut links = LinkSet::new().unwrap();
        [(); N].map(|()| links.insert(Link::pair(&LinkConfig::default()).unwrap().0).unwrap())
    }

    #[test]
    fn nobody_waits_alone() {
        let [key] = clients();
        let mut gathering = Gathering::default();
        let mut now = Instant::now();
        for _ in 0..10 {
            gathering.asked(key, now);
            assert!(!gathering.expects_more());
            now += SYNC;
            gathering.answered(SYNC, now);
            now += SYNC / 100;
        }
    }

    #[test]
    fn who_comes_back_at_once_is_looked_for_before_sleeping_and_nobody_else() {
        let [key] = clients();
        let mut gathering = Gathering::default();
        let mut now = Instant::now();
        for (away, lull) in
            [(BRIEF / 2, BRIEF), (BRIEF / 4, BRIEF / 2), (BRIEF * 2, Duration::ZERO)]
        {
            for _ in 0..2 {
                gathering.asked(key, now);
                now += SYNC;
                gathering.answered(SYNC, now);
                now += away;
            }
            assert_eq!(gathering.lull(), lull);
        }
    }

    #[test]
    fn those_who_come_back_soon_share_a_sync() {
        let [left, right] = clients();
        let mut gathering = Gathering::default();
        let mut now = Instant::now();
        // Each comes while the other's batch is synced, until both are known.
        let mut shared = 0;
        for _ in 0..10 {
            gathering.asked(left, now);
            if gathering.expects_more() {
                now += SYNC / 10;
                gathering.asked(right, now);
                shared += 1;
            }
            now += SYNC;
            gathering.answered(SYNC, now);
            now += SYNC / 100;
            gathering.asked(right, now);
            if gathering.expects_more() {
                now += SYNC / 10;
                gathering.asked(left, now);
                shared += 1;
            }
            now += SYNC;
            gathering.answered(SYNC, now);
            now += SYNC / 100;
        }
        assert!(shared >= 15, "{shared} of 20");
    }

    #[test]
    fn who_takes_its_time_is_not_waited_for() {
        let [quick, slow] = clients();
        let mut gathering = Gathering::default();
        let mut now = Instant::now();
        gathering.asked(quick, now);
        gathering.asked(slow, now);
        gathering.answered(SYNC, now);
        now += SYNC * 3;
        gathering.asked(slow, now);
        gathering.asked(quick, now);
        gathering.answered(SYNC, now);
        gathering.asked(quick, now + SYNC / 100);
        assert!(!gathering.expects_more(), "the slow one takes longer than it pays to wait");
    }
}
