//! How segments are changed.

use shm_primitives::{Mapped, Memory, Offset};
use shm_tests::pattern::Random;

/// The bytes of a segment that were changed.
#[derive(Default)]
pub(super) struct Changed(Vec<u64>);

impl Changed {
    /// Whether one of `len` bytes at `at` was.
    pub(super) fn hits(&self, at: u64, len: u64) -> bool {
        self.0.iter().any(|byte| (at..at + len).contains(byte))
    }

    fn put(&mut self, memory: &Mapped, at: u64, new: &[u8]) {
        let mut old = vec![0; new.len()];
        memory.read(Offset::new(at), &mut old);
        memory.write(Offset::new(at), new);
        let differ = (at..).zip(old.iter().zip(new)).filter(|(_, (old, new))| old != new);
        self.0.extend(differ.map(|(at, _)| at));
    }
}

/// Numbers at which something could go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

/// Changes one to four things in memory; half of them near one of the places in `hot`, words
/// that decide something.
pub(super) fn change(memory: &Mapped, hot: &[u64], random: &mut Random) -> Changed {
    let mut changed = Changed::default();
    let words = memory.size() / 8;
    if words == 0 {
        return changed;
    }
    for _ in 0..=random.below(4) {
        let anywhere = 8 * random.below(words);
        let at = match random.below(2) {
            0 if !hot.is_empty() => hot[random.below(hot.len() as u64) as usize] & !7,
            _ => anywhere,
        };
        let at = if at + 8 > memory.size() { anywhere } else { at };
        let mut word = [0; 8];
        memory.read(Offset::new(at), &mut word);
        let old = u64::from_le_bytes(word);
        let edge = EDGES[random.below(12) as usize];
        let new = match random.below(10) {
            0 | 1 => old ^ 1 << random.below(64),
            2 => edge,
            3 => old & !0xffff_ffff | edge & 0xffff_ffff,
            4 => old & 0xffff_ffff | edge << 32,
            5 => old.wrapping_add([1, u64::MAX, 2, 8][random.below(4) as usize]),
            6 => random.next(),
            // What stands elsewhere: a copied frame, swapped words.
            7 | 8 => {
                let from = 8 * random.below(words);
                let len = (8 << random.below(4)).min(memory.size() - at.max(from));
                let (mut here, mut there) = (vec![0; len as usize], vec![0; len as usize]);
                memory.read(Offset::new(at), &mut here);
                memory.read(Offset::new(from), &mut there);
                changed.put(memory, at, &there);
                if random.below(2) == 0 && at.abs_diff(from) >= len {
                    changed.put(memory, from, &here);
                }
                continue;
            }
            // A torn prefix: zeroes from here on.
            _ => {
                let len = memory.size() - at;
                let len = if random.below(8) > 0 { len.min(64) } else { len };
                changed.put(memory, at, &vec![0; len as usize]);
                continue;
            }
        };
        changed.put(memory, at, &new.to_le_bytes());
    }
    changed
}

/// Mostly `size`, else less or more, in words.
pub(super) fn resize(size: usize, random: &mut Random) -> usize {
    match random.below(8) {
        0 => 8 * random.below(size as u64 / 8) as usize,
        1 => size + 8 * random.below(16) as usize,
        2 => size - 8 * random.below((size as u64 / 8).min(16)) as usize,
        _ => size,
    }
}
