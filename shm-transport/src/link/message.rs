#![allow(unsafe_code)]

use std::{fmt, slice};

use bytes::Bytes;
use shm_primitives::{Memory, audit, ring::Entry};

use super::{
    reception::{Half, Taken},
    sealed::SealedPayload,
    slot::SlotBytes,
};

/// Bytes of the stack buffer through which [`Message::chunks`] passes a message.
pub const CHUNK: usize = 4096;

/// A received message.
///
/// Its bytes may lie in memory that the peer can still write, so they are copied out:
/// whole, in part, or chunk by chunk. Nothing is allocated unless asked for. Dropping the
/// message gives its place back to the sender.
///
/// A `Message<'_>` borrows its [`Receiver`](crate::Receiver); [`into_owned`](Self::into_owned)
/// makes one that lives on its own, on any thread, for as long as one likes.
///
/// ```
/// use std::time::Duration;
/// use shm_transport::{Link, LinkConfig};
///
/// let (mut left, mut right) = Link::pair(&LinkConfig::default())?;
/// let wait = Duration::from_secs(1);
/// left.send(&7u64.to_le_bytes(), wait)?;
/// let message = right.recv(wait)?;
/// assert_eq!(message.len(), 8);
/// assert_eq!(message.read_u64(0), Some(7));
/// let mut sum = 0;
/// message.chunks(|chunk| sum += chunk.iter().map(|&byte| u32::from(byte)).sum::<u32>());
/// assert_eq!(sum, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Message<'a> {
    body: Body<'a>,
}

enum Body<'a> {
    Ring(RingBytes<'a>),
    Slot(SlotBytes),
    Sealed(SealedPayload),
    Owned(Bytes),
}

/// A message in the peer's ring. Dropping it gives the space back.
struct RingBytes<'a> {
    half: &'a mut Half,
    entry: Entry,
}

impl Drop for RingBytes<'_> {
    #[inline]
    fn drop(&mut self) {
        self.half.give_space_back();
    }
}

impl<'a> Message<'a> {
    #[inline(always)]
    pub(crate) fn inline(half: &'a mut Half, entry: Entry) -> Self {
        Self { body: Body::Ring(RingBytes { half, entry }) }
    }

    pub(crate) fn new(half: &'a mut Half, taken: Taken) -> Self {
        let body = match taken {
            Taken::Inline(entry) => Body::Ring(RingBytes { half, entry }),
            Taken::Slot(slot) => Body::Slot(slot),
            Taken::Sealed(payload) => Body::Sealed(payload),
        };
        Self { body }
    }

    /// Length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Ring(ring) => ring.entry.len() as usize,
            Body::Slot(slot) => slot.len(),
            Body::Sealed(payload) => payload.len(),
            Body::Owned(bytes) => bytes.len(),
        }
    }

    /// Whether the message has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from `offset` on into `buffer`; returns how many: the rest of the
    /// message or the whole buffer, whichever is shorter.
    #[inline]
    pub fn copy_to(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let count = self.len().saturating_sub(offset).min(buffer.len());
        let buffer = match buffer.get_mut(..count) {
            Some(buffer) if count > 0 => buffer,
            _ => return 0,
        };
        match &self.body {
            Body::Ring(RingBytes { half, entry }) => {
                let _decision = audit::decision();
                half.core.peer.mapped().read(entry.payload().plus(offset as u64), buffer);
            }
            Body::Slot(slot) => slot.read(offset, buffer),
            Body::Sealed(payload) => copy_from(payload, offset, buffer),
            Body::Owned(bytes) => copy_from(bytes, offset, buffer),
        }
        count
    }

    /// The byte at `offset`; `None` beyond the end.
    #[must_use]
    pub fn read_u8(&self, offset: usize) -> Option<u8> {
        self.read_array::<1>(offset).map(u8::from_le_bytes)
    }

    /// The little-endian number of two bytes at `offset`; `None` beyond the end.
    #[must_use]
    pub fn read_u16(&self, offset: usize) -> Option<u16> {
        self.read_array(offset).map(u16::from_le_bytes)
    }

    /// The little-endian number of four bytes at `offset`; `None` beyond the end.
    #[must_use]
    pub fn read_u32(&self, offset: usize) -> Option<u32> {
        self.read_array(offset).map(u32::from_le_bytes)
    }

    /// The little-endian number of eight bytes at `offset`; `None` beyond the end.
    #[must_use]
    pub fn read_u64(&self, offset: usize) -> Option<u64> {
        self.read_array(offset).map(u64::from_le_bytes)
    }

    /// The `N` bytes at `offset`; `None` if the message ends before.
    #[inline]
    #[must_use]
    pub fn read_array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut array = [0; N];
        (self.copy_to(offset, &mut array) == N).then_some(array)
    }

    /// Shows the message chunk by chunk, in order, each copied into the same small buffer
    /// on the stack ([`CHUNK`] bytes). Sealed and owned messages come as one chunk.
    pub fn chunks(&self, mut show: impl FnMut(&[u8])) {
        match &self.body {
            Body::Sealed(payload) => show(payload),
            Body::Owned(bytes) => show(bytes),
            Body::Ring(_) | Body::Slot(_) => {
                let mut buffer = [0; CHUNK];
                let mut offset = 0;
                while offset < self.len() {
                    let count = self.copy_to(offset, &mut buffer);
                    show(buffer.get(..count).unwrap_or_default());
                    offset += count;
                }
            }
        }
    }

    /// The message as an owned buffer: copied, unless it is sealed or owned already.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.body {
            Body::Sealed(payload) => Bytes::from_owner(payload.clone()),
            Body::Owned(bytes) => bytes.clone(),
            Body::Ring(_) | Body::Slot(_) => {
                let mut bytes = vec![0; self.len()];
                self.copy_to(0, &mut bytes);
                bytes.into()
            }
        }
    }

    /// The same message without its borrow of the receiver. An inline one is copied; one
    /// in a slot keeps the slot until it is dropped.
    #[must_use]
    pub fn into_owned(self) -> Message<'static> {
        let copy = match &self.body {
            Body::Ring(_) => self.to_bytes(),
            _ => Bytes::new(),
        };
        let body = match self.body {
            Body::Ring(_) => Body::Owned(copy),
            Body::Slot(slot) => Body::Slot(slot),
            Body::Sealed(payload) => Body::Sealed(payload),
            Body::Owned(bytes) => Body::Owned(bytes),
        };
        Message { body }
    }

    /// The message as a sealed payload, if it came as one.
    ///
    /// # Errors
    ///
    /// The message itself if it did not.
    pub fn into_sealed(self) -> Result<SealedPayload, Self> {
        match self.body {
            Body::Sealed(payload) => Ok(payload),
            body => Err(Self { body }),
        }
    }

    /// The message's bytes where they lie, without a copy.
    ///
    /// # Safety
    ///
    /// The peer can write these bytes at any time, and the compiler assumes that nobody
    /// does. The caller knows that the peer follows the protocol of this library, which
    /// leaves them alone while this message exists: a process of the same trust, running
    /// code that is trusted not to have been taken over.
    #[must_use]
    pub unsafe fn as_slice_trusting_peer(&self) -> &[u8] {
        let bytes = match &self.body {
            Body::Ring(RingBytes { half, entry }) => {
                half.core.peer.mapped().address(entry.payload(), entry.len().into()).cast_const()
            }
            Body::Slot(slot) => slot.address(),
            Body::Sealed(payload) => payload.as_ptr(),
            Body::Owned(bytes) => bytes.as_ptr(),
        };
        // SAFETY: `address` checked that the bytes lie in the mapping, which `self` keeps;
        // the caller vouches for the peer.
        unsafe { slice::from_raw_parts(bytes, self.len()) }
    }
}

fn copy_from(bytes: &[u8], offset: usize, buffer: &mut [u8]) {
    // The caller checked that so many bytes are there.
    if let Some(from) = bytes.get(offset..).and_then(|rest| rest.get(..buffer.len())) {
        buffer.copy_from_slice(from);
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match &self.body {
            Body::Ring(_) => "inline",
            Body::Slot(_) => "slot",
            Body::Sealed(_) => "sealed",
            Body::Owned(_) => "owned",
        };
        f.debug_struct("Message").field("len", &self.len()).field("way", &way).finish()
    }
}
