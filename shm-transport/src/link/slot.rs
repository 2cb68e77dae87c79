use std::sync::Arc;

use shm_primitives::{Memory, Offset, audit, pool::Receipt};

use super::core::LinkCore;
use crate::os::memory::Segment;

/// A message in a slot of the peer's pool. Dropping it gives the slot back.
#[derive(Debug)]
pub(crate) struct SlotBytes {
    core: Arc<LinkCore>,
    segment: Segment,
    at: Offset,
    len: u32,
    receipt: Receipt,
}

impl SlotBytes {
    pub(crate) fn new(
        core: Arc<LinkCore>,
        segment: Segment,
        at: Offset,
        len: u32,
        receipt: Receipt,
    ) -> Self {
        Self { core, segment, at, len, receipt }
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Copies bytes from `offset` on; the caller checked that so many are there.
    pub(crate) fn read(&self, offset: usize, buffer: &mut [u8]) {
        let _decision = audit::decision();
        self.segment.mapped().read(self.at.plus(offset as u64), buffer);
    }

    /// Where its bytes start, in memory that the peer can write.
    pub(crate) fn address(&self) -> *const u8 {
        self.segment.mapped().address(self.at, self.len.into())
    }
}

impl Drop for SlotBytes {
    fn drop(&mut self) {
        self.core.give_back(&self.receipt);
    }
}
