//! The numbers that the messages of a burst carry.

use crate::system::Error;

/// Puts a number into the first bytes of a message.
#[inline]
pub fn stamp(message: &mut [u8], number: u64) {
    message[..8].copy_from_slice(&number.to_ne_bytes());
}

#[inline]
fn stamped(message: &[u8]) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&message[..8]);
    u64::from_ne_bytes(number)
}

/// Counts through the numbers of a burst and remembers the first that was not right.
pub(crate) struct Checked {
    next: u64,
    /// What came and what was expected.
    wrong: Option<(u64, u64)>,
}

impl Checked {
    pub fn starting_at(first: u64) -> Self {
        Self { next: first, wrong: None }
    }

    /// The number of the next message.
    #[inline]
    pub fn take(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Compares a message's number with the next one.
    #[inline]
    pub fn check(&mut self, message: &[u8]) {
        let (number, expected) = (stamped(message), self.take());
        if number != expected && self.wrong.is_none() {
            self.wrong = Some((number, expected));
        }
    }

    pub fn result(self) -> Result<(), Error> {
        match self.wrong {
            None => Ok(()),
            Some((number, expected)) => {
                Err(format!("message {number} came where {expected} was due").into())
            }
        }
    }
}
