//! What a store says of itself.

use crate::{
    Lsn,
    codec::{Malformed, Put, Take},
    view,
};

/// Sizes of a store, as its owner knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The process that owns it.
    pub owner: u32,
    /// Streams, deleted ones with living forks too.
    pub streams: u64,
    /// Bytes of entries.
    pub bytes: u64,
    /// Readers see all operations up to this one.
    pub visible: Lsn,
    /// All operations up to this one survive a loss of power.
    pub durable: Lsn,
    /// All operations up to this one are in the shards.
    pub applied: Lsn,
    /// Bytes of changes in the owner's memory, about.
    pub memory: u64,
}

impl Stat {
    pub(crate) fn of(stat: view::Stat) -> Self {
        let view::Stat { streams, bytes, visible, durable, applied, memory } = stat;
        Self { owner: std::process::id(), streams, bytes, visible, durable, applied, memory }
    }

    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.put_u32(self.owner);
        let Self { streams, bytes, visible, durable, applied, memory, .. } = *self;
        [streams, bytes, visible.0, durable.0, applied.0, memory]
            .into_iter()
            .for_each(|number| to.put_u64(number));
    }

    pub(crate) fn decode(from: &mut Take<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            owner: from.u32()?,
            streams: from.u64()?,
            bytes: from.u64()?,
            visible: Lsn(from.u64()?),
            durable: Lsn(from.u64()?),
            applied: Lsn(from.u64()?),
            memory: from.u64()?,
        })
    }
}
