//! Entries of one stream, packed into one value of a shard.
//!
//! ```text
//! first byte u64 | count u32 | length u32 × count | bytes
//! ```

use bytes::Bytes;

use crate::{
    codec::{Malformed, Put, Take},
    state::Run,
};

/// What a block of redb's size has besides entries, at most: the block's header, the row's
/// key and place, the page's header.
const OVERHEAD: usize = 96;
/// The largest page that is filled with entries; larger entries have one to themselves.
const LARGEST: usize = 64 << 10;
const SMALLEST: usize = 4 << 10;

/// Entries in a row.
#[derive(Debug)]
pub(crate) struct Block {
    start: u64,
    ends: Vec<u32>,
    bytes: Bytes,
}

impl Block {
    /// A block whose entries are parts of `whole`.
    pub(crate) fn decode(whole: &Bytes) -> Result<Self, Malformed> {
        let mut from = Take(whole);
        let start = from.u64()?;
        let count = from.count(4)?;
        let mut end = 0_u32;
        let mut ends = Vec::with_capacity(count);
        for _ in 0..count {
            end = end.checked_add(from.u32()?).ok_or(Malformed)?;
            ends.push(end);
        }
        let sound = count > 0
            && from.0.len() == end as usize
            && start.checked_add(u64::from(end)).is_some();
        if sound {
            let bytes = whole.slice_ref(from.0);
            Ok(Self { start, ends, bytes })
        } else {
            Err(Malformed)
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Where an entry begins, in bytes of the stream, and the entry.
    pub(crate) fn entry(&self, index: usize) -> (u64, Bytes) {
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let entry = self.bytes.slice(begin as usize..self.ends[index] as usize);
        (self.start + u64::from(begin), entry)
    }
}

/// Packs a run into blocks, each with the number of its first entry.
///
/// redb rounds a row that is larger than a page up to a power of two, so blocks are made to
/// fill such pages: the largest that what is left can fill.
pub(crate) fn pack(
    run: &Run,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let (mut first, mut byte) = (run.start.entry(), run.start.byte());
    let mut left = &run.entries[..];
    let mut weight: usize = left.iter().map(|entry| 4 + entry.len()).sum();
    let mut block = Vec::with_capacity(LARGEST);
    while !left.is_empty() {
        let page = 1 << (weight + OVERHEAD).ilog2();
        let room = usize::clamp(page, SMALLEST, LARGEST) - OVERHEAD;
        let (mut count, mut filled) = (0, 0);
        while let Some(entry) = left.get(count)
            && (count == 0 || filled + 4 + entry.len() <= room)
        {
            filled += 4 + entry.len();
            count += 1;
        }
        let (now, later) = left.split_at(count);
        block.clear();
        block.put_u64(byte);
        crate::codec::put_entries(&mut block, now);
        each(first, &block)?;
        first += count as u64;
        byte += (filled - 4 * count) as u64;
        weight -= filled;
        left = later;
    }
    Ok(())
}
