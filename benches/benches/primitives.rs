//! The primitives, one operation at a time, in one thread.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shm_primitives::{
    Mapped, Offset,
    outbox::OutboxGeometry,
    pool::{PoolGeometry, SizeClass, SlotAllocator, SlotReceipts},
    ring::{Consumer, Producer},
    seqlock::{SeqlockReader, SeqlockWriter, slot_size},
};

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring/push and take");
    for size in [0usize, 8, 64, 1024] {
        let geometry = OutboxGeometry::new(1 << 16, 0).expect("a valid size");
        let own = Mapped::leaked(geometry.total_size());
        let peer = Mapped::leaked(geometry.total_size());
        let mut producer = Producer::new(own, peer, &geometry);
        let mut consumer = Consumer::new(peer, own, &geometry);
        let (message, mut buffer) = (vec![7; size], vec![0; size]);
        group.throughput(Throughput::Elements(1));
        group.bench_with_input(BenchmarkId::from_parameter(size), &message, |bencher, message| {
            bencher.iter(|| {
                producer.push(black_box(message)).expect("there is room");
                let entry = consumer.next().expect("an honest ring").expect("a message");
                consumer.read(&entry, 0, &mut buffer);
                consumer.release();
            });
        });
    }
    group.finish();
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

criterion_group!(benches, ring, pool, seqlock);
criterion_main!(benches);
