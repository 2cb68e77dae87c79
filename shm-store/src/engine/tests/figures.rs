//! What things cost: bytes on the disk, memory, and time, which is printed.

use std::{process::Stdio, sync::atomic::AtomicU64, time::Instant};

use super::*;

const PAGE: u64 = 4096;

/// What was written to a disk.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    /// In whole pages, as each write touches them.
    paged: AtomicU64,
    syncs: AtomicU64,
}

impl Counts {
    fn count(&self, step: &Step<'_>) {
        match step {
            Step::Write { at, bytes, .. } => {
                let len = bytes.len() as u64;
                let paged = (at + len).next_multiple_of(PAGE) - at / PAGE * PAGE;
                self.bytes.fetch_add(len, Ordering::Relaxed);
                self.paged.fetch_add(paged, Ordering::Relaxed);
            }
            Step::Sync | Step::SyncDir => {
                self.syncs.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn now(&self) -> [u64; 3] {
        [&self.bytes, &self.paged, &self.syncs].map(|count| count.load(Ordering::Relaxed))
    }
}

#[test]
fn an_append_of_100_bytes_writes_less_than_1_kb_with_checkpoints() {
    let appends = amount("SHM_TEST_STORE_APPENDS", 24_000);
    for group in [6, 8] {
        let counts = Arc::<Counts>::default();
        let counting = Arc::clone(&counts);
        let fs = Watched::new(SimulatedFs::default(), move |step| counting.count(&step));
        let options =
            Options { segment_bytes: 1 << 20, memory_bytes: 1 << 20, ..Options::default() };
        let mut bench = Bench::on(fs, Path::new("/store"), options).expect("a new store");
        for number in 0..group {
            bench.create(&format!("stream-{number}"));
        }
        let text = "x".repeat(100);
        let written = |bench: &mut Bench, count| {
            for _ in 0..count / group {
                let batch = (0..group).map(|number| append(&format!("stream-{number}"), &[&text]));
                for result in bench.commit(batch) {
                    result.expect("appended");
                }
            }
        };
        // Segments of the log are written with zeros, once; then they are used again.
        written(&mut bench, 48_000);
        bench.engine().checkpoint().expect("a checkpoint");
        let before = counts.now();
        written(&mut bench, appends);
        bench.engine().checkpoint().expect("a checkpoint");
        let after = counts.now();
        let each = |index: usize| (after[index] - before[index]) as f64 / appends as f64;
        println!(
            "groups of {group}: {:.0} bytes an append, {:.0} in whole pages, {:.2} syncs",
            each(0),
            each(1),
            each(2)
        );
        assert!(each(0) < 1024.0);
    }
}

#[test]
fn memory_is_bounded_by_the_options_and_not_by_the_store() {
    // In a process of its own, whose memory nothing else fills.
    if itself::role().is_none() {
        let test = "::memory_is_bounded_by_the_options_and_not_by_the_store";
        let mut owner = itself::command(&[module_path!(), test].concat(), "owner");
        let output = owner.stdout(Stdio::piped()).output().expect("a process");
        println!("{}", String::from_utf8_lossy(&output.stdout));
        return assert!(output.status.success());
    }
    let entries = amount("SHM_TEST_STORE_ENTRIES", 50_000);
    let options = Options { memory_bytes: 1 << 20, cache_bytes: 16 << 20, ..Options::default() };
    let mut bench = Bench::new(options);
    let text = "x".repeat(100);
    for number in 0..16 {
        bench.create(&format!("stream-{number}"));
    }
    let began = Instant::now();
    for number in 0..entries / 100 {
        let hundred = [&*text; 100];
        bench.append(&format!("stream-{}", number % 16), &hundred).expect("appended");
        let memory = bench.engine().view().stat().memory;
        assert!(memory < 3 << 20, "{memory}");
    }
    println!(
        "{entries} entries in {:?}; the process has had {} kB at most",
        began.elapsed(),
        most_memory()
    );
    assert_eq!(bench.verify(), [""; 0]);
    bench.reopen();
    println!("after verifying and opening again: {} kB at most", most_memory());
    assert!(most_memory() < 256_000);
}

#[test]
fn a_long_log_is_recovered_within_bounded_memory() {
    let megabytes = amount("SHM_TEST_STORE_LOG", 8);
    let mut bench = Bench::new(Options { memory_bytes: u64::MAX, ..Options::default() });
    let text = "x".repeat(1000);
    bench.create("a");
    for _ in 0..megabytes {
        bench.append("a", &[&*text; 1000]).expect("appended");
    }
    bench.options.memory_bytes = 16 << 20;
    bench.engine = None;
    let began = Instant::now();
    bench.reopen();
    println!("a log of {megabytes} MB was recovered in {:?}", began.elapsed());
    assert!(bench.engine().view().stat().memory < 32 << 20);
    let began = Instant::now();
    bench.engine = None;
    println!("closed in {:?}", began.elapsed());
    let began = Instant::now();
    bench.reopen();
    println!("and opened again in {:?}", began.elapsed());
    let began = Instant::now();
    let (mut from, mut entries) = (From::Start, 0);
    loop {
        let page =
            bench.engine().view().read("a", None, from, 1 << 20, usize::MAX).expect("a page");
        entries += page.entries.len() as u64;
        from = From::Offset(page.next);
        if page.up_to_date {
            break;
        }
    }
    println!("and read in {:?}", began.elapsed());
    assert_eq!(entries, megabytes * 1000);
}

/// The most memory that this process has had so far, in kB.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a field");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
