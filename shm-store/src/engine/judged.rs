//! Writes that were judged and are not logged yet.

use super::Event;
use crate::{
    Lsn, Offset, StreamId, WriteError,
    operation::{Write, WriteResult},
    record::{Change, Record},
    shards::{Shard, ShardError},
    state::{Limits, Memtable, Moment, Stage, Verdict, validate},
    view::Shared,
};

/// What a batch of writes will have done once it is logged.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) results: Vec<WriteResult>,
    pub(super) records: Vec<Vec<u8>>,
    pub(super) table: Memtable,
    pub(super) events: Vec<Event>,
    /// The number that the first record will have.
    first: Lsn,
}

impl Judged {
    pub(super) fn new(shards: &[Shard], first: Lsn) -> Self {
        let table = Memtable::new(shards.len());
        Self { results: Vec::new(), records: Vec::new(), table, events: Vec::new(), first }
    }

    /// Judges a write on top of those before it. If there is no room, those are refused that do
    /// not make some. After an error, nothing of the batch counts.
    pub(super) fn judge(
        &mut self,
        shared: &Shared,
        shards: &[Shard],
        limits: Limits,
        write: &Write,
        crowded: Option<&WriteError>,
    ) -> Result<(), ShardError> {
        let frees = matches!(write, Write::Delete { .. } | Write::Expire { .. });
        if let Some(error) = crowded.filter(|_| !frees) {
            self.results.push(Err(error.clone()));
            return Ok(());
        }
        let layers = shared.layers();
        let lsn = Lsn(self.first.0 + self.records.len() as u64);
        let mut stage = Stage { table: &mut self.table, below: layers.lookup(shards) };
        let bytes = (layers.totals.bytes + stage.table.totals().bytes).max(0) as u64;
        let accessed = &|meta: &_| shared.accessed(meta);
        let (lookup, now) = (stage.lookup(), shared.now());
        let moment = Moment { lookup, limits, bytes, now, lsn, accessed };
        self.results.push(match validate(&moment, write.clone()) {
            Ok(Verdict::Log(record, written)) => {
                self.events.extend(happens(&stage, lsn, &record)?);
                stage.apply(lsn, &record)?;
                self.records.push(record.encode());
                Ok(written)
            }
            Ok(Verdict::Repeated(written)) => Ok(written),
            Err(error) => Err(error),
        });
        Ok(())
    }
}

/// What a record will have done, for those who follow its streams.
fn happens(stage: &Stage<'_>, lsn: Lsn, record: &Record) -> Result<Vec<Event>, ShardError> {
    let mut events = Vec::new();
    let mut created = false;
    for effect in &record.effects {
        let (start, entries, closed, deleted) = match &effect.change {
            Change::Append(append) => (append.start, append.entries.clone(), append.close, false),
            Change::Remove | Change::Bury => (Offset::START, Vec::new(), false, true),
            Change::Create { .. } => {
                created = true;
                continue;
            }
            _ => continue,
        };
        let stream = if created {
            lsn.0
        } else {
            stage.lookup().stream(&effect.name)?.map_or(lsn.0, |meta| meta.id())
        };
        let (stream, name) = (StreamId(stream), effect.name.clone());
        events.push(Event { stream, name, start, entries, closed, deleted });
    }
    Ok(events)
}
