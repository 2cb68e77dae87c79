//! Hubs: header, directory, peer table, statistics, broadcast rings.

use shm_primitives::{
    Mapped, Memory, Offset,
    broadcast::{BroadcastGeometry, BroadcastReader, BroadcastWriter, Start, Step},
    header::goodbye_of,
    hub::{HubGeometry, HubStatistics, Statistics},
    peer::{PeerDetails, PeerId, PeerState},
};
use shm_tests::{
    guarded::Guarded,
    pattern::{self, Random},
    raw::topic,
};

use super::{
    Kind, Other, Outcome, Refused, Unchanged, Wrong,
    change::{Changed, change, resize},
};

const INCARNATION: u128 = 77;
const PEERS: u64 = 6;
const SLOTS: u64 = 8;
const MAX: usize = 40;
const PUBLISHED: u64 = 21;
/// Where the peer table and the directory of topics are.
const TABLE: u64 = 256;
const DIRECTORY: u64 = TABLE + 128 * PEERS;

/// What a valid hub says.
struct Valid {
    geometry: HubGeometry,
    content: Vec<u8>,
    peers: Vec<(Option<(PeerId, PeerState)>, PeerDetails)>,
    statistics: HubStatistics,
}

fn valid() -> Valid {
    let ring = BroadcastGeometry::new(SLOTS, MAX as u64).expect("a ring");
    let geometry = HubGeometry::new(PEERS, [("values", ring), ("other", ring)]).expect("a hub");
    let size = geometry.total_size();
    let memory = Mapped::leaked(size);
    geometry.initialise(&memory, INCARNATION);
    let table = geometry.peer_table(memory);
    for number in 0..4 {
        let peer = table.reserve().expect("room");
        let details = PeerDetails {
            pid: 100 + number,
            start_time: 7,
            heartbeat: 9,
            to_guest: 1024,
            to_host: 1024,
        };
        table.describe(peer, &details);
        if number > 0 {
            table.claim(peer).expect("reserved");
        }
        if number > 2 {
            table.release(peer).expect("attached");
        }
    }
    let statistics = HubStatistics { attached: 4, departed: 1, ..HubStatistics::default() };
    Statistics::new(memory).set(&statistics);
    for topic in geometry.topics() {
        let mut writer = BroadcastWriter::new(memory, topic.at, topic.ring);
        for position in 0..PUBLISHED {
            writer.publish(&pattern::value(position, MAX)).expect("published");
        }
    }
    let mut content = vec![0; size as usize];
    memory.read(Offset::new(0), &mut content);
    let peers = (0..PEERS as u32)
        .map(|index| (table.state(index).ok(), table.details(index).expect("nobody writes")))
        .collect();
    Valid { geometry, content, peers, statistics }
}

/// A hub is changed, and a guest checks it and looks at all of it.
pub(super) struct Hub {
    valid: Valid,
    memory: Guarded,
}

impl Hub {
    pub(super) fn new() -> Self {
        let valid = valid();
        let memory = Guarded::new(valid.content.len() + 256);
        Self { valid, memory }
    }
}

impl Kind for Hub {
    fn name(&self) -> &'static str {
        "hub"
    }

    fn run(&mut self, random: &mut Random) -> Outcome {
        let Valid { geometry, content, peers, statistics } = &self.valid;
        let size = resize(content.len(), random);
        let memory = self.memory.region(size, content);
        let mut hot: Vec<u64> = (0..12).map(|word| 8 * word).collect();
        hot.extend((0..7).map(|word| 128 + 8 * word));
        hot.extend((0..PEERS).flat_map(|peer| [TABLE + 128 * peer, TABLE + 8 + 128 * peer]));
        hot.extend((0..2).flat_map(|n| (0..11).map(move |word| DIRECTORY + 128 * n + 8 * word)));
        let changed = change(&memory, &hot, random);
        let is_same =
            size == content.len() && !changed.hits(0, 96) && !changed.hits(DIRECTORY, 256);
        let found = match HubGeometry::check(&memory, INCARNATION) {
            Err(error) if is_same => return Wrong(error.to_string()),
            Err(_) => return Refused,
            Ok(found) => found,
        };
        if found.total_size() > size as u64 || (is_same && found != *geometry) {
            return Wrong(format!("{found:?} in {size} bytes"));
        }
        let _ = goodbye_of(&memory);
        let mut other = found != *geometry;
        let table = found.peer_table(memory);
        for index in 0..found.peers().min(64) {
            let (state, details) = (table.state(index).ok(), table.details(index).ok());
            let Some((valid_state, valid_details)) = peers.get(index as usize) else { continue };
            let entry = TABLE + 128 * u64::from(index);
            if is_same && !changed.hits(entry, 8) && state != *valid_state {
                return Wrong(format!("peer {index} is {state:?}"));
            }
            if is_same && !changed.hits(entry + 8, 56) && details != Some(*valid_details) {
                return Wrong(format!("peer {index} has {details:?}"));
            }
            other |= (state, details) != (*valid_state, Some(*valid_details));
        }
        let said = Statistics::new(memory).get().ok();
        if !changed.hits(128, 56) && said != Some(*statistics) {
            return Wrong(format!("{said:?}"));
        }
        other |= said != Some(*statistics);
        for topic in found.topics() {
            match follow(memory, topic.at.bytes(), topic.ring, &changed) {
                Unchanged => {}
                Wrong(text) if is_same => return Wrong(text),
                _ => other = true,
            }
        }
        if other { Other } else { Unchanged }
    }
}

/// A broadcast ring alone is changed, and read from all ends.
pub(super) struct Broadcast {
    valid: Valid,
    memory: Guarded,
}

impl Broadcast {
    pub(super) fn new() -> Self {
        let valid = valid();
        let memory = Guarded::new(valid.content.len());
        Self { valid, memory }
    }
}

impl Kind for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn run(&mut self, random: &mut Random) -> Outcome {
        let Valid { geometry, content, .. } = &self.valid;
        let found = &geometry.topics()[1];
        let (at, size) = (found.at.bytes() as usize, found.ring.size() as usize);
        // It ends where the memory does.
        let memory = self.memory.region(size, &content[at..at + size]);
        let mut hot = vec![0, 128, 136];
        let slots = (0..SLOTS).map(|n| topic::slot(0, n, MAX));
        hot.extend(slots.flat_map(|slot| [slot, slot + 8, slot + 16]));
        let changed = change(&memory, &hot, random);
        follow(memory, 0, found.ring, &changed)
    }
}

/// Reads a ring from the oldest value and from the newest.
fn follow(memory: Mapped, at: u64, ring: BroadcastGeometry, changed: &Changed) -> Outcome {
    let is_changed =
        |position: u64| changed.hits(topic::slot(at, position % SLOTS, MAX), 16 + MAX as u64);
    // What was published, from memory that is as it was. A sequence is twice the position, so
    // positions that differ in the highest bit have the same.
    let is_wrong = |position: u64, value: &[u8]| {
        let position = position & u64::MAX >> 1;
        !is_changed(position) && !pattern::is_value(position, MAX, value)
    };
    let mut buffer = vec![0; ring.max_payload() as usize];
    let mut reader = BroadcastReader::new(memory, Offset::new(at), ring, Start::Oldest);
    let mut expected = PUBLISHED - SLOTS;
    let mut other = false;
    for _ in 0..4 * SLOTS {
        match reader.next(&mut buffer) {
            Err(_) => return Refused,
            Ok(Step::Nothing) => break,
            Ok(Step::Lost(_)) => other = true,
            Ok(Step::Value { position, len }) => {
                if is_wrong(position, &buffer[..len]) {
                    return Wrong(format!("value {position} is another"));
                }
                other |= position != expected || !pattern::is_value(position, MAX, &buffer[..len]);
                expected = position.wrapping_add(1);
            }
        }
    }
    if !changed.hits(at, 8) && (0..SLOTS).all(|n| !is_changed(n)) && expected != PUBLISHED {
        return Wrong(format!("{expected} of {PUBLISHED} values"));
    }
    other |= expected != PUBLISHED;
    for attempt in [BroadcastReader::newest, BroadcastReader::try_newest] {
        match attempt(&mut reader, &mut buffer) {
            Ok(Some((position, len))) if is_wrong(position, &buffer[..len]) => {
                return Wrong(format!("the newest value, {position}, is another"));
            }
            Ok(Some((position, _))) => other |= position != PUBLISHED - 1,
            Ok(None) => other = true,
            Err(_) => return Refused,
        }
    }
    reader.catch_up();
    let _ = (reader.is_ready(), reader.has_newer(), reader.bell_seen(), reader.published());
    if other { Other } else { Unchanged }
}
