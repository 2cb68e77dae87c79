//! Reading entries in a row at one moment: from the tables, from the shards, and through the
//! ancestors of a fork.
//!
//! A reading is planned while nothing changes: what memory has is taken, and a snapshot of
//! each shard that is needed. The shards are read afterwards, without holding anybody up.

use bytes::Bytes;
use redb::ReadTransaction;

use crate::{
    Entry, Offset,
    shards::{Shard, ShardError, shard_of},
    state::{Lookup, StreamMeta},
};

/// From where and how much to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gather {
    pub(crate) from: Offset,
    /// Bytes of entries; one entry is always read, whatever its size.
    pub(crate) max_bytes: usize,
    pub(crate) max_entries: usize,
}

/// What to read, with all that must be taken at one moment.
pub(crate) struct Reading {
    gather: Gather,
    end: Offset,
    levels: Vec<Level>,
}

/// The part of the entries that one stream of a line of ancestors holds.
struct Level {
    id: u64,
    shard: usize,
    /// Its entries from here on,
    first: u64,
    /// up to the one before this,
    behind: u64,
    /// cut at this byte.
    end_byte: u64,
    /// The first entry that memory has.
    in_memory: u64,
    memory: Vec<(u64, Bytes)>,
    snapshot: Option<ReadTransaction>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entries: Vec<Entry>,
    /// Where it began.
    pub(crate) from: Offset,
    /// Behind the last one.
    pub(crate) next: Offset,
    /// Whether it began inside an entry.
    pub(crate) inside: bool,
}

impl Reading {
    /// Takes what must be taken at once.
    pub(crate) fn plan(
        lookup: &Lookup<'_>,
        meta: &StreamMeta,
        mut gather: Gather,
    ) -> Result<Self, ShardError> {
        // A fork inside an entry has that part of it as an entry, so its own entries begin
        // one further: both ways to name the place are right.
        if let Some(parent) = &meta.fixed.parent
            && gather.from == parent.at
        {
            gather.from = parent.own;
        }
        let mut levels = Vec::new();
        let mut meta = meta.clone();
        let end = meta.end;
        let (mut behind, mut end_byte) = (end.entry(), end.byte());
        loop {
            let own = meta.own();
            let first = own.entry().max(gather.from.entry());
            if first < behind {
                levels.push(Level::plan(lookup, &meta, first, behind, end_byte, gather)?);
            }
            let Some(parent) = &meta.fixed.parent else { break };
            if own.entry() <= gather.from.entry() {
                break;
            }
            (behind, end_byte) = (own.entry().min(behind), end_byte.min(parent.at.byte()));
            let of = lookup.stream(&parent.name)?.filter(|of| of.id() == parent.id);
            meta = of.ok_or_else(|| ShardError::reference(&meta.fixed.name))?;
        }
        levels.reverse();
        Ok(Self { gather, end, levels })
    }

    /// Reads. `None` as the error: the offset names no position in the stream.
    pub(crate) fn finish(self, shards: &[Shard]) -> Result<Found, Option<ShardError>> {
        let Self { gather, end, levels } = self;
        let from = gather.from;
        if from.entry() >= end.entry() {
            return if from == end {
                Ok(Found { entries: Vec::new(), from, next: end, inside: false })
            } else {
                Err(None)
            };
        }
        let mut page = Filling { gather, entries: Vec::new(), bytes: 0, next: from, inside: false };
        for level in levels {
            if !level.read(shards, &mut page)? {
                break;
            }
        }
        let Filling { entries, next, inside, .. } = page;
        Ok(Found { entries, from, next, inside })
    }
}

impl Level {
    fn plan(
        lookup: &Lookup<'_>,
        meta: &StreamMeta,
        first: u64,
        behind: u64,
        end_byte: u64,
        gather: Gather,
    ) -> Result<Self, ShardError> {
        let id = meta.id();
        let shard = shard_of(&meta.fixed.name, lookup.shards.len());
        let mut level = Self {
            id,
            shard,
            first,
            behind,
            end_byte,
            in_memory: behind,
            memory: Vec::new(),
            snapshot: None,
        };
        let mut bytes = 0;
        for table in lookup.tables.into_iter().rev().flatten() {
            let Some(run) = table.parts[shard].runs.get(&id) else { continue };
            level.in_memory = level.in_memory.min(run.start.entry());
            // What lies before it fills the page.
            let bytes_before = run.start.byte().saturating_sub(gather.from.byte());
            let entries_before = run.start.entry().saturating_sub(gather.from.entry());
            if bytes_before > gather.max_bytes as u64 || entries_before >= gather.max_entries as u64
            {
                continue;
            }
            for number in first.max(run.start.entry())..behind.min(run.end().entry()) {
                if level.memory.len() > gather.max_entries || bytes > gather.max_bytes {
                    break;
                }
                let Some((start, entry)) = run.entry(number) else { break };
                bytes += entry.len();
                level.memory.push((start, entry.clone()));
            }
        }
        level.in_memory = level.in_memory.max(first);
        if first < level.in_memory {
            level.snapshot = Some(lookup.shards[shard].snapshot()?);
        }
        Ok(level)
    }

    /// Whether there is room for more behind it.
    fn read(self, shards: &[Shard], page: &mut Filling) -> Result<bool, Option<ShardError>> {
        let shard = &shards[self.shard];
        if let Some(snapshot) = &self.snapshot {
            let mut number = self.first;
            let mut room = true;
            let from = self.first;
            shard.blocks::<Option<ShardError>>(snapshot, self.id, from, &mut |first, block| {
                for index in number.saturating_sub(first) as usize..block.len() {
                    if number >= self.in_memory {
                        return Ok(false);
                    }
                    let (start, entry) = block.entry(index);
                    room = page.push(number, start, entry, self.end_byte, shard)?;
                    if !room {
                        return Ok(false);
                    }
                    number += 1;
                }
                Ok(true)
            })?;
            if !room {
                return Ok(false);
            }
            if number < self.in_memory {
                return Err(Some(shard.damaged(number, "entries are missing")));
            }
        }
        for (number, (start, entry)) in (self.in_memory..).zip(self.memory) {
            if !page.push(number, start, entry, self.end_byte, shard)? {
                return Ok(false);
            }
        }
        Ok(page.next.entry() >= self.behind)
    }
}

struct Filling {
    gather: Gather,
    entries: Vec<Entry>,
    bytes: usize,
    next: Offset,
    inside: bool,
}

impl Filling {
    /// Adds an entry, if there is room for it.
    fn push(
        &mut self,
        number: u64,
        start: u64,
        mut data: Bytes,
        end_byte: u64,
        shard: &Shard,
    ) -> Result<bool, Option<ShardError>> {
        let from = self.next;
        let end = (start + data.len() as u64).min(end_byte);
        data.truncate(end.saturating_sub(start) as usize);
        if self.entries.is_empty() {
            if from.byte() != start && !(start < from.byte() && from.byte() < end) {
                return Err(None);
            }
            self.inside = from.byte() != start;
            data = data.slice((from.byte() - start) as usize..);
        } else if from.byte() != start || from.entry() != number {
            return Err(Some(shard.damaged(number, "an entry is not where the one before ends")));
        }
        let full = self.bytes.saturating_add(data.len()) > self.gather.max_bytes
            || self.entries.len() >= self.gather.max_entries;
        if full && !self.entries.is_empty() {
            return Ok(false);
        }
        self.bytes += data.len();
        self.next = Offset::new(number + 1, end);
        self.entries.push(Entry { offset: from, next: self.next, data });
        Ok(true)
    }
}
