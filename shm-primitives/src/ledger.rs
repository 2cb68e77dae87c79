//! What a process counts of its links, for whoever may look: layout, and reading it.
//!
//! A ledger is a segment that one process makes, keeps open and hands to nobody. Whoever may
//! look into that process (its user) opens the descriptor from outside, maps it read-only and
//! reads. It holds no byte of a message. Nothing in it is used by a link: it is written, never
//! read, by its owner's links.
//!
//! ```text
//! offset  size  field                                     written by
//!      0   128  header: kind 3, entries at 128, n, 640    its process, before anything else
//!    128 640·n  entries
//!
//! entry
//!      0   232  what it is about, a seqlock slot          its process, when it is taken or given up
//!    256   256  counts of the sending half, 32 words      that half; wakes: any thread, by addition
//!    512   128  counts of the receiving half, 16 words    that half; wakes: any thread, by addition
//! ```
//!
//! Each count is one word, stored relaxed: it is right for itself, and two of them may be of
//! different moments. A message is counted when it is
//! published, a little before or after, and when it is taken. A
//! process that dies leaves the counts as they were; the kernel frees them with it.
use alloc::{string::String, vec::Vec};

use crate::{
    audit,
    header::{GeometryError, HEADER_SIZE, HeaderError, SegmentHeader, SegmentKind},
    memory::{Memory, Offset},
    order::HINT,
    outbox::APART,
    peer::PeerId,
    seqlock::{ATTEMPTS, Busy, SeqlockReader, SeqlockWriter, slot_size},
};

/// Size of an entry in bytes.
pub const ENTRY: u64 = 640;
/// Where the counts of the sending half lie in an entry.
pub const SENDER: u64 = 256;
/// Where the counts of the receiving half lie in an entry.
pub const RECEIVER: u64 = 512;
/// Counts of a sending half, in words.
pub const SENDER_WORDS: usize = 32;
/// Counts of a receiving half, in words.
pub const RECEIVER_WORDS: usize = 16;

const ENTRIES: Offset = Offset::new(HEADER_SIZE as u64);
const NUMBERS: usize = 14;
const PATH: usize = 112;
const ABOUT: usize = 8 * NUMBERS + PATH;
/// The most entries of one ledger: 40 MiB.
const MAX_ENTRIES: u64 = 1 << 16;

const _: () = assert!(ENTRIES.bytes().is_multiple_of(APART) && ENTRY.is_multiple_of(APART));
const _: () = assert!(slot_size(ABOUT as u64) <= SENDER);
const _: () = assert!(SENDER.is_multiple_of(APART) && RECEIVER.is_multiple_of(APART));
const _: () = assert!(SENDER + 8 * SENDER_WORDS as u64 <= RECEIVER);
const _: () = assert!(RECEIVER + 8 * RECEIVER_WORDS as u64 <= ENTRY);

/// The words of a sending half. Of each kind of message first how many, then their bytes.
pub mod sender {
    /// Messages in the ring.
    pub const INLINE: usize = 0;
    /// Messages in slots.
    pub const SLOT: usize = 2;
    /// Messages in sealed memory of their own.
    pub const SEALED: usize = 4;
    /// Messages in sealed memory that several links share.
    pub const SHARED: usize = 6;
    /// How often there was no room.
    pub const FULL: usize = 8;
    /// How often it slept for room.
    pub const SLEEPS: usize = 9;
    /// Since when it sleeps for room.
    pub const ASLEEP_SINCE: usize = 10;
    /// Nanoseconds that it slept for room.
    pub const ASLEEP: usize = 11;
    /// Slots that there are.
    pub const SLOTS: usize = 12;
    /// Slots and sealed payloads that the receiver has.
    pub const IN_USE: usize = 13;
    /// The most of them at once.
    pub const MOST_IN_USE: usize = 14;
    /// Messages dropped instead of sent.
    pub const DROPPED: usize = 15;
    /// Wake-ups of a peer that slept for messages.
    pub const WAKES: usize = 16;
    /// Wake-ups spared, because one was under way.
    pub const SPARED: usize = 17;
}

/// The words of a receiving half.
pub mod receiver {
    /// Messages in the ring.
    pub const INLINE: usize = 0;
    /// Messages in slots.
    pub const SLOT: usize = 2;
    /// Messages in sealed memory.
    pub const SEALED: usize = 4;
    /// How often it slept for a message.
    pub const SLEEPS: usize = 6;
    /// Since when it sleeps for a message.
    pub const ASLEEP_SINCE: usize = 7;
    /// Nanoseconds that it slept for messages.
    pub const ASLEEP: usize = 8;
    /// Wake-ups of a peer that slept for room.
    pub const WAKES: usize = 9;
    /// Wake-ups spared, because one was under way.
    pub const SPARED: usize = 10;
}

/// What an entry of a ledger is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Nothing: nobody has it.
    #[default]
    Free,
    /// A host's end of a link.
    Host,
    /// A guest's end of a link.
    Guest,
    /// One end of a link within a process.
    Pair,
    /// A hub, which has no counts here.
    Hub,
}

impl Role {
    const ALL: [Self; 5] = [Self::Free, Self::Host, Self::Guest, Self::Pair, Self::Hub];
}

/// What an entry of a ledger is about, by its owner's account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// A hub, or whose end of a link.
    pub role: Role,
    /// The process that counts, in its own pid namespace.
    pub pid: u32,
    /// The process at the other end, 0 if it is not visible.
    pub peer_pid: u32,
    /// The guest's entry in the hub.
    pub peer: PeerId,
    /// Whose hub it is.
    pub incarnation: u128,
    /// Capacity of each ring, in bytes.
    pub ring_capacity: u64,
    /// The largest message that goes inline, in bytes.
    pub inline_max: u64,
    /// The largest message, in bytes.
    pub max_message: u64,
    /// When it began, by `CLOCK_BOOTTIME`, in nanoseconds.
    pub since: u64,
    /// Device and inode of the hub's socket; 0 if it has no path here.
    pub socket: (u64, u64),
    /// The hub's path as its process named it, cut off at 112 bytes; empty if it has none.
    pub path: String,
}

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub messages: u64,
    /// Their bytes, without headers.
    pub bytes: u64,
}

impl Traffic {
    /// Both added up.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.wrapping_add(other.messages),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

/// Counts of one sending half since its link began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SenderStatistics {
    /// Messages in the ring.
    pub inline: Traffic,
    /// Messages in slots of the pool.
    pub slot: Traffic,
    /// Messages in sealed memory of their own.
    pub sealed: Traffic,
    /// Messages in sealed memory that several links share.
    pub shared: Traffic,
    /// How often a message found no room: it waited then, or was refused as the call asked.
    pub full: u64,
    /// How often this half slept in the kernel until there was room.
    pub sleeps: u64,
    /// Since when it sleeps, by `CLOCK_MONOTONIC` in nanoseconds; 0 while it does not.
    pub asleep_since: u64,
    /// For how long it slept in all, in nanoseconds, without the sleep that goes on.
    pub asleep: u64,
    /// Slots that the pool has.
    pub slots: u64,
    /// Slots and sealed payloads that the receiver had, when one was sent last.
    pub in_use: u64,
    /// The most of these at once.
    pub most_in_use: u64,
    /// Messages that were dropped instead of waiting for room.
    pub dropped: u64,
    /// System calls that woke a peer which slept for messages.
    pub wakes: u64,
    /// Such calls that were spared because one was under way for the same sleep.
    pub wakes_spared: u64,
}

/// Counts of one receiving half since its link began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverStatistics {
    /// Messages in the ring.
    pub inline: Traffic,
    /// Messages in slots of the peer's pool.
    pub slot: Traffic,
    /// Messages in sealed memory, shared with other links or not.
    pub sealed: Traffic,
    /// How often this half slept in the kernel until a message came.
    pub sleeps: u64,
    /// Since when it sleeps, by `CLOCK_MONOTONIC` in nanoseconds; 0 while it does not.
    pub asleep_since: u64,
    /// For how long it slept in all, in nanoseconds, without the sleep that goes on.
    pub asleep: u64,
    /// System calls that woke a peer which slept for room.
    pub wakes: u64,
    /// Such calls that were spared because one was under way for the same sleep.
    pub wakes_spared: u64,
}

/// Counts of one end of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStatistics {
    /// What it sent.
    pub sent: SenderStatistics,
    /// What it received.
    pub received: ReceiverStatistics,
}

impl SenderStatistics {
    /// All messages, whichever way they went.
    #[must_use]
    pub const fn total(&self) -> Traffic {
        self.inline.plus(self.slot).plus(self.sealed).plus(self.shared)
    }

    /// The counts in the words of a sending half.
    #[must_use]
    pub fn of(word: impl Fn(usize) -> u64) -> Self {
        let traffic = |at: usize| Traffic { messages: word(at), bytes: word(at.wrapping_add(1)) };
        Self {
            inline: traffic(sender::INLINE),
            slot: traffic(sender::SLOT),
            sealed: traffic(sender::SEALED),
            shared: traffic(sender::SHARED),
            full: word(sender::FULL),
            sleeps: word(sender::SLEEPS),
            asleep_since: word(sender::ASLEEP_SINCE),
            asleep: word(sender::ASLEEP),
            slots: word(sender::SLOTS),
            in_use: word(sender::IN_USE),
            most_in_use: word(sender::MOST_IN_USE),
            dropped: word(sender::DROPPED),
            wakes: word(sender::WAKES),
            wakes_spared: word(sender::SPARED),
        }
    }
}

impl ReceiverStatistics {
    /// All messages, whichever way they came.
    #[must_use]
    pub const fn total(&self) -> Traffic {
        self.inline.plus(self.slot).plus(self.sealed)
    }

    /// The counts in the words of a receiving half.
    #[must_use]
    pub fn of(word: impl Fn(usize) -> u64) -> Self {
        let traffic = |at: usize| Traffic { messages: word(at), bytes: word(at.wrapping_add(1)) };
        Self {
            inline: traffic(receiver::INLINE),
            slot: traffic(receiver::SLOT),
            sealed: traffic(receiver::SEALED),
            sleeps: word(receiver::SLEEPS),
            asleep_since: word(receiver::ASLEEP_SINCE),
            asleep: word(receiver::ASLEEP),
            wakes: word(receiver::WAKES),
            wakes_spared: word(receiver::SPARED),
        }
    }
}

impl LinkStatistics {
    /// Adds another link's counts, for sums. The most slots in use are added up as well: no more
    /// were in use at once. A sleep that goes on is kept if both sleep: the longer one's.
    pub fn add(&mut self, other: &Self) {
        let (sent, more) = (&mut self.sent, &other.sent);
        sent.inline = sent.inline.plus(more.inline);
        sent.slot = sent.slot.plus(more.slot);
        sent.sealed = sent.sealed.plus(more.sealed);
        sent.shared = sent.shared.plus(more.shared);
        let (received, less) = (&mut self.received, &other.received);
        received.inline = received.inline.plus(less.inline);
        received.slot = received.slot.plus(less.slot);
        received.sealed = received.sealed.plus(less.sealed);
        let sums = [
            (&mut sent.full, more.full),
            (&mut sent.sleeps, more.sleeps),
            (&mut sent.asleep, more.asleep),
            (&mut sent.slots, more.slots),
            (&mut sent.in_use, more.in_use),
            (&mut sent.most_in_use, more.most_in_use),
            (&mut sent.dropped, more.dropped),
            (&mut sent.wakes, more.wakes),
            (&mut sent.wakes_spared, more.wakes_spared),
            (&mut received.sleeps, less.sleeps),
            (&mut received.asleep, less.asleep),
            (&mut received.wakes, less.wakes),
            (&mut received.wakes_spared, less.wakes_spared),
        ];
        for (sum, more) in sums {
            *sum = sum.wrapping_add(more);
        }
        sent.asleep_since = earlier(sent.asleep_since, more.asleep_since);
        received.asleep_since = earlier(received.asleep_since, less.asleep_since);
    }
}

/// The earlier of two moments, of which 0 is none.
fn earlier(one: u64, other: u64) -> u64 {
    if one == 0 || other == 0 { one.wrapping_add(other) } else { one.min(other) }
}

/// Size of a ledger of so many entries, in bytes.
#[must_use]
pub const fn size(entries: u32) -> u64 {
    ENTRIES.plus((entries as u64).wrapping_mul(ENTRY)).bytes()
}

/// Where an entry lies.
#[must_use]
pub const fn entry(index: u32) -> Offset {
    ENTRIES.plus((index as u64).wrapping_mul(ENTRY))
}

/// Makes zeroed memory of [`size`] bytes a ledger.
pub fn initialise<M: Memory>(memory: &M, entries: u32) {
    let geometry = [ENTRIES.bytes(), entries.into(), ENTRY, 0, 0, 0];
    let header = SegmentHeader {
        kind: SegmentKind::Ledger,
        total_size: size(entries),
        incarnation: 0,
        geometry,
    };
    header.write(memory);
}

/// Says what an entry is about. Its process alone does so, one thread at a time.
pub fn describe<M: Memory>(memory: &M, index: u32, about: &About) {
    let mut bytes = [0; ABOUT];
    let role = Role::ALL.iter().zip(0u64..).find(|(role, _)| **role == about.role);
    let numbers = [
        role.map_or(0, |(_, code)| code),
        about.pid.into(),
        about.peer_pid.into(),
        about.peer.index.into(),
        about.peer.epoch.into(),
        about.incarnation as u64,
        (about.incarnation >> 64) as u64,
        about.ring_capacity,
        about.inline_max,
        about.max_message,
        about.since,
        about.socket.0,
        about.socket.1,
        0,
    ];
    let (to, path) = bytes.split_at_mut(8 * NUMBERS);
    for (to, number) in to.chunks_exact_mut(8).zip(numbers) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    for (to, byte) in path.iter_mut().zip(about.path.bytes()) {
        *to = byte;
    }
    SeqlockWriter::new(memory.clone(), entry(index)).write(&bytes);
}

/// A ledger that another process writes. All in it are claims of that process.
#[derive(Clone, Debug)]
pub struct Ledger<M: Memory> {
    memory: M,
    entries: u32,
}

impl<M: Memory> Ledger<M> {
    /// The ledger in a segment.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if it is none.
    pub fn check(memory: M) -> Result<Self, HeaderError> {
        let _decision = audit::decision();
        let header = SegmentHeader::read(&memory, SegmentKind::Ledger)?;
        let [at, entries, each, a, b, c] = header.geometry;
        let lies = at == ENTRIES.bytes() && each == ENTRY && (a | b | c) == 0;
        if !lies || entries > MAX_ENTRIES || size(entries as u32) != header.total_size {
            return Err(GeometryError::Layout.into());
        }
        Ok(Self { memory, entries: entries as u32 })
    }

    /// Entries, free ones among them.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.entries
    }

    /// Whether it has no entry at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// What entry `index` is about, and its counts; `None` if it is free or there is none.
    ///
    /// # Errors
    ///
    /// [`Busy`] if it changes hands all the time, or its process died while it did.
    pub fn read(&self, index: u32) -> Result<Option<(About, LinkStatistics)>, Busy> {
        if index >= self.entries {
            return Ok(None);
        }
        let at = entry(index);
        let slot = SeqlockReader::new(self.memory.clone(), at);
        let mut bytes = [0; ABOUT];
        let number = slot.read(&mut bytes, ATTEMPTS)?;
        let about = about(&bytes);
        if about.role == Role::Free {
            return Ok(None);
        }
        let sent = self.words::<SENDER_WORDS>(at.plus(SENDER));
        let received = self.words::<RECEIVER_WORDS>(at.plus(RECEIVER));
        if !slot.is_still(number) {
            return Err(Busy);
        }
        let word = |words: &[u64], at: usize| words.get(at).copied().unwrap_or_default();
        let statistics = LinkStatistics {
            sent: SenderStatistics::of(|at| word(&sent, at)),
            received: ReceiverStatistics::of(|at| word(&received, at)),
        };
        Ok(Some((about, statistics)))
    }

    fn words<const N: usize>(&self, at: Offset) -> [u64; N] {
        let _decision = audit::decision();
        let mut words = [0; N];
        for (word, place) in words.iter_mut().zip(0u64..) {
            *word = self.memory.load64(at.plus(place.wrapping_mul(8)), HINT);
        }
        words
    }
}

fn about(bytes: &[u8; ABOUT]) -> About {
    let (numbers, path) = bytes.split_at(8 * NUMBERS);
    let numbers: Vec<u64> =
        numbers.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
    let role = usize::try_from(number(0)).ok().and_then(|code| Role::ALL.get(code));
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    let path = path.get(..end).unwrap_or_default();
    About {
        role: role.copied().unwrap_or_default(),
        pid: number(1) as u32,
        peer_pid: number(2) as u32,
        peer: PeerId { index: number(3) as u32, epoch: number(4) as u32 },
        incarnation: u128::from(number(5)) | u128::from(number(6)) << 64,
        ring_capacity: number(7),
        inline_max: number(8),
        max_message: number(9),
        since: number(10),
        socket: (number(11), number(12)),
        path: String::from_utf8_lossy(path).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mapped, order::OWN};

    fn ledger(entries: u32) -> Mapped {
        let memory = Mapped::leaked(size(entries));
        initialise(&memory, entries);
        memory
    }

    fn an_about() -> About {
        About {
            role: Role::Guest,
            pid: 1,
            peer_pid: 2,
            peer: PeerId { index: 3, epoch: 4 },
            incarnation: 5 << 64 | 6,
            ring_capacity: 7,
            inline_max: 8,
            max_message: 9,
            since: 10,
            socket: (11, 12),
            path: "/a/path".into(),
        }
    }

    #[test]
    fn what_an_entry_is_about_and_its_counts_come_back() {
        let memory = ledger(3);
        let read = Ledger::check(memory).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read.read(1), Ok(None));
        describe(&memory, 1, &an_about());
        let counts = memory.counters::<SENDER_WORDS>(entry(1).plus(SENDER));
        for word in 0..SENDER_WORDS {
            counts.add(word, word as u64 + 1);
        }
        let (about, statistics) = read.read(1).unwrap().unwrap();
        assert_eq!(about, an_about());
        assert_eq!(statistics.sent.inline, Traffic { messages: 1, bytes: 2 });
        assert_eq!(statistics.sent.shared, Traffic { messages: 7, bytes: 8 });
        assert_eq!((statistics.sent.full, statistics.sent.wakes_spared), (9, 18));
        assert_eq!(statistics.sent.total(), Traffic { messages: 16, bytes: 20 });
        assert_eq!(statistics.received, ReceiverStatistics::default());
        describe(&memory, 1, &About::default());
        assert_eq!(read.read(1), Ok(None));
        assert_eq!(read.read(3), Ok(None));
    }

    #[test]
    fn a_long_path_is_cut_off_and_strange_bytes_are_shown() {
        let memory = ledger(1);
        let path = "x".repeat(200);
        describe(&memory, 0, &About { path, ..an_about() });
        let ledger = Ledger::check(memory).unwrap();
        assert_eq!(ledger.read(0).unwrap().unwrap().0.path.len(), PATH);
        memory.store64(entry(0).plus(8 + 8 * NUMBERS as u64), u64::MAX, OWN);
        assert!(ledger.read(0).unwrap().unwrap().0.path.starts_with('\u{fffd}'));
    }

    #[test]
    fn a_ledger_that_contradicts_itself_is_refused() {
        let memory = ledger(2);
        for word in (48..96).step_by(8) {
            let at = Offset::new(word);
            let old = memory.load64(at, OWN);
            for bad in [old + 1, old ^ (1 << 63), u64::MAX] {
                memory.store64(at, bad, OWN);
                assert!(Ledger::check(memory).is_err(), "word {word}");
            }
            memory.store64(at, old, OWN);
        }
        assert!(Ledger::check(memory).is_ok());
    }

    #[test]
    fn a_process_that_died_inside_leaves_one_entry_busy() {
        let memory = ledger(2);
        describe(&memory, 0, &an_about());
        memory.store64(entry(0), 1, OWN);
        let ledger = Ledger::check(memory).unwrap();
        assert_eq!(ledger.read(0), Err(Busy));
        assert_eq!(ledger.read(1), Ok(None));
    }

    #[test]
    fn sums_add_up_and_keep_the_longest_sleep() {
        let mut one = LinkStatistics::default();
        one.sent.inline = Traffic { messages: 1, bytes: 10 };
        one.sent.asleep_since = 7;
        let mut other = one;
        other.sent.asleep_since = 0;
        other.received.asleep_since = 5;
        one.add(&other);
        assert_eq!(one.sent.inline, Traffic { messages: 2, bytes: 20 });
        assert_eq!((one.sent.asleep_since, one.received.asleep_since), (7, 5));
        other.sent.asleep_since = 3;
        one.add(&other);
        assert_eq!(one.sent.asleep_since, 3);
    }
}
