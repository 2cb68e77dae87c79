use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The least that a reader of a value which another changes must do, by hand: look at the
/// sequence, copy every word, look again; and the least that its one writer must.
#[derive(Debug)]
#[repr(align(64))]
pub struct Seqlock<const WORDS: usize> {
    sequence: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Seqlock<WORDS> {
    /// One that holds a value.
    pub fn new(value: [u64; WORDS]) -> Self {
        Self { sequence: AtomicU64::new(2), words: value.map(AtomicU64::new) }
    }

    /// Changes the value.
    #[inline(always)]
    pub fn write(&mut self, value: &[u64; WORDS]) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(value) {
            word.store(*value, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Copies the value; waits while it is being changed.
    #[inline(always)]
    pub fn read(&self) -> [u64; WORDS] {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let value = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return value;
            }
            std::hint::spin_loop();
        }
    }
}
