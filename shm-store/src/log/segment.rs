//! The header of a log segment: which one it is, and what came before it.

use std::path::{Path, PathBuf};

use crate::{Damage, OpenError};

/// Bytes before the first record.
pub(super) const HEADER: u64 = 4096;
const MAGIC: [u8; 8] = *b"shmstlog";
const FORMAT: u32 = 1;
/// Bytes of the header that mean something; well inside one sector.
const USED: usize = 72;

/// A header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Which store.
    pub(super) identity: u128,
    /// Which segment, counted from 1 for ever.
    pub(super) number: u64,
    /// What the checksums of its records begin with: another one each time a file is used.
    pub(super) salt: u64,
    /// The LSN of its first record.
    pub(super) first: u64,
    /// The last LSN before it that counts: records of earlier segments above are void.
    pub(super) follows: u64,
    /// Bytes of the file.
    pub(super) len: u64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(HEADER as usize);
        block.extend(MAGIC);
        block.extend(FORMAT.to_le_bytes());
        block.extend(self.identity.to_le_bytes());
        for field in [self.number, self.salt, self.first, self.follows, self.len] {
            block.extend(field.to_le_bytes());
        }
        let check = crc32c::crc32c(&block);
        block.extend(check.to_le_bytes());
        block.resize(HEADER as usize, 0);
        block
    }

    /// Parses what a file begins with. The name says which segment it should be.
    pub(super) fn decode(block: &[u8], number: u64, identity: u128) -> Result<Self, OpenError> {
        let damaged = |what| {
            let file = format!("log/{}", Name::Log(number).file());
            OpenError::Damaged(Damage { file, position: 0, what })
        };
        let (Some(used), true) = (block.get(..USED), block.len() as u64 == HEADER) else {
            return Err(damaged("a log segment without a whole header"));
        };
        let mut fields = Fields(used);
        let magic: [u8; 8] = fields.take();
        let format = u32::from_le_bytes(fields.take());
        let header = Self {
            identity: u128::from_le_bytes(fields.take()),
            number: u64::from_le_bytes(fields.take()),
            salt: u64::from_le_bytes(fields.take()),
            first: u64::from_le_bytes(fields.take()),
            follows: u64::from_le_bytes(fields.take()),
            len: u64::from_le_bytes(fields.take()),
        };
        let check = u32::from_le_bytes(fields.take());
        if magic != MAGIC || block[USED..].iter().any(|&byte| byte != 0) {
            return Err(damaged("a log segment with a damaged header"));
        }
        if crc32c::crc32c(&used[..USED - 4]) != check {
            return Err(damaged("a log segment with a damaged header"));
        }
        if format != FORMAT {
            return Err(OpenError::Version { found: format, expected: FORMAT });
        }
        if header.identity != identity {
            return Err(OpenError::Layout {
                what: "log's identity",
                found: format!("{:032x}", header.identity),
                expected: format!("{identity:032x}"),
            });
        }
        if header.number != number || header.first <= header.follows || header.len < HEADER {
            return Err(damaged("a log segment that contradicts itself"));
        }
        Ok(header)
    }
}

/// Reads fields of fixed size one after the other, zeros behind the end.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}

/// What a name in the directory of the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A segment that counts.
    Log(u64),
    /// A file of zeros or of void records, to become a segment.
    Spare(u64),
}

impl Name {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (number, kind) = name.split_once('.')?;
        let digits = number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number =
            (number.len() == 16 && digits).then(|| u64::from_str_radix(number, 16).ok())??;
        match kind {
            "log" => Some(Self::Log(number)),
            "spare" => Some(Self::Spare(number)),
            _ => None,
        }
    }

    pub(super) fn file(self) -> String {
        match self {
            Self::Log(number) => format!("{number:016x}.log"),
            Self::Spare(number) => format!("{number:016x}.spare"),
        }
    }

    pub(super) fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.file())
    }
}
