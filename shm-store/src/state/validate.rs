//! Whether a write may be done, and the record that does it.

use std::time::Duration;

use bytes::Bytes;

use super::{Lookup, Parent, ProducerState, StreamMeta, millis};
use crate::{
    Append, Lsn, Offset, StreamConfig, Written,
    error::WriteError,
    operation::Write,
    read::{Gather, Reading},
    record::{Appended, Change, Effect, Record},
    shards::ShardError,
};

/// How many ancestors a fork may have.
pub(crate) const MAX_DEPTH: u8 = 64;

/// What bounds a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) store: u64,
    pub(crate) stream: u64,
    pub(crate) operation: u64,
}

impl Limits {
    /// The most entries of an operation.
    pub(crate) const fn entries(&self) -> u64 {
        self.operation / 16 + 1024
    }

    /// The most bytes of a record: entries and their lengths, names, ancestors that go.
    pub(crate) const fn record(&self) -> u64 {
        self.operation + 4 * self.entries() + 64 * 1024
    }
}

/// What becomes of a write.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// This is to be logged; then it was done.
    Log(Record, Written),
    /// It was done before.
    Repeated(Written),
}

/// The moment at which a write is judged.
pub(crate) struct Moment<'a> {
    pub(crate) lookup: Lookup<'a>,
    pub(crate) limits: Limits,
    /// Bytes of entries in the store.
    pub(crate) bytes: u64,
    pub(crate) now: u64,
    /// The record's number, if there will be one.
    pub(crate) lsn: Lsn,
    /// When a stream was last read or written.
    pub(crate) accessed: &'a dyn Fn(&StreamMeta) -> u64,
}

/// Judges a write; changes nothing.
pub(crate) fn validate(moment: &Moment<'_>, write: Write) -> Result<Verdict, WriteError> {
    match write {
        Write::Create { name, config, entries, close } => {
            moment.create(name, config, entries, close)
        }
        Write::Append { name, append } => moment.append(name, append),
        Write::Delete { name } => moment.delete(&name),
        Write::Fork { name, from, at, config } => moment.fork(name, &from, at, config),
        Write::Touch { name } => moment.touch(name),
        Write::Expire { name, stream } => moment.expire(&name, stream.0),
    }
}

impl Moment<'_> {
    fn create(
        &self,
        name: String,
        config: StreamConfig,
        entries: Vec<Bytes>,
        close: bool,
    ) -> Result<Verdict, WriteError> {
        let config = whole_millis(config);
        check_name(&name)?;
        check_config(&config)?;
        let room = self.room(&name)?;
        let mut effects = match room {
            Room::Taken(meta) => return same(&meta, meta.fixed.config == config),
            Room::Free(effects) => effects,
        };
        let append = Appended { entries, close, ..Appended::default() };
        self.check_size(&config, Offset::START, &append.entries)?;
        effects
            .push(Effect { name: name.clone(), change: Change::Create { config, parent: None } });
        let written = self.written(&append);
        if append.close || !append.entries.is_empty() {
            effects.push(Effect { name, change: Change::Append(append) });
        }
        Ok(self.log(effects, written))
    }

    fn append(&self, name: String, append: Append) -> Result<Verdict, WriteError> {
        let Append { entries, sequence, producer, close } = append;
        let meta = self.live(&name)?;
        if entries.is_empty() && !close {
            return Err(WriteError::Empty);
        }
        if sequence.as_ref().is_some_and(|sequence| sequence.len() > 255) {
            return Err(WriteError::BadName);
        }
        if let Some(producer) = &producer {
            check_name(&producer.id)?;
            let state = self.lookup.producer(&meta, &producer.id)?;
            if let Some(done) = ProducerState::check(state.as_ref(), producer)? {
                return Ok(Verdict::Repeated(done.repeated()));
            }
        }
        if meta.closed {
            return if entries.is_empty() {
                Ok(Verdict::Repeated(standing(&meta)))
            } else {
                Err(WriteError::Closed(meta.end))
            };
        }
        if let (Some(sequence), Some(last)) = (&sequence, &meta.sequence)
            && sequence <= last
        {
            return Err(WriteError::Sequence);
        }
        self.check_size(&meta.fixed.config, meta.end, &entries)?;
        let producer = producer.map(|producer| (producer.id, producer.epoch, producer.sequence));
        let append = Appended { start: meta.end, entries, close, sequence, producer };
        let written = self.written(&append);
        Ok(self.log(vec![Effect { name, change: Change::Append(append) }], written))
    }

    fn delete(&self, name: &str) -> Result<Verdict, WriteError> {
        let meta = self.live(name)?;
        Ok(self.log(self.removal(&meta)?, self.gone(&meta)))
    }

    fn expire(&self, name: &str, id: u64) -> Result<Verdict, WriteError> {
        let meta = self.lookup.stream(name)?.ok_or(WriteError::NotFound)?;
        let gone = if meta.buried { meta.children == 0 } else { self.expired(&meta) };
        if meta.id() != id || !gone {
            return Err(WriteError::NotFound);
        }
        Ok(self.log(self.removal(&meta)?, self.gone(&meta)))
    }

    fn touch(&self, name: String) -> Result<Verdict, WriteError> {
        let meta = self.live(&name)?;
        // When it was read, if that is known; else now.
        let read = (self.accessed)(&meta);
        let at = if read > meta.accessed { read } else { self.now };
        if meta.fixed.config.time_to_live.is_none() || at <= meta.accessed {
            return Ok(Verdict::Repeated(standing(&meta)));
        }
        let written = Written { lsn: self.lsn, repeated: false, ..standing(&meta) };
        Ok(self.log(vec![Effect { name, change: Change::Touch { at } }], written))
    }

    fn fork(
        &self,
        name: String,
        from: &str,
        at: Option<Offset>,
        config: StreamConfig,
    ) -> Result<Verdict, WriteError> {
        let config = whole_millis(config);
        check_name(&name)?;
        check_config(&config)?;
        let room = self.room(&name)?;
        let mut effects = match room {
            Room::Taken(meta) => {
                let fork = meta.fixed.parent.as_ref();
                let alike = fork.is_some_and(|parent| {
                    parent.name == from && at.is_none_or(|at| at == parent.at)
                });
                return same(&meta, alike && meta.fixed.config == config);
            }
            Room::Free(effects) => effects,
        };
        let source = self.live(from)?;
        let depth = source.fixed.parent.as_ref().map_or(0, |parent| parent.depth) + 1;
        if depth > MAX_DEPTH {
            return Err(WriteError::TooDeep { limit: MAX_DEPTH });
        }
        let (at, own) = self.boundary(&source, at.unwrap_or(source.end))?;
        let parent = Parent { name: from.into(), id: source.id(), at, own, depth };
        effects.push(Effect { name: from.into(), change: Change::ChildAdded });
        effects.push(Effect { name, change: Change::Create { config, parent: Some(parent) } });
        let written =
            Written { end: own, start: own, lsn: self.lsn, repeated: false, closed: false };
        Ok(self.log(effects, written))
    }

    /// Where a fork at this position ends in its parent, and where its own entries begin.
    fn boundary(&self, source: &StreamMeta, at: Offset) -> Result<(Offset, Offset), WriteError> {
        let gather = Gather { from: at, max_bytes: 0, max_entries: 1 };
        let reading = match Reading::plan(&self.lookup, source, gather)?.finish(self.lookup.shards)
        {
            Ok(reading) => reading,
            Err(None) => return Err(WriteError::BadOffset),
            Err(Some(error)) => return Err(error.into()),
        };
        let at = reading.from;
        let own = if reading.inside { Offset::new(at.entry() + 1, at.byte()) } else { at };
        Ok((at, own))
    }

    /// What removes a stream, and its ancestors that only lived for it.
    fn removal(&self, meta: &StreamMeta) -> Result<Vec<Effect>, WriteError> {
        let mut effects = Vec::new();
        let of = |meta: &StreamMeta, change| Effect { name: meta.fixed.name.clone(), change };
        if meta.children > 0 {
            return Ok(vec![of(meta, Change::Bury)]);
        }
        let mut meta = meta.clone();
        loop {
            effects.push(of(&meta, Change::Remove));
            let Some(parent) = &meta.fixed.parent else { break };
            let parent = self
                .lookup
                .stream(&parent.name)?
                .ok_or_else(|| ShardError::reference(&meta.fixed.name))?;
            effects.push(of(&parent, Change::ChildRemoved));
            if !parent.buried || parent.children > 1 {
                break;
            }
            meta = parent;
        }
        Ok(effects)
    }

    /// Whether a name can be taken, and what must go before.
    fn room(&self, name: &str) -> Result<Room, WriteError> {
        Ok(match self.lookup.stream(name)? {
            None => Room::Free(Vec::new()),
            Some(meta) if meta.buried => return Err(WriteError::Tombstone),
            Some(meta) if !self.expired(&meta) => Room::Taken(meta),
            Some(meta) if meta.children > 0 => return Err(WriteError::Tombstone),
            Some(meta) => Room::Free(self.removal(&meta)?),
        })
    }

    /// The stream of a name, if there is one that is neither deleted nor expired.
    fn live(&self, name: &str) -> Result<StreamMeta, WriteError> {
        let meta = self.lookup.stream(name)?.ok_or(WriteError::NotFound)?;
        if meta.buried {
            return Err(WriteError::Tombstone);
        }
        if self.expired(&meta) { Err(WriteError::NotFound) } else { Ok(meta) }
    }

    fn expired(&self, meta: &StreamMeta) -> bool {
        meta.expires((self.accessed)(meta)).is_some_and(|at| at <= self.now)
    }

    fn check_size(
        &self,
        config: &StreamConfig,
        end: Offset,
        entries: &[Bytes],
    ) -> Result<(), WriteError> {
        let bytes: u64 = entries.iter().map(|entry| entry.len() as u64).sum();
        let Limits { store, stream, operation } = self.limits;
        if bytes > operation || entries.len() as u64 > self.limits.entries() {
            return Err(WriteError::TooLarge { limit: operation });
        }
        let limit = config.max_bytes.unwrap_or(u64::MAX).min(stream);
        if end.byte().saturating_add(bytes) > limit {
            return Err(WriteError::StreamFull { limit });
        }
        if self.bytes.saturating_add(bytes) > store {
            return Err(WriteError::StoreFull { limit: store });
        }
        Ok(())
    }

    fn log(&self, effects: Vec<Effect>, written: Written) -> Verdict {
        Verdict::Log(Record { at: self.now, effects }, written)
    }

    fn written(&self, append: &Appended) -> Written {
        Written {
            end: append.end(),
            start: append.start,
            lsn: self.lsn,
            repeated: false,
            closed: append.close,
        }
    }

    fn gone(&self, meta: &StreamMeta) -> Written {
        Written { lsn: self.lsn, repeated: false, ..standing(meta) }
    }
}

enum Room {
    Taken(StreamMeta),
    Free(Vec<Effect>),
}

/// The answer to a call that finds what it asks for.
fn standing(meta: &StreamMeta) -> Written {
    Written {
        end: meta.end,
        start: meta.end,
        lsn: Lsn(meta.id()),
        repeated: true,
        closed: meta.closed,
    }
}

fn same(meta: &StreamMeta, alike: bool) -> Result<Verdict, WriteError> {
    if alike {
        Ok(Verdict::Repeated(standing(meta)))
    } else {
        Err(WriteError::Mismatch(Box::new(meta.fixed.config.clone())))
    }
}

fn check_name(name: &str) -> Result<(), WriteError> {
    let sound = (1..=255).contains(&name.len()) && !name.chars().any(char::is_control);
    if sound { Ok(()) } else { Err(WriteError::BadName) }
}

fn check_config(config: &StreamConfig) -> Result<(), WriteError> {
    let text = &config.content_type;
    let sound = text.len() <= 255 && !text.chars().any(char::is_control);
    if sound { Ok(()) } else { Err(WriteError::BadName) }
}

/// Times as they are kept, so that equal ones are found equal.
fn whole_millis(config: StreamConfig) -> StreamConfig {
    let time_to_live = config
        .time_to_live
        .map(|time| Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
    let expires_at = config.expires_at.map(|at| super::stream::time(millis(at)));
    StreamConfig { time_to_live, expires_at, ..config }
}
