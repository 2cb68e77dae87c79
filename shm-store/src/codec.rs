//! Numbers and texts as bytes: little-endian, every length checked before it is believed.

use bytes::Bytes;

use crate::Offset;

/// Appends values to a buffer.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn put_offset(&mut self, value: Offset) {
        self.put_u64(value.entry());
        self.put_u64(value.byte());
    }

    /// A text of at most 255 bytes, as every text of a store is.
    fn put_short(&mut self, value: &[u8]) {
        debug_assert!(value.len() <= 255, "texts are checked before they are kept");
        self.put_u8(value.len() as u8);
        self.put(value);
    }

    fn put_option(&mut self, value: Option<u64>) {
        self.put_u8(value.is_some().into());
        if let Some(value) = value {
            self.put_u64(value);
        }
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// What was read is not what a store writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Takes values from the front of some bytes.
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn offset(&mut self) -> Result<Offset, Malformed> {
        Ok(Offset::new(self.u64()?, self.u64()?))
    }

    pub(crate) fn short(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u8()?;
        self.bytes(len.into())
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        Ok(std::str::from_utf8(self.short()?).map_err(|_| Malformed)?.into())
    }

    pub(crate) fn option(&mut self) -> Result<Option<u64>, Malformed> {
        self.bool()?.then(|| self.u64()).transpose()
    }

    /// A number of things of at least `least` bytes each: never more than are there.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count > self.0.len() / least.max(1) { Err(Malformed) } else { Ok(count) }
    }

    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Entries: how many, the length of each, then their bytes.
pub(crate) fn put_entries(to: &mut impl Put, entries: &[Bytes]) {
    to.put_u32(entries.len() as u32);
    for entry in entries {
        to.put_u32(entry.len() as u32);
    }
    for entry in entries {
        to.put(entry);
    }
}

pub(crate) fn take_entries(from: &mut Take<'_>) -> Result<Vec<Bytes>, Malformed> {
    let count = from.count(4)?;
    let lengths: Vec<u32> = (0..count).map(|_| from.u32()).collect::<Result<_, _>>()?;
    let total = lengths.iter().try_fold(0_usize, |sum, &len| sum.checked_add(len as usize));
    let all = Bytes::copy_from_slice(from.bytes(total.ok_or(Malformed)?)?);
    let mut at = 0;
    Ok(lengths
        .into_iter()
        .map(|len| {
            let entry = all.slice(at..at + len as usize);
            at += len as usize;
            entry
        })
        .collect())
}
