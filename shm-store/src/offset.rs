//! Positions in a stream.

use std::{error::Error, fmt, str::FromStr};

/// A position in a stream: between two entries, or inside one.
///
/// Offsets are opaque to users: they are compared, stored and handed back. Their text has a
/// fixed length and sorts as the offsets do. An offset stays valid as long as its stream
/// lives, and none is ever given to two positions of a stream.
///
/// ```
/// use shm_store::Offset;
///
/// let text = Offset::START.to_string();
/// assert_eq!(text, "0000000000000000-0000000000000000");
/// assert_eq!(text.parse(), Ok(Offset::START));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    entry: u64,
    byte: u64,
}

impl Offset {
    /// Before the first entry of any stream.
    pub const START: Self = Self { entry: 0, byte: 0 };

    /// Behind `entry` whole entries and `byte` bytes in all.
    #[must_use]
    pub(crate) const fn new(entry: u64, byte: u64) -> Self {
        Self { entry, byte }
    }

    /// How many whole entries lie before it.
    #[must_use]
    pub(crate) const fn entry(self) -> u64 {
        self.entry
    }

    /// How many bytes of the stream lie before it.
    #[must_use]
    pub(crate) const fn byte(self) -> u64 {
        self.byte
    }

    /// The offset that is `bytes` into the entry that begins here: where to fork inside an
    /// entry. If the entry is not longer than that, the offset names no position.
    ///
    /// ```
    /// use shm_store::Offset;
    ///
    /// assert!(Offset::START.within(3) > Offset::START);
    /// ```
    #[must_use]
    pub const fn within(self, bytes: u64) -> Self {
        Self { entry: self.entry, byte: self.byte.saturating_add(bytes) }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.entry, self.byte)
    }
}

/// A text that is no offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseOffsetError;

impl fmt::Display for ParseOffsetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an offset: give back one that the store has returned")
    }
}

impl Error for ParseOffsetError {}

impl FromStr for Offset {
    type Err = ParseOffsetError;

    fn from_str(text: &str) -> Result<Self, ParseOffsetError> {
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            (text.len() == 16 && digits)
                .then(|| u64::from_str_radix(text, 16).ok())
                .flatten()
                .ok_or(ParseOffsetError)
        };
        let (entry, byte) = text.split_once('-').ok_or(ParseOffsetError)?;
        Ok(Self { entry: number(entry)?, byte: number(byte)? })
    }
}
