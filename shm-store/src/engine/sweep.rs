//! The sweeper: finds what has expired, and logs that expiring streams were read.
//!
//! Expired streams are not there for anybody from the moment on, whether swept or not; the
//! sweeper gives their room back. It walks through all streams, some at a time, and rests
//! until the earliest time at which one that it saw, or that was written since, may expire.

use super::Engine;
use crate::{StreamId, operation::Write, state::StreamMeta};

#[derive(Debug)]
pub(crate) struct Sweeper {
    /// The last name that this walk came to.
    after: Option<String>,
    /// When the next walk begins.
    next: u64,
    /// The earliest time at which one may expire of those that this walk saw.
    seen: u64,
}

impl Sweeper {
    pub(crate) fn new() -> Self {
        Self { after: None, next: 0, seen: u64::MAX }
    }

    /// A stream may expire at this time.
    pub(crate) fn expect(&mut self, expires: u64) {
        self.next = self.next.min(expires);
        self.seen = self.seen.min(expires);
    }
}

impl Engine {
    /// Looks at up to `budget` streams, if any may have expired. Returns what is to be
    /// committed: deletions of those that have, and when others were read.
    pub(crate) fn sweep(&mut self, budget: usize) -> Vec<Write> {
        let now = self.shared.now();
        let mut writes = self.due_reads(now, budget);
        let sweeper = &mut self.sweeper;
        if now < sweeper.next || self.shared.layers().totals.expiring == 0 {
            return writes;
        }
        let shared = &self.shared;
        let found = shared.with_shards(|shards| {
            let layers = shared.layers();
            layers.lookup(shards).scan("", sweeper.after.as_deref(), budget.max(1), &|_| true)
        });
        let Ok(found) = found.inspect_err(|error| tracing::warn!(?error, "sweeping failed")) else {
            return writes;
        };
        for meta in found.iter().filter(|meta| !meta.buried) {
            match meta.expires(shared.accessed(meta)) {
                None => {}
                Some(expires) => {
                    // If it is not deleted now, because the disk is full, it is found again.
                    sweeper.seen = sweeper.seen.min(expires);
                    if expires <= now {
                        writes.push(expire(meta));
                    }
                }
            }
        }
        if found.len() < budget.max(1) {
            *sweeper = Sweeper { after: None, next: sweeper.seen, seen: u64::MAX };
        } else {
            sweeper.after = found.last().map(|meta| meta.fixed.name.clone());
        }
        writes
    }

    /// Reads that are to be logged: of each stream one for an eighth of its time to live.
    fn due_reads(&self, now: u64, budget: usize) -> Vec<Write> {
        let due: Vec<_> = {
            let reads = self.shared.reads();
            let due = reads.iter().filter(|(_, read)| read.due <= now).take(budget);
            due.map(|(&id, read)| (id, read.name.clone(), read.at)).collect()
        };
        let mut writes = Vec::new();
        for (id, name, at) in due {
            let meta = self.shared.with_shards(|shards| {
                let layers = self.shared.layers();
                layers.lookup(shards).stream(&name)
            });
            match meta {
                Ok(Some(meta)) if meta.id() == id && meta.accessed < at => {
                    // If it has expired since, it will be removed.
                    if self.shared.live(&meta, now) {
                        writes.push(Write::Touch { name });
                    }
                }
                // A write came later, or it is gone: the read means nothing any more.
                Ok(_) => {
                    self.shared.reads().remove(&id);
                }
                Err(error) => tracing::warn!(?error, "sweeping failed"),
            }
        }
        writes
    }
}

fn expire(meta: &StreamMeta) -> Write {
    Write::Expire { name: meta.fixed.name.clone(), stream: StreamId(meta.id()) }
}
