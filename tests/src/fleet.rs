//! What the tests of fleets share: contents that prove themselves, and what members of the
//! soak report.

use std::{fs::File, os::unix::fs::FileExt, path::PathBuf};

use shm_transport::fleet::{FleetFrame, RingConfig};

/// The name of the fleet.
pub const NAME: &str = "fleet";
/// How many nodes it has room for.
pub const NODES: u32 = 16;
/// The kind of its ring.
pub const RING: u8 = 0x2a;
/// The kind of its claims.
pub const CLAIMS: u8 = 0x30;
/// Its rings.
pub const CONFIG: RingConfig = RingConfig { capacity: 1024, max_payload: 256 };
/// The ring of the soak: small, so that it is lapped all the time.
pub const SOAK: RingConfig = RingConfig { capacity: 4096, max_payload: 256 };
/// The ring that is created step by step.
pub const TINY: RingConfig = RingConfig { capacity: 4, max_payload: 8 };

/// The rings in which members are killed step by step: who joins looks through its lane.
pub const STEPPED: RingConfig = RingConfig { capacity: 32, max_payload: 256 };

/// What a frame of the soak says; its length depends on its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Who published it.
    pub node: u32,
    /// In which of its lives.
    pub life: u64,
    /// As its how-manyth in that life.
    pub sequence: u64,
}

impl Content {
    /// The bytes: who, a stretch that depends on it, and a checksum over all.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.node.to_le_bytes());
        bytes.extend_from_slice(&self.life.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        let filler = (self.life ^ self.sequence ^ u64::from(self.node)) as u8;
        bytes.resize(20 + (self.sequence % 200) as usize, filler);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// What a frame says.
    ///
    /// # Errors
    ///
    /// If it is torn, or not of the node that its name says.
    pub fn check(frame: &FleetFrame) -> Result<Self, String> {
        let torn =
            || format!("torn: {} at {}: {:?}", frame.id(), frame.position(), frame.payload());
        let (bytes, sum) = frame.payload().split_last_chunk().ok_or_else(torn)?;
        if checksum(bytes) != u64::from_le_bytes(*sum) || bytes.len() < 20 {
            return Err(torn());
        }
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let content = Self { node: word(0) as u32, life: word(4), sequence: word(12) };
        if content.node != frame.id().node() || content.bytes() != frame.payload() {
            return Err(torn());
        }
        Ok(content)
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    // FNV-1a.
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What a member of the soak counted, through all its lives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Its lives.
    pub lives: u64,
    /// Frames that it published.
    pub published: u64,
    /// Reads.
    pub reads: u64,
    /// Reads that took 10 ms and more by the clock.
    pub slow: u64,
    /// The longest read by the clock, in nanoseconds.
    pub max_wall: u64,
    /// The longest read in time on a processor, in nanoseconds.
    pub max_cpu: u64,
}

impl Stats {
    const WORDS: usize = 6;

    /// Reads what the lives before counted.
    pub fn load(&mut self, file: &File, node: u32) {
        let mut bytes = [0; Self::WORDS * 8];
        let at = u64::from(node) * bytes.len() as u64;
        if file.read_exact_at(&mut bytes, at).is_err() {
            return;
        }
        let mut words = bytes
            .chunks_exact(8)
            .map(|word| word.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        let mut next = || words.next().unwrap_or(0);
        *self = Self {
            lives: next(),
            published: next(),
            reads: next(),
            slow: next(),
            max_wall: next(),
            max_cpu: next(),
        };
    }

    /// Writes it down for the next life and for the test.
    ///
    /// # Panics
    ///
    /// If the file cannot be written.
    pub fn store(&self, file: &File, node: u32) {
        let words =
            [self.lives, self.published, self.reads, self.slow, self.max_wall, self.max_cpu];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        file.write_all_at(&bytes, u64::from(node) * bytes.len() as u64).expect("stored");
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            lives: self.lives + other.lives,
            published: self.published + other.published,
            reads: self.reads + other.reads,
            slow: self.slow + other.slow,
            max_wall: self.max_wall.max(other.max_wall),
            max_cpu: self.max_cpu.max(other.max_cpu),
        }
    }
}

fn beside(directory: &str, name: &str) -> PathBuf {
    PathBuf::from(format!("{directory}-{name}"))
}

fn file(path: PathBuf) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).expect("a file beside the fleet")
}

/// Where each member writes the name and the place (one more) of its last committed frame.
#[must_use]
pub fn committed_file(directory: &str) -> File {
    file(beside(directory, "committed"))
}

/// Where each member writes its counts.
#[must_use]
pub fn stats_file(directory: &str) -> File {
    file(beside(directory, "stats"))
}

/// Where members write what must not be.
#[must_use]
pub fn errors_path(directory: &str) -> PathBuf {
    beside(directory, "errors")
}
