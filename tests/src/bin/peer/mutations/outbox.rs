//! Outboxes: header, ring, tail, acks, references to slots.

use shm_primitives::{
    Frame, Mapped, Memory, Offset,
    frame::footprint,
    header::goodbye_of,
    outbox::{OutboxGeometry, TAIL, dropped_by},
    pool::{PoolGeometry, SEALED, SizeClass, SlotAllocator, SlotId, SlotReceipts},
    ring::{Consumer, GrantError, Producer},
};
use shm_tests::{
    guarded::Guarded,
    pattern::{self, Random},
};

use super::{
    Kind, Other, Outcome, Refused, Unchanged, Wrong,
    change::{change, resize},
};

const CAPACITY: u64 = 1024;
const INCARNATION: u128 = 0x0123_4567_89ab_cdef;

/// Two outboxes, and the sizes of a link.
struct Pair {
    pool: PoolGeometry,
    geometry: OutboxGeometry,
    writer: Guarded,
    reader: Guarded,
}

impl Pair {
    fn new() -> Self {
        let classes = [
            SizeClass { slot_size: 64, extent_slots: 2, max_extents: 2 },
            SizeClass { slot_size: 256, extent_slots: 3, max_extents: 1 },
        ];
        let pool = PoolGeometry::new(&classes, 4).expect("a pool");
        let geometry = OutboxGeometry::new(CAPACITY, pool.acks()).expect("an outbox");
        let size = geometry.total_size() as usize + 256;
        Self { pool, geometry, writer: Guarded::new(size), reader: Guarded::new(size) }
    }

    /// Both, as new.
    fn fresh(&mut self) -> (Mapped, Mapped) {
        let size = self.geometry.total_size() as usize;
        let (writer, reader) = (self.writer.region(size, &[]), self.reader.region(size, &[]));
        self.geometry.initialise(&writer, INCARNATION);
        self.geometry.initialise(&reader, INCARNATION);
        (writer, reader)
    }
}

/// A frame that was sent.
struct Sent {
    /// Where its header is, and that of the padding before it.
    header: u64,
    padding: Option<u64>,
    frame: Frame,
    payload: Vec<u8>,
}

/// The sender's outbox is changed after it has sent some frames; then the receiver receives.
pub(super) struct Frames {
    pair: Pair,
    extents: Vec<Guarded>,
}

impl Frames {
    pub(super) fn new() -> Self {
        let pair = Pair::new();
        let size = |class: &SizeClass| class.extent_size() as usize;
        let extents = pair.pool.classes().iter().map(|class| Guarded::new(size(class))).collect();
        Self { pair, extents }
    }

    fn send(
        &self,
        producer: &mut Producer<Mapped>,
        at: &mut u64,
        random: &mut Random,
    ) -> Option<Sent> {
        let mut payload = Vec::new();
        let frame = match random.below(8) {
            0 => {
                let class = random.below(2) as u8;
                let index = random.below([4, 3][usize::from(class)]) as u16;
                let len = random.below([65, 257][usize::from(class)]) as u32;
                Frame::Slot { slot: SlotId { class, index }, len }
            }
            1 => Frame::Sealed { index: random.below(4) as u16 },
            _ => {
                payload = pattern::message(random.next(), random.below(140) as usize);
                Frame::Inline { len: payload.len() as u32 }
            }
        };
        let (need, staged) = match frame {
            Frame::Inline { len } => (footprint(len), producer.stage(&payload)),
            frame => (8, producer.stage_reference(frame)),
        };
        staged.ok()?;
        producer.publish();
        let ring = self.pair.geometry.ring().bytes();
        let place = |position: u64| ring + position % CAPACITY;
        let until_end = CAPACITY - *at % CAPACITY;
        let padding = (need > until_end).then(|| place(*at));
        if padding.is_some() {
            *at += until_end;
        }
        let header = place(*at);
        *at += need;
        Some(Sent { header, padding, frame, payload })
    }

    /// Reads what a frame refers to, and gives it back.
    fn follow(
        &mut self,
        frame: Frame,
        receipts: &mut SlotReceipts,
        reader: &Mapped,
    ) -> Result<(), Outcome> {
        let (slot, len) = match frame {
            Frame::Slot { slot, len } => (slot, len),
            Frame::Sealed { index } => (SlotId { class: SEALED, index }, 0),
            Frame::Inline { .. } | Frame::Padding => return Ok(()),
        };
        let receipt = receipts.receive(slot, len).map_err(|_| Refused)?;
        if let Some(class) = self.pair.pool.class(slot.class).copied() {
            let (extent, at) = class.place(slot.index);
            if extent >= class.max_extents {
                return Err(Wrong(format!("{slot:?} is in extent {extent}")));
            }
            let size = class.extent_size() as usize;
            let memory = self.extents[usize::from(slot.class)].region(size, &[]);
            memory.read(Offset::new(at), &mut vec![0; len as usize]);
        }
        receipt.ack(reader);
        Ok(())
    }
}

impl Kind for Frames {
    fn name(&self) -> &'static str {
        "frames"
    }

    fn run(&mut self, random: &mut Random) -> Outcome {
        let (writer, reader) = self.pair.fresh();
        let mut producer = Producer::new(writer, reader, &self.pair.geometry);
        let mut consumer = Consumer::new(reader, writer, &self.pair.geometry);
        let receipts = SlotReceipts::new(&self.pair.pool, &self.pair.geometry);
        let mut receipts = receipts.expect("as many acks");
        let mut at = 0;
        // Somewhere in the ring, perhaps after a lap or two.
        for _ in 0..random.below(40) {
            self.send(&mut producer, &mut at, random);
            while let Ok(Some(_)) = consumer.next() {}
            consumer.release();
        }
        let mut sent = Vec::new();
        for _ in 0..=random.below(12) {
            sent.extend(self.send(&mut producer, &mut at, random));
        }
        let mut hot: Vec<u64> = sent.iter().map(|sent| sent.header).collect();
        hot.extend(sent.iter().filter_map(|sent| sent.padding));
        hot.extend([TAIL.bytes(), 384, 512, 96]);
        let changed = change(&writer, &hot, random);
        let _ = (goodbye_of(&writer), dropped_by(&writer));

        let behind = self.pair.geometry.ring().bytes() + at % CAPACITY;
        let (mut clean, mut other) = (true, false);
        let mut buffer = [0; CAPACITY as usize];
        // A ring that is full of frames of no length, twice.
        for number in 0..2 * CAPACITY as usize / 8 {
            let expected = sent.get(number);
            clean &= match expected {
                Some(sent) => {
                    let padding = sent.padding.is_some_and(|at| changed.hits(at, 8));
                    !padding && !changed.hits(sent.header, 8)
                }
                None => number == sent.len() && !changed.hits(behind, 8),
            };
            let entry = match consumer.next() {
                Err(_) if clean => return Wrong(format!("frame {number} was refused")),
                Err(_) => return Refused,
                Ok(None) if clean && expected.is_some() => {
                    return Wrong(format!("frame {number} is missing"));
                }
                Ok(None) => {
                    other |= expected.is_some();
                    break;
                }
                Ok(Some(entry)) => entry,
            };
            let read = consumer.read(&entry, 0, &mut buffer);
            if read != entry.len() as usize {
                return Wrong(format!("{read} of {} bytes", entry.len()));
            }
            match (clean, expected) {
                (true, Some(sent)) => {
                    let is_whole = !changed.hits(sent.header + 8, sent.payload.len() as u64);
                    let is_same = buffer[..read] == sent.payload;
                    if entry.frame() != sent.frame || (is_whole && !is_same) {
                        return Wrong(format!("frame {number} is another"));
                    }
                    other |= !is_same;
                }
                (true, None) => return Wrong(format!("frame {number} was never sent")),
                (false, _) => other = true,
            }
            if let Err(refused) = self.follow(entry.frame(), &mut receipts, &reader) {
                return refused;
            }
            if random.below(3) == 0 {
                consumer.release();
            }
        }
        if other { Other } else { Unchanged }
    }
}

/// The receiver's outbox is changed; then the sender sends.
pub(super) struct Tail {
    pair: Pair,
    twin: Pair,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self { pair: Pair::new(), twin: Pair::new() }
    }
}

/// Fills a ring, and has some of it read.
fn half_read(
    (writer, reader): (Mapped, Mapped),
    geometry: &OutboxGeometry,
    random: &mut Random,
) -> Producer<Mapped> {
    let mut producer = Producer::new(writer, reader, geometry);
    let mut consumer = Consumer::new(reader, writer, geometry);
    for _ in 0..random.below(3) {
        while producer.push(&[1; 50]).is_ok() {}
        while let Ok(Some(_)) = consumer.next() {}
        consumer.release();
    }
    while producer.push(&vec![1; random.below(100) as usize]).is_ok() {}
    for _ in 0..random.below(10) {
        let _ = consumer.next();
    }
    consumer.release();
    producer
}

impl Kind for Tail {
    fn name(&self) -> &'static str {
        "tail"
    }

    fn run(&mut self, random: &mut Random) -> Outcome {
        let (changed_pair, twin_pair) = (self.pair.fresh(), self.twin.fresh());
        let mut again = random.clone();
        let mut producer = half_read(changed_pair, &self.pair.geometry, random);
        let mut twin = half_read(twin_pair, &self.twin.geometry, &mut again);
        let changed = change(&changed_pair.1, &[TAIL.bytes()], random);
        let honest = !changed.hits(TAIL.bytes(), 8);
        let mut other = false;
        for _ in 0..40 {
            let message = vec![2; random.below(200) as usize];
            let (result, expected) = (producer.push(&message), twin.push(&message));
            if honest && result != expected {
                return Wrong(format!("{result:?} instead of {expected:?}"));
            }
            if let Err(GrantError::Corrupt { .. }) = result {
                return Refused;
            }
            other |= result != expected;
        }
        let drained = producer.is_drained();
        if honest && drained != twin.is_drained() {
            return Wrong(format!("{drained:?}"));
        }
        match drained {
            Err(_) => Refused,
            Ok(_) if other => Other,
            Ok(_) => Unchanged,
        }
    }
}

/// The receiver's acks are changed; then the sender looks for free slots.
pub(super) struct Acks {
    pair: Pair,
}

impl Acks {
    pub(super) fn new() -> Self {
        Self { pair: Pair::new() }
    }
}

/// Where the ack of a slot is.
fn ack_of(slot: SlotId) -> u64 {
    let first = match slot.class {
        0 => 0,
        1 => 4,
        _ => 7,
    };
    768 + 4 * (first + u64::from(slot.index))
}

impl Kind for Acks {
    fn name(&self) -> &'static str {
        "acks"
    }

    fn run(&mut self, random: &mut Random) -> Outcome {
        let (_, reader) = self.pair.fresh();
        let Pair { pool, geometry, .. } = &self.pair;
        let mut sender = SlotAllocator::new(pool, reader, geometry).expect("as many acks");
        let mut receipts = SlotReceipts::new(pool, geometry).expect("as many acks");
        for class in [0, 1, 0] {
            sender.add_extent(class);
        }
        let mut in_flight: Vec<SlotId> = Vec::new();
        for _ in 0..random.below(30) {
            let slot = match random.below(3) {
                0 => sender.allocate_sealed(),
                _ => sender.allocate(random.below(257)),
            };
            let Ok(slot) = slot else { continue };
            sender.sent(slot);
            let receipt = receipts.receive(slot, 0).expect("a slot of the pool");
            if random.below(2) == 0 {
                receipt.ack(&reader);
            } else {
                in_flight.push(slot);
            }
        }
        let hot: Vec<u64> = (0..geometry.acks()).map(|ack| 768 + 4 * u64::from(ack)).collect();
        let changed = change(&reader, &hot, random);
        let kept = in_flight.iter().copied().filter(|slot| !changed.hits(ack_of(*slot), 4));
        let kept: Vec<SlotId> = kept.collect();
        let before = sender.in_flight();
        if before < kept.len() {
            return Wrong(format!("{before} in flight instead of {}", kept.len()));
        }
        let mut taken: Vec<SlotId> = Vec::new();
        for len in [0, 64, 256, 64, 1, 256, 256, 64] {
            let slots = [sender.allocate(len), sender.allocate_sealed()];
            for slot in slots.into_iter().flatten() {
                if kept.contains(&slot) {
                    return Wrong(format!("{slot:?} is free, and nobody gave it back"));
                }
                if taken.contains(&slot) {
                    return Wrong(format!("{slot:?} is free twice"));
                }
                taken.push(slot);
            }
        }
        if before == in_flight.len() { Unchanged } else { Other }
    }
}

/// An outbox's header and size are changed; then it is checked, as at an attach.
pub(super) struct Header {
    pair: Pair,
}

impl Header {
    pub(super) fn new() -> Self {
        Self { pair: Pair::new() }
    }
}

impl Kind for Header {
    fn name(&self) -> &'static str {
        "header"
    }

    fn run(&mut self, random: &mut Random) -> Outcome {
        let geometry = self.pair.geometry;
        let (fresh, _) = self.pair.fresh();
        let mut content = vec![0; geometry.total_size() as usize];
        fresh.read(Offset::new(0), &mut content);
        let size = resize(content.len(), random);
        let memory = self.pair.reader.region(size, &content);
        let hot: Vec<u64> = (0..12).map(|word| 8 * word).collect();
        let changed = change(&memory, &hot, random);
        let is_same = size == content.len() && !changed.hits(0, 96);
        match OutboxGeometry::check(&memory, INCARNATION) {
            Ok(found) if found.total_size() > size as u64 => Wrong(format!("{found:?}")),
            Ok(found) if is_same && found != geometry => Wrong(format!("{found:?}")),
            Ok(found) if found == geometry => Unchanged,
            Ok(_) => Other,
            Err(error) if is_same => Wrong(error.to_string()),
            Err(_) => Refused,
        }
    }
}
