//! What this process counts of its links, where its user can see it from outside.
//!
//! One [ledger] of this process has an entry for each link and hub. It
//! lies in memory of its own, whose descriptor stays open and goes to nobody, so that a tool finds
//! it in `/proc`, and no peer does in what it has. It grows by extents, each larger than the one
//! before, and an extent that nobody uses any more goes.

use std::{
    fmt,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{self, Path},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use shm_primitives::{
    Counters,
    ledger::{
        self, About, LinkStatistics, RECEIVER, RECEIVER_WORDS, ReceiverStatistics, Role, SENDER,
        SENDER_WORDS, SenderStatistics, receiver, sender,
    },
};

use crate::{
    error::OsError,
    os::{
        forked::Origin,
        memory::{self, Segment},
        named::boot_nanoseconds,
    },
};

/// The name of a ledger's memory.
pub(crate) const NAME: &str = "shm-ledger";

pub(crate) type SenderCounts = Counters<SENDER_WORDS>;
pub(crate) type ReceiverCounts = Counters<RECEIVER_WORDS>;

/// Entries of the first extent, which fill a page, and what each further one has more.
const FIRST: u32 = 6;
const TIMES: u32 = 4;
const MOST: u32 = FIRST * TIMES.pow(4);

/// The extents of this process; none where one was that nobody uses any more.
static EXTENTS: Mutex<Vec<Option<Extent>>> = Mutex::new(Vec::new());

struct Extent {
    segment: Segment,
    /// For those who look.
    _descriptor: OwnedFd,
    origin: Origin,
    entries: u32,
    free: Vec<u32>,
}

impl Extent {
    fn new(entries: u32) -> Result<Self, OsError> {
        let size = ledger::size(entries);
        let descriptor = memory::create(NAME, size)?;
        let segment = memory::map_as_writer(descriptor.as_fd(), size)?;
        ledger::initialise(&segment.mapped(), entries);
        let free = (0..entries).rev().collect();
        Ok(Self { segment, _descriptor: descriptor, origin: Origin::here(), entries, free })
    }
}

/// An entry of this process's ledger. It is free again when this is dropped.
pub(crate) struct Entry {
    extent: usize,
    index: u32,
    segment: Segment,
    origin: Origin,
    pub(crate) sender: SenderCounts,
    pub(crate) receiver: ReceiverCounts,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("index", &self.index).finish_non_exhaustive()
    }
}

fn extents() -> MutexGuard<'static, Vec<Option<Extent>>> {
    let mut extents = EXTENTS.lock().unwrap_or_else(PoisonError::into_inner);
    // In a forked child they are its parent's.
    for extent in extents.iter_mut() {
        if extent.as_ref().is_some_and(|extent| !extent.origin.is_here()) {
            *extent = None;
        }
    }
    extents
}

impl Entry {
    /// An entry about a link or a hub of this process.
    pub(crate) fn new(about: &About) -> Result<Self, OsError> {
        let mut extents = extents();
        let has_room =
            |extent: &Option<Extent>| extent.as_ref().is_some_and(|extent| !extent.free.is_empty());
        let number = match extents.iter().position(has_room) {
            Some(number) => number,
            None => {
                let largest = extents.iter().flatten().map(|extent| extent.entries).max();
                let entries = largest.map_or(FIRST, |entries| MOST.min(entries * TIMES));
                let extent = Extent::new(entries)?;
                let unused = extents.iter().position(Option::is_none);
                let number = unused.unwrap_or(extents.len());
                if unused.is_none() {
                    extents.push(None);
                }
                if let Some(place) = extents.get_mut(number) {
                    *place = Some(extent);
                }
                number
            }
        };
        let found = extents.get_mut(number).and_then(Option::as_mut);
        let found = found.and_then(|extent| Some((extent.free.pop()?, extent)));
        let Some((index, extent)) = found else {
            let error = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
            return Err(OsError::new("find an entry of the ledger", error));
        };
        let segment = extent.segment.clone();
        let at = ledger::entry(index);
        let (sender, receiver) = (
            segment.mapped().counters(at.plus(SENDER)),
            segment.mapped().counters(at.plus(RECEIVER)),
        );
        let entry =
            Self { extent: number, index, segment, origin: Origin::here(), sender, receiver };
        entry.clear();
        ledger::describe(&entry.segment.mapped(), index, about);
        Ok(entry)
    }

    fn clear(&self) {
        (0..SENDER_WORDS).for_each(|word| self.sender.set(word, 0));
        (0..RECEIVER_WORDS).for_each(|word| self.receiver.set(word, 0));
    }

    /// The counts so far.
    pub(crate) fn statistics(&self) -> LinkStatistics {
        let mut statistics = LinkStatistics::default();
        // In a forked child they are its parent's, and the memory is not there.
        if self.origin.is_here() {
            statistics.sent = SenderStatistics::of(|word| self.sender.get(word));
            statistics.received = ReceiverStatistics::of(|word| self.receiver.get(word));
        }
        statistics
    }

    /// Says that it is about nothing any more; the counts stay.
    pub(crate) fn close(&self) {
        if self.origin.is_here() {
            ledger::describe(&self.segment.mapped(), self.index, &About::default());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.origin.is_here() {
            return;
        }
        self.close();
        let mut extents = extents();
        if let Some(place) = extents.get_mut(self.extent) {
            if let Some(extent) = place {
                extent.free.push(self.index);
            }
            if place.as_ref().is_some_and(|extent| extent.free.len() == extent.entries as usize) {
                *place = None;
            }
        }
    }
}

/// A sleep of one half, from now until this is dropped.
pub(crate) struct Sleep<'a> {
    entry: &'a Entry,
    half: SleepingHalf,
    since: u64,
}

/// Which half sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SleepingHalf {
    Sender,
    Receiver,
}

impl<'a> Sleep<'a> {
    pub(crate) fn begin(entry: &'a Entry, half: SleepingHalf) -> Self {
        let since = monotonic();
        match half {
            SleepingHalf::Sender => {
                entry.sender.add(sender::SLEEPS, 1);
                entry.sender.set(sender::ASLEEP_SINCE, since);
            }
            SleepingHalf::Receiver => {
                entry.receiver.add(receiver::SLEEPS, 1);
                entry.receiver.set(receiver::ASLEEP_SINCE, since);
            }
        }
        Self { entry, half, since }
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        let time = monotonic().saturating_sub(self.since);
        match self.half {
            SleepingHalf::Sender => {
                self.entry.sender.set(sender::ASLEEP_SINCE, 0);
                self.entry.sender.add(sender::ASLEEP, time);
            }
            SleepingHalf::Receiver => {
                self.entry.receiver.set(receiver::ASLEEP_SINCE, 0);
                self.entry.receiver.add(receiver::ASLEEP, time);
            }
        }
    }
}

/// Now, by `CLOCK_MONOTONIC`, in nanoseconds.
pub(crate) fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// Now, by the monotonic clock, as of the last tick: cheaper, and milliseconds late.
pub(crate) fn coarse() -> Duration {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What an entry says of something that begins now in this process, at `path` if it has one.
pub(crate) fn about(role: Role, incarnation: u128, path: Option<&Path>) -> About {
    let socket = path.and_then(|path| std::fs::symlink_metadata(path).ok());
    let path = path.and_then(|path| path::absolute(path).ok()).unwrap_or_default();
    About {
        role,
        pid: std::process::id(),
        incarnation,
        since: boot_nanoseconds(),
        socket: socket.map_or((0, 0), |socket| (socket.dev(), socket.ino())),
        path: path.to_string_lossy().into_owned(),
        ..About::default()
    }
}
