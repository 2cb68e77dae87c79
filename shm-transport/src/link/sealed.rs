use std::{fmt, ops::Deref, sync::Arc};

use memmap2::Mmap;
use shm_primitives::pool::Receipt;

use super::core::LinkCore;
use crate::os::forked::NotForked;

/// A received message in memory that nobody can change any more: it dereferences to its
/// bytes.
///
/// Clones share the memory. The sender may send one more sealed payload when the last is
/// dropped.
#[derive(Clone)]
pub struct SealedPayload(Arc<Inner>);

struct Inner {
    map: NotForked<Mmap>,
    core: Arc<LinkCore>,
    receipt: Receipt,
}

impl SealedPayload {
    pub(crate) fn new(map: NotForked<Mmap>, core: Arc<LinkCore>, receipt: Receipt) -> Self {
        Self(Arc::new(Inner { map, core, receipt }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.give_back(&self.receipt);
    }
}

impl Deref for SealedPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.map
    }
}

impl AsRef<[u8]> for SealedPayload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for SealedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedPayload").field("len", &self.len()).finish()
    }
}
