//! A plain model of a store: every stream is a list of entries, forks copy it.

use std::{collections::BTreeMap, fmt::Write as _, time::UNIX_EPOCH};

use bytes::Bytes;

use crate::{
    Append, From, Head, Offset, Page, ReadError, StreamConfig, WriteError, Written,
    operation::{Write, WriteResult},
    view::View,
};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) streams: BTreeMap<String, Stream>,
    pub(super) now: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stream {
    config: StreamConfig,
    entries: Vec<Bytes>,
    closed: bool,
    sequence: Option<Bytes>,
    producers: BTreeMap<String, Producer>,
    /// The parent, where it was forked, and how many entries are not its own.
    fork: Option<(String, Offset, usize)>,
    children: usize,
    buried: bool,
    accessed: u64,
    /// When it was read; an end of the process forgets it.
    read: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Producer {
    epoch: u64,
    results: Vec<(Offset, Offset, bool)>,
}

/// What a write answers, without its number.
pub(super) type Answer = Result<(Offset, Offset, bool, bool), &'static str>;

pub(super) fn answer(result: &WriteResult) -> Answer {
    match result {
        Ok(Written { start, end, repeated, closed, .. }) => Ok((*start, *end, *repeated, *closed)),
        Err(error) => Err(match error {
            WriteError::NotFound => "not found",
            WriteError::Tombstone => "tombstone",
            WriteError::Mismatch(_) => "mismatch",
            WriteError::Closed(_) => "closed",
            WriteError::Sequence => "sequence",
            WriteError::Fenced { .. } => "fenced",
            WriteError::Gap { .. } => "gap",
            WriteError::AlreadyDone => "already done",
            WriteError::BadOffset => "bad offset",
            WriteError::Empty => "empty",
            other => panic!("{other:?}"),
        }),
    }
}

impl Stream {
    fn at(&self, entry: usize) -> Offset {
        let bytes: usize = self.entries[..entry].iter().map(Bytes::len).sum();
        Offset::new(entry as u64, bytes as u64)
    }

    pub(super) fn end(&self) -> Offset {
        self.at(self.entries.len())
    }

    /// A position somewhere in it, mostly a right one.
    pub(super) fn position(&self, seed: u64) -> Offset {
        let entry = seed as usize % (self.entries.len() + 1);
        let at = self.at(entry);
        let len = self.entries.get(entry).map_or(1, Bytes::len) as u64;
        match (seed >> 8) % 4 {
            0 => at.within((seed >> 16) % (len + 1)),
            _ => at,
        }
    }

    /// What is there from a position on, if it is one.
    pub(super) fn from(&self, at: Offset) -> Option<Vec<Bytes>> {
        if self.fork.as_ref().is_some_and(|(_, fork, _)| *fork == at) {
            return Some(self.entries[self.fork.as_ref()?.2..].to_vec());
        }
        let entry = at.entry() as usize;
        if entry > self.entries.len() {
            return None;
        }
        let inside = at.byte().checked_sub(self.at(entry).byte())? as usize;
        let mut rest = self.entries[entry..].to_vec();
        if inside > 0 {
            let first = rest.first_mut().filter(|first| inside < first.len())?;
            *first = first.slice(inside..);
        }
        Some(rest)
    }

    fn own_bytes(&self) -> u64 {
        let shared = self.fork.as_ref().map_or(0, |fork| fork.2);
        self.end().byte() - self.at(shared).byte()
    }

    fn expires(&self) -> Option<u64> {
        let sliding = self
            .config
            .time_to_live
            .map(|time| self.accessed.max(self.read) + time.as_millis() as u64);
        let fixed = self
            .config
            .expires_at
            .map(|at| at.duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis() as u64);
        [sliding, fixed].into_iter().flatten().min()
    }

    fn standing(&self) -> Answer {
        Ok((self.end(), self.end(), true, self.closed))
    }
}

impl Model {
    fn expired(&self, stream: &Stream) -> bool {
        stream.expires().is_some_and(|at| at <= self.now)
    }

    pub(super) fn live(&self, name: &str) -> Result<&Stream, &'static str> {
        match self.streams.get(name) {
            Some(stream) if stream.buried => Err("tombstone"),
            Some(stream) if !self.expired(stream) => Ok(stream),
            _ => Err("not found"),
        }
    }

    fn remove(&mut self, name: &str) {
        if self.streams[name].children > 0 {
            self.streams.get_mut(name).expect("a stream").buried = true;
            return;
        }
        let stream = self.streams.remove(name).expect("a stream");
        if let Some((parent, ..)) = stream.fork {
            let of = self.streams.get_mut(&parent).expect("a parent");
            of.children -= 1;
            if of.buried && of.children == 0 {
                self.remove(&parent);
            }
        }
    }

    /// The stream that has a name, if it cannot be taken.
    fn taken(&mut self, name: &str) -> Result<Option<Stream>, &'static str> {
        let Some(stream) = self.streams.get(name).cloned() else { return Ok(None) };
        match self.expired(&stream) {
            _ if stream.buried => Err("tombstone"),
            false => Ok(Some(stream)),
            true if stream.children > 0 => Err("tombstone"),
            true => {
                self.remove(name);
                Ok(None)
            }
        }
    }

    pub(super) fn write(&mut self, write: &Write) -> Answer {
        let before = self.clone();
        let answer = self.try_write(write);
        if answer.is_err() {
            *self = before;
        }
        answer
    }

    fn try_write(&mut self, write: &Write) -> Answer {
        match write {
            Write::Create { name, config, entries, close } => {
                if let Some(stream) = self.taken(name)? {
                    return if stream.config == *config {
                        stream.standing()
                    } else {
                        Err("mismatch")
                    };
                }
                let stream = Stream {
                    config: config.clone(),
                    entries: entries.clone(),
                    closed: *close,
                    accessed: self.now,
                    ..Stream::default()
                };
                let end = stream.end();
                self.streams.insert(name.clone(), stream);
                Ok((Offset::START, end, false, *close))
            }
            Write::Append { name, append } => self.append(name, append),
            Write::Delete { name } => {
                let (end, _, _, closed) = self.live(name)?.standing()?;
                self.remove(name);
                Ok((end, end, false, closed))
            }
            Write::Fork { name, from, at, config } => {
                if let Some(stream) = self.taken(name)? {
                    let alike = stream.fork.as_ref().is_some_and(|(parent, fork, _)| {
                        parent == from && at.is_none_or(|at| at == *fork)
                    });
                    let alike = alike && stream.config == *config;
                    return if alike { stream.standing() } else { Err("mismatch") };
                }
                self.fork(name, from, *at, config)
            }
            Write::Touch { .. } | Write::Expire { .. } => unreachable!("the engine makes these"),
        }
    }

    fn fork(
        &mut self,
        name: &str,
        from: &str,
        at: Option<Offset>,
        config: &StreamConfig,
    ) -> Answer {
        let source = self.live(from)?;
        let mut at = at.unwrap_or(source.end());
        let behind = source.from(at).ok_or("bad offset")?;
        if let Some((_, fork, shared)) = &source.fork
            && at == *fork
        {
            at = source.at(*shared);
        }
        let mut entries = source.entries[..source.entries.len() - behind.len()].to_vec();
        if let Some(cut) = source.entries.get(entries.len())
            && at != source.at(entries.len())
        {
            entries.push(cut.slice(..cut.len() - behind[0].len()));
        }
        let shared = entries.len();
        let stream = Stream {
            config: config.clone(),
            entries,
            fork: Some((from.into(), at, shared)),
            accessed: self.now,
            ..Stream::default()
        };
        let end = stream.end();
        self.streams.insert(name.into(), stream);
        self.streams.get_mut(from).expect("the source").children += 1;
        Ok((end, end, false, false))
    }

    fn append(&mut self, name: &str, append: &Append) -> Answer {
        self.live(name)?;
        let now = self.now;
        let stream = self.streams.get_mut(name).expect("a stream");
        if append.entries.is_empty() && !append.close {
            return Err("empty");
        }
        let start = stream.end();
        let mut producer = None;
        if let Some(of) = &append.producer {
            let mut state = stream.producers.get(&of.id).cloned().unwrap_or_default();
            if of.epoch < state.epoch {
                return Err("fenced");
            }
            if of.epoch > state.epoch {
                state = Producer { epoch: of.epoch, ..Producer::default() };
            }
            let (number, next) = (of.sequence as usize, state.results.len());
            if number > next {
                return Err("gap");
            }
            if number < next {
                if next - number > 5 {
                    return Err("already done");
                }
                let (start, end, closed) = state.results[number];
                return Ok((start, end, true, closed));
            }
            producer = Some((of.id.clone(), state));
        }
        if stream.closed {
            return if append.entries.is_empty() { stream.standing() } else { Err("closed") };
        }
        if append.sequence.is_some() && append.sequence <= stream.sequence {
            return Err("sequence");
        }
        stream.entries.extend(append.entries.iter().cloned());
        stream.closed = append.close;
        stream.accessed = now;
        if append.sequence.is_some() {
            stream.sequence.clone_from(&append.sequence);
        }
        let end = stream.end();
        if let Some((id, mut state)) = producer {
            state.results.push((start, end, append.close));
            stream.producers.insert(id, state);
        }
        Ok((start, end, false, append.close))
    }

    pub(super) fn read(&mut self, name: &str) {
        let now = self.now;
        let stream = self.streams.get_mut(name).expect("a stream");
        stream.read = if stream.config.time_to_live.is_some() { now } else { 0 };
    }

    /// The sweeper logs reads, not each, and removes what has expired.
    pub(super) fn sweep(&mut self) {
        let now = self.now;
        for stream in self.streams.values_mut() {
            let eighth = stream.config.time_to_live.unwrap_or_default().as_millis() as u64 / 8;
            let live = !stream.buried && stream.expires().is_none_or(|at| at > now);
            if live && stream.read > stream.accessed && now >= stream.accessed + eighth {
                stream.accessed = stream.read;
            }
        }
        let gone = |(name, stream): (&String, &Stream)| {
            (!stream.buried && self.expired(stream)).then(|| name.clone())
        };
        let gone: Vec<_> = self.streams.iter().filter_map(gone).collect();
        for name in gone {
            // It may have been kept for another that went before; never is one swept twice.
            self.remove(&name);
        }
    }

    /// The process ended: reads that were not logged are forgotten.
    pub(super) fn end(&mut self) {
        for stream in self.streams.values_mut() {
            stream.read = 0;
        }
    }

    /// Everything that can be seen, and the sums.
    pub(super) fn dump(&self) -> String {
        let mut text = String::new();
        for (name, stream) in &self.streams {
            if let Ok(stream) = self.live(name) {
                describe(&mut text, name, stream.closed, stream.end(), &stream.entries);
            } else if stream.buried {
                let _ = writeln!(text, "{name} is a tombstone");
            }
        }
        let bytes: u64 = self.streams.values().map(Stream::own_bytes).sum();
        let _ = writeln!(text, "{} streams, {bytes} bytes", self.streams.len());
        text
    }
}

fn describe(text: &mut String, name: &str, closed: bool, end: Offset, entries: &[Bytes]) {
    let _ = writeln!(text, "{name} closed={closed} {end} {entries:?}");
}

/// What a store shows of itself: to a reader beside the engine, or to who has it open.
pub(super) trait Shown {
    /// All streams by name.
    fn heads(&self) -> Vec<Head>;
    fn head(&self, name: &str) -> Result<Head, ReadError>;
    /// Everything that a stream has.
    fn whole(&self, name: &str) -> Page;
    /// How many streams there are, and how many bytes.
    fn sums(&self) -> (u64, u64);
}

impl Shown for View {
    fn heads(&self) -> Vec<Head> {
        self.list("", None, 1000).expect("a list")
    }

    fn head(&self, name: &str) -> Result<Head, ReadError> {
        self.head(name)
    }

    fn whole(&self, name: &str) -> Page {
        self.peek(name, From::Start, usize::MAX, usize::MAX).expect("a stream that is there")
    }

    fn sums(&self) -> (u64, u64) {
        let stat = self.stat();
        (stat.streams, stat.bytes)
    }
}

/// The same of a store, for the names that may be used.
pub(super) fn dump(store: &impl Shown, names: &[&str]) -> String {
    let mut text = String::new();
    let listed = store.heads();
    let mut listed = listed.iter().map(|head| &*head.name).peekable();
    for name in names {
        match store.head(name) {
            Ok(head) => {
                assert_eq!(listed.next(), Some(*name));
                let page = store.whole(name);
                assert!(page.up_to_date && page.next == head.end);
                assert_eq!(page.closed, head.closed);
                let entries: Vec<_> = page.entries.into_iter().map(|entry| entry.data).collect();
                describe(&mut text, name, head.closed, head.end, &entries);
            }
            Err(ReadError::Tombstone) => {
                let _ = writeln!(text, "{name} is a tombstone");
            }
            Err(ReadError::NotFound) => {}
            Err(error) => panic!("{name}: {error:?}"),
        }
    }
    assert_eq!(listed.next(), None);
    let (streams, bytes) = store.sums();
    let _ = writeln!(text, "{streams} streams, {bytes} bytes");
    text
}
