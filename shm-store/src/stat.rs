//! What a store says of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    Lsn,
    codec::{Malformed, Put, Take},
    engine::Report,
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
    /// Writes that this owner was asked for.
    pub writes: u64,
    /// In how many batches it did them: each took one sync of the log, if the store is durable.
    pub batches: u64,
}

/// What an owner has done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) writes: AtomicU64,
    pub(crate) batches: AtomicU64,
}

impl Stat {
    pub(crate) fn of(stat: view::Stat, done: &Done) -> Self {
        let view::Stat { streams, bytes, visible, durable, applied, memory } = stat;
        let owner = std::process::id();
        // Relaxed: counts, and nothing else.
        let writes = done.writes.load(Ordering::Relaxed);
        let batches = done.batches.load(Ordering::Relaxed);
        Self { owner, streams, bytes, visible, durable, applied, memory, writes, batches }
    }

    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.put_u32(self.owner);
        let Self { streams, bytes, visible, durable, applied, memory, writes, batches, .. } = *self;
        [streams, bytes, visible.0, durable.0, applied.0, memory, writes, batches]
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
            writes: from.u64()?,
            batches: from.u64()?,
        })
    }
}

/// What a check of everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Streams that were checked.
    pub streams: u64,
    /// Entries that were read.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether sums were compared too: nobody wrote meanwhile.
    pub sums: bool,
    /// What is wrong, up to 1000 findings. Nothing, if the store is sound.
    pub problems: Vec<String>,
}

/// Findings of which is told, and bytes of each.
const MAX_PROBLEMS: usize = 1000;
const MAX_PROBLEM: usize = 255;

impl Verified {
    /// The check itself has failed.
    pub(crate) fn unfinished() -> Self {
        let problem = format!("the check has failed: see what process {} said", std::process::id());
        Self { problems: vec![problem], ..Self::default() }
    }

    pub(crate) fn of(report: Report) -> Self {
        let Report { streams, entries, bytes, sums, mut problems } = report;
        problems.truncate(MAX_PROBLEMS);
        for problem in &mut problems {
            let len = (0..=MAX_PROBLEM).rev().find(|len| problem.is_char_boundary(*len));
            problem.truncate(len.unwrap_or_default());
        }
        Self { streams, entries, bytes, sums, problems }
    }

    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        [self.streams, self.entries, self.bytes].into_iter().for_each(|number| to.put_u64(number));
        to.put_u8(self.sums.into());
        to.put_u32(self.problems.len() as u32);
        self.problems.iter().for_each(|problem| to.put_short(problem.as_bytes()));
    }

    pub(crate) fn decode(from: &mut Take<'_>) -> Result<Self, Malformed> {
        let (streams, entries, bytes) = (from.u64()?, from.u64()?, from.u64()?);
        let sums = from.bool()?;
        let count = from.count(1)?;
        let problems = (0..count).map(|_| from.text()).collect::<Result<_, _>>()?;
        Ok(Self { streams, entries, bytes, sums, problems })
    }
}
