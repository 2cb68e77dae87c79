//! One message to several guests, all ends in one thread: sealed once for all, beside a
//! message of its own for each.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shm_transport::{Link, LinkConfig, LinkSet, SlowGuest};

const WAIT: Duration = Duration::from_secs(1);

fn to_all(criterion: &mut Criterion) {
    for guests in [1, 4, 16] {
        let mut group = criterion.benchmark_group(format!("fan out/to {guests}"));
        for size in [64, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20] {
            let mut links = LinkSet::new().expect("a descriptor");
            let mut ends = Vec::new();
            for _ in 0..guests {
                let (left, right) = Link::pair(&LinkConfig::default()).expect("memory");
                links.insert(left).expect("memory");
                ends.push(right);
            }
            let message = vec![7; size];
            // What a receiver does with it at least: a look at each page.
            let look = |end: &mut Link| {
                let message = end.recv(WAIT).expect("there is a message");
                (0..message.len())
                    .step_by(4096)
                    .filter(|at| message.read_u8(*at) == Some(7))
                    .count()
            };
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new("send_to_all", size), |bencher| {
                bencher.iter(|| {
                    let slow = SlowGuest::Wait(WAIT.into());
                    let all = links.send_to_all(black_box(&message), slow).expect("memory");
                    assert_eq!(all.sent, guests);
                    ends.iter_mut().map(look).sum::<usize>()
                });
            });
            group.bench_function(BenchmarkId::new("send to each", size), |bencher| {
                bencher.iter(|| {
                    for (_, link) in links.iter_mut() {
                        link.send(black_box(&message), WAIT).expect("there is room");
                    }
                    ends.iter_mut().map(look).sum::<usize>()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, to_all);
criterion_main!(benches);
