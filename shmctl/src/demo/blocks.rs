//! The plan: which blocks a file is split into, and what their digests are.

use std::{
    fs::File,
    io::Read,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::failure::Failure;

/// A SHA-256.
pub type Digest = [u8; 32];

/// The running program, whatever has become of its path.
pub const SELF: &str = "/proc/self/exe";

const MAX_INPUT: u64 = 4 << 30;

/// Sizes of blocks in bytes. Each range is taken half as often as the one before it, so
/// that most messages are small and most bytes are in large ones: inline in the ring, in
/// slots of every class, and beyond the largest class (1 MiB).
const SIZES: [RangeInclusive<usize>; 10] = [
    8..=32,
    32..=128,
    128..=512,
    512..=2 << 10,
    2 << 10..=8 << 10,
    8 << 10..=16 << 10,
    16 << 10..=64 << 10,
    64 << 10..=256 << 10,
    256 << 10..=1 << 20,
    (1 << 20) + 1..=2 << 20,
];

/// A part of the file.
#[derive(Debug)]
struct Block {
    at: usize,
    len: usize,
    digest: Digest,
}

/// A file, split into blocks that cover it in order.
///
/// Block ids go on and on over the passes: id `i` is block `i` modulo the number of blocks.
#[derive(Debug)]
pub struct Blocks {
    path: PathBuf,
    bytes: Vec<u8>,
    blocks: Vec<Block>,
}

impl Blocks {
    /// Reads and splits the file at `path`, by default the running program.
    pub fn of_file(path: Option<&Path>) -> Result<Self, Failure> {
        let shown = match path {
            Some(path) => path.to_owned(),
            None => std::env::current_exe().unwrap_or_else(|_| SELF.into()),
        };
        let bytes = read(path.unwrap_or(Path::new(SELF)))
            .map_err(|source| Failure::Input { path: shown.clone(), source })?;
        if bytes.len() as u64 > MAX_INPUT {
            return Err(Failure::TooLarge { path: shown, max: MAX_INPUT });
        }
        if bytes.is_empty() {
            return Err(Failure::Empty(shown));
        }
        Ok(Self::split(shown, bytes))
    }

    fn split(path: PathBuf, bytes: Vec<u8>) -> Self {
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let left = bytes.len() - at;
            let wanted = size_of_block(blocks.len() as u64);
            // No block is shorter than the shortest size, unless the file is.
            let len = if left < wanted + SIZES[0].start() { left } else { wanted };
            let digest = Sha256::digest(&bytes[at..at + len]).into();
            blocks.push(Block { at, len, digest });
            at += len;
        }
        Self { path, bytes, blocks }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file.
    pub fn file_len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Blocks in one pass over the file; at least 1.
    pub fn per_pass(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Bytes in the shortest and in the longest block.
    pub fn extremes(&self) -> (u64, u64) {
        let lens = || self.blocks.iter().map(|block| block.len as u64);
        (lens().min().unwrap_or(0), lens().max().unwrap_or(0))
    }

    /// The bytes of a block.
    pub fn bytes(&self, id: u64) -> &[u8] {
        let block = self.block(id);
        &self.bytes[block.at..block.at + block.len]
    }

    /// The host's own digest of a block.
    pub fn digest(&self, id: u64) -> &Digest {
        &self.block(id).digest
    }

    fn block(&self, id: u64) -> &Block {
        &self.blocks[(id % self.per_pass()) as usize]
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_INPUT + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The size of the `index`th block: the same in every run.
fn size_of_block(index: u64) -> usize {
    // 0 for every second index, 1 for every fourth, and so on.
    let rank = (index + 1).trailing_zeros() as usize;
    let range = &SIZES[rank.min(SIZES.len() - 1)];
    let spread = (range.end() - range.start() + 1) as u64;
    // The finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
    // Generators, 2014): equal indices give equal sizes, neighbours unlike ones.
    let mut mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    range.start() + ((mixed ^ (mixed >> 31)) % spread) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(file_len: usize) -> Vec<usize> {
        let blocks = Blocks::split(PathBuf::new(), vec![7; file_len]);
        blocks.blocks.iter().map(|block| block.len).collect()
    }

    #[test]
    fn blocks_cover_the_file_in_order() {
        for file_len in [1, 7, 8, 9, 100, 4096, 1 << 20] {
            let bytes: Vec<u8> = (0..file_len).map(|i| (i % 251) as u8).collect();
            let blocks = Blocks::split(PathBuf::new(), bytes.clone());
            let joined: Vec<u8> =
                (0..blocks.per_pass()).flat_map(|id| blocks.bytes(id).to_vec()).collect();
            assert_eq!(joined, bytes);
            assert_eq!(*blocks.digest(0), <Digest>::from(Sha256::digest(blocks.bytes(0))));
        }
    }

    #[test]
    fn no_block_is_shorter_than_8_bytes_unless_the_file_is() {
        assert_eq!(lens(3), [3]);
        for file_len in 8..2000 {
            assert!(lens(file_len).iter().all(|len| *len >= 8), "{file_len}");
        }
    }

    #[test]
    fn sizes_reach_from_8_bytes_to_beyond_the_largest_slot() {
        let classes = shm_transport::LinkConfig::default().size_classes;
        let largest = classes.iter().map(|class| class.slot_size as usize).max().unwrap();
        let lens = lens(8 << 20);
        assert_eq!(lens.iter().min(), Some(&8));
        assert!(lens.iter().max().unwrap() > &largest);
        assert!(lens.iter().filter(|len| **len <= 128).count() > lens.len() / 2);
    }

    #[test]
    fn ids_go_on_over_the_passes() {
        let blocks = Blocks::split(PathBuf::new(), vec![1; 10_000]);
        let count = blocks.per_pass();
        assert_eq!(blocks.bytes(3), blocks.bytes(3 + 5 * count));
    }
}
