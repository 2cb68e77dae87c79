use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use shm_primitives::Frame;

use super::{failure::ReadFailure, space::Space};
use crate::{
    deadline::Deadline,
    error::{LinkEnd, RecvError},
    link::{
        Receiver,
        core::LinkCore,
        reception::{Half, Taken},
    },
};

/// What one side reads of a stream, and how far it is.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) receiver: Receiver,
    pub(super) state: State,
}

/// How far a stream is read.
#[derive(Debug)]
pub(super) struct State {
    /// Bytes of the message that the receiver holds that were read.
    read: usize,
    /// The other side has said that nothing follows.
    over: bool,
    /// This side does not wait for more.
    shut: bool,
    /// That the other side has gone without having read everything was reported.
    reported: bool,
    /// Whether this side's writing half has sent its end.
    own_end: Arc<AtomicBool>,
}

/// What a look found.
pub(super) enum Filled {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The end of the stream.
    End,
    /// Nothing yet.
    Nothing,
}

impl Reading {
    pub(super) fn new(mut receiver: Receiver, own_end: Arc<AtomicBool>) -> Self {
        receiver.half.keep_references();
        let state = State { read: 0, over: false, shut: false, reported: false, own_end };
        Self { receiver, state }
    }

    /// Reads nothing more than what is there.
    pub(super) fn shut(&mut self) {
        self.state.shut = true;
    }

    pub(super) fn is_shut(&self) -> bool {
        self.state.shut
    }

    /// Reads into `space`, waiting for the first byte until the deadline; returns how many
    /// bytes.
    pub(super) fn read(
        &mut self,
        space: &mut impl Space,
        deadline: Option<Deadline>,
    ) -> Result<usize, ReadFailure> {
        let mut first = None;
        loop {
            match self.state.read_at_once(&mut self.receiver.half, first.take(), space)? {
                Filled::Bytes(count) => return Ok(count),
                Filled::End => return Ok(0),
                Filled::Nothing => {}
            }
            let deadline = deadline.ok_or(ReadFailure::Nothing)?;
            match self.receiver.take(deadline) {
                Ok(taken) => first = Some(taken),
                Err(RecvError::TimedOut) => return Err(ReadFailure::Nothing),
                // The look above says how it ended.
                Err(RecvError::Ended(_)) => {}
                Err(error) => return Err(ReadFailure::Failed(error)),
            }
        }
    }
}

impl State {
    /// Reads what is there into `space`, which has room; `first` is a message that was taken
    /// already.
    #[inline]
    pub(super) fn read_at_once(
        &mut self,
        half: &mut Half,
        mut first: Option<Taken>,
        space: &mut impl Space,
    ) -> Result<Filled, ReadFailure> {
        let mut count = 0;
        while !self.over {
            let taken = match first.take() {
                Some(taken) => Ok(Some(taken)),
                None => match half.take_inline() {
                    Some(entry) => Ok(Some(Taken::Inline(entry))),
                    None => half.take(),
                },
            };
            let taken = match taken {
                Ok(Some(taken)) => taken,
                Ok(None) => break,
                // The next call meets it again.
                Err(_) if count > 0 => break,
                Err(RecvError::Ended(LinkEnd::Departed | LinkEnd::PeerDead)) => {
                    self.over = true;
                    break;
                }
                Err(error) => return Err(ReadFailure::Failed(error)),
            };
            let len = taken.len();
            let before = self.read;
            while self.read < len {
                let room = space.room(len - self.read);
                let copied = half.copy_part(&taken, self.read, room);
                if copied == 0 {
                    break;
                }
                space.filled(copied);
                self.read += copied;
            }
            count += self.read - before;
            if self.read < len {
                half.hold(taken);
                break;
            }
            self.read = 0;
            drop(taken);
            half.give_space_back();
            self.over = len == 0;
            if space.room(1).is_empty() {
                break;
            }
        }
        if count > 0 {
            return Ok(Filled::Bytes(count));
        }
        if self.over {
            return self.end(&half.core);
        }
        Ok(if self.shut { Filled::End } else { Filled::Nothing })
    }
    /// The end of the stream, unless it is to be reported that the other side did not read all.
    #[cold]
    fn end(&mut self, core: &LinkCore) -> Result<Filled, ReadFailure> {
        if !self.reported
            && let Some(end) = core.look_for_end()
        {
            self.reported = true;
            let own_end = self.own_end.load(Ordering::Relaxed);
            let end_frame = if own_end { Frame::Inline { len: 0 }.footprint() } else { 0 };
            if core.unread_by_peer() > end_frame {
                return Err(ReadFailure::Reset(end));
            }
        }
        Ok(Filled::End)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.receiver.half.release_all();
    }
}
