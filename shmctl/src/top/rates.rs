//! What changed between two looks, for each second.

use std::{collections::HashMap, time::Instant};

use serde::Serialize;

use crate::links::{Link, Way};

/// A link, and how fast it is.
#[derive(Clone, Debug, Serialize)]
pub struct Rated {
    #[serde(flatten)]
    pub link: Link,
    pub to_guest_rate: Rate,
    pub to_host_rate: Rate,
}

/// For each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    pub messages: f64,
    pub bytes: f64,
    /// How often a message found no room.
    pub full: f64,
}

/// The look before.
#[derive(Debug, Default)]
pub struct Rates {
    before: HashMap<(String, String), ([Way; 2], Instant)>,
}

impl Rates {
    pub fn of(&mut self, links: Vec<Link>) -> Vec<Rated> {
        let now = Instant::now();
        let mut after = HashMap::new();
        let rated = links.into_iter().map(|link| {
            let name = (link.hub.clone(), format!("{} {:?}", link.peer, link.host));
            let ways = [link.to_guest.clone(), link.to_host.clone()];
            let before = self.before.get(&name);
            let rate = |way: usize| {
                before.map_or(Rate::default(), |(before, then)| {
                    rate(&before[way], &ways[way], now.duration_since(*then).as_secs_f64())
                })
            };
            let (to_guest_rate, to_host_rate) = (rate(0), rate(1));
            after.insert(name, (ways, now));
            Rated { link, to_guest_rate, to_host_rate }
        });
        let rated = rated.collect();
        self.before = after;
        rated
    }
}

fn rate(before: &Way, after: &Way, seconds: f64) -> Rate {
    // A count that went back is another link's.
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds.max(1e-6);
    Rate {
        messages: each(before.all.messages, after.all.messages),
        bytes: each(before.all.bytes, after.all.bytes),
        full: each(before.full.unwrap_or(0), after.full.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::Count;

    #[test]
    fn rates_are_differences_by_time_and_never_negative() {
        let way = |messages, bytes| Way { all: Count { messages, bytes }, ..Way::default() };
        let found = rate(&way(10, 100), &way(30, 500), 2.0);
        assert_eq!(found, Rate { messages: 10.0, bytes: 200.0, full: 0.0 });
        assert_eq!(rate(&way(10, 100), &way(0, 0), 2.0), Rate::default());
    }
}
