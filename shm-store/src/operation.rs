//! What is asked of a store, and what it answers.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::{
    Offset,
    error::{ReadError, WriteError},
};

/// The place of an operation in the order of all: the log's sequence number. Counted from 1,
/// never given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub(crate) u64);

impl Lsn {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What is fixed about a stream when it is created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamConfig {
    /// What the entries are, as a media type; empty if nobody says. At most 255 bytes.
    pub content_type: String,
    /// The stream is deleted when nobody has read or written it for so long. Whole
    /// milliseconds.
    pub time_to_live: Option<Duration>,
    /// The stream is deleted at this time. Whole milliseconds.
    pub expires_at: Option<SystemTime>,
    /// The most bytes of payload that it may hold; `None` is the store's limit.
    pub max_bytes: Option<u64>,
}

/// Who appends, for appends that may be sent twice and count once.
///
/// A producer counts its appends to a stream from 0. A larger epoch begins at 0 again and
/// shuts out the smaller ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Producer {
    /// Its name, unique among the producers of the stream; 1 to 255 bytes.
    pub id: String,
    /// Which life of the producer.
    pub epoch: u64,
    /// Which append of that life.
    pub sequence: u64,
}

/// An append: one or several entries, all or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Append {
    /// The entries. None are needed if the append closes the stream.
    pub entries: Vec<Bytes>,
    /// If given, larger (as bytes) than that of every append before that had one; at most
    /// 255 bytes.
    pub sequence: Option<Bytes>,
    /// Who appends.
    pub producer: Option<Producer>,
    /// Whether the stream is closed behind the entries.
    pub close: bool,
}

/// Something that changes a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Create {
        name: String,
        config: StreamConfig,
        entries: Vec<Bytes>,
        close: bool,
    },
    Append {
        name: String,
        append: Append,
    },
    Delete {
        name: String,
    },
    Fork {
        name: String,
        from: String,
        at: Option<Offset>,
        config: StreamConfig,
    },
    /// A sliding time to live begins anew.
    Touch {
        name: String,
    },
    /// The stream is deleted if it has expired and is still this one; or if it was deleted
    /// before and has no forks any more.
    Expire {
        name: String,
        stream: StreamId,
    },
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The end of the stream behind it: where its next entry will be.
    pub end: Offset,
    /// Where its first entry is; the end if it has none.
    pub start: Offset,
    /// The operation that did it: of a repeated call, the first one.
    pub lsn: Lsn,
    /// Nothing was done because it was done before: the stream is there with this
    /// configuration, is closed, or has this append of this producer.
    pub repeated: bool,
    /// Whether the stream is closed.
    pub closed: bool,
}

pub(crate) type WriteResult = Result<Written, WriteError>;

/// Where to begin to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the first entry.
    Start,
    /// At an offset that a store gave.
    Offset(Offset),
    /// Behind all that is durable now.
    Now,
}

/// One entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins.
    pub offset: Offset,
    /// Where it ends: the offset of the next one.
    pub next: Offset,
    /// Its bytes. If reading began inside of it, those behind.
    pub data: Bytes,
}

/// Some entries in a row, from one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next page begins.
    pub next: Offset,
    /// Whether the snapshot has nothing behind these.
    pub up_to_date: bool,
    /// Whether the stream is closed and these are its last.
    pub closed: bool,
    /// Which life of the stream's name this is: another one after a deletion.
    pub stream: StreamId,
}

/// Names a stream for ever, while its name may come to name another one: the operation that
/// created it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u64);

impl StreamId {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its name.
    pub name: String,
    /// Which stream of that name.
    pub stream: StreamId,
    /// As it was created.
    pub config: StreamConfig,
    /// Behind its last entry.
    pub end: Offset,
    /// Whether it is closed.
    pub closed: bool,
    /// The stream that it is a fork of, and from where on it is its own.
    pub forked: Option<(StreamId, Offset)>,
    /// When it was created.
    pub created: SystemTime,
    /// When it will expire, as things stand.
    pub expires: Option<SystemTime>,
}

pub(crate) type ReadResult = Result<Page, ReadError>;
