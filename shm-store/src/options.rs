//! How a store is opened.

use std::time::Duration;

use crate::OpenError;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is synced to the disk.
    #[default]
    Durable,
    /// When it is written: a crash of processes loses nothing, a loss of power the last
    /// moments.
    Relaxed,
}

/// How a store is opened. Whoever becomes the owner uses its own options; `shards` and
/// `durability` are of the store and fixed when it is made. `spin` is of the process that calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many shard files: a power of two from 1 to 256. Default 4.
    pub shards: u16,
    /// When writes are acknowledged.
    pub durability: Durability,
    /// Bytes of a log segment: 64 KiB to 1 GiB. Default 16 MiB.
    pub segment_bytes: u64,
    /// Bytes of entries that are kept in memory before they go to the shards. Default 16 MiB.
    pub memory_bytes: u64,
    /// Bytes that redb may cache, for all shards together. Default 64 MiB.
    pub cache_bytes: usize,
    /// The most bytes of payload in all streams. Default: no limit.
    pub max_bytes: u64,
    /// The most bytes of payload in one stream. Default: no limit.
    pub max_stream_bytes: u64,
    /// The most bytes of payload in one operation: up to 64 MiB. Default 16 MiB.
    pub max_operation_bytes: u64,
    /// How long a write at most looks for its answer before it sleeps. Between two looks it lets
    /// other threads have the processor; it looks for a shorter time when that does not pay, as on
    /// a disk that syncs more slowly. Zero: it sleeps at once. Default 500 µs.
    pub spin: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: 4,
            durability: Durability::Durable,
            segment_bytes: 16 << 20,
            memory_bytes: 16 << 20,
            cache_bytes: 64 << 20,
            max_bytes: u64::MAX,
            max_stream_bytes: u64::MAX,
            max_operation_bytes: 16 << 20,
            spin: Duration::from_micros(500),
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let sound = |sound: bool, what| if sound { Ok(()) } else { Err(OpenError::Options(what)) };
        sound(
            self.shards.is_power_of_two() && self.shards <= 256,
            "shards must be a power of two from 1 to 256",
        )?;
        sound(
            (64 << 10..=1 << 30).contains(&self.segment_bytes),
            "segment_bytes must be from 64 KiB to 1 GiB",
        )?;
        sound(
            (1..=64 << 20).contains(&self.max_operation_bytes),
            "max_operation_bytes must be from 1 byte to 64 MiB",
        )
    }
}
