use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
};

use crate::{error::OsError, os::memory::Unsealed};

/// A message in memory of its own, made once for any number of links: each receiver maps
/// this memory, and nobody can change it any more.
///
/// It holds one descriptor. The memory goes when this value and all that was received of
/// it are dropped.
///
/// [`LinkSet::send_to_all`](crate::LinkSet::send_to_all) makes one by itself; this is for
/// links that are split over threads.
///
/// ```
/// use std::time::Duration;
/// use shm_transport::{Link, LinkConfig, SharedPayload};
///
/// let (mut left, mut left_guest) = Link::pair(&LinkConfig::default())?;
/// let (mut right, mut right_guest) = Link::pair(&LinkConfig::default())?;
/// let wait = Duration::from_secs(1);
/// let payload = SharedPayload::new(&[7; 1 << 20])?;
/// left.sender.send_shared(&payload, wait)?;
/// right.sender.send_shared(&payload, wait)?;
/// drop(payload);
/// for guest in [&mut left_guest, &mut right_guest] {
///     let received = guest.recv(wait)?.into_sealed().expect("it came sealed");
///     assert_eq!(received[..], [7; 1 << 20]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedPayload {
    memory: File,
    len: usize,
}

impl SharedPayload {
    /// Copies a message into memory of its own, and seals that.
    ///
    /// # Errors
    ///
    /// [`OsError`] if memory or descriptors ran out.
    pub fn new(message: &[u8]) -> Result<Self, OsError> {
        let memory = Unsealed::new()?;
        memory.fill(message)?;
        let memory = memory.seal(message.len() as u64)?.into();
        Ok(Self { memory, len: message.len() })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the message has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A copy of the message, for a link that does not share it.
    pub(crate) fn to_vec(&self) -> Result<Vec<u8>, OsError> {
        let mut copy = vec![0; self.len];
        // At a position of its own: receivers have descriptors of the same open file, and
        // may move that one's.
        self.memory
            .read_exact_at(&mut copy, 0)
            .map_err(|error| OsError::new("read a payload's memory", error))?;
        Ok(copy)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}
