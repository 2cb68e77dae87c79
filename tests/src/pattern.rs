//! Numbered messages whose length and contents follow from their number, so that a
//! receiver finds every loss, repetition, change of order and tear.

/// A well-mixed number for each number: the finaliser of SplitMix64.
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The length of message `number`, from 0 to `max` bytes.
#[must_use]
pub const fn length(number: u64, max: usize) -> usize {
    (mix(number) % (max as u64 + 1)) as usize
}

/// Writes the contents of message `number` into `buffer`.
pub fn fill(number: u64, buffer: &mut [u8]) {
    let mut word = mix(!number);
    for chunk in buffer.chunks_mut(8) {
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        word = word.rotate_left(9).wrapping_add(number | 1);
    }
}

/// Message `number` with `len` bytes.
#[must_use]
pub fn message(number: u64, len: usize) -> Vec<u8> {
    let mut message = vec![0; len];
    fill(number, &mut message);
    message
}

/// Whether `bytes` are the contents of message `number`.
#[must_use]
pub fn matches(number: u64, bytes: &[u8]) -> bool {
    let mut word = mix(!number);
    bytes.chunks(8).all(|chunk| {
        let same = *chunk == word.to_le_bytes()[..chunk.len()];
        word = word.rotate_left(9).wrapping_add(number | 1);
        same
    })
}

/// The length of the value at `position` of a topic: `max` or a few bytes less.
#[must_use]
pub const fn value_length(position: u64, max: usize) -> usize {
    max - mix(position) as usize % if max < 9 { max + 1 } else { 9 }
}

/// Writes the value at `position` of a topic into `buffer`: one word, again and again, so
/// that all of a large value is written and checked at the speed of memory.
pub fn fill_value(position: u64, buffer: &mut [u8]) {
    let word = mix(position).to_le_bytes();
    let (words, rest) = buffer.as_chunks_mut::<8>();
    words.fill(word);
    rest.iter_mut().zip(word).for_each(|(to, from)| *to = from);
}

/// The value at `position` of a topic whose values have up to `max` bytes.
#[must_use]
pub fn value(position: u64, max: usize) -> Vec<u8> {
    let mut value = vec![0; value_length(position, max)];
    fill_value(position, &mut value);
    value
}

/// Whether `bytes` are the value at `position` of a topic, to the last byte.
#[must_use]
pub fn is_value(position: u64, max: usize, bytes: &[u8]) -> bool {
    let word = mix(position);
    let (words, rest) = bytes.as_chunks::<8>();
    let other = words.iter().fold(0, |other, found| other | (u64::from_le_bytes(*found) ^ word));
    let length = value_length(position, max);
    other == 0 && bytes.len() == length && rest.iter().zip(word.to_le_bytes()).all(|(a, b)| *a == b)
}

/// Random numbers from a seed, for tests that are to be repeatable.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// The next number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
