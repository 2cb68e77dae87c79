//! What is known about one stream.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use crate::{
    Head, Offset, StreamConfig, StreamId,
    codec::{Malformed, Put, Take},
};

/// A stream, without its entries and producers. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamMeta {
    pub(crate) fixed: Arc<Fixed>,
    /// Behind its last entry.
    pub(crate) end: Offset,
    pub(crate) closed: bool,
    /// The largest sequence that an append had.
    pub(crate) sequence: Option<Bytes>,
    /// How many forks of it there are.
    pub(crate) children: u64,
    /// Deleted, but forks of it live.
    pub(crate) buried: bool,
    /// When it was last read or written, in milliseconds since 1970.
    pub(crate) accessed: u64,
}

/// What never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    /// The LSN of its creation.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) config: StreamConfig,
    pub(crate) parent: Option<Parent>,
    pub(crate) created: u64,
}

/// The stream that a fork was made of. A parent outlives its forks, so its name is its own
/// as long as they live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) name: String,
    pub(crate) id: u64,
    /// Where, in the parent: between two entries, or inside one.
    pub(crate) at: Offset,
    /// Where the fork's own entries begin. Behind `at` if that is inside an entry: the part
    /// of the entry before `at` is an entry of the fork.
    pub(crate) own: Offset,
    /// How many ancestors the fork has.
    pub(crate) depth: u8,
}

impl StreamMeta {
    pub(crate) fn new(fixed: Fixed) -> Self {
        let end = fixed.parent.as_ref().map_or(Offset::START, |parent| parent.own);
        let accessed = fixed.created;
        Self {
            fixed: Arc::new(fixed),
            end,
            closed: false,
            sequence: None,
            children: 0,
            buried: false,
            accessed,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.fixed.id
    }

    /// Where its own entries begin.
    pub(crate) fn own(&self) -> Offset {
        self.fixed.parent.as_ref().map_or(Offset::START, |parent| parent.own)
    }

    /// How many bytes of entries are its own.
    pub(crate) fn own_bytes(&self) -> u64 {
        self.end.byte() - self.own().byte()
    }

    pub(crate) fn expires_ever(&self) -> bool {
        let config = &self.fixed.config;
        config.time_to_live.is_some() || config.expires_at.is_some()
    }

    /// When it expires, if it is not accessed after `accessed`.
    pub(crate) fn expires(&self, accessed: u64) -> Option<u64> {
        let config = &self.fixed.config;
        let sliding = config.time_to_live.map(|time| {
            accessed.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        });
        let fixed = config.expires_at.map(millis);
        [sliding, fixed].into_iter().flatten().min()
    }

    pub(crate) fn head(&self, accessed: u64) -> Head {
        let fixed = &self.fixed;
        Head {
            name: fixed.name.clone(),
            stream: StreamId(fixed.id),
            config: fixed.config.clone(),
            end: self.end,
            closed: self.closed,
            forked: fixed.parent.as_ref().map(|parent| (StreamId(parent.id), parent.own)),
            created: time(fixed.created),
            expires: self.expires(accessed).map(time),
        }
    }

    /// As a row of the shards; the name is the row's key.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(128);
        to.put_u64(self.fixed.id);
        to.put_u64(self.fixed.created);
        to.put_u64(self.accessed);
        to.put_offset(self.end);
        to.put_u64(self.children);
        let flags = u8::from(self.closed)
            | u8::from(self.buried) << 1
            | u8::from(self.sequence.is_some()) << 2;
        to.put_u8(flags);
        if let Some(sequence) = &self.sequence {
            to.put_short(sequence);
        }
        put_config(&mut to, &self.fixed.config);
        Parent::put(&mut to, self.fixed.parent.as_ref());
        to
    }

    pub(crate) fn decode(name: &str, from: &[u8]) -> Result<Self, Malformed> {
        let mut from = Take(from);
        let (id, created, accessed) = (from.u64()?, from.u64()?, from.u64()?);
        let end = from.offset()?;
        let children = from.u64()?;
        let flags = from.u8()?;
        let sequence =
            (flags & 4 != 0).then(|| from.short().map(Bytes::copy_from_slice)).transpose()?;
        let config = take_config(&mut from)?;
        let parent = Parent::take(&mut from)?;
        from.end()?;
        let fixed = Arc::new(Fixed { id, name: name.into(), config, parent, created });
        let meta = Self {
            fixed,
            end,
            closed: flags & 1 != 0,
            sequence,
            children,
            buried: flags & 2 != 0,
            accessed,
        };
        if flags < 8 && meta.own() <= end { Ok(meta) } else { Err(Malformed) }
    }
}

impl Parent {
    /// Whether the fork was made inside an entry.
    pub(crate) fn cut(&self) -> bool {
        self.own != self.at
    }

    pub(crate) fn put(to: &mut Vec<u8>, parent: Option<&Self>) {
        to.put_u8(parent.is_some().into());
        if let Some(parent) = parent {
            to.put_short(parent.name.as_bytes());
            to.put_u64(parent.id);
            to.put_offset(parent.at);
            to.put_u8(parent.cut().into());
            to.put_u8(parent.depth);
        }
    }

    pub(crate) fn take(from: &mut Take<'_>) -> Result<Option<Self>, Malformed> {
        if !from.bool()? {
            return Ok(None);
        }
        let (name, id, at) = (from.text()?, from.u64()?, from.offset()?);
        let own = if from.bool()? { behind(at)? } else { at };
        Ok(Some(Self { name, id, at, own, depth: from.u8()? }))
    }
}

/// Behind the part of an entry that ends at `at`.
fn behind(at: Offset) -> Result<Offset, Malformed> {
    Ok(Offset::new(at.entry().checked_add(1).ok_or(Malformed)?, at.byte()))
}

pub(crate) fn put_config(to: &mut Vec<u8>, config: &StreamConfig) {
    to.put_short(config.content_type.as_bytes());
    let time_to_live =
        config.time_to_live.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    to.put_option(time_to_live);
    to.put_option(config.expires_at.map(millis));
    to.put_option(config.max_bytes);
}

pub(crate) fn take_config(from: &mut Take<'_>) -> Result<StreamConfig, Malformed> {
    Ok(StreamConfig {
        content_type: from.text()?,
        time_to_live: from.option()?.map(Duration::from_millis),
        expires_at: from.option()?.map(time),
        max_bytes: from.option()?,
    })
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Some 500 million years: what `SystemTime` surely can say.
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX).min(LAST)
}

const LAST: u64 = u64::MAX >> 10;

pub(crate) fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis.min(LAST))
}
