//! What is known at one moment: tables of changes over the shards, the newest first; and the
//! table in which the next operations are tried before they are logged.

use super::{Done, Memtable, ProducerState, StreamMeta, stream::Fixed};
use crate::{
    Lsn,
    record::{Change, Effect, Record},
    shards::{Shard, ShardError, shard_of},
};

/// Where to look, the newest first: tables, then shards.
#[derive(Clone, Copy)]
pub(crate) struct Lookup<'a> {
    pub(crate) tables: [Option<&'a Memtable>; 3],
    pub(crate) shards: &'a [Shard],
}

impl Lookup<'_> {
    pub(crate) fn stream(&self, name: &str) -> Result<Option<StreamMeta>, ShardError> {
        let index = shard_of(name, self.shards.len());
        for table in self.tables.into_iter().flatten() {
            if let Some(row) = table.parts[index].streams.get(name) {
                return Ok(row.clone());
            }
        }
        self.shards[index].stream(name)
    }

    pub(crate) fn producer(
        &self,
        meta: &StreamMeta,
        producer: &str,
    ) -> Result<Option<ProducerState>, ShardError> {
        let index = shard_of(&meta.fixed.name, self.shards.len());
        let key = (meta.id(), producer.to_owned());
        for table in self.tables.into_iter().flatten() {
            if let Some(state) = table.parts[index].producers.get(&key) {
                return Ok(Some(state.clone()));
            }
        }
        self.shards[index].producer(meta.id(), producer)
    }
}

/// A table that operations are applied to, over what was there before.
pub(crate) struct Stage<'a> {
    pub(crate) table: &'a mut Memtable,
    /// Its first place is free.
    pub(crate) below: Lookup<'a>,
}

impl Stage<'_> {
    pub(crate) fn lookup(&self) -> Lookup<'_> {
        let [_, second, third] = self.below.tables;
        Lookup { tables: [Some(self.table), second, third], shards: self.below.shards }
    }

    /// Does what a record says, except in shards that have it already.
    pub(crate) fn apply(&mut self, lsn: Lsn, record: &Record) -> Result<(), ShardError> {
        for effect in &record.effects {
            let shard = &self.below.shards[shard_of(&effect.name, self.below.shards.len())];
            if shard.applied() < lsn {
                self.effect(lsn, record.at, effect)?;
            }
        }
        self.table.last = lsn;
        Ok(())
    }

    fn effect(&mut self, lsn: Lsn, at: u64, effect: &Effect) -> Result<(), ShardError> {
        let Effect { name, change } = effect;
        let known = self.lookup().stream(name)?;
        if let Change::Create { config, parent } = change {
            if known.is_some() {
                return Err(ShardError::record(lsn));
            }
            let (config, parent) = (config.clone(), parent.clone());
            let meta = StreamMeta::new(Fixed {
                id: lsn.0,
                name: name.clone(),
                config,
                parent,
                created: at,
            });
            self.table.totals_mut(name).count(&meta, 1);
            self.table.put_stream(meta);
            return Ok(());
        }
        let mut meta = known.ok_or_else(|| ShardError::record(lsn))?;
        match change {
            Change::Create { .. } => {}
            Change::Append(append) => {
                if append.start != meta.end {
                    return Err(ShardError::record(lsn));
                }
                meta.end = append.end();
                meta.closed |= append.close;
                meta.accessed = meta.accessed.max(at);
                if append.sequence.is_some() {
                    meta.sequence.clone_from(&append.sequence);
                }
                if let Some((id, epoch, sequence)) = &append.producer {
                    let mut state = self.lookup().producer(&meta, id)?.unwrap_or_default();
                    let done = Done {
                        lsn: lsn.0,
                        start: append.start,
                        end: meta.end,
                        closed: meta.closed,
                    };
                    state.advance(*epoch, *sequence, done);
                    self.table.put_producer(name, (meta.id(), id.clone()), state);
                }
                self.table.totals_mut(name).bytes += (meta.end.byte() - append.start.byte()) as i64;
                self.table.put_entries(&meta, append.start, &append.entries);
            }
            Change::Touch { at } => meta.accessed = meta.accessed.max(*at),
            Change::ChildAdded => meta.children += 1,
            Change::ChildRemoved => {
                meta.children =
                    meta.children.checked_sub(1).ok_or_else(|| ShardError::record(lsn))?;
            }
            Change::Recount { children } => meta.children = *children,
            Change::Bury => meta.buried = true,
            Change::Remove => {
                self.table.totals_mut(name).count(&meta, -1);
                self.table.remove(&meta);
                return Ok(());
            }
        }
        self.table.put_stream(meta);
        Ok(())
    }
}
