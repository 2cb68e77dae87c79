use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use crate::{
    far::Task,
    floors::{FLOORS, FutexWake, crossing, disk},
    patience::stopwatch,
    pingpong,
    processors::{pin, two_processors},
    report::{Percentiles, Times},
    round::Round,
    system::{Error, System, Workload},
};

/// Messages that are passed to and fro.
const SIZES: [usize; 5] = [8, 64, 256, 1024, 4096];
/// What is read across the processors.
const BUFFERS: [usize; 8] = [64, 256, 1024, 4096, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// Bytes of a cache line.
const LINE: usize = 64;
/// How long a process is left alone, so that it sleeps and its processor does, too.
const PAUSE: Duration = Duration::from_micros(100);
const WARM_UP: usize = 20;

/// Options of `bench floors`.
#[derive(clap::Args)]
pub struct Options {
    /// Round trips of each kind and size; a hundredth as many wakes and reads.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    round_trips: u32,
    /// Writes to the disk.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    writes: u32,
    /// Where the file for them is made; it has no name. The default is the directory for
    /// temporary files, which may not be on a disk.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Print JSON: one object on a line for each floor.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    workload: &'static str,
    floor: &'static str,
    size: usize,
    ns: Percentiles,
    /// Of reading across the processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    gbps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ns_per_line: Option<f64>,
}

impl Row {
    fn new(floor: &'static str, size: usize, times: impl IntoIterator<Item = u64>) -> Self {
        let ns = times.into_iter().collect::<Times>().percentiles();
        Self { workload: "floors", floor, size, ns, gbps: None, ns_per_line: None }
    }
}

/// Measures.
pub fn run(options: &Options, path: &[&str]) -> Result<(), Error> {
    let Options { round_trips, writes, directory, json } = options;
    let few = (*round_trips as usize).div_ceil(100);
    let directory = directory.clone().unwrap_or_else(std::env::temp_dir);
    // First, as it may fail.
    let appends = disk::append_and_sync(&directory, *writes as usize)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut rows = Vec::new();
    for size in SIZES {
        for row in pingpong::measure(&FLOORS, path, size, *round_trips as usize)? {
            let (floor, ns) = (row.system, row.rtt_ns);
            rows.push(Row { workload: "floors", floor, size, ns, gbps: None, ns_per_line: None });
        }
    }
    let (here, there) = two_processors()?;
    pin(here)?;
    rows.push(Row::new("reading the clock", 0, clock(few)));
    for size in BUFFERS {
        let times = crossing::read_what_the_other_wrote(size, WARM_UP + few, there)?;
        let mut row = Row::new("read from the other processor", size, times[WARM_UP..].to_vec());
        row.gbps = Some(size as f64 / row.ns.p50 as f64);
        row.ns_per_line = Some(row.ns.p50 as f64 / (size / LINE) as f64);
        rows.push(row);
    }
    rows.push(Row::new(FutexWake.name(), 0, wakes(path, few)?));
    rows.push(Row::new("append and fdatasync", 4096, appends));
    if *json {
        for row in &rows {
            println!("{}", serde_json::to_string(row)?);
        }
    } else {
        print(&rows);
    }
    Ok(())
}

fn clock(count: usize) -> Vec<u64> {
    let mut lap = stopwatch();
    (0..count).map(|_| lap()).collect()
}

/// How long it takes until a process runs that was woken.
fn wakes(path: &[&str], count: usize) -> Result<Vec<u64>, Error> {
    Round::with(&[&FutexWake], path, (Workload::Wake, 8), |round| {
        let mut times = vec![0; WARM_UP + count];
        round.turn(0, Task::Echo, times.len(), |near, first| {
            near.ping(&mut [0; 8], first, PAUSE, &mut times)
        })?;
        Ok(times.split_off(WARM_UP))
    })
}

fn print(rows: &[Row]) {
    println!(
        "{:30} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "nanoseconds", "bytes", "25 %", "median", "75 %", "99 %", "99.9 %"
    );
    for Row { floor, size, ns, gbps, ns_per_line, .. } in rows {
        print!(
            "{floor:30} {size:>9} {:>10} {:>10} {:>10} {:>10} {:>10}",
            ns.p25, ns.p50, ns.p75, ns.p99, ns.p999
        );
        if let (Some(gbps), Some(ns)) = (gbps, ns_per_line) {
            print!("  {gbps:.2} GB/s, {ns:.1} ns a line");
        }
        println!();
    }
}
