//! One record of the log.

use super::segment::Fields;

/// Bytes before the payload.
pub(super) const HEADER: usize = 32;
/// Where records begin: at multiples of it.
pub(super) const ALIGN: u64 = 8;

/// What stands before a payload, checked against the salt of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: u32,
    pub(super) lsn: u64,
    /// Up to which LSN the log was synced when the record was written.
    pub(super) durable: u64,
    pub(super) payload: u32,
}

impl Header {
    /// A header has its own checksum, so a length is known to be right before it is used,
    /// and a header is found behind a damaged record without trusting that one's length.
    pub(super) fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        let mut fields = Fields(bytes);
        let check = u32::from_le_bytes(fields.take());
        let header = Self {
            length: u32::from_le_bytes(fields.take()),
            lsn: u64::from_le_bytes(fields.take()),
            durable: u64::from_le_bytes(fields.take()),
            payload: u32::from_le_bytes(fields.take()),
        };
        let unused = u32::from_le_bytes(fields.take());
        (checksum(&bytes[4..], salt) == check && unused == 0).then_some(header)
    }

    /// Bytes of the whole record.
    pub(super) fn size(&self) -> u64 {
        size(self.length as usize)
    }

    pub(super) fn is_of(&self, payload: &[u8]) -> bool {
        crc32c::crc32c(payload) == self.payload
    }
}

/// Whether these bytes, if they are a header, say that an LSN is durable. Most places in a
/// segment are not worth a checksum.
pub(super) fn claims_durable(header: &[u8], lsn: u64) -> bool {
    header
        .get(16..)
        .and_then(|bytes| bytes.first_chunk())
        .is_some_and(|&durable| u64::from_le_bytes(durable) >= lsn)
}

fn checksum(header: &[u8], salt: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), header)
}

/// Bytes that a record with so much payload takes.
pub(super) fn size(payload: usize) -> u64 {
    ((HEADER + payload) as u64).next_multiple_of(ALIGN)
}

/// Appends a record to a group.
pub(super) fn encode(to: &mut Vec<u8>, salt: u64, lsn: u64, durable: u64, payload: &[u8]) {
    let begin = to.len();
    to.extend([0; 4]);
    to.extend((payload.len() as u32).to_le_bytes());
    to.extend(lsn.to_le_bytes());
    to.extend(durable.to_le_bytes());
    to.extend(crc32c::crc32c(payload).to_le_bytes());
    to.extend([0; 4]);
    let check = checksum(&to[begin + 4..], salt);
    to[begin..begin + 4].copy_from_slice(&check.to_le_bytes());
    to.extend(payload);
    to.resize(begin + size(payload.len()) as usize, 0);
}
