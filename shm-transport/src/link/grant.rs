#![allow(unsafe_code)]

use std::{
    fmt,
    ops::{Deref, DerefMut},
    slice,
};

use memmap2::MmapMut;
use shm_primitives::{Mapped, Offset, pool::SlotId};

use super::staging::{Growth, Half, Place};
use crate::{
    error::SendError,
    os::{forked::NotForked, memory::Unsealed},
};

/// Memory for one message, which the sender writes in place: it dereferences to its
/// bytes.
///
/// [`commit`](Self::commit) sends them. Dropping the grant aborts it: nothing happened.
#[must_use = "a grant that is not committed is aborted"]
pub struct SendGrant<'a> {
    half: &'a mut Half,
    memory: Memory,
    len: usize,
}

enum Memory {
    Ring {
        at: Offset,
    },
    Slot {
        slot: SlotId,
        mapped: Mapped,
        at: Offset,
    },
    Sealed {
        number: SlotId,
        memory: Unsealed,
        map: NotForked<MmapMut>,
    },
    /// Committed, or given back.
    Spent,
}

impl fmt::Debug for SendGrant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendGrant").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<'a> SendGrant<'a> {
    pub(crate) fn new(half: &'a mut Half, place: Place, len: usize) -> Result<Self, SendError> {
        let memory = match place {
            Place::Ring(at) => Memory::Ring { at },
            Place::Slot { slot, segment, at } => {
                Memory::Slot { slot, mapped: segment.mapped(), at }
            }
            Place::Sealed(number) => {
                let mapped = Unsealed::new().and_then(|memory| {
                    let map = memory.map(len as u64)?;
                    Ok((memory, map))
                });
                match mapped {
                    Ok((memory, map)) => Memory::Sealed { number, memory, map },
                    Err(error) => {
                        half.pool.give_back(number);
                        return Err(error.into());
                    }
                }
            }
        };
        Ok(Self { half, memory, len })
    }

    /// Sends all the granted bytes.
    ///
    /// # Errors
    ///
    /// [`SendError::Ended`] if the link is over, [`SendError::Os`] if a large message
    /// could not be handed over, [`SendError::Full`] if it could not be handed over now.
    /// Nothing was sent then.
    pub fn commit(self) -> Result<(), SendError> {
        let len = self.len;
        self.commit_prefix(len)
    }

    /// Sends the first `used` granted bytes; more than were granted count as all.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn commit_prefix(mut self, used: usize) -> Result<(), SendError> {
        let used = used.min(self.len);
        let memory = std::mem::replace(&mut self.memory, Memory::Spent);
        let half = &mut *self.half;
        let staged = match memory {
            Memory::Ring { .. } => half.stage_in_place(self.len, used),
            Memory::Slot { slot, .. } => half.stage_slot(slot, used),
            Memory::Sealed { number, .. } if used == 0 => {
                half.pool.give_back(number);
                half.stage(&[], Growth::Now)
            }
            Memory::Sealed { number, memory, map } => {
                drop(map);
                half.stage_sealed(number, memory, used)
            }
            Memory::Spent => Ok(()),
        };
        staged.map_err(|error| half.without_waiting(error))?;
        half.core.check_open()?;
        half.publish();
        Ok(())
    }
}

impl Drop for SendGrant<'_> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.memory, Memory::Spent) {
            Memory::Slot { slot: number, .. } | Memory::Sealed { number, .. } => {
                self.half.pool.give_back(number);
            }
            Memory::Ring { .. } | Memory::Spent => {}
        }
    }
}

impl SendGrant<'_> {
    /// The granted bytes in the own outbox or an extent of it.
    fn bytes(&self) -> *mut u8 {
        let len = self.len as u64;
        match &self.memory {
            Memory::Ring { at } => self.half.core.own.mapped().address(*at, len),
            Memory::Slot { mapped, at, .. } => mapped.address(*at, len),
            Memory::Sealed { map, .. } => map.as_ptr().cast_mut(),
            Memory::Spent => std::ptr::NonNull::dangling().as_ptr(),
        }
    }
}

impl Deref for SendGrant<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes that this process alone can write: its own outbox or
        // extent, sealed against writing by others, or a mapping of its own. This grant
        // borrows the only handle that writes there, and the protocol hands these bytes
        // to nobody before they are committed, which consumes it. They are initialised:
        // zero, or an earlier message. `Spent` exists only inside `commit_prefix` and
        // `drop`, which do not come here.
        unsafe { slice::from_raw_parts(self.bytes(), self.len) }
    }
}

impl DerefMut for SendGrant<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; `&mut self` makes it the only reference. Another
        // process may read the bytes meanwhile if it ignores the protocol, which changes
        // nothing here.
        unsafe { slice::from_raw_parts_mut(self.bytes(), self.len) }
    }
}
