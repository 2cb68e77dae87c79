//! What is remembered of a producer, so that an append that is sent twice counts once.

use std::collections::VecDeque;

use crate::{
    Lsn, Offset, Producer, Written,
    codec::{Malformed, Put, Take},
    error::WriteError,
};

/// How many results of a producer are remembered: how many appends it may have in flight.
pub(crate) const REMEMBERED: usize = 5;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub(crate) epoch: u64,
    /// The sequence that comes next.
    pub(crate) next: u64,
    /// The last results; the newest is of the sequence before `next`.
    done: VecDeque<Done>,
}

/// The result of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) lsn: u64,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) closed: bool,
}

impl Done {
    pub(crate) fn repeated(self) -> Written {
        Written {
            end: self.end,
            start: self.start,
            lsn: Lsn(self.lsn),
            repeated: true,
            closed: self.closed,
        }
    }
}

impl ProducerState {
    /// Whether an append may be done (`None`), or was done, or must not be.
    pub(crate) fn check(
        state: Option<&Self>,
        producer: &Producer,
    ) -> Result<Option<Done>, WriteError> {
        let (epoch, next) = state.map_or((0, 0), |state| (state.epoch, state.next));
        if producer.epoch < epoch {
            return Err(WriteError::Fenced { epoch });
        }
        let expected = if producer.epoch > epoch { 0 } else { next };
        match producer.sequence {
            sequence if sequence == expected => Ok(None),
            sequence if sequence > expected => Err(WriteError::Gap { expected }),
            sequence => {
                let age = expected - sequence;
                let done = state.and_then(|state| {
                    let index = (state.done.len() as u64).checked_sub(age)?;
                    state.done.get(usize::try_from(index).ok()?).copied()
                });
                done.map(Some).ok_or(WriteError::AlreadyDone)
            }
        }
    }

    /// After an append that [`check`](Self::check) let pass.
    pub(crate) fn advance(&mut self, epoch: u64, sequence: u64, done: Done) {
        if epoch != self.epoch {
            self.done.clear();
            self.epoch = epoch;
        }
        self.next = sequence.saturating_add(1);
        self.done.push_back(done);
        while self.done.len() > REMEMBERED {
            self.done.pop_front();
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(17 + self.done.len() * 41);
        to.put_u64(self.epoch);
        to.put_u64(self.next);
        to.put_u8(self.done.len() as u8);
        for done in &self.done {
            to.put_u64(done.lsn);
            to.put_offset(done.start);
            to.put_offset(done.end);
            to.put_u8(done.closed.into());
        }
        to
    }

    pub(crate) fn decode(from: &[u8]) -> Result<Self, Malformed> {
        let mut from = Take(from);
        let (epoch, next, count) = (from.u64()?, from.u64()?, from.u8()?);
        if usize::from(count) > REMEMBERED {
            return Err(Malformed);
        }
        let done = (0..count)
            .map(|_| {
                Ok(Done {
                    lsn: from.u64()?,
                    start: from.offset()?,
                    end: from.offset()?,
                    closed: from.bool()?,
                })
            })
            .collect::<Result<_, _>>()?;
        from.end()?;
        Ok(Self { epoch, next, done })
    }
}
