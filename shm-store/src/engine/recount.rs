//! Counting the forks of every stream anew when a store is opened, so that no parent is kept,
//! or lost, by a wrong number.

use std::collections::BTreeMap;

use super::Engine;
use crate::{
    Lsn, OpenError, StreamId, WriteError,
    operation::Write,
    record::{Change, Effect, Record},
    shards::{Relations, Shard, ShardError},
    state::{Lookup, Memtable, Stage},
};

/// What a stream says of its forks, and how many name it as their parent.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) said: u64,
    pub(crate) found: u64,
}

/// Counts the forks of all streams, by name.
pub(crate) fn count(lookup: &Lookup<'_>) -> Result<BTreeMap<String, Counted>, ShardError> {
    let mut counts = BTreeMap::<String, Counted>::new();
    let mut add = |name: &str, relations: Relations| {
        if relations.children > 0 {
            counts.entry(name.into()).or_default().said = relations.children;
        }
        if relations.id > 0 {
            counts.entry(relations.parent).or_default().found += 1;
        }
    };
    let tables: Vec<_> = lookup.tables.into_iter().flatten().collect();
    let hidden = |age: usize, index: usize, name: &str| {
        tables[..age].iter().any(|table| table.parts[index].streams.contains_key(name))
    };
    for (index, shard) in lookup.shards.iter().enumerate() {
        for (age, table) in tables.iter().enumerate() {
            for (name, row) in &table.parts[index].streams {
                if let Some(relations) = row.as_ref().and_then(Relations::of)
                    && !hidden(age, index, name)
                {
                    add(name, relations);
                }
            }
        }
        shard.family(&shard.snapshot()?, &mut |name, relations| {
            if !hidden(tables.len(), index, name) {
                add(name, relations);
            }
        })?;
    }
    Ok(counts)
}

impl Engine {
    /// Mends wrong numbers, and removes deleted streams that were only kept by them.
    pub(super) fn recount(&mut self) -> Result<(), OpenError> {
        let shared = self.shared.clone();
        let wrong: Vec<_> = shared.with_shards(|shards: &[Shard]| {
            let layers = shared.layers();
            let counts = count(&layers.lookup(shards))?;
            let wrong = counts.into_iter().filter(|(_, counted)| counted.said != counted.found);
            Ok::<_, ShardError>(wrong.collect())
        })?;
        for (name, Counted { said, found }) in wrong {
            tracing::warn!(name, said, found, "the number of forks was wrong");
            self.mend(name, found)?;
        }
        Ok(())
    }

    fn mend(&mut self, name: String, children: u64) -> Result<(), OpenError> {
        let shared = self.shared.clone();
        let change = Change::Recount { children };
        let effects = vec![Effect { name: name.clone(), change }];
        let record = Record { at: shared.now(), effects };
        self.log_record(&record)?;
        let meta = shared.with_shards(|shards| shared.layers().lookup(shards).stream(&name))?;
        if let Some(meta) = meta.filter(|meta| meta.buried && children == 0) {
            self.add(Write::Expire { name, stream: StreamId(meta.id()) });
            self.commit().into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?;
        }
        Ok(())
    }

    /// Logs a record and does it.
    pub(super) fn log_record(&mut self, record: &Record) -> Result<Lsn, OpenError> {
        let shared = self.shared.clone();
        let lsn = self.log.next();
        let mut table = Memtable::new(shared.shards.read().len());
        shared.with_shards(|shards| {
            let layers = shared.layers();
            Stage { table: &mut table, below: layers.lookup(shards) }.apply(lsn, record)
        })?;
        self.keep(&[record.encode()], table).map_err(failed)?;
        Ok(lsn)
    }
}

fn failed(error: WriteError) -> OpenError {
    match error {
        WriteError::Io(error) => OpenError::Io(error),
        WriteError::NoSpace => std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
        other => std::io::Error::other(other).into(),
    }
}
