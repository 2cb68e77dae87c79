use std::{
    error::Error,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    pair::{Pair, PeerOptions, Side, Workload, join},
    report::{Percentiles, Times},
};

const WAIT: Duration = Duration::from_secs(10);
/// Round trips of one kind before the other takes its turn.
const BURST: usize = 1000;
/// Turns that are not counted.
const WARM_UP: usize = 5;

/// Options of `shmctl bench pingpong`.
#[derive(clap::Args)]
pub struct Options {
    /// Bytes in a message, up to 256 MiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=256 << 20))]
    size: u32,
    /// Round trips to measure, of the library and of the floor each.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1..))]
    round_trips: u32,
    /// Print one JSON object on the last line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    size: usize,
    rtt_ns: Percentiles,
    floor_ns: Percentiles,
    ratio_p50: f64,
}

/// Measures.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let size = options.size as usize;
    let rounds = (options.round_trips as usize).div_ceil(BURST) + WARM_UP;
    let mut pair = Pair::start(Workload::Pingpong, size, BURST, rounds)?;
    let mut payload = vec![0; size];
    let (mut link, mut floor) = (Times::new(), Times::new());
    for round in 0..rounds {
        if round == WARM_UP {
            link.clear();
            floor.clear();
        }
        over_link(&mut pair.side, &mut payload, &mut link)?;
        over_floor(&mut pair.side, &mut payload, &mut floor);
    }
    pair.finish()?;
    let (rtt_ns, floor_ns) = (link.percentiles(), floor.percentiles());
    let ratio_p50 = rtt_ns.p50 as f64 / floor_ns.p50 as f64;
    let report = Report { size, rtt_ns, floor_ns, ratio_p50 };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn over_link(side: &mut Side, payload: &mut [u8], times: &mut Times) -> Result<(), Box<dyn Error>> {
    let mut start = Instant::now();
    for _ in 0..BURST {
        side.link.send(payload, WAIT)?;
        side.link.recv_into(payload, WAIT)?;
        let end = Instant::now();
        times.record((end - start).as_nanos() as u64);
        start = end;
    }
    Ok(())
}

fn over_floor(side: &mut Side, payload: &mut [u8], times: &mut Times) {
    let mut start = Instant::now();
    for _ in 0..BURST {
        side.floor.send(payload);
        side.floor.receive(payload);
        let end = Instant::now();
        times.record((end - start).as_nanos() as u64);
        start = end;
    }
}

/// Answers every message, of both kinds in turn.
pub fn run_peer(options: &PeerOptions) -> Result<(), Box<dyn Error>> {
    let mut side = join(options)?;
    let mut payload = vec![0; options.size];
    for _ in 0..options.rounds {
        for _ in 0..options.burst {
            side.link.recv_into(&mut payload, WAIT)?;
            side.link.send(&payload, WAIT)?;
        }
        for _ in 0..options.burst {
            side.floor.receive(&mut payload);
            side.floor.send(&payload);
        }
    }
    Ok(())
}

fn print(report: &Report) {
    let Report { size, rtt_ns, floor_ns, ratio_p50 } = report;
    println!("round trip of {size} bytes between two processes: {ratio_p50:.2} × the floor");
    println!("{:>10} {:>10} {:>10} {:>10}", "ns", "median", "99 %", "99.9 %");
    for (name, times) in [("link", rtt_ns), ("floor", floor_ns)] {
        println!("{name:>10} {:>10} {:>10} {:>10}", times.p50, times.p99, times.p999);
    }
}
