//! Operations of the primitives, in memory of this process.

use std::{convert::Infallible, error::Error, hint::black_box};

use shm_primitives::{
    Mapped, Offset,
    doorbell::Waker,
    outbox::{DATA_BELL, DATA_SLEEP, OutboxGeometry},
    pool::{PoolGeometry, SizeClass, SlotAllocator, SlotId, SlotReceipts},
    ring::{Consumer, Producer},
    seqlock::{SeqlockReader, SeqlockWriter, slot_size},
};

use super::{BURST, TIMES, there, under_count};

type Done = Result<(), Box<dyn Error>>;

const SIZE: usize = 64;

fn ring() -> Result<(Producer<Mapped>, Consumer<Mapped>), Box<dyn Error>> {
    let geometry = OutboxGeometry::new(64 << 10, 0)?;
    let own = Mapped::leaked(geometry.total_size());
    let peer = Mapped::leaked(geometry.total_size());
    Ok((Producer::new(own, peer, &geometry), Consumer::new(peer, own, &geometry)))
}

pub fn push() -> Done {
    let (mut producer, mut consumer) = ring()?;
    let message = black_box([7; SIZE]);
    for _ in 0..TIMES / BURST {
        under_count(BURST, || producer.push(&message))?;
        while consumer.next()?.is_some() {
            consumer.release();
        }
    }
    Ok(())
}

pub fn take() -> Done {
    let (mut producer, mut consumer) = ring()?;
    let mut buffer = [0; SIZE];
    for _ in 0..TIMES / BURST {
        (0..BURST).try_for_each(|_| producer.push(&[7; SIZE]))?;
        under_count(BURST, || -> Result<usize, Box<dyn Error>> {
            let entry = there(consumer.next()?)?;
            let len = consumer.read(&entry, 0, &mut buffer);
            consumer.release();
            Ok(len)
        })?;
    }
    Ok(())
}

/// Both ends of a pool, and the memory of the receiver's acks.
struct Pool {
    allocator: SlotAllocator<Mapped>,
    receipts: SlotReceipts,
    acks: Mapped,
    sent: Vec<SlotId>,
}

impl Pool {
    fn new() -> Result<Self, Box<dyn Error>> {
        let classes = [SizeClass { slot_size: 4096, extent_slots: 64, max_extents: 1 }];
        let pool = PoolGeometry::new(&classes, 0)?;
        let geometry = OutboxGeometry::new(4 << 10, pool.acks())?;
        let acks = Mapped::leaked(geometry.total_size());
        let mut allocator = SlotAllocator::new(&pool, acks, &geometry)?;
        there(allocator.add_extent(0))?;
        let receipts = SlotReceipts::new(&pool, &geometry)?;
        Ok(Self { allocator, receipts, acks, sent: Vec::with_capacity(BURST) })
    }

    #[inline]
    fn allocate(&mut self) -> Done {
        let slot = self.allocator.allocate(4096).map_err(|_| "no slot is free")?;
        self.allocator.sent(slot);
        self.sent.push(slot);
        Ok(())
    }

    #[inline]
    fn release(&mut self) -> Done {
        let slot = there(self.sent.pop())?;
        self.receipts.receive(slot, 4096).map_err(|_| "no such slot")?.ack(&self.acks);
        Ok(())
    }
}

/// With its share of finding slots that the receiver has given back.
pub fn allocate() -> Done {
    let mut pool = Pool::new()?;
    for _ in 0..TIMES / BURST {
        under_count(BURST, || pool.allocate())?;
        (0..BURST).try_for_each(|_| pool.release())?;
    }
    Ok(())
}

pub fn release() -> Done {
    let mut pool = Pool::new()?;
    for _ in 0..TIMES / BURST {
        (0..BURST).try_for_each(|_| pool.allocate())?;
        under_count(BURST, || pool.release())?;
    }
    Ok(())
}

pub fn doorbell() -> Done {
    let (own, peer) = (Mapped::leaked(1024), Mapped::leaked(1024));
    let waker = Waker::new(own, DATA_BELL, peer, DATA_SLEEP);
    under_count(TIMES, || Ok::<_, Infallible>(waker.ring()))
}

pub fn write() -> Done {
    let memory = Mapped::leaked(slot_size(SIZE as u64));
    let mut writer = SeqlockWriter::new(memory, Offset::new(0));
    let value = black_box([7; SIZE]);
    under_count(TIMES, || {
        writer.write(&value);
        Ok::<_, Infallible>(())
    })
}

pub fn read() -> Done {
    let memory = Mapped::leaked(slot_size(SIZE as u64));
    SeqlockWriter::new(memory, Offset::new(0)).write(&[7; SIZE]);
    let reader = SeqlockReader::new(memory, Offset::new(0));
    let mut value = [0; SIZE];
    under_count(TIMES, || reader.read(&mut value, 1).map_err(|_| "nobody writes"))
}
