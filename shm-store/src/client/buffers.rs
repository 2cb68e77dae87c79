//! Memory for large answers, which is used again: the system has to clear fresh memory and map
//! it page by page, and that takes longer than to copy an answer into it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shm_transport::Message;

use crate::protocol::copied;

/// Smaller answers are not worth it.
const SMALL: usize = 64 << 10;
/// Larger ones are rare.
const LARGE: usize = 2 << 20;
/// Buffers that are kept when nobody uses them.
const KEPT: usize = 4;

/// Buffers that nobody uses.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A message in a buffer, which is given back when nobody uses it any more.
struct Used {
    buffer: Vec<u8>,
    len: usize,
    buffers: Buffers,
}

impl Buffers {
    /// A message in memory of its own.
    pub(super) fn copied(&self, message: &Message<'_>) -> Bytes {
        let len = message.len();
        if !(SMALL..=LARGE).contains(&len) {
            return copied(message);
        }
        let mut buffer = self.free().pop().unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        message.copy_to(0, &mut buffer[..len]);
        Bytes::from_owner(Used { buffer, len, buffers: self.clone() })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Used {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let mut free = self.buffers.free();
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}
