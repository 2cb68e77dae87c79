//! The kill, and what follows it.

use std::time::{Duration, Instant};

use shm_transport::PeerId;

/// A guest that was killed, from the kill until another has taken its place.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The guest's number.
    pub guest: usize,
    /// Its process.
    pub pid: u32,
    /// Its entry in the hub.
    pub peer: PeerId,
    /// When it was killed, from the first block on.
    pub after: Duration,
    /// From the kill until its link reported the end.
    pub detected: Option<Duration>,
    /// Slots and sealed payloads that it held; they went with its link.
    pub slots_held: usize,
    /// The guest that takes its place, by number.
    pub heir: Option<usize>,
    /// Blocks that it left unanswered.
    pub handed_over: usize,
    /// From the kill until its entry was free and the heir had been sent all those blocks.
    pub reclaimed: Option<Duration>,
    /// When it was killed.
    pub killed_at: Instant,
}
