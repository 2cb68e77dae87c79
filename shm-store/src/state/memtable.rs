//! Changes that are not in the shards yet: one part for each shard.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::{ProducerState, StreamMeta};
use crate::{Lsn, Offset, shards::shard_of};

/// What an entry costs in memory besides its bytes, about: its handle, its end, its share of
/// an allocation.
const ENTRY: u64 = 64;
/// What a stream or a producer costs, about.
const ROW: u64 = 512;

#[derive(Debug)]
pub(crate) struct Memtable {
    pub(crate) parts: Vec<Part>,
    /// The last operation that is in it; of nothing, 0.
    pub(crate) last: Lsn,
    /// About how much memory it takes.
    pub(crate) bytes: u64,
}

/// The changes of one shard.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// By name. `None`: there is no such stream any more.
    pub(crate) streams: BTreeMap<String, Option<StreamMeta>>,
    /// By stream and name.
    pub(crate) producers: BTreeMap<(u64, String), ProducerState>,
    /// New entries, by stream.
    pub(crate) runs: HashMap<u64, Run>,
    /// Streams whose rows in lower layers are to go.
    pub(crate) removed: HashSet<u64>,
    /// How the shard's totals change.
    pub(crate) totals: Totals,
}

/// Sums over the streams of a shard, or how they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Streams, buried ones too.
    pub(crate) streams: i64,
    /// Bytes of entries.
    pub(crate) bytes: i64,
    /// Streams that expire some time.
    pub(crate) expiring: i64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: Self) {
        self.streams += other.streams;
        self.bytes += other.bytes;
        self.expiring += other.expiring;
    }

    pub(crate) fn count(&mut self, meta: &StreamMeta, sign: i64) {
        self.streams += sign;
        self.bytes += sign * meta.own_bytes() as i64;
        self.expiring += sign * i64::from(meta.expires_ever());
    }
}

/// Entries of one stream in a row.
#[derive(Debug)]
pub(crate) struct Run {
    /// Where the first one begins.
    pub(crate) start: Offset,
    pub(crate) entries: Vec<Bytes>,
    /// Where each ends, in bytes of the stream.
    pub(crate) ends: Vec<u64>,
}

impl Run {
    fn new(start: Offset) -> Self {
        Self { start, entries: Vec::new(), ends: Vec::new() }
    }

    fn extend(&mut self, entries: &[Bytes]) {
        let mut end = self.end().byte();
        for entry in entries {
            end += entry.len() as u64;
            self.entries.push(entry.clone());
            self.ends.push(end);
        }
    }

    pub(crate) fn end(&self) -> Offset {
        let byte = self.ends.last().copied().unwrap_or(self.start.byte());
        Offset::new(self.start.entry() + self.entries.len() as u64, byte)
    }

    /// An entry by its number in the stream, with its first byte.
    pub(crate) fn entry(&self, number: u64) -> Option<(u64, &Bytes)> {
        let index = usize::try_from(number.checked_sub(self.start.entry())?).ok()?;
        let entry = self.entries.get(index)?;
        Some((self.ends[index] - entry.len() as u64, entry))
    }
}

impl Memtable {
    pub(crate) fn new(shards: usize) -> Self {
        let parts = (0..shards).map(|_| Part::default()).collect();
        Self { parts, last: Lsn(0), bytes: 0 }
    }

    fn part_mut(&mut self, name: &str) -> &mut Part {
        let index = shard_of(name, self.parts.len());
        &mut self.parts[index]
    }

    pub(crate) fn totals_mut(&mut self, name: &str) -> &mut Totals {
        &mut self.part_mut(name).totals
    }

    /// How the store's totals change.
    pub(crate) fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for part in &self.parts {
            sum.add(part.totals);
        }
        sum
    }

    pub(crate) fn put_stream(&mut self, meta: StreamMeta) {
        let name = &meta.fixed.name;
        let part = self.part_mut(name);
        if let Some(row) = part.streams.get_mut(name) {
            *row = Some(meta);
        } else {
            part.streams.insert(name.clone(), Some(meta));
            self.bytes += ROW;
        }
    }

    pub(crate) fn put_producer(&mut self, name: &str, key: (u64, String), state: ProducerState) {
        if self.part_mut(name).producers.insert(key, state).is_none() {
            self.bytes += ROW;
        }
    }

    pub(crate) fn put_entries(&mut self, meta: &StreamMeta, start: Offset, entries: &[Bytes]) {
        if entries.is_empty() {
            return;
        }
        let part = self.part_mut(&meta.fixed.name);
        part.runs.entry(meta.id()).or_insert_with(|| Run::new(start)).extend(entries);
        self.bytes += entries.iter().map(|entry| ENTRY + entry.len() as u64).sum::<u64>();
    }

    pub(crate) fn remove(&mut self, meta: &StreamMeta) {
        let (name, id) = (&meta.fixed.name, meta.id());
        let part = self.part_mut(name);
        part.streams.insert(name.clone(), None);
        part.forget(id);
        part.removed.insert(id);
        self.bytes += ROW;
    }

    /// Puts a newer table on top.
    pub(crate) fn absorb(&mut self, newer: Self) {
        for (part, newer) in self.parts.iter_mut().zip(newer.parts) {
            for &id in &newer.removed {
                part.forget(id);
            }
            part.removed.extend(newer.removed);
            part.streams.extend(newer.streams);
            part.producers.extend(newer.producers);
            for (id, run) in newer.runs {
                part.runs.entry(id).or_insert_with(|| Run::new(run.start)).extend(&run.entries);
            }
            part.totals.add(newer.totals);
        }
        self.bytes += newer.bytes;
        self.last = self.last.max(newer.last);
    }
}

impl Part {
    /// Drops what it has of a stream besides its row.
    fn forget(&mut self, id: u64) {
        self.runs.remove(&id);
        let of_stream = (id, String::new())..(id + 1, String::new());
        let keys: Vec<_> = self.producers.range(of_stream).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.producers.remove(&key);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.removed.is_empty()
    }
}
