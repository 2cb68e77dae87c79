use super::{AWAITED, BroadcastGeometry, Ring};
use crate::{
    audit,
    memory::{Memory, Offset},
    order::{BELL_RING, OWN, SLEEP_FENCE},
};

/// The writer's process's side of readers that sleep.
///
/// Who is to be woken is kept under a lock: a reader is there before the alarm is
/// [set](Self::set) for it, and who rings takes all readers and [rings](Self::ring) under the lock.
/// The alarm is set without it, because the fence takes long.
#[derive(Debug)]
pub struct Alarm<M: Memory> {
    ring: Ring<M>,
}

impl<M: Memory> Alarm<M> {
    /// The alarm of the ring at `at`.
    pub fn new(memory: M, at: Offset, geometry: BroadcastGeometry) -> Self {
        Self { ring: Ring::new(memory, at, geometry) }
    }

    /// Makes the writer see that a reader, which has read everything before `position`, is
    /// about to sleep. Returns whether it need not, because that value is there: the caller
    /// then rings.
    #[must_use]
    pub fn set(&self, position: u64) -> bool {
        let _decision = audit::decision();
        let Ring { memory, at, .. } = &self.ring;
        memory.store64(at.plus(AWAITED), 1, OWN);
        // SYNC SLEEP_FENCE: see `is_awaited`.
        memory.fence_heavy(SLEEP_FENCE);
        // The word that the reader looks at, not `published`: a reader that sees the bell rung
        // for this look then sees no less than it did.
        self.ring.is_ready(position)
    }

    /// Rings for everybody who sleeps: the next value is not awaited any more.
    pub fn ring(&self) {
        let Ring { memory, at, .. } = &self.ring;
        memory.store64(at.plus(AWAITED), 0, OWN);
        // SYNC BELL_RING: what was published is visible to whoever sees the new count.
        memory.add32(self.ring.bell(), 1, BELL_RING);
    }

    /// Where the bell is.
    #[must_use]
    pub fn bell(&self) -> Offset {
        self.ring.bell()
    }
}
