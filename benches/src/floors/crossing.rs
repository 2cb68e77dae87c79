use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use crate::{
    patience::{poll, stopwatch},
    processors::pin,
    system::Error,
};

/// How long it takes to read `size` bytes that the other processor has just written, in
/// nanoseconds: `count` times.
pub fn read_what_the_other_wrote(
    size: usize,
    count: usize,
    other: usize,
) -> Result<Vec<u64>, Error> {
    let words: Vec<AtomicU64> = (0..size / 8).map(|_| AtomicU64::new(0)).collect();
    // Each in a line of its own.
    let [wanted, written] = [Line::default(), Line::default()];
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<(), Error> {
            pin(other)?;
            for number in 1..=count as u64 {
                poll(|| wanted.0.load(Ordering::Acquire) == number)?;
                words.iter().for_each(|word| word.store(number, Ordering::Relaxed));
                written.0.store(number, Ordering::Release);
            }
            Ok(())
        });
        let mut times = Vec::with_capacity(count);
        for number in 1..=count as u64 {
            wanted.0.store(number, Ordering::Release);
            poll(|| written.0.load(Ordering::Acquire) == number)?;
            let mut lap = stopwatch();
            let sum =
                words.iter().fold(0u64, |sum, word| sum.wrapping_add(word.load(Ordering::Relaxed)));
            times.push(lap());
            if black_box(sum) != number.wrapping_mul(words.len() as u64) {
                return Err("something else was read than was written".into());
            }
        }
        writer.join().map_err(|_| "the writer panicked")??;
        Ok(times)
    })
}

#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);
