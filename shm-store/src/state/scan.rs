//! Streams in the order of their names, over all tables and shards.

use std::{collections::BTreeMap, ops::Bound};

use super::{Lookup, StreamMeta};
use crate::shards::ShardError;

impl Lookup<'_> {
    /// The first `limit` streams with this prefix, behind the name `after`, that are wanted.
    pub(crate) fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        wanted: &dyn Fn(&StreamMeta) -> bool,
    ) -> Result<Vec<StreamMeta>, ShardError> {
        let mut first = First { limit, streams: BTreeMap::new() };
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let tables: Vec<_> = self.tables.into_iter().flatten().collect();
        for (index, shard) in self.shards.iter().enumerate() {
            let hidden = |age: usize, name: &str| {
                tables[..age].iter().any(|table| table.parts[index].streams.contains_key(name))
            };
            for (age, table) in tables.iter().enumerate() {
                let rows = table.parts[index].streams.range::<str, _>((from, Bound::Unbounded));
                for (name, row) in rows.take_while(|(name, _)| name.starts_with(prefix)) {
                    if let Some(meta) = row
                        && !hidden(age, name)
                        && wanted(meta)
                        && !first.offer(meta.clone())
                    {
                        break;
                    }
                }
            }
            shard.streams(&shard.snapshot()?, from, &mut |meta| {
                let name = &meta.fixed.name;
                name.starts_with(prefix)
                    && (hidden(tables.len(), name) || !wanted(&meta) || first.offer(meta))
            })?;
        }
        Ok(first.streams.into_values().collect())
    }
}

/// The streams with the smallest names of those that it was offered.
struct First {
    limit: usize,
    streams: BTreeMap<String, StreamMeta>,
}

impl First {
    /// Whether streams with larger names may still be wanted.
    fn offer(&mut self, meta: StreamMeta) -> bool {
        let full = self.streams.len() >= self.limit;
        if full && self.streams.last_key_value().is_none_or(|(last, _)| *last < meta.fixed.name) {
            return false;
        }
        self.streams.insert(meta.fixed.name.clone(), meta);
        if full {
            self.streams.pop_last();
        }
        true
    }
}
