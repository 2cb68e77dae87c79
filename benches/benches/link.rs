//! One operation at a time, both ends in one thread: what the code itself costs, without
//! a cache line that moves.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::{hint::black_box, thread, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shm_transport::{Guest, Host, Link, LinkConfig};

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
    for size in [8, 16, 64, 256] {
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

/// The message is written in place, inline and in a slot.
fn grants(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("link/grant, commit and receive");
    for size in [8, 64, 1024, 16384, 1 << 20] {
        let (mut left, mut right) = Link::pair(&LinkConfig::default()).expect("memory for a link");
        let mut buffer = vec![0; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let mut grant = left.sender.grant(size, WAIT).expect("there is room");
                grant.fill(black_box(7));
                grant.commit().expect("the link is open");
                right.recv_into(&mut buffer, WAIT).expect("there is a message")
            });
        });
    }
    group.finish();
}

/// Both ends made and dropped, without and with a rendezvous.
fn attach(criterion: &mut Criterion) {
    criterion.bench_function("link/pair, drop", |bencher| {
        bencher.iter(|| Link::pair(&LinkConfig::default()).expect("memory for a link"));
    });
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("hub");
    let mut host = Host::create(&path).expect("a host");
    criterion.bench_function("link/attach, accept, drop", |bencher| {
        bencher.iter(|| {
            thread::scope(|scope| {
                let guest = scope.spawn(|| Guest::attach(&path, WAIT).expect("a host"));
                let link = host.accept(WAIT).expect("a guest");
                (guest.join().expect("attached"), link)
            })
        });
    });
}

criterion_group!(benches, send_and_receive, grants, batches, attach);
criterion_main!(benches);
