use std::{
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::failure::WriteFailure;
use crate::{
    deadline::Deadline,
    error::{LinkEnd, SendError},
    link::{SendGrant, Sender},
};

/// The most bytes of one message of a stream: the other side begins to read them while the next
/// are written.
const CHUNK: u64 = 64 << 10;

/// What one side writes of a stream, and that it has ended it.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) sender: Sender,
    /// The most bytes that one message carries.
    chunk: usize,
    /// Whether the end was sent; the reading half knows it, too.
    ended: Arc<AtomicBool>,
}

impl Writing {
    pub(super) fn new(mut sender: Sender) -> Self {
        sender.half.reserve_for_end();
        let chunk = sender.half.largest_before_end().min(CHUNK);
        Self { sender, chunk: chunk.max(1) as usize, ended: Arc::default() }
    }

    /// Whether the end was sent, for the reading half.
    pub(super) fn ended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ended)
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// How many of `len` bytes the next message carries, if anything can be written at all.
    pub(super) fn begin(&self, len: usize) -> Result<usize, WriteFailure> {
        if self.is_over() {
            return Err(WriteFailure::Over);
        }
        // A look at the peer's own word: the watch over the link may not have noticed yet.
        match self.sender.half.core.look_for_end() {
            Some(end) => Err(WriteFailure::Gone(end)),
            None => Ok(len.min(self.chunk)),
        }
    }

    /// Writes the first bytes of `slices`, waiting for room until the deadline; returns how many.
    pub(super) fn write(
        &mut self,
        slices: &[IoSlice<'_>],
        deadline: Option<Deadline>,
    ) -> Result<usize, WriteFailure> {
        let len = self.begin(length(slices))?;
        if len == 0 {
            return Ok(0);
        }
        let grant = match deadline {
            Some(deadline) => self.sender.grant(len, deadline)?,
            None => self.sender.try_grant(len)?,
        };
        gather(grant, slices)?;
        Ok(len)
    }

    /// Tells the other side that nothing follows, unless it was told. There is room for that.
    pub(super) fn end(&mut self) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            // If the link is over there is nobody to tell.
            let _ = self.sender.half.send_end();
        }
    }

    /// Tells the other side that this one will not read any more either.
    pub(super) fn say_goodbye(&self) {
        self.sender.half.core.say_goodbye();
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // In a forked child it is its parent's.
        if self.sender.half.core.is_own() {
            self.end();
        }
    }
}

/// The bytes in all slices together.
pub(super) fn length(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().fold(0, |sum, slice| sum.saturating_add(slice.len()))
}

/// Fills a grant from the slices, and sends it.
pub(super) fn gather(mut grant: SendGrant<'_>, slices: &[IoSlice<'_>]) -> Result<(), WriteFailure> {
    let mut at = 0;
    for slice in slices {
        let end = at + slice.len().min(grant.len() - at);
        if let (Some(room), Some(bytes)) = (grant.get_mut(at..end), slice.get(..end - at)) {
            room.copy_from_slice(bytes);
        }
        at = end;
    }
    Ok(grant.commit()?)
}

impl From<SendError> for WriteFailure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full | SendError::TimedOut => Self::NoRoom,
            SendError::Ended(end) => Self::Gone(end),
            other => Self::Failed(other),
        }
    }
}

impl From<LinkEnd> for WriteFailure {
    fn from(end: LinkEnd) -> Self {
        Self::Gone(end)
    }
}
