//! What clients and the owner say to each other over a link: a request with a number, and
//! the answer with the same number. Everything that the other side says is checked before it
//! is believed.
//!
//! Integers are little-endian. A request is `number u64, kind u8`, then what the kind needs;
//! an answer is `number u64, kind u8`, then `0` and the result, or `1` and the error. Number
//! 0 is no request's: the owner's farewell has it.

mod answer;
mod event;
mod failure;
mod request;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use shm_transport::{LinkConfig, Message, SizeClass, TopicConfig};

pub(crate) use self::{
    answer::{Answer, FAREWELL, encode_page, number_of, page_len},
    event::Event,
    request::Request,
};
use crate::codec::{Malformed, Put, Take};

/// Sockets of a store directory: by which writes go, and by which reads.
pub(crate) const COMMIT: &str = "commit";
pub(crate) const READ: &str = "read";
/// The topic of what became durable, in the hub of [`READ`].
pub(crate) const DURABLE: &str = "durable";
/// The topic, in the same hub, whose newest value says up to where everything is durable.
pub(crate) const DURABLE_LSN: &str = "durable-lsn";

/// Requests that a client may have under way at once on each link. So many answers always
/// find room; who has no room for one has more, and loses its link.
pub(crate) const MAX_WRITES: usize = 128;
pub(crate) const MAX_READS: usize = 6;

/// Bytes of payload in a page, if its first entry is not larger.
pub(crate) const MAX_PAGE: u32 = (1 << 20) - PAGE_ROOM;
/// Of a slot of 1 MiB, what a page needs beside the payload.
const PAGE_ROOM: u32 = 64 << 10;
/// Entries in a page.
pub(crate) const MAX_PAGE_ENTRIES: u32 = 8 << 10;
/// Streams in an answer to a listing.
pub(crate) const MAX_LISTED: u32 = 1000;

/// Bytes of an event that goes through the topic: larger ones are only told of.
pub(crate) const MAX_EVENT: usize = 4 << 10;

/// Guests that an owner lets in on each of its two hubs: one for each open handle, and on
/// that of reads one more for each tail.
pub(crate) const MAX_GUESTS: usize = 4096;

/// The link of writes, which carries operations of up to `max_operation` bytes of payload.
pub(crate) fn commit_link(max_operation: u64) -> LinkConfig {
    LinkConfig {
        ring_capacity: 128 << 10,
        // A length for each entry, and the entries may be short.
        max_message: max_operation.saturating_mul(5).saturating_add(64 << 10),
        // Whoever waits for a sync sleeps, nearly always: nobody need make that dear, or put it off.
        asymmetric_fence: false,
        spin: Duration::ZERO,
        ..LinkConfig::default()
    }
}

/// The link of reads.
pub(crate) fn read_link(max_operation: u64) -> LinkConfig {
    let class =
        |slot_size, extent_slots, max_extents| SizeClass { slot_size, extent_slots, max_extents };
    LinkConfig {
        size_classes: vec![class(16 << 10, 8, 1), class(128 << 10, 4, 2), class(1 << 20, 2, 4)],
        max_message: max_operation.saturating_add(1 << 20),
        ..LinkConfig::default()
    }
}

/// The topic of [`DURABLE`].
pub(crate) fn durable_topic() -> TopicConfig {
    TopicConfig { slots: 1 << 10, max_payload: MAX_EVENT as u64 }
}

/// Entries: how many, the length of each, then their bytes.
fn put_parts(to: &mut impl Put, entries: &[Bytes]) {
    to.put_u32(entries.len() as u32);
    entries.iter().for_each(|entry| to.put_u32(entry.len() as u32));
    entries.iter().for_each(|entry| to.put(entry));
}

/// The entries of [`put_parts`], as parts of `whole`.
fn take_parts(from: &mut Take<'_>, whole: &Bytes) -> Result<Vec<Bytes>, Malformed> {
    let count = from.count(4)?;
    let lengths: Vec<u32> = (0..count).map(|_| from.u32()).collect::<Result<_, _>>()?;
    lengths.into_iter().map(|length| Ok(whole.slice_ref(from.bytes(length as usize)?))).collect()
}

/// A message in memory of its own. Whoever keeps parts of it for long keeps nothing of the
/// link's: sealed payloads that are not given back would be missing for the next messages.
pub(crate) fn copied(message: &Message<'_>) -> Bytes {
    let mut bytes = vec![0; message.len()];
    message.copy_to(0, &mut bytes);
    bytes.into()
}

/// Bytes of [`put_parts`].
fn parts_len<'a>(entries: impl Iterator<Item = &'a Bytes>) -> usize {
    4 + entries.map(|entry| 4 + entry.len()).sum::<usize>()
}
