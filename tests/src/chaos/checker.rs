//! Messages that carry their number and a checksum over all their bytes, and the check of
//! what arrives.

use std::collections::BTreeSet;

use shm_transport::Message;

use crate::pattern::{Random, mix};

/// Bytes before the payload: number, checksum, length and kind.
pub const HEADER: usize = 24;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// One of the stream of its link.
    Load = 1,
    /// The last of that stream.
    Last = 2,
    /// One for all guests at once, numbered on its own.
    ToAll = 3,
}

/// The salt of the messages to all guests.
pub const TO_ALL: u64 = 0;

/// The salt of one direction of one life's link: what strays from another link does not
/// pass for one of this.
#[must_use]
pub const fn salt(life: u64, to_guest: bool) -> u64 {
    mix(life * 2 + to_guest as u64) | 1
}

/// Fills `message` with the message of this number: header, payload, checksum.
///
/// # Panics
///
/// If it is shorter than a header.
pub fn write(message: &mut [u8], kind: Kind, number: u64, salt: u64) {
    let len = message.len() as u64;
    let (header, payload) = message.split_at_mut(HEADER);
    let mut word = mix(number ^ salt);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = word.to_le_bytes();
        word = word.rotate_left(9).wrapping_add(number | 1);
    }
    rest.fill(word as u8);
    let what = len | (kind as u64) << 32;
    let sum = checksum([number, what, salt], payload);
    for (bytes, word) in header.as_chunks_mut::<8>().0.iter_mut().zip([number, sum, what]) {
        *bytes = word.to_le_bytes();
    }
}

/// Four lanes, so that a processor does four words at a time.
fn checksum(header: [u64; 3], payload: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |lane: u64, bytes: &[u8; 8]| {
        (lane ^ u64::from_le_bytes(*bytes)).wrapping_mul(PRIME).rotate_left(29)
    };
    let mut lanes = [header[0], header[1], header[2], payload.len() as u64].map(mix);
    let (blocks, rest) = payload.as_chunks::<32>();
    for block in blocks {
        for (lane, bytes) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = step(*lane, bytes);
        }
    }
    for (at, byte) in rest.iter().enumerate() {
        let lane = &mut lanes[at % 4];
        *lane = step(*lane, &[*byte; 8]);
    }
    lanes.into_iter().fold(0, |sum, lane| mix(sum ^ lane))
}

/// Kind and number of a message, if all its bytes are as they were written.
fn read(message: &[u8], salts: [u64; 2]) -> Option<(Kind, u64)> {
    let (header, payload) = message.split_at_checked(HEADER)?;
    let words = header.as_chunks::<8>().0;
    let &[number, sum, what] = <&[[u8; 8]; 3]>::try_from(words).ok()?;
    let [number, sum, what] = [number, sum, what].map(u64::from_le_bytes);
    let kind = match what >> 32 {
        1 => Kind::Load,
        2 => Kind::Last,
        3 => Kind::ToAll,
        _ => return None,
    };
    let salt = salts[usize::from(kind == Kind::ToAll)];
    let whole =
        what as u32 as usize == message.len() && sum == checksum([number, what, salt], payload);
    whole.then_some((kind, number))
}

/// What was found in a stream of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages of the link's own stream.
    pub received: u64,
    /// Numbers that were passed over and never came.
    pub lost: u64,
    /// Numbers that came again.
    pub duplicated: u64,
    /// Numbers that came after a later one.
    pub reordered: u64,
    /// Messages that are not what anybody wrote, or changed while they were held.
    pub torn: u64,
    /// Messages to all guests.
    pub to_all: u64,
}

impl Counts {
    /// Adds what another stream showed.
    pub fn add(&mut self, other: &Self) {
        let (words, others) = (self.words(), other.words());
        *self = Self::from_words(std::array::from_fn(|at| words[at] + others[at]));
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn are_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.torn == 0
    }

    /// All counts, in the order of the fields.
    #[must_use]
    pub fn words(&self) -> [u64; 6] {
        [self.received, self.lost, self.duplicated, self.reordered, self.torn, self.to_all]
    }

    /// The opposite of [`words`](Self::words).
    #[must_use]
    pub fn from_words(words: [u64; 6]) -> Self {
        let [received, lost, duplicated, reordered, torn, to_all] = words;
        Self { received, lost, duplicated, reordered, torn, to_all }
    }
}

/// The receiving side of one direction of a link.
#[derive(Debug)]
pub struct Checker {
    salt: u64,
    next: u64,
    passed_over: BTreeSet<u64>,
    next_to_all: Option<u64>,
    /// Messages to all that were not received since the first one was.
    pub gaps_to_all: u64,
    counts: Counts,
    /// The last message of the stream was received.
    pub is_over: bool,
    buffer: Vec<u8>,
    held: Vec<Message<'static>>,
    random: Random,
}

/// Messages that are held at a time, so that slots are given back out of order.
const HELD: usize = 3;
/// Numbers that are remembered as passed over: there should be none.
const PASSED_OVER: u64 = 1 << 16;

impl Checker {
    /// A checker of what is written with this salt.
    #[must_use]
    pub fn new(salt: u64) -> Self {
        Self {
            salt,
            next: 0,
            passed_over: BTreeSet::new(),
            next_to_all: None,
            gaps_to_all: 0,
            counts: Counts::default(),
            is_over: false,
            buffer: Vec::new(),
            held: Vec::new(),
            random: Random::new(salt),
        }
    }

    /// Takes a message: checks it and, now and then, holds it to check it again later.
    pub fn take(&mut self, message: Message<'_>) {
        self.buffer.resize(message.len(), 0);
        message.copy_to(0, &mut self.buffer);
        match read(&self.buffer, [self.salt, TO_ALL]) {
            None => self.counts.torn += 1,
            Some((Kind::ToAll, number)) => self.count_to_all(number),
            Some((kind, number)) => {
                self.is_over |= kind == Kind::Last;
                self.count(number);
            }
        }
        if self.random.below(8) == 0 {
            self.held.push(message.into_owned());
        }
        if self.held.len() > HELD {
            self.let_go(self.random.clone().below(HELD as u64) as usize);
        }
    }

    /// What was found so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let lost = self.counts.lost + self.passed_over.len() as u64;
        Counts { lost, ..self.counts }
    }

    /// Gives back all messages that are held.
    pub fn release(&mut self) {
        while !self.held.is_empty() {
            self.let_go(0);
        }
    }

    fn let_go(&mut self, which: usize) {
        let message = self.held.swap_remove(which);
        self.buffer.resize(message.len(), 0);
        message.copy_to(0, &mut self.buffer);
        self.counts.torn += u64::from(read(&self.buffer, [self.salt, TO_ALL]).is_none());
    }

    fn count(&mut self, number: u64) {
        if number >= self.next {
            let passed = (number - self.next).min(PASSED_OVER);
            self.counts.lost += number - self.next - passed;
            self.passed_over.extend(number - passed..number);
            self.next = number + 1;
            self.counts.received += 1;
        } else if self.passed_over.remove(&number) {
            self.counts.reordered += 1;
            self.counts.received += 1;
        } else {
            self.counts.duplicated += 1;
        }
    }

    fn count_to_all(&mut self, number: u64) {
        let expected = self.next_to_all.unwrap_or(number);
        if number < expected {
            self.counts.duplicated += 1;
            return;
        }
        self.gaps_to_all += number - expected;
        self.next_to_all = Some(number + 1);
        self.counts.to_all += 1;
    }
}

#[cfg(test)]
mod tests {
    use shm_transport::{Link, LinkConfig};

    use super::*;
    use crate::WAIT;

    /// What the checker finds in messages of these numbers, each damaged before it is sent.
    fn counts_of(numbers: &[u64], damage: impl Fn(&mut [u8])) -> Counts {
        let (mut left, mut right) = Link::pair(&LinkConfig::default()).unwrap();
        let mut checker = Checker::new(salt(7, true));
        for number in numbers {
            let mut message = vec![0; 100 + (*number as usize % 9)];
            write(&mut message, Kind::Load, *number, salt(7, true));
            damage(&mut message);
            left.send(&message, WAIT).unwrap();
            checker.take(right.recv(WAIT).unwrap());
        }
        checker.release();
        checker.counts()
    }

    #[test]
    fn the_checker_finds_each_fault() {
        let found = |numbers: &[u64]| {
            let Counts { received, lost, duplicated, reordered, torn, .. } =
                counts_of(numbers, |_| {});
            assert_eq!(torn, 0);
            [received, lost, duplicated, reordered]
        };
        assert_eq!(found(&[0, 1, 2, 3]), [4, 0, 0, 0]);
        assert_eq!(found(&[0, 1, 3]), [3, 1, 0, 0]);
        assert_eq!(found(&[0, 1, 1, 2]), [3, 0, 1, 0]);
        assert_eq!(found(&[0, 2, 1, 3]), [4, 0, 0, 1]);
        assert_eq!(found(&[0, 2, 1, 1, 3]), [4, 0, 1, 1]);
    }

    /// Any one bit, anywhere: in the header, in the payload, in its last bytes.
    #[test]
    fn the_checker_finds_each_changed_bit() {
        for bit in 0..100 * 8 {
            let damage = |message: &mut [u8]| message[bit / 8] ^= 1 << (bit % 8);
            assert!(counts_of(&[0], damage).torn >= 1, "bit {bit}");
        }
    }
}
