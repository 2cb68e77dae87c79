//! What stands in files: rings and members of fleets, leases.

use shm_primitives::{
    Mapped, Memory, Offset,
    fleet::{
        Cursor, FLOOR, FleetFrame, FleetId, LaneWriter, MemberDetails, Members as Table, Position,
        Ring, RingGeometry, Start, TAIL,
    },
    lease::{
        Found, Generation, HEADER_SIZE, HEADERS_AT, LeaseHeader, LeaseState, PAGE_SIZE,
        ReaderRecord, SLOT_SIZE, SLOTS, judge,
    },
};
use shm_tests::{
    guarded::Guarded,
    pattern::{self, Random},
};

use super::{
    Kind, Other, Outcome, Refused, Unchanged, Wrong,
    change::{Changed, change, resize},
};

const KIND: u8 = 7;
const CAPACITY: u64 = 8;
const NODES: u32 = 3;
const MAX: usize = 32;
const PUBLISHED: u64 = 21;

/// A ring of a fleet is changed, and then read, joined and written.
pub(super) struct Fleet {
    geometry: RingGeometry,
    content: Vec<u8>,
    /// Of each position: its id, and where its frame is.
    frames: Vec<(FleetId, u64)>,
    memory: Guarded,
}

impl Fleet {
    pub(super) fn new() -> Self {
        let nodes = u64::from(NODES);
        let geometry = RingGeometry::new(KIND, CAPACITY, nodes, MAX as u64).expect("a ring");
        let memory = Mapped::leaked(geometry.total_size());
        geometry.header(3).write(&memory);
        let join = |node| LaneWriter::join(memory, geometry, node).expect("a lane");
        let mut lanes = [join(0), join(1)];
        let mut frames = Vec::new();
        for number in 0..PUBLISHED {
            let node = usize::from(number % 3 == 0);
            let (id, position) = lanes[node].publish(1, 2, &payload(number)).expect("published");
            assert_eq!(position.number(), number);
            let slot = id.counter() % geometry.lane_slots();
            frames.push((id, geometry.slot(node as u32, slot).bytes()));
        }
        let mut content = vec![0; geometry.total_size() as usize];
        memory.read(Offset::new(0), &mut content);
        let memory = Guarded::new(content.len() + 256);
        Self { geometry, content, frames, memory }
    }

    /// Whether a frame is the one that was published there. It is, if neither its place in the
    /// order nor its content was changed.
    fn is_valid(&self, frame: &FleetFrame, changed: &Changed) -> Result<bool, Outcome> {
        let number = frame.position().number();
        let Some((id, slot)) = self.frames.get(number as usize) else { return Ok(false) };
        let is_valid = *id == frame.id() && frame.payload() == payload(number);
        let index = self.geometry.index(number).bytes();
        let is_same = !changed.hits(index, 8) && !changed.hits(slot - 8, 40 + MAX as u64);
        if is_same && !is_valid && self.is_kept(number) {
            return Err(Wrong(format!("frame {number} is another")));
        }
        Ok(is_valid)
    }

    fn is_kept(&self, number: u64) -> bool {
        (PUBLISHED - CAPACITY..PUBLISHED).contains(&number)
    }

    /// Reads by position, by name, the newest, and in order; returns whether all is as it was.
    fn read(
        &self,
        ring: &Ring<Mapped>,
        changed: &Changed,
        random: &mut Random,
    ) -> Result<bool, Outcome> {
        let mut same = true;
        for number in (0..PUBLISHED + 2).chain([1 << 32, u64::MAX - 1, u64::MAX]) {
            let is_valid = match ring.read_at(Position::new(number)) {
                Ok(frame) => self.is_valid(&frame, changed)?,
                Err(_) => !self.is_kept(number),
            };
            same &= is_valid;
        }
        for (number, (id, slot)) in (0..).zip(&self.frames) {
            let Ok(Some(frame)) = ring.read(*id) else { continue };
            let is_valid =
                frame.position().number() == number && frame.payload() == payload(number);
            if !is_valid && !changed.hits(slot - 8, 40 + MAX as u64) {
                return Err(Wrong(format!("frame {id} is another")));
            }
        }
        if let Ok(Some(frame)) = ring.read_newest() {
            same &= self.is_valid(&frame, changed)?;
        }
        let _ = ring.read(FleetId::from_bits(random.next()));
        let start = [Start::Oldest, Start::Newest][random.below(2) as usize];
        let mut cursor = Cursor::new(ring, start);
        for _ in 0..3 * CAPACITY {
            match cursor.next(ring) {
                Ok(Some(next)) => same &= self.is_valid(&next.frame, changed)?,
                Ok(None) => break,
                Err(_) => return Err(Refused),
            }
        }
        Ok(same)
    }
}

fn payload(number: u64) -> Vec<u8> {
    pattern::message(number, pattern::length(number, MAX))
}

impl Kind for Fleet {
    fn name(&self) -> &'static str {
        "fleet ring"
    }

    fn run(&mut self, random: &mut Random) -> Outcome {
        let Self { geometry, content, frames, memory } = self;
        let size = resize(content.len(), random);
        let memory = memory.region(size, content);
        let mut hot: Vec<u64> = (0..12).map(|word| 8 * word).collect();
        hot.extend([TAIL.bytes(), FLOOR.bytes()]);
        hot.extend((0..NODES).map(|node| geometry.ready(node).bytes()));
        hot.extend((0..CAPACITY).map(|position| geometry.index(position).bytes()));
        hot.extend(frames.iter().flat_map(|(_, slot)| [slot - 8, *slot, slot + 8, slot + 16]));
        let changed = change(&memory, &hot, random);
        let is_same = size == content.len() && !changed.hits(0, 96);
        let found = match RingGeometry::read(&memory) {
            Err(error) if is_same => return Wrong(error.to_string()),
            Err(_) => return Refused,
            Ok(found) => found,
        };
        if found.total_size() > size as u64 || (is_same && found != *geometry) {
            return Wrong(format!("{found:?} in {size} bytes"));
        }
        let read = self.read(&Ring::new(memory, found), &changed, random);
        let mut refused = matches!(read, Err(Refused));
        for node in 0..=NODES {
            match LaneWriter::join(memory, found, node) {
                Ok(mut lane) => {
                    refused |= (0..12).any(|_| lane.publish(1, 1, b"more").is_err());
                    lane.ring().reset();
                }
                Err(_) => refused |= node < NODES,
            }
        }
        match read {
            Err(Wrong(text)) if is_same => Wrong(text),
            _ if refused => Refused,
            Ok(true) if is_same => Unchanged,
            _ => Other,
        }
    }
}

/// A table of members is changed, and read.
pub(super) struct Members {
    content: Vec<u8>,
    memory: Guarded,
}

fn member(node: u32) -> MemberDetails {
    MemberDetails { pid: 50 + node, start_time: 3, incarnation: 1 << 100, joined: 4 }
}

impl Members {
    pub(super) fn new() -> Self {
        let size = Table::<Mapped>::size(NODES);
        let memory = Mapped::leaked(size);
        Table::<Mapped>::header(NODES, 9).write(&memory);
        let (table, _) = Table::read(memory).expect("a table");
        for node in 0..2 {
            table.enter(node, &member(node));
            table.beat(node);
        }
        let mut content = vec![0; size as usize];
        memory.read(Offset::new(0), &mut content);
        let memory = Guarded::new(content.len() + 256);
        Self { content, memory }
    }
}

impl Kind for Members {
    fn name(&self) -> &'static str {
        "fleet members"
    }

    fn run(&mut self, random: &mut Random) -> Outcome {
        let size = resize(self.content.len(), random);
        let memory = self.memory.region(size, &self.content);
        let hot: Vec<u64> = (0..self.content.len() as u64 / 8).map(|word| 8 * word).collect();
        let changed = change(&memory, &hot, random);
        let is_same = size == self.content.len() && !changed.hits(0, 96);
        let table = match Table::read(memory) {
            Err(error) if is_same => return Wrong(error.to_string()),
            Err(_) => return Refused,
            Ok((table, _)) => table,
        };
        let mut other = false;
        let entry_size = (self.content.len() as u64 - 128) / u64::from(NODES);
        for node in 0..table.nodes() {
            let details = table.details(node);
            let expected = Ok((node < 2).then(|| member(node)));
            let entry = 128 + entry_size * u64::from(node);
            if is_same && !changed.hits(entry, 56) && details != expected {
                return Wrong(format!("member {node} is {details:?}"));
            }
            other |= details != expected || table.heartbeat(node) != u64::from(node < 2);
        }
        let _ = (table.details(u32::MAX), table.heartbeat(u32::MAX), table.beat(0));
        if other { Other } else { Unchanged }
    }
}

/// The page of a lease is changed, and judged.
pub(super) struct Lease {
    header: LeaseHeader,
    content: Vec<u8>,
    memory: Guarded,
}

/// Slots that have readers.
const READERS: [u32; 3] = [0, 5, SLOTS - 1];

fn record(slot: u32) -> ReaderRecord {
    ReaderRecord { slot, pid: 70, start_time: 8, position: 1000 + u64::from(slot) }
}

impl Lease {
    pub(super) fn new() -> Self {
        let header = LeaseHeader {
            pid: 5,
            generation: Generation::new(77).expect("not 0"),
            incarnation: 1 << 70,
            readers: 3,
            state: LeaseState::Owned,
            heartbeat: 12,
        };
        let mut content = vec![0; PAGE_SIZE];
        for at in HEADERS_AT {
            content[at..at + HEADER_SIZE].copy_from_slice(&header.encode());
        }
        for slot in READERS {
            let at = ReaderRecord::offset(slot).expect("a slot");
            content[at..at + SLOT_SIZE].copy_from_slice(&record(slot).encode());
        }
        Self { header, content, memory: Guarded::new(2 * PAGE_SIZE) }
    }
}

impl Kind for Lease {
    fn name(&self) -> &'static str {
        "lease"
    }

    fn run(&mut self, random: &mut Random) -> Outcome {
        let size = resize(PAGE_SIZE, random);
        let memory = self.memory.region(size, &self.content);
        let mut hot: Vec<u64> = (0..16).map(|word| 8 * word).collect();
        for slot in READERS {
            let at = ReaderRecord::offset(slot).expect("a slot") as u64;
            hot.extend([at, at + 8, at + 16, at + 24]);
        }
        let changed = change(&memory, &hot, random);
        // As it is read from the file: at most a page, and the size beside it.
        let mut page = vec![0; size.min(PAGE_SIZE)];
        memory.read(Offset::new(0), &mut page);
        let is_same = size == PAGE_SIZE && !changed.hits(0, 2 * HEADER_SIZE as u64);
        let mut other = false;
        for slot in (0..SLOTS).chain([SLOTS, u32::MAX]) {
            let found = ReaderRecord::decode(&page, slot);
            let expected = READERS.contains(&slot).then(|| record(slot));
            let at = ReaderRecord::offset(slot).unwrap_or(PAGE_SIZE);
            let is_there = at + SLOT_SIZE <= page.len();
            if is_there && !changed.hits(at as u64, SLOT_SIZE as u64) && found != expected {
                return Wrong(format!("slot {slot} has {found:?}"));
            }
            other |= found != expected;
        }
        match judge(&page, size as u64) {
            Found::Whole(header) if header != self.header => Wrong(format!("{header:?}")),
            Found::Damaged { header: Some(header), .. } if header != self.header => {
                Wrong(format!("{header:?}"))
            }
            Found::Whole(_) if other => Other,
            Found::Whole(_) => Unchanged,
            found if is_same => Wrong(format!("{found:?}")),
            _ => Refused,
        }
    }
}
