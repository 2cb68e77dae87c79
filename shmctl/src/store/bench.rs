//! `shmctl store bench`: appends from several processes at once, from one, and beside them
//! what redb alone gives with one durable transaction for each append, in the same directory.

mod floor;
mod worker;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;
use shm_store::{Options as StoreOptions, Store, StreamConfig};

use self::worker::Worker;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Options of `bench`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Where to put the stores that are measured: what matters is the disk
    #[arg(value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,

    /// How many processes append
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    processes: u16,

    /// Bytes of each entry
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    size: usize,

    /// How long each part is measured
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = super::seconds)]
    seconds: Duration,

    /// Megabytes of entries that are read by another process
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    read_mib: usize,

    /// Bytes of changes that are kept in memory before a checkpoint, in KiB
    #[arg(long, value_name = "KIB", default_value_t = StoreOptions::default().memory_bytes >> 10)]
    memory_kib: u64,

    /// Bytes of a segment of the log, in KiB
    #[arg(long, value_name = "KIB", default_value_t = StoreOptions::default().segment_bytes >> 10)]
    segment_kib: u64,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// What this process is, if not the one that measures
    #[arg(long, hide = true)]
    worker: Option<String>,
}

/// What was measured. Times are in microseconds.
#[derive(Debug, Serialize)]
struct Report {
    processes: u16,
    size: usize,
    appends_per_s: f64,
    appends_per_sync: f64,
    bytes_written_per_append: f64,
    p50_us: f64,
    p99_us: f64,
    redb_appends_per_s: f64,
    times_redb: f64,
    /// One process that appends.
    one_appends_per_s: f64,
    one_p50_us: f64,
    one_p99_us: f64,
    fdatasync_p50_us: f64,
    read_gb_per_s: f64,
}

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(role) = &options.worker {
        worker::run(&options.directory, role, options.size, options.seconds)?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = measure(options)?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(options: &Options) -> Result<Report> {
    let directory = tempfile::tempdir_in(&options.directory)?;
    let at = |name: &str| directory.path().join(name);
    let redb = floor::redb_appends_per_s(&at("redb"), options.size, options.seconds)?;
    let sync = floor::fdatasync_p50(&at("log"), options.size, options.seconds / 3)?;
    let one = appends(options, &at("one"), 1)?;
    let many = appends(options, &at("many"), options.processes)?;
    let read = reading(options, &at("read"))?;
    Ok(Report {
        processes: options.processes,
        size: options.size,
        appends_per_s: many.per_s,
        appends_per_sync: many.per_sync,
        bytes_written_per_append: many.bytes,
        p50_us: many.p50,
        p99_us: many.p99,
        redb_appends_per_s: redb,
        times_redb: many.per_s / redb,
        one_appends_per_s: one.per_s,
        one_p50_us: one.p50,
        one_p99_us: one.p99,
        fdatasync_p50_us: sync,
        read_gb_per_s: read,
    })
}

/// Appends of some processes at once.
struct Appends {
    per_s: f64,
    per_sync: f64,
    bytes: f64,
    p50: f64,
    p99: f64,
}

/// This process owns the store and does nothing else.
fn appends(options: &Options, directory: &Path, processes: u16) -> Result<Appends> {
    let store_options = StoreOptions {
        memory_bytes: options.memory_kib << 10,
        segment_bytes: options.segment_kib << 10,
        ..StoreOptions::default()
    };
    warm_up(&Store::open_with(directory, store_options.clone())?, options)?;
    // Everything that was in memory is on the disk now.
    let store = Store::open_with(directory, store_options)?;
    let mut workers = Vec::new();
    for process in 0..processes {
        let stream = format!("stream-{process}");
        store.create(&stream, StreamConfig::default())?;
        let role = format!("append {stream}");
        workers.push(Worker::start(directory, &role, options.size, options.seconds)?);
    }
    for worker in &mut workers {
        worker.ready()?;
    }
    let (stat, bytes) = (store.stat()?, written()?);
    for worker in &mut workers {
        worker.go()?;
    }
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.times()?);
    }
    let end = store.stat()?;
    // With what is still in memory on its way to the disk.
    drop(store);
    let bytes = written()? - bytes;
    times.sort_unstable();
    let writes = (end.writes - stat.writes) as f64;
    Ok(Appends {
        per_s: times.len() as f64 / options.seconds.as_secs_f64(),
        per_sync: writes / (end.batches - stat.batches).max(1) as f64,
        bytes: bytes as f64 / writes,
        p50: percentile(&times, 50),
        p99: percentile(&times, 99),
    })
}

/// Has made what a store makes once: segments of the log, which are then used again and again,
/// and the first pages of the shards.
fn warm_up(store: &Store, options: &Options) -> Result<()> {
    const ENTRY: usize = 16 << 10;
    store.create("warm-up", StreamConfig::default())?;
    let bytes = (4 * (options.memory_kib + options.segment_kib)) << 10;
    for _ in 0..bytes / (16 * ENTRY as u64) {
        store.append_batch("warm-up", (0..16).map(|_| vec![b'x'; ENTRY]))?;
    }
    Ok(())
}

/// Reads everything in another process, once it was read before.
fn reading(options: &Options, directory: &Path) -> Result<f64> {
    const ENTRY: usize = 4 << 10;
    let store = Store::open(directory)?;
    store.create("stream", StreamConfig::default())?;
    let entry = vec![b'x'; ENTRY];
    let count = (options.read_mib << 20) / ENTRY;
    for _ in 0..count / 256 {
        store.append_batch("stream", (0..256).map(|_| entry.clone()))?;
    }
    let mut worker = Worker::start(directory, "read stream", 0, options.seconds)?;
    worker.ready()?;
    worker.go()?;
    let times = worker.times()?;
    let best = times.iter().min().copied().unwrap_or(u64::MAX);
    Ok((count / 256 * 256 * ENTRY) as f64 / best as f64)
}

/// In microseconds.
fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |&nanoseconds| nanoseconds as f64 / 1000.0)
}

/// Bytes that this process has had written to disks.
fn written() -> Result<u64> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no write_bytes in /proc/self/io")?.parse()?)
}

fn print(report: &Report) {
    let Report { processes, size, .. } = report;
    println!("{processes} processes append entries of {size} bytes, one by one:");
    println!(
        "  {:.0} appends/s, {:.1} times redb alone ({:.0}/s)",
        report.appends_per_s, report.times_redb, report.redb_appends_per_s
    );
    println!("  {:.1} appends for a sync", report.appends_per_sync);
    println!("  {:.0} bytes written for an append", report.bytes_written_per_append);
    println!("  {:.0} µs median, {:.0} µs p99", report.p50_us, report.p99_us);
    println!("one process:");
    println!(
        "  {:.0} µs median ({:.0} µs more than fdatasync), {:.0} µs p99, {:.0} appends/s",
        report.one_p50_us,
        report.one_p50_us - report.fdatasync_p50_us,
        report.one_p99_us,
        report.one_appends_per_s
    );
    println!("  {:.0} µs fdatasync alone", report.fdatasync_p50_us);
    println!("another process reads {:.2} GB/s", report.read_gb_per_s);
}
