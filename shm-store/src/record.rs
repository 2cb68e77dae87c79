//! What one operation changed, as it stands in the log: all of it in one record, so that it
//! happens wholly or not at all, whatever streams and shards it touches.
//!
//! A record is a list of effects, each on one stream. Whoever makes it has checked
//! everything: to apply a record never fails and always has the same result, however often
//! a store recovers.

use bytes::Bytes;

use crate::{
    Offset, StreamConfig,
    codec::{Malformed, Put, Take, put_entries, take_entries},
    state::{Parent, put_config, take_config},
};

/// The first byte of a record.
const FORMAT: u8 = 1;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// When, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) effects: Vec<Effect>,
}

/// What happens to one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) name: String,
    pub(crate) change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The name is taken. The stream's id is the record's LSN.
    Create { config: StreamConfig, parent: Option<Parent> },
    /// Entries, a closing, or both.
    Append(Appended),
    /// Somebody read it at this time.
    Touch { at: u64 },
    /// A fork was made of it.
    ChildAdded,
    /// A fork of it was removed.
    ChildRemoved,
    /// Its forks were counted anew.
    Recount { children: u64 },
    /// It was deleted while forks of it live.
    Bury,
    /// It is gone with its entries and producers.
    Remove,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The end of the stream before.
    pub(crate) start: Offset,
    pub(crate) entries: Vec<Bytes>,
    pub(crate) close: bool,
    pub(crate) sequence: Option<Bytes>,
    /// The producer's name, epoch and sequence.
    pub(crate) producer: Option<(String, u64, u64)>,
}

impl Appended {
    /// The end of the stream behind it.
    pub(crate) fn end(&self) -> Offset {
        let bytes: u64 = self.entries.iter().map(|entry| entry.len() as u64).sum();
        Offset::new(self.start.entry() + self.entries.len() as u64, self.start.byte() + bytes)
    }
}

impl Record {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let payload: usize = self.effects.iter().map(|effect| effect.change.payload()).sum();
        let mut to = Vec::with_capacity(payload + 64 * (1 + self.effects.len()));
        to.put_u8(FORMAT);
        to.put_u64(self.at);
        to.put_u32(self.effects.len() as u32);
        for Effect { name, change } in &self.effects {
            to.put_short(name.as_bytes());
            change.encode(&mut to);
        }
        to
    }

    pub(crate) fn decode(from: &[u8]) -> Result<Self, Malformed> {
        let mut from = Take(from);
        if from.u8()? != FORMAT {
            return Err(Malformed);
        }
        let at = from.u64()?;
        let count = from.count(2)?;
        let effects = (0..count)
            .map(|_| Ok(Effect { name: from.text()?, change: Change::decode(&mut from)? }))
            .collect::<Result<_, _>>()?;
        from.end()?;
        Ok(Self { at, effects })
    }
}

impl Change {
    fn payload(&self) -> usize {
        match self {
            Self::Append(append) => append.entries.iter().map(|entry| 4 + entry.len()).sum(),
            _ => 0,
        }
    }

    fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Create { config, parent } => {
                to.put_u8(0);
                put_config(to, config);
                Parent::put(to, parent.as_ref());
            }
            Self::Append(append) => {
                to.put_u8(1);
                to.put_offset(append.start);
                let flags = u8::from(append.close)
                    | u8::from(append.sequence.is_some()) << 1
                    | u8::from(append.producer.is_some()) << 2;
                to.put_u8(flags);
                if let Some(sequence) = &append.sequence {
                    to.put_short(sequence);
                }
                if let Some((id, epoch, sequence)) = &append.producer {
                    to.put_short(id.as_bytes());
                    to.put_u64(*epoch);
                    to.put_u64(*sequence);
                }
                put_entries(to, &append.entries);
            }
            Self::Touch { at } => {
                to.put_u8(2);
                to.put_u64(*at);
            }
            Self::ChildAdded => to.put_u8(3),
            Self::ChildRemoved => to.put_u8(4),
            Self::Bury => to.put_u8(5),
            Self::Remove => to.put_u8(6),
            Self::Recount { children } => {
                to.put_u8(7);
                to.put_u64(*children);
            }
        }
    }

    fn decode(from: &mut Take<'_>) -> Result<Self, Malformed> {
        Ok(match from.u8()? {
            0 => Self::Create { config: take_config(from)?, parent: Parent::take(from)? },
            1 => {
                let start = from.offset()?;
                let flags = from.u8()?;
                if flags >= 8 {
                    return Err(Malformed);
                }
                let sequence = (flags & 2 != 0)
                    .then(|| from.short().map(Bytes::copy_from_slice))
                    .transpose()?;
                let producer = (flags & 4 != 0)
                    .then(|| Ok((from.text()?, from.u64()?, from.u64()?)))
                    .transpose()?;
                let entries = take_entries(from)?;
                Self::Append(Appended { start, entries, close: flags & 1 != 0, sequence, producer })
            }
            2 => Self::Touch { at: from.u64()? },
            3 => Self::ChildAdded,
            4 => Self::ChildRemoved,
            5 => Self::Bury,
            6 => Self::Remove,
            7 => Self::Recount { children: from.u64()? },
            _ => return Err(Malformed),
        })
    }
}
