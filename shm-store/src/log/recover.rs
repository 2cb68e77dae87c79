//! Reading a log that an owner left behind.

use std::{collections::VecDeque, io, path::Path, sync::Arc};

use super::{
    record,
    segment::{self, HEADER, Name},
};
use crate::{
    Damage, Lsn, OpenError,
    fs::{File, FileSystem},
};

const CHUNK: u64 = 1 << 20;

/// Takes each record above what the shards have applied.
pub(super) type Replay<'a> = dyn FnMut(Lsn, &[u8]) -> Result<(), OpenError> + 'a;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Segments that count, oldest first.
    pub(super) segments: Vec<segment::Header>,
    pub(super) spares: Vec<u64>,
    /// The last LSN that counts.
    pub(super) last: u64,
    /// Above every LSN that was ever given out.
    pub(super) next: u64,
    /// The largest number of a segment or a spare.
    pub(super) number: u64,
}

/// Replays all that counts, and makes it durable.
pub(super) fn recover(
    fs: &dyn FileSystem,
    directory: &Path,
    identity: u128,
    applied: u64,
    replay: &mut Replay<'_>,
) -> Result<Found, OpenError> {
    let mut found = Found { next: 1, ..Found::default() };
    let mut numbers = Vec::new();
    for name in fs.list(directory)? {
        match Name::parse(&name) {
            Some(Name::Log(number)) => numbers.push(number),
            Some(Name::Spare(number)) => found.spares.push(number),
            None => continue,
        }
    }
    numbers.sort_unstable();
    found.spares.sort_unstable();
    found.number = numbers.iter().chain(&found.spares).copied().max().unwrap_or(0);

    let mut files = Vec::new();
    for number in numbers {
        let name = Name::Log(number);
        let file = fs.open(&name.path(directory), false)?;
        let mut block = vec![0; HEADER as usize];
        let read = file.read_at(0, &mut block)?;
        block.truncate(read);
        let header = segment::Header::decode(&block, number, identity)?;
        found.segments.push(header);
        files.push(file);
    }
    check_chain(&found.segments, applied)?;

    for (index, (header, file)) in found.segments.iter().zip(&files).enumerate() {
        let next = found.segments.get(index + 1).map(|next| next.follows);
        if next.is_some_and(|until| until <= applied || until == header.follows) {
            continue;
        }
        if next.is_some() {
            walk(file, header, next, applied, replay)?;
        } else {
            let end = walk(file, header, None, u64::MAX, &mut |_, _| Ok(()))?;
            if end.last < applied {
                return Err(damaged(header, end.at, "the log ends before what the shards have"));
            }
            // First, for what is replayed may get into the shards, which must never have what
            // the log could still lose.
            make_durable(&**file, &end)?;
            walk(file, header, Some(end.last), applied, replay)?;
            found.last = end.last;
            // All segments before are synced. So nobody was given an LSN that this one could
            // not hold, even if the records that had them are gone.
            let most = header.len.saturating_sub(HEADER) / record::HEADER as u64;
            found.next = header.first.saturating_add(most);
        }
    }
    Ok(found)
}

/// No segment with records that are needed is missing.
fn check_chain(segments: &[segment::Header], applied: u64) -> Result<(), OpenError> {
    let Some(oldest) = segments.first() else {
        return match applied {
            0 => Ok(()),
            _ => Err(OpenError::Damaged(Damage {
                file: "log".into(),
                position: 0,
                what: "no log segment, but shards that have applied some",
            })),
        };
    };
    if oldest.follows > applied {
        return Err(damaged(oldest, 0, "the log segments before this one are missing"));
    }
    for pair in segments.windows(2) {
        if pair[1].follows < pair[0].follows || pair[1].first <= pair[0].first {
            return Err(damaged(&pair[1], 0, "a log segment that contradicts the one before"));
        }
    }
    Ok(())
}

fn damaged(header: &segment::Header, position: u64, what: &'static str) -> OpenError {
    let file = Name::Log(header.number).file();
    OpenError::Damaged(Damage { file: format!("log/{file}"), position, what })
}

/// Where the whole records of a segment end.
pub(super) struct End {
    last: u64,
    at: u64,
    /// Where the records begin that nothing says were synced.
    unsure: u64,
}

/// Goes over the records of a segment, up to the LSN that the next segment follows.
pub(super) fn walk(
    file: &Arc<dyn File>,
    header: &segment::Header,
    until: Option<u64>,
    applied: u64,
    replay: &mut Replay<'_>,
) -> Result<End, OpenError> {
    let mut window = Window::new(&**file, header.len.min(file.len()?));
    let mut end = End { last: header.follows, at: HEADER, unsure: HEADER };
    let mut expected = header.first;
    let mut unsure = VecDeque::new();
    while until.is_none_or(|until| end.last < until) {
        let Some(record) = window.record(end.at, header.salt)? else { break };
        let whole = window.get(end.at, record.size())?;
        let payload = whole.and_then(|whole| whole[record::HEADER..].get(..record.length as usize));
        let Some(payload) = payload.filter(|payload| record.is_of(payload)) else { break };
        if record.lsn != expected {
            break;
        }
        if record.lsn > applied {
            replay(Lsn(record.lsn), payload)?;
        }
        unsure.push_back((record.lsn, end.at));
        while unsure.front().is_some_and(|&(lsn, _)| lsn <= record.durable) {
            unsure.pop_front();
        }
        end.last = record.lsn;
        end.at += record.size();
        expected += 1;
    }
    end.unsure = unsure.front().map_or(end.at, |&(_, at)| at);
    match until {
        Some(until) if end.last != until => {
            Err(damaged(header, end.at, "a damaged record before others that count"))
        }
        None if window.says_durable(end.at, header.salt, expected)? => {
            Err(damaged(header, end.at, "a damaged record that had been synced"))
        }
        _ => Ok(end),
    }
}

/// What was read may be in the page cache only, even when an earlier sync failed and the
/// system forgot about it. So it is written again before it is synced and built upon.
fn make_durable(file: &dyn File, end: &End) -> io::Result<()> {
    let mut at = end.unsure;
    let mut buffer = Vec::new();
    while at < end.at {
        buffer.resize((end.at - at).min(CHUNK) as usize, 0);
        let read = file.read_at(at, &mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all_at(at, &buffer[..read])?;
        at += read as u64;
    }
    file.sync_data()
}

/// A part of a file in memory.
struct Window<'a> {
    file: &'a dyn File,
    end: u64,
    begin: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn File, end: u64) -> Self {
        Self { file, end, begin: 0, bytes: Vec::new() }
    }

    /// Bytes of the file; nothing if it is shorter.
    fn get(&mut self, at: u64, len: u64) -> io::Result<Option<&[u8]>> {
        if at.checked_add(len).is_none_or(|behind| behind > self.end) {
            return Ok(None);
        }
        if at < self.begin || at + len > self.begin + self.bytes.len() as u64 {
            // The length is bounded by the file's.
            self.bytes.resize(len.max(CHUNK.min(self.end - at)) as usize, 0);
            let read = self.file.read_at(at, &mut self.bytes)?;
            self.bytes.truncate(read);
            self.begin = at;
        }
        let from = (at - self.begin) as usize;
        Ok(self.bytes.get(from..from + len as usize))
    }

    fn record(&mut self, at: u64, salt: u64) -> io::Result<Option<record::Header>> {
        let bytes = self.get(at, record::HEADER as u64)?;
        Ok(bytes.and_then(|bytes| record::Header::decode(bytes, salt)))
    }

    /// Whether a record behind says that this LSN was synced.
    fn says_durable(&mut self, from: u64, salt: u64, lsn: u64) -> io::Result<bool> {
        let mut at = from;
        while at + record::HEADER as u64 <= self.end {
            let bytes = self.get(at, record::HEADER as u64)?.unwrap_or_default();
            if record::claims_durable(bytes, lsn) && record::Header::decode(bytes, salt).is_some() {
                return Ok(true);
            }
            at += record::ALIGN;
        }
        Ok(false)
    }
}
