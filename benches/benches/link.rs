//! One operation at a time, both ends in one thread: what the code itself costs, without
//! a cache line that moves.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shm_transport::{Link, LinkConfig};

const WAIT: Duration = Duration::from_secs(1);

fn send_and_receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("link/send and receive");
    for size in [0, 8, 64, 1024, 8192, 16384, 1 << 20, 2 << 20] {
        let (mut left, mut right) = Link::pair(&LinkConfig::default()).expect("memory for a link");
        let message = vec![7; size];
        let mut buffer = vec![0; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::from_parameter(size), &message, |bencher, message| {
            bencher.iter(|| {
                left.send(black_box(message), WAIT).expect("there is room");
                right.recv_into(&mut buffer, WAIT).expect("there is a message")
            });
        });
    }
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("link/batch of 64");
    for size in [8, 64, 256] {
        let (mut left, mut right) = Link::pair(&LinkConfig::default()).expect("memory for a link");
        let messages = vec![vec![7; size]; 64];
        group.throughput(Throughput::Elements(64));
        group.bench_with_input(
            BenchmarkId::from_parameter(size),
            &messages,
            |bencher, messages| {
                bencher.iter(|| {
                    left.sender.send_batch(black_box(messages), WAIT).expect("there is room");
                    while let Some(message) = right.try_recv().expect("the link is open") {
                        black_box(message.read_u64(0));
                    }
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, send_and_receive, batches);
criterion_main!(benches);
