//! Entries of stores that prove themselves.

use bytes::Bytes;

/// Makes entries, and checks them.
#[derive(Debug)]
pub enum Text {}

impl Text {
    /// An entry that names the life of its appender and its number, of 100 bytes at least.
    #[must_use]
    pub fn numbered(life: &str, number: u64) -> Bytes {
        let mut text = format!("{life} {number} ");
        let filling = (number % 26) as u8 + b'a';
        while text.len() < 100 {
            text.push(filling as char);
        }
        text.into()
    }

    /// The life and the number, if it is whole.
    #[must_use]
    pub fn parse(entry: &[u8]) -> Option<(String, u64)> {
        let text = std::str::from_utf8(entry).ok()?;
        let (life, rest) = text.split_once(' ')?;
        let (number, _) = rest.split_once(' ')?;
        let number = number.parse().ok()?;
        (Self::numbered(life, number) == entry).then(|| (life.to_owned(), number))
    }

    /// `life number`, or `torn`.
    #[must_use]
    pub fn describe(entry: &[u8]) -> String {
        match Self::parse(entry) {
            Some((life, number)) => format!("{life} {number}"),
            None => "torn".into(),
        }
    }

    /// An entry of so many bytes.
    #[must_use]
    pub fn of_len(len: usize) -> Bytes {
        let word =
            |at: usize| (at as u64 + len as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        (0..len).map(|at| word(at / 8)[at % 8]).collect()
    }

    /// The length of an entry of [`of_len`](Self::of_len), if it is as it was made.
    #[must_use]
    pub fn check(entry: &[u8]) -> Option<usize> {
        (entry.len() >= 16 && Self::of_len(entry.len()) == entry).then_some(entry.len())
    }
}
