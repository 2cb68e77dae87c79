//! What the owner tells all tails through the topic: what became durable, in order.

use bytes::Bytes;

use super::{MAX_EVENT, answer::following, parts_len, put_parts, take_parts};
use crate::{
    Entry, Offset, StreamId,
    codec::{Malformed, Put, Take},
    engine,
};

/// Something that happened to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) stream: StreamId,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// All entries from start to end; none if they were too many to be told.
    pub(crate) entries: Vec<Entry>,
    pub(crate) closed: bool,
    pub(crate) deleted: bool,
}

/// Stream, start, end, flags.
const HEAD: usize = 8 + 16 + 16 + 1;

impl Event {
    /// What happened, in as many bytes as a value of the topic may have.
    pub(crate) fn encode(event: &engine::Event) -> Vec<u8> {
        let engine::Event { stream, start, entries, closed, deleted, .. } = event;
        let bytes: u64 = entries.iter().map(|entry| entry.len() as u64).sum();
        let end = Offset::new(start.entry() + entries.len() as u64, start.byte() + bytes);
        let fits = HEAD + parts_len(entries.iter()) <= MAX_EVENT;
        let entries = if fits { entries.as_slice() } else { &[] };
        let mut to = Vec::with_capacity(HEAD + parts_len(entries.iter()));
        to.put_u64(stream.0);
        to.put_offset(*start);
        to.put_offset(end);
        to.put_u8(u8::from(*closed) | u8::from(*deleted) << 1);
        put_parts(&mut to, entries);
        to
    }

    /// Which stream an event is about.
    pub(crate) fn stream_of(value: &[u8]) -> Result<StreamId, Malformed> {
        Take(value).u64().map(StreamId)
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let whole = Bytes::copy_from_slice(value);
        let mut from = Take(&whole);
        let stream = StreamId(from.u64()?);
        let (start, end, flags) = (from.offset()?, from.offset()?, from.u8()?);
        let parts = take_parts(&mut from, &whole)?;
        from.end()?;
        let mut entries = Vec::with_capacity(parts.len());
        let mut offset = start;
        for data in parts {
            let next = following(offset, data.len())?;
            entries.push(Entry { offset, next, data });
            offset = next;
        }
        if flags > 3 || start > end || (!entries.is_empty() && offset != end) {
            return Err(Malformed);
        }
        let (closed, deleted) = (flags & 1 != 0, flags & 2 != 0);
        Ok(Self { stream, start, end, entries, closed, deleted })
    }
}
