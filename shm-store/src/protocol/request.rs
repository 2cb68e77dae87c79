//! What a client asks for.

use bytes::Bytes;

use super::{parts_len, put_parts, take_parts};
use crate::{
    Append, From, Offset, Producer, StreamId,
    codec::{Malformed, Put, Take},
    operation::Write,
    state::{put_config, take_config},
};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Write(Write),
    Read {
        name: String,
        /// If it is not this one any more, there is nothing to read.
        expected: Option<StreamId>,
        from: From,
        max_bytes: u32,
        max_entries: u32,
    },
    Head {
        name: String,
    },
    List {
        prefix: String,
        after: Option<String>,
        limit: u32,
    },
    Stat,
    Verify,
}

const CREATE: u8 = 1;
const APPEND: u8 = 2;
const DELETE: u8 = 3;
const FORK: u8 = 4;
const TOUCH: u8 = 5;
const READ: u8 = 6;
const HEAD: u8 = 7;
const LIST: u8 = 8;
const STAT: u8 = 9;
const VERIFY: u8 = 10;
const EXPIRE: u8 = 11;

impl Request {
    pub(crate) fn encode(&self, number: u64) -> Vec<u8> {
        let mut to = Vec::with_capacity(64 + self.payload());
        to.put_u64(number);
        match self {
            Self::Write(write) => encode_write(write, &mut to),
            Self::Read { name, expected, from, max_bytes, max_entries } => {
                to.put_u8(READ);
                to.put_short(name.as_bytes());
                to.put_option(expected.map(|stream| stream.0));
                match from {
                    From::Start => to.put_u8(0),
                    From::Offset(offset) => {
                        to.put_u8(1);
                        to.put_offset(*offset);
                    }
                    From::Now => to.put_u8(2),
                }
                to.put_u32(*max_bytes);
                to.put_u32(*max_entries);
            }
            Self::Head { name } => {
                to.put_u8(HEAD);
                to.put_short(name.as_bytes());
            }
            Self::List { prefix, after, limit } => {
                to.put_u8(LIST);
                to.put_short(prefix.as_bytes());
                to.put_u8(after.is_some().into());
                to.put_short(after.as_deref().unwrap_or_default().as_bytes());
                to.put_u32(*limit);
            }
            Self::Stat => to.put_u8(STAT),
            Self::Verify => to.put_u8(VERIFY),
        }
        to
    }

    /// The number and the request.
    pub(crate) fn decode(message: &Bytes) -> Result<(u64, Self), Malformed> {
        let mut from = Take(message);
        let number = from.u64()?;
        let request = match from.u8()? {
            READ => Self::Read {
                name: from.text()?,
                expected: from.option()?.map(StreamId),
                from: match from.u8()? {
                    0 => From::Start,
                    1 => From::Offset(from.offset()?),
                    2 => From::Now,
                    _ => return Err(Malformed),
                },
                max_bytes: from.u32()?,
                max_entries: from.u32()?,
            },
            HEAD => Self::Head { name: from.text()? },
            LIST => {
                let prefix = from.text()?;
                let is_some = from.bool()?;
                let after = Some(from.text()?).filter(|_| is_some);
                Self::List { prefix, after, limit: from.u32()? }
            }
            STAT => Self::Stat,
            VERIFY => Self::Verify,
            kind => Self::Write(decode_write(kind, &mut from, message)?),
        };
        from.end()?;
        if number == 0 { Err(Malformed) } else { Ok((number, request)) }
    }

    /// Bytes of entries, with their lengths.
    pub(crate) fn payload(&self) -> usize {
        match self {
            Self::Write(
                Write::Create { entries, .. }
                | Write::Append { append: Append { entries, .. }, .. },
            ) => parts_len(entries.iter()),
            _ => 0,
        }
    }
}

fn encode_write(write: &Write, to: &mut Vec<u8>) {
    match write {
        Write::Create { name, config, entries, close } => {
            to.put_u8(CREATE);
            to.put_short(name.as_bytes());
            put_config(to, config);
            to.put_u8((*close).into());
            put_parts(to, entries);
        }
        Write::Append { name, append: Append { entries, sequence, producer, close } } => {
            to.put_u8(APPEND);
            to.put_short(name.as_bytes());
            to.put_u8((*close).into());
            to.put_u8(sequence.is_some().into());
            to.put_short(sequence.as_deref().unwrap_or_default());
            to.put_u8(producer.is_some().into());
            if let Some(Producer { id, epoch, sequence }) = producer {
                to.put_short(id.as_bytes());
                to.put_u64(*epoch);
                to.put_u64(*sequence);
            }
            put_parts(to, entries);
        }
        Write::Delete { name } => {
            to.put_u8(DELETE);
            to.put_short(name.as_bytes());
        }
        Write::Fork { name, from, at, config } => {
            to.put_u8(FORK);
            to.put_short(name.as_bytes());
            to.put_short(from.as_bytes());
            to.put_u8(at.is_some().into());
            to.put_offset(at.unwrap_or(Offset::START));
            put_config(to, config);
        }
        Write::Touch { name } => {
            to.put_u8(TOUCH);
            to.put_short(name.as_bytes());
        }
        Write::Expire { name, stream } => {
            to.put_u8(EXPIRE);
            to.put_short(name.as_bytes());
            to.put_u64(stream.0);
        }
    }
}

fn decode_write(kind: u8, from: &mut Take<'_>, whole: &Bytes) -> Result<Write, Malformed> {
    Ok(match kind {
        CREATE => Write::Create {
            name: from.text()?,
            config: take_config(from)?,
            close: from.bool()?,
            entries: take_parts(from, whole)?,
        },
        APPEND => {
            let name = from.text()?;
            let close = from.bool()?;
            let has_sequence = from.bool()?;
            let sequence = Some(whole.slice_ref(from.short()?)).filter(|_| has_sequence);
            let producer = match from.bool()? {
                true => {
                    let id = from.text()?;
                    Some(Producer { id, epoch: from.u64()?, sequence: from.u64()? })
                }
                false => None,
            };
            let entries = take_parts(from, whole)?;
            Write::Append { name, append: Append { entries, sequence, producer, close } }
        }
        DELETE => Write::Delete { name: from.text()? },
        FORK => {
            let (name, parent) = (from.text()?, from.text()?);
            let has_offset = from.bool()?;
            let at = Some(from.offset()?).filter(|_| has_offset);
            Write::Fork { name, from: parent, at, config: take_config(from)? }
        }
        TOUCH => Write::Touch { name: from.text()? },
        EXPIRE => Write::Expire { name: from.text()?, stream: StreamId(from.u64()?) },
        _ => return Err(Malformed),
    })
}
