//! What an owner answers.

use bytes::Bytes;

use super::{
    failure::{put_read_error, put_write_error, take_read_error, take_write_error},
    parts_len, take_parts,
};
use crate::{
    Durability, Entry, Head, Lsn, Offset, Page, ReadError, Stat, StreamId, Verified, WriteError,
    Written,
    codec::{Malformed, Put, Take},
    state::{millis, put_config, take_config, time},
};

const WRITTEN: u8 = 1;
const PAGE: u8 = 2;
const HEAD: u8 = 3;
const LIST: u8 = 4;
const STAT: u8 = 5;
const VERIFIED: u8 = 6;

const OK: u8 = 0;
const FAILED: u8 = 1;

/// An answer, as a client receives it and, but for pages, as an owner sends it.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Written(Durability, Result<Written, WriteError>),
    Page(Result<Page, ReadError>),
    Head(Result<Head, ReadError>),
    List(Result<Vec<Head>, ReadError>),
    Stat(Stat),
    Verified(Verified),
}

/// The owner's last word on a link: it has done and answered all that it ever will.
pub(crate) const FAREWELL: [u8; 8] = [0; 8];

/// The number at the front of a message, if it is an answer; 0 is the farewell's.
pub(crate) fn number_of(message: &[u8]) -> Result<u64, Malformed> {
    Take(message).u64()
}

impl Answer {
    pub(crate) fn encode(&self, number: u64) -> Vec<u8> {
        let mut to = Vec::with_capacity(128);
        to.put_u64(number);
        match self {
            Self::Written(durability, result) => {
                to.put_u8(WRITTEN);
                put_result(&mut to, result, put_write_error, |to, written| {
                    to.put_u8((*durability == Durability::Relaxed).into());
                    put_written(to, written);
                });
            }
            Self::Page(Ok(page)) => {
                let at = to.len() - 8;
                to.resize(at + page_len(page), 0);
                encode_page(number, page, &mut to[at..]);
            }
            Self::Page(Err(error)) => {
                to.put_u8(PAGE);
                to.put_u8(FAILED);
                put_read_error(&mut to, error);
            }
            Self::Head(result) => {
                to.put_u8(HEAD);
                put_result(&mut to, result, put_read_error, put_head);
            }
            Self::List(result) => {
                to.put_u8(LIST);
                put_result(&mut to, result, put_read_error, |to, heads| {
                    to.put_u32(heads.len() as u32);
                    heads.iter().for_each(|head| put_head(to, head));
                });
            }
            Self::Stat(stat) => {
                to.put_u8(STAT);
                to.put_u8(OK);
                stat.encode(&mut to);
            }
            Self::Verified(verified) => {
                to.put_u8(VERIFIED);
                to.put_u8(OK);
                verified.encode(&mut to);
            }
        }
        to
    }

    pub(crate) fn decode(message: &Bytes) -> Result<Self, Malformed> {
        let mut from = Take(message);
        let (_number, kind) = (from.u64()?, from.u8()?);
        let failed = from.bool()?;
        let answer = match (kind, failed) {
            (WRITTEN, false) => {
                let durability =
                    if from.bool()? { Durability::Relaxed } else { Durability::Durable };
                Self::Written(durability, Ok(take_written(&mut from)?))
            }
            (WRITTEN, true) => {
                Self::Written(Durability::Durable, Err(take_write_error(&mut from)?))
            }
            (PAGE, false) => Self::Page(Ok(take_page(&mut from, message)?)),
            (PAGE, true) => Self::Page(Err(take_read_error(&mut from)?)),
            (HEAD, false) => Self::Head(Ok(take_head(&mut from)?)),
            (HEAD, true) => Self::Head(Err(take_read_error(&mut from)?)),
            (LIST, false) => {
                let count = from.count(MIN_HEAD)?;
                Self::List(Ok((0..count)
                    .map(|_| take_head(&mut from))
                    .collect::<Result<_, _>>()?))
            }
            (LIST, true) => Self::List(Err(take_read_error(&mut from)?)),
            (STAT, false) => Self::Stat(Stat::decode(&mut from)?),
            (VERIFIED, false) => Self::Verified(Verified::decode(&mut from)?),
            _ => return Err(Malformed),
        };
        from.end()?;
        Ok(answer)
    }
}

fn put_result<T, E>(
    to: &mut Vec<u8>,
    result: &Result<T, E>,
    put_error: impl FnOnce(&mut Vec<u8>, &E),
    put: impl FnOnce(&mut Vec<u8>, &T),
) {
    match result {
        Ok(value) => {
            to.put_u8(OK);
            put(to, value);
        }
        Err(error) => {
            to.put_u8(FAILED);
            put_error(to, error);
        }
    }
}

fn put_written(to: &mut Vec<u8>, written: &Written) {
    to.put_offset(written.start);
    to.put_offset(written.end);
    to.put_u64(written.lsn.0);
    to.put_u8(written.repeated.into());
    to.put_u8(written.closed.into());
}

fn take_written(from: &mut Take<'_>) -> Result<Written, Malformed> {
    Ok(Written {
        start: from.offset()?,
        end: from.offset()?,
        lsn: Lsn(from.u64()?),
        repeated: from.bool()?,
        closed: from.bool()?,
    })
}

/// Bytes of a head whose texts are empty.
const MIN_HEAD: usize = 40;

fn put_head(to: &mut Vec<u8>, head: &Head) {
    to.put_short(head.name.as_bytes());
    to.put_u64(head.stream.0);
    put_config(to, &head.config);
    to.put_offset(head.end);
    to.put_u8(head.closed.into());
    to.put_u8(head.forked.is_some().into());
    if let Some((parent, at)) = head.forked {
        to.put_u64(parent.0);
        to.put_offset(at);
    }
    to.put_u64(millis(head.created));
    to.put_option(head.expires.map(millis));
}

fn take_head(from: &mut Take<'_>) -> Result<Head, Malformed> {
    Ok(Head {
        name: from.text()?,
        stream: StreamId(from.u64()?),
        config: take_config(from)?,
        end: from.offset()?,
        closed: from.bool()?,
        forked: match from.bool()? {
            true => Some((StreamId(from.u64()?), from.offset()?)),
            false => None,
        },
        created: time(from.u64()?),
        expires: from.option()?.map(time),
    })
}

/// Bytes of a page's answer.
pub(crate) fn page_len(page: &Page) -> usize {
    PAGE_HEAD + parts_len(page.entries.iter().map(|entry| &entry.data))
}

/// Number, kind, result, stream, next, flags and first offset.
const PAGE_HEAD: usize = 8 + 1 + 1 + 8 + 16 + 1 + 16;

/// Writes a page's answer to where a peer will read it: `to` has [`page_len`] bytes.
pub(crate) fn encode_page(number: u64, page: &Page, to: &mut [u8]) {
    let mut to = Fill(to);
    to.put_u64(number);
    to.put_u8(PAGE);
    to.put_u8(OK);
    to.put_u64(page.stream.0);
    to.put_offset(page.next);
    to.put_u8(u8::from(page.up_to_date) | u8::from(page.closed) << 1);
    to.put_offset(page.entries.first().map_or(page.next, |entry| entry.offset));
    to.put_u32(page.entries.len() as u32);
    page.entries.iter().for_each(|entry| to.put_u32(entry.data.len() as u32));
    page.entries.iter().for_each(|entry| to.put(&entry.data));
}

fn take_page(from: &mut Take<'_>, whole: &Bytes) -> Result<Page, Malformed> {
    let stream = StreamId(from.u64()?);
    let next = from.offset()?;
    let flags = from.u8()?;
    let mut offset = from.offset()?;
    let parts = take_parts(from, whole)?;
    let mut entries = Vec::with_capacity(parts.len());
    for data in parts {
        let next = following(offset, data.len())?;
        entries.push(Entry { offset, next, data });
        offset = next;
    }
    if flags > 3 || offset != next {
        return Err(Malformed);
    }
    Ok(Page { entries, next, up_to_date: flags & 1 != 0, closed: flags & 2 != 0, stream })
}

/// Where the entry after one of `len` bytes at `offset` is.
pub(super) fn following(offset: Offset, len: usize) -> Result<Offset, Malformed> {
    let entry = offset.entry().checked_add(1).ok_or(Malformed)?;
    Ok(Offset::new(entry, offset.byte().checked_add(len as u64).ok_or(Malformed)?))
}

/// Fills a buffer from the front.
struct Fill<'a>(&'a mut [u8]);

impl Put for Fill<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (front, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        front.copy_from_slice(bytes);
        self.0 = rest;
    }
}
