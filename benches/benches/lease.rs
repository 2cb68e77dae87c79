//! What leases cost, beside the floor: one system call that looks at a file.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::fs::{self, File};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use shm_transport::Lease;

fn lease(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    fs::write(&path, "contents").expect("a data file");
    let file = File::open(&path).expect("a data file");
    let mut group = criterion.benchmark_group("lease");
    group.bench_function("floor: fstat", |bencher| {
        bencher.iter(|| file.metadata().expect("a file"));
    });
    group.bench_function("open as owner, drop", |bencher| {
        bencher.iter(|| Lease::open(&path).expect("the owner"));
    });
    let mut owner = Lease::open(&path).expect("the owner");
    group.bench_function("open attached, drop", |bencher| {
        bencher.iter(|| Lease::open(&path).expect("attached"));
    });
    group.bench_function("beat", |bencher| bencher.iter(|| owner.beat().expect("alive")));
    group.bench_function("read_header", |bencher| {
        bencher.iter(|| Lease::read_header(&path).expect("a header"));
    });
    group.bench_function("attach a reader, drop", |bencher| {
        bencher.iter(|| owner.attach_reader(7).expect("a slot"));
    });
    let mut position = 0;
    let mut reader = owner.attach_reader(position).expect("a slot");
    group.bench_function("pin", |bencher| {
        bencher.iter(|| {
            position += 1;
            reader.pin(position).expect("pinned");
        });
    });
    drop(reader);
    for readers in [0, 1, 8, 64] {
        let held: Vec<_> =
            (0..readers).map(|at| owner.attach_reader(at).expect("a slot")).collect();
        group.bench_function(BenchmarkId::new("oldest_pin", readers), |bencher| {
            bencher.iter(|| owner.oldest_pin().expect("an answer"));
        });
        drop(held);
    }
    group.finish();
}

criterion_group!(benches, lease);
criterion_main!(benches);
