//! Checks everything that a store has, while it is in use.

use std::collections::HashSet;

use super::recount;
use crate::{
    Offset,
    read::{Gather, Reading},
    shards::{Shard, ShardError},
    state::{StreamMeta, Totals},
    view::{Shared, View},
};

/// How much is looked at in one moment.
const STREAMS: usize = 256;
const BYTES: usize = 1 << 20;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) streams: u64,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Whether sums were compared too: nobody wrote meanwhile.
    pub(crate) sums: bool,
    /// What is wrong.
    pub(crate) problems: Vec<String>,
}

impl View {
    /// Reads the log, every stream and entry, and counts forks and sums anew.
    pub(crate) fn verify(&self) -> Report {
        let mut report = Report::default();
        if let Err(error) = self.shared.log.run(self.durable()) {
            report.problems.push(error.to_string());
        }
        if let Err(error) = check(&self.shared, &mut report) {
            report.problems.push(format!("{error:?}"));
        }
        report
    }
}

fn check(shared: &Shared, report: &mut Report) -> Result<(), ShardError> {
    let before = shared.layers().visible;
    let mut sums = Totals::default();
    let mut ids = HashSet::new();
    let mut after: Option<String> = None;
    loop {
        let metas = shared.with_shards(|shards| {
            let layers = shared.layers();
            layers.lookup(shards).scan("", after.as_deref(), STREAMS, &|_| true)
        })?;
        for meta in &metas {
            report.streams += 1;
            ids.insert(meta.id());
            sums.count(meta, 1);
            if let Err(error) = entries(shared, meta, report) {
                report.problems.push(format!("{}: {error:?}", meta.fixed.name));
            }
        }
        let Some(last) = metas.last() else { break };
        after = Some(last.fixed.name.clone());
    }
    shared.with_shards(|shards| forks(shared, shards, report))?;
    shared.with_shards(|shards| {
        let layers = shared.layers();
        report.sums = layers.visible == before;
        if report.sums {
            if layers.totals != sums {
                report.problems.push(format!("sums: {:?}, counted {sums:?}", layers.totals));
            }
            let tables = [Some(&layers.active), layers.frozen.as_deref()];
            for (index, shard) in shards.iter().enumerate() {
                let removed = |id: u64| {
                    let mut tables = tables.into_iter().flatten();
                    tables.any(|table| table.parts[index].removed.contains(&id))
                };
                for id in shard.with_blocks(&shard.snapshot()?)? {
                    if !ids.contains(&id) && !removed(id) {
                        report.problems.push(format!("entries of no stream: {id}"));
                    }
                }
            }
        }
        Ok(())
    })
}

/// Reads a stream's entries, those that it shares too.
fn entries(shared: &Shared, meta: &StreamMeta, report: &mut Report) -> Result<(), ShardError> {
    let mut from = Offset::START;
    let own = meta.own();
    loop {
        let found = shared.with_shards(|shards| {
            let layers = shared.layers();
            let lookup = layers.lookup(shards);
            // It may have been deleted meanwhile.
            let Some(now) = lookup.stream(&meta.fixed.name)?.filter(|now| now.id() == meta.id())
            else {
                return Ok(None);
            };
            let gather = Gather { from, max_bytes: BYTES, max_entries: usize::MAX };
            let reading = Reading::plan(&lookup, &now, gather)?;
            drop(layers);
            match reading.finish(shards) {
                Ok(found) => Ok(Some((found, now.end))),
                Err(Some(error)) => Err(error),
                Err(None) => Err(ShardError::damaged(&meta.fixed.name, from.byte(), "no entry")),
            }
        })?;
        let Some((found, end)) = found else { return Ok(()) };
        for entry in found.entries.iter().filter(|entry| entry.offset >= own) {
            report.entries += 1;
            report.bytes += entry.data.len() as u64;
        }
        if found.next == end {
            return Ok(());
        }
        from = found.next;
    }
}

fn forks(shared: &Shared, shards: &[Shard], report: &mut Report) -> Result<(), ShardError> {
    let layers = shared.layers();
    for (name, counted) in recount::count(&layers.lookup(shards))? {
        if counted.said != counted.found {
            report.problems.push(format!("{name}: {counted:?}"));
        }
    }
    Ok(())
}
