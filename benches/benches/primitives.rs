//! The primitives, one operation at a time, in one thread.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shm_primitives::{
    Mapped, Offset,
    doorbell::Waker,
    outbox::{DATA_BELL, DATA_SLEEP, OutboxGeometry},
    pool::{PoolGeometry, SizeClass, SlotAllocator, SlotReceipts},
    ring::{Consumer, Producer},
    seqlock::{SeqlockReader, SeqlockWriter, slot_size},
};

fn new_ring() -> (Producer<Mapped>, Consumer<Mapped>) {
    let geometry = OutboxGeometry::new(1 << 16, 0).expect("a valid size");
    let own = Mapped::leaked(geometry.total_size());
    let peer = Mapped::leaked(geometry.total_size());
    (Producer::new(own, peer, &geometry), Consumer::new(peer, own, &geometry))
}

fn take(consumer: &mut Consumer<Mapped>, buffer: &mut [u8]) {
    let entry = consumer.next().expect("an honest ring").expect("a message");
    consumer.read(&entry, 0, buffer);
}

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring/push and take");
    for size in [0usize, 8, 64, 1024] {
        let (mut producer, mut consumer) = new_ring();
        let (message, mut buffer) = (vec![7; size], vec![0; size]);
        group.throughput(Throughput::Elements(1));
        group.bench_with_input(BenchmarkId::from_parameter(size), &message, |bencher, message| {
            bencher.iter(|| {
                producer.push(black_box(message)).expect("there is room");
                take(&mut consumer, &mut buffer);
                consumer.release();
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("ring/grant, commit and take");
    for size in [8u32, 64, 1024] {
        let (mut producer, mut consumer) = new_ring();
        let mut buffer = vec![0; size as usize];
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                producer.grant(black_box(size)).expect("there is room").commit(size);
                producer.publish();
                take(&mut consumer, &mut buffer);
                consumer.release();
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("ring/batch of 64");
    for size in [8usize, 16, 64, 256] {
        let (mut producer, mut consumer) = new_ring();
        let (message, mut buffer) = (vec![7; size], vec![0; size]);
        group.throughput(Throughput::Elements(64));
        group.bench_with_input(BenchmarkId::from_parameter(size), &message, |bencher, message| {
            bencher.iter(|| {
                for _ in 0..64 {
                    producer.stage(black_box(message)).expect("there is room");
                }
                producer.publish();
                for _ in 0..64 {
                    take(&mut consumer, &mut buffer);
                }
                consumer.release();
            });
        });
    }
    group.finish();
}

fn doorbell(criterion: &mut Criterion) {
    let (own, peer) = (Mapped::leaked(1024), Mapped::leaked(1024));
    let waker = Waker::new(own, DATA_BELL, peer, DATA_SLEEP);
    criterion.bench_function("doorbell/ring, nobody sleeps", |bencher| {
        bencher.iter(|| black_box(&waker).ring());
    });
}

fn pool(criterion: &mut Criterion) {
    let classes = [SizeClass { slot_size: 4096, extent_slots: 64, max_extents: 1 }];
    let pool = PoolGeometry::new(&classes, 0).expect("valid classes");
    let geometry = OutboxGeometry::new(1 << 12, pool.acks()).expect("a valid size");
    let receiver = Mapped::leaked(geometry.total_size());
    let mut allocator = SlotAllocator::new(&pool, receiver, &geometry).expect("as many acks");
    let mut receipts = SlotReceipts::new(&pool, &geometry).expect("as many acks");
    allocator.add_extent(0);
    criterion.bench_function("pool/allocate, send, receive, ack", |bencher| {
        bencher.iter(|| {
            let slot = allocator.allocate(black_box(4096)).expect("a free slot");
            allocator.sent(slot);
            receipts.receive(slot, 4096).expect("a slot of the pool").ack(&receiver);
        });
    });
}

fn seqlock(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seqlock");
    for size in [8usize, 64, 1024] {
        let memory = Mapped::leaked(slot_size(size as u64));
        let mut writer = SeqlockWriter::new(memory, Offset::new(0));
        let reader = SeqlockReader::new(memory, Offset::new(0));
        let mut value = vec![7; size];
        group.bench_function(BenchmarkId::new("write", size), |bencher| {
            bencher.iter(|| writer.write(black_box(&value)));
        });
        group.bench_function(BenchmarkId::new("read", size), |bencher| {
            bencher.iter(|| reader.read(&mut value, 1));
        });
    }
    group.finish();
}

criterion_group!(benches, ring, doorbell, pool, seqlock);
criterion_main!(benches);
