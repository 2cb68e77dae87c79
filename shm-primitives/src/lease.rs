//! What stands in the `-shm` file beside a data file, and what to make of it.
//!
//! The file is one page. It says to people and tools who owns the data file and who reads
//! it, and to the next owner what the last one was. No decision about who lives depends on
//! it: those are made by kernel locks.
//!
//! ```text
//! offset  size  field          written by
//!      0    64  header         the owner
//!     64    64  header again   the owner, after the first
//!    128  32·n  reader slots   each by the reader that has its lock; n = 124
//! ```
//!
//! The header:
//!
//! ```text
//! offset  size  field          meaning
//!      0     8  magic          "SHMLEASE"
//!      8     4  version        1
//!     12     4  owner pid      as the owner sees itself; for people only
//!     16     8  generation     grows with each owner
//!     24    16  incarnation    random, of one owner
//!     40     4  reader count   as of the last heartbeat
//!     44     4  state          1 owned, 2 closed
//!     48     8  heartbeat      counts what the owner wrote
//!     56     8  checksum       of the 56 bytes before
//! ```
//!
//! Magic, version and checksum stay where they are in all versions. A reader slot, all
//! zeros while nobody has it:
//!
//! ```text
//! offset  size  field          meaning
//!      0     8  position       what the reader has pinned
//!      8     8  start time     of its process, in clock ticks since boot
//!     16     4  pid            as the reader sees itself
//!     20     4  slot           the number of this slot
//!     24     8  checksum       of the 24 bytes before
//! ```
//!
//! The owner writes one header, then the other. So one of them is whole at any time, and
//! what is damaged in one is read from the other.
use core::fmt;

/// The first eight bytes of a header.
pub const MAGIC: [u8; 8] = *b"SHMLEASE";
/// The version of this layout. It is the file's own, because files outlive releases.
pub const LEASE_VERSION: u32 = 1;
/// Size of the file in bytes.
pub const PAGE_SIZE: usize = 4096;
/// Size of a header in bytes.
pub const HEADER_SIZE: usize = 64;
/// Where the headers are.
pub const HEADERS_AT: [usize; 2] = [0, HEADER_SIZE];
/// Where the reader slots begin.
pub const SLOTS_AT: usize = 128;
/// Size of a reader slot in bytes.
pub const SLOT_SIZE: usize = 32;
/// How many reader slots there are.
pub const SLOTS: u32 = 124;

const CHECKED: usize = 56;
const SLOT_CHECKED: usize = 24;
const OWNED: u32 = 1;
const CLOSED: u32 = 2;

const _: () = assert!(HEADERS_AT[1] + HEADER_SIZE == SLOTS_AT);
const _: () = assert!(SLOTS_AT + SLOTS as usize * SLOT_SIZE == PAGE_SIZE);
const _: () = assert!(CHECKED + 8 == HEADER_SIZE);
const _: () = assert!(SLOT_CHECKED + 8 == SLOT_SIZE);

/// Counts the owners of a data file: each has a higher one than all before. It only grows,
/// and is not a number of owners: it follows the clock, in microseconds since 1970, where
/// that is ahead.
///
/// ```
/// use shm_primitives::lease::Generation;
///
/// let first = Generation::after(None, 1_000_000);
/// let next = Generation::after(Some(first), 500);
/// assert!(next > first);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// The highest there can be: 36,000 years of microseconds. It is not followed by a
    /// higher one.
    pub const MAX: Self = Self((1 << 60) - 1);

    /// A generation by its number, if there can be one of that number.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The generation of the owner after `last`, by a clock of microseconds since 1970. The
    /// clock keeps it growing where the last one is not known any more.
    #[must_use]
    pub fn after(last: Option<Self>, clock: u64) -> Self {
        let next = last.map_or(0, |last| last.0.saturating_add(1));
        Self(next.max(clock).min(Self::MAX.0))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an owner last said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseState {
    /// It owns the data file; or did, when it died.
    Owned,
    /// It gave the data file up.
    Closed,
}

impl LeaseState {
    const fn code(self) -> u32 {
        match self {
            Self::Owned => OWNED,
            Self::Closed => CLOSED,
        }
    }
}

/// What an owner says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseHeader {
    /// Its process, as it sees itself: in another pid namespace, or later, that number is
    /// somebody else's.
    pub pid: u32,
    /// Its generation.
    pub generation: Generation,
    /// A random number that it drew.
    pub incarnation: u128,
    /// Readers that it counted when it last wrote.
    pub readers: u32,
    /// What it last said of itself.
    pub state: LeaseState,
    /// How often it has written. Whoever sees it stand still learns that the owner does not
    /// beat, and not that it is dead.
    pub heartbeat: u64,
}

/// What is wrong with a `-shm` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// There is none.
    Missing,
    /// It is longer or shorter than a page.
    Size {
        /// Its size in bytes.
        found: u64,
    },
    /// A header does not begin with the magic bytes.
    Magic,
    /// The checksum of a header is not that of its contents.
    Checksum,
    /// The state of a header is none.
    State {
        /// What stands there.
        found: u32,
    },
    /// The generation of a header is beyond [`Generation::MAX`].
    Generation {
        /// What stands there.
        found: u64,
    },
    /// It is whole, but not of the owner that lives.
    Stale,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no file"),
            Self::Size { found } => write!(f, "the file has {found} bytes instead of {PAGE_SIZE}"),
            Self::Magic => f.write_str("a header does not begin with its magic bytes"),
            Self::Checksum => f.write_str("a header's checksum is wrong"),
            Self::State { found } => write!(f, "a header says an impossible state, {found}"),
            Self::Generation { found } => {
                write!(f, "a header says an impossible generation, {found}")
            }
            Self::Stale => f.write_str("the header is not that of the living owner"),
        }
    }
}

impl core::error::Error for Damage {}

/// What a file at the place of a `-shm` file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// A whole one.
    Whole(LeaseHeader),
    /// One that an owner has to heal.
    Damaged {
        /// The first thing that is wrong.
        damage: Damage,
        /// The header that can still be read.
        header: Option<LeaseHeader>,
    },
    /// One of another version, which must be left alone.
    Version(u32),
    /// Somebody else's file, which must be left alone.
    Foreign,
}

/// Why a header was not read.
enum Refusal {
    Damage(Damage),
    Version(u32),
}

impl LeaseHeader {
    /// The header as it stands in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut to = [0; HEADER_SIZE];
        let mut fields = Fields(&mut to);
        fields.put(&MAGIC);
        fields.put(&LEASE_VERSION.to_le_bytes());
        fields.put(&self.pid.to_le_bytes());
        fields.put(&self.generation.get().to_le_bytes());
        fields.put(&self.incarnation.to_le_bytes());
        fields.put(&self.readers.to_le_bytes());
        fields.put(&self.state.code().to_le_bytes());
        fields.put(&self.heartbeat.to_le_bytes());
        seal::<CHECKED>(&mut to);
        to
    }

    fn decode(mut from: &[u8]) -> Result<Self, Refusal> {
        let whole = from;
        let from = &mut from;
        if whole.len() < HEADER_SIZE || take::<8>(from) != MAGIC {
            return Err(Refusal::Damage(Damage::Magic));
        }
        if !is_sealed::<CHECKED>(whole) {
            return Err(Refusal::Damage(Damage::Checksum));
        }
        let version = u32::from_le_bytes(take(from));
        if version != LEASE_VERSION {
            return Err(Refusal::Version(version));
        }
        let pid = u32::from_le_bytes(take(from));
        let generation = u64::from_le_bytes(take(from));
        let generation = Generation::new(generation)
            .ok_or(Refusal::Damage(Damage::Generation { found: generation }))?;
        let incarnation = u128::from_le_bytes(take(from));
        let readers = u32::from_le_bytes(take(from));
        let state = match u32::from_le_bytes(take(from)) {
            OWNED => LeaseState::Owned,
            CLOSED => LeaseState::Closed,
            found => return Err(Refusal::Damage(Damage::State { found })),
        };
        let heartbeat = u64::from_le_bytes(take(from));
        Ok(Self { pid, generation, incarnation, readers, state, heartbeat })
    }
}

/// Says what a file is, by its size and as much of its first page as there is.
///
/// It is a lease's if one of its headers begins with the magic bytes, or the first with as
/// many of them as the file has; if it is a page long; and if it holds nothing but zeros in
/// at most a page. Everything else is somebody else's.
///
/// ```
/// use shm_primitives::lease::{Found, judge};
///
/// assert!(matches!(judge(b"", 0), Found::Damaged { .. }));
/// assert_eq!(judge(b"a letter", 8), Found::Foreign);
/// ```
#[must_use]
pub fn judge(page: &[u8], size: u64) -> Found {
    if !is_ours(page, size) {
        return Found::Foreign;
    }
    let [first, second] =
        HEADERS_AT.map(|at| LeaseHeader::decode(page.get(at..).unwrap_or_default()));
    let damage = match (&first, &second) {
        (Err(Refusal::Version(version)), _) | (_, Err(Refusal::Version(version))) => {
            return Found::Version(*version);
        }
        _ if size != PAGE_SIZE as u64 => Some(Damage::Size { found: size }),
        (Err(Refusal::Damage(damage)), _) | (_, Err(Refusal::Damage(damage))) => Some(*damage),
        _ => None,
    };
    let headers = [first.ok(), second.ok()].into_iter().flatten();
    let header = headers.max_by_key(|header| (header.generation, header.heartbeat));
    match (damage, header) {
        (None, Some(header)) => Found::Whole(header),
        (damage, header) => Found::Damaged { damage: damage.unwrap_or(Damage::Magic), header },
    }
}

fn is_ours(page: &[u8], size: u64) -> bool {
    let marked = |at| page.get(at..).is_some_and(|header| header.starts_with(&MAGIC));
    HEADERS_AT.into_iter().any(marked)
        || MAGIC.starts_with(page)
        || size == PAGE_SIZE as u64
        || (size < PAGE_SIZE as u64 && page.iter().all(|byte| *byte == 0))
}

/// What a reader says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderRecord {
    /// The number of its slot.
    pub slot: u32,
    /// Its process, as it sees itself.
    pub pid: u32,
    /// When that process started, in clock ticks since boot.
    pub start_time: u64,
    /// The position that it has pinned.
    pub position: u64,
}

impl ReaderRecord {
    /// Where the record of a slot stands in the file; `None` if there is no such slot.
    #[must_use]
    pub fn offset(slot: u32) -> Option<usize> {
        let before = usize::try_from(slot).ok()?.checked_mul(SLOT_SIZE)?;
        (slot < SLOTS).then_some(SLOTS_AT.checked_add(before)?)
    }

    /// The record as it stands in the file.
    #[must_use]
    pub fn encode(&self) -> [u8; SLOT_SIZE] {
        let mut to = [0; SLOT_SIZE];
        let mut fields = Fields(&mut to);
        fields.put(&self.position.to_le_bytes());
        fields.put(&self.start_time.to_le_bytes());
        fields.put(&self.pid.to_le_bytes());
        fields.put(&self.slot.to_le_bytes());
        seal::<SLOT_CHECKED>(&mut to);
        to
    }

    /// Reads the record of a slot from the page; `None` if there is none, or a damaged one.
    #[must_use]
    pub fn decode(page: &[u8], slot: u32) -> Option<Self> {
        let mut from = page.get(Self::offset(slot)?..)?.get(..SLOT_SIZE)?;
        let whole = from;
        let from = &mut from;
        let position = u64::from_le_bytes(take(from));
        let start_time = u64::from_le_bytes(take(from));
        let pid = u32::from_le_bytes(take(from));
        let record = Self { slot: u32::from_le_bytes(take(from)), pid, start_time, position };
        (is_sealed::<SLOT_CHECKED>(whole) && record.slot == slot).then_some(record)
    }
}

/// Fields one after the other.
struct Fields<'a>(&'a mut [u8]);

impl Fields<'_> {
    fn put(&mut self, field: &[u8]) {
        let Some((to, rest)) = core::mem::take(&mut self.0).split_at_mut_checked(field.len())
        else {
            return;
        };
        to.copy_from_slice(field);
        self.0 = rest;
    }
}

/// The next field; zeros where the bytes end.
fn take<const N: usize>(from: &mut &[u8]) -> [u8; N] {
    match from.split_first_chunk() {
        Some((field, rest)) => {
            *from = rest;
            *field
        }
        None => [0; N],
    }
}

/// Writes the checksum of the first `N` bytes behind them.
fn seal<const N: usize>(record: &mut [u8]) {
    if let Some((bytes, rest)) = record.split_first_chunk_mut::<N>() {
        Fields(rest).put(&checksum(bytes).to_le_bytes());
    }
}

/// Whether the checksum of the first `N` bytes stands behind them.
fn is_sealed<const N: usize>(record: &[u8]) -> bool {
    record
        .split_first_chunk::<N>()
        .is_some_and(|(bytes, mut rest)| take(&mut rest) == checksum(bytes).to_le_bytes())
}

/// FNV-1a of 64 bits. Each step maps the states one to one, so that a change within one byte
/// always changes the sum; any other change does but for one in 2⁶⁴. It is against accidents.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: LeaseHeader = LeaseHeader {
        pid: 4711,
        generation: Generation(1_700_000_000_000_000),
        incarnation: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
        readers: 3,
        state: LeaseState::Owned,
        heartbeat: 9,
    };

    fn page_of(first: &LeaseHeader, second: &LeaseHeader) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        page[..64].copy_from_slice(&first.encode());
        page[64..128].copy_from_slice(&second.encode());
        page
    }

    fn judge_page(page: &[u8]) -> Found {
        judge(&page[..page.len().min(PAGE_SIZE)], page.len() as u64)
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        assert_eq!(judge_page(&page_of(&HEADER, &HEADER)), Found::Whole(HEADER));
        let closed = LeaseHeader { state: LeaseState::Closed, ..HEADER };
        assert_eq!(judge_page(&page_of(&closed, &closed)), Found::Whole(closed));
    }

    #[test]
    fn fields_stand_where_the_table_says() {
        let bytes = HEADER.encode();
        assert_eq!(&bytes[..8], b"SHMLEASE");
        assert_eq!(bytes[8..12], 1u32.to_le_bytes());
        assert_eq!(bytes[12..16], 4711u32.to_le_bytes());
        assert_eq!(bytes[16..24], HEADER.generation.get().to_le_bytes());
        assert_eq!(bytes[24..40], HEADER.incarnation.to_le_bytes());
        assert_eq!(bytes[40..44], 3u32.to_le_bytes());
        assert_eq!(bytes[44..48], 1u32.to_le_bytes());
        assert_eq!(bytes[48..56], 9u64.to_le_bytes());
    }

    #[test]
    fn of_two_headers_the_later_one_counts() {
        let later = LeaseHeader { heartbeat: 10, ..HEADER };
        let next = LeaseHeader { generation: Generation(1 << 59), heartbeat: 0, ..HEADER };
        for (first, second, latest) in
            [(HEADER, later, later), (later, HEADER, later), (next, later, next)]
        {
            assert_eq!(judge_page(&page_of(&first, &second)), Found::Whole(latest));
        }
    }

    #[test]
    fn each_flipped_bit_of_a_header_is_found_and_healed_from_the_other() {
        for bit in 0..128 * 8 {
            let mut page = page_of(&HEADER, &HEADER);
            page[bit / 8] ^= 1 << (bit % 8);
            let damage = if bit % 512 < 64 { Damage::Magic } else { Damage::Checksum };
            let found = Found::Damaged { damage, header: Some(HEADER) };
            assert_eq!(judge_page(&page), found, "bit {bit}");
        }
    }

    #[test]
    fn each_changed_byte_of_both_headers_is_found() {
        for at in 0..64 {
            for change in 1..=255 {
                let mut page = page_of(&HEADER, &HEADER);
                page[at] ^= change;
                page[64 + at] ^= change;
                let damage = if at < 8 { Damage::Magic } else { Damage::Checksum };
                assert_eq!(judge_page(&page), Found::Damaged { damage, header: None });
            }
        }
    }

    #[test]
    fn a_file_cut_short_anywhere_is_ours_and_damaged() {
        let page = page_of(&HEADER, &HEADER);
        for size in 0..PAGE_SIZE {
            let header = (size >= 64).then_some(HEADER);
            let damage = Damage::Size { found: size as u64 };
            assert_eq!(judge_page(&page[..size]), Found::Damaged { damage, header }, "{size}");
        }
    }

    #[test]
    fn impossible_values_under_a_right_checksum_are_refused() {
        type Spoil = fn(&mut [u8; 64]);
        let cases: [(Spoil, Found); 3] = [
            (|h| h[8] = 2, Found::Version(2)),
            (|h| h[44] = 7, Found::Damaged { damage: Damage::State { found: 7 }, header: None }),
            (
                |h| h[16..24].fill(255),
                Found::Damaged { damage: Damage::Generation { found: u64::MAX }, header: None },
            ),
        ];
        for (spoil, found) in cases {
            let mut header = HEADER.encode();
            spoil(&mut header);
            seal::<CHECKED>(&mut header);
            let mut page = [0; PAGE_SIZE];
            page[..64].copy_from_slice(&header);
            page[64..128].copy_from_slice(&header);
            assert_eq!(judge_page(&page), found);
        }
    }

    #[test]
    fn files_of_others_are_told_apart() {
        assert_eq!(judge_page(b"some notes"), Found::Foreign);
        assert_eq!(judge_page(b"SHMlease"), Found::Foreign);
        // As SQLite's begins, which has the same name.
        let mut sqlite = [0; 32768];
        sqlite[..4].copy_from_slice(&3_007_000u32.to_le_bytes());
        assert_eq!(judge_page(&sqlite), Found::Foreign);
        assert_eq!(judge_page(&[0; 32768]), Found::Foreign);
        assert!(matches!(judge_page(&[0; 3]), Found::Damaged { .. }));
        assert!(matches!(judge_page(&[7; PAGE_SIZE]), Found::Damaged { header: None, .. }));
    }

    #[test]
    fn generations_grow_whatever_the_clock_says() {
        let last = Some(HEADER.generation);
        for clock in [0, 1, HEADER.generation.get(), u64::MAX] {
            assert!(Generation::after(last, clock) > HEADER.generation);
        }
        assert_eq!(Generation::after(None, 7).get(), 7);
        assert_eq!(Generation::after(Some(Generation::MAX), 7), Generation::MAX);
        assert_eq!(Generation::new(1 << 60), None);
    }

    #[test]
    fn a_record_is_read_from_its_own_slot_only() {
        let record = ReaderRecord { slot: 5, pid: 12, start_time: 99, position: 1 << 40 };
        let at = ReaderRecord::offset(5).unwrap();
        let mut page = [0; PAGE_SIZE];
        page[at..at + SLOT_SIZE].copy_from_slice(&record.encode());
        assert_eq!(ReaderRecord::decode(&page, 5), Some(record));
        page.copy_within(at..at + SLOT_SIZE, at + SLOT_SIZE);
        assert_eq!(ReaderRecord::decode(&page, 6), None);
        assert_eq!(ReaderRecord::decode(&page, 7), None);
        assert_eq!(ReaderRecord::decode(&page, SLOTS), None);
        assert_eq!(ReaderRecord::offset(SLOTS - 1), Some(PAGE_SIZE - SLOT_SIZE));
        for bit in 0..SLOT_SIZE * 8 {
            page[at + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ReaderRecord::decode(&page, 5), None, "bit {bit}");
            page[at + bit / 8] ^= 1 << (bit % 8);
        }
    }
}
