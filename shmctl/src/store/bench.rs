//! `shmctl store bench`: appends from several processes at once, from one, and beside them
//! what redb alone gives with one durable transaction for each append, in the same directory.
//! What is compared takes turns, for a disk is not always as fast.

mod appenders;
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

use self::{appenders::Appenders, floor::Syncs, worker::Worker};

/// Turns of each of those that are compared.
const TURNS: u32 = 8;

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

    /// How long an append at most looks for its answer before it sleeps, in microseconds
    #[arg(long, value_name = "MICROSECONDS",
          default_value_t = StoreOptions::default().spin.as_micros() as u64)]
    spin: u64,

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
    /// The median of the turns, and a quarter and three quarters of them.
    times_redb: f64,
    times_redb_quartiles: [f64; 2],
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
        worker::run(&options.directory, role, options.size, Duration::from_micros(options.spin))?;
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
    let turn = options.seconds / TURNS;

    let mut syncs = Syncs::new(&at("log"), options.size)?;
    let mut one = Appenders::start(options, &at("one"), 1)?;
    for _ in 0..TURNS {
        syncs.turn(turn / 3)?;
        one.turn(turn)?;
    }
    let one = one.end()?;

    // In a process of its own: what it writes is not counted.
    let mut redb = Worker::start(&at("redb"), "redb", options)?;
    let mut many = Appenders::start(options, &at("many"), options.processes)?;
    let (mut redb_appends, mut times_redb) = (0, Vec::new());
    redb.ready()?;
    for _ in 0..TURNS {
        redb.go(turn)?;
        let alone = redb.times()?.len();
        let together = many.turn(turn)?;
        redb_appends += alone;
        times_redb.push(together as f64 / alone as f64);
    }
    let many = many.end()?;
    times_redb.sort_unstable_by(f64::total_cmp);

    let read = reading(options, &at("read"))?;
    Ok(Report {
        processes: options.processes,
        size: options.size,
        appends_per_s: many.times.len() as f64 / options.seconds.as_secs_f64(),
        appends_per_sync: many.per_sync,
        bytes_written_per_append: many.bytes,
        p50_us: microseconds(&many.times, 50),
        p99_us: microseconds(&many.times, 99),
        redb_appends_per_s: redb_appends as f64 / options.seconds.as_secs_f64(),
        times_redb: percentile(&times_redb, 50).unwrap_or(f64::NAN),
        times_redb_quartiles: [25, 75].map(|q| percentile(&times_redb, q).unwrap_or(f64::NAN)),
        one_appends_per_s: one.times.len() as f64 / options.seconds.as_secs_f64(),
        one_p50_us: microseconds(&one.times, 50),
        one_p99_us: microseconds(&one.times, 99),
        fdatasync_p50_us: microseconds(&syncs.times(), 50),
        read_gb_per_s: read,
    })
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
    let mut worker = Worker::start(directory, "read stream", options)?;
    worker.ready()?;
    worker.go(options.seconds)?;
    let times = worker.times()?;
    let best = times.iter().min().copied().unwrap_or(u64::MAX);
    Ok((count / 256 * 256 * ENTRY) as f64 / best as f64)
}

/// A percentile of times in nanoseconds, in microseconds.
fn microseconds(sorted: &[u64], percent: usize) -> f64 {
    percentile(sorted, percent).map_or(f64::NAN, |nanoseconds| nanoseconds as f64 / 1000.0)
}

fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied()
}

fn print(report: &Report) {
    let Report { processes, size, .. } = report;
    println!("{processes} processes append entries of {size} bytes, one by one:");
    let [low, high] = report.times_redb_quartiles;
    println!("  {:.0} appends/s, {:.1} times redb alone", report.appends_per_s, report.times_redb);
    println!(
        "  ({low:.1} to {high:.1} in half of the turns; redb {:.0}/s)",
        report.redb_appends_per_s
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
