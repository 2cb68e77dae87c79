//! The state that processes share, one operation at a time, in one thread: topics and
//! fleets.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::{hint::black_box, thread, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use shm_transport::{
    Fleet, Guest, Host, Start, TopicConfig,
    fleet::{self, RingConfig},
};

const WAIT: Duration = Duration::from_secs(1);
const SIZES: [usize; 4] = [8, 64, 1024, 4096];

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast");
    for size in SIZES {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hub");
        let topic = TopicConfig { slots: 64, max_payload: size as u64 };
        let mut host = Host::builder().topic("values", topic).create(&path).expect("a host");
        let guest = thread::spawn(move || Guest::attach(path, WAIT).expect("a host"));
        let _link = host.accept(WAIT).expect("a guest");
        let guest = guest.join().expect("attached");
        let mut publisher = host.hub().publisher("values").expect("a topic");
        let mut subscriber = guest.subscribe("values", Start::Next).expect("a topic");
        let value = vec![7; size];
        group.bench_function(BenchmarkId::new("publish", size), |bencher| {
            bencher.iter(|| publisher.publish(black_box(&value)).expect("it fits"));
        });
        subscriber.seek(Start::Next);
        group.bench_function(BenchmarkId::new("publish and next", size), |bencher| {
            bencher.iter(|| {
                publisher.publish(black_box(&value)).expect("it fits");
                subscriber.try_next().expect("the host is there").expect("a value").position
            });
        });
        group.bench_function(BenchmarkId::new("newest", size), |bencher| {
            bencher.iter(|| subscriber.newest().expect("nobody writes").expect("one").position);
        });
    }
    group.finish();
}

fn fleets(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let fleet = Fleet::builder().directory(directory.path()).join("bench", 0).expect("a node");
    let config = RingConfig { max_payload: 4096, ..RingConfig::default() };
    let ring = fleet.ring(1, &config).expect("a ring");
    let mut group = criterion.benchmark_group("fleet");
    for size in SIZES {
        let payload = vec![7; size];
        group.bench_function(BenchmarkId::new("publish", size), |bencher| {
            bencher.iter(|| ring.publish(0, 1, black_box(&payload)).expect("it fits"));
        });
        let mut cursor = ring.cursor(fleet::Start::Next);
        group.bench_function(BenchmarkId::new("publish and next", size), |bencher| {
            bencher.iter(|| {
                ring.publish(0, 1, black_box(&payload)).expect("it fits");
                cursor.next().expect("an honest ring").expect("a frame")
            });
        });
        group.bench_function(BenchmarkId::new("newest", size), |bencher| {
            bencher.iter(|| ring.read_newest().expect("nobody writes").expect("a frame"));
        });
    }
    group.finish();
}

criterion_group!(benches, broadcast, fleets);
criterion_main!(benches);
