use std::{
    error::Error,
    time::{Duration, Instant},
};

use serde::Serialize;
use shm_transport::Link;

use super::{
    pair::{Pair, PeerOptions, Side, Workload, join},
    rings::Ring,
};

const WAIT: Duration = Duration::from_secs(30);
/// Turns that are not counted.
const WARM_UP: usize = 3;

/// Options of `shmctl bench stream`.
#[derive(clap::Args)]
pub struct Options {
    /// Bytes in a message, up to 16 MiB.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    size: u32,
    /// Messages in a batch.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Turns to measure.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Print one JSON object on the last line.
    #[arg(long)]
    json: bool,
}

/// Millions of messages per second: the median turn, and the slowest and fastest quarter's
/// bounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Rate {
    p50: f64,
    p25: f64,
    p75: f64,
}

#[derive(Serialize)]
struct Report {
    size: usize,
    batch: usize,
    /// Medians, beside the better of the two rings.
    ratio_one_by_one: f64,
    ratio_batched: f64,
    one_by_one_mps: Rate,
    batched_mps: Rate,
    ring_with_index_mps: Rate,
    ring_with_commit_word_mps: Rate,
}

fn messages(size: usize) -> usize {
    ((64 << 20) / size.max(64)).clamp(64, 400_000)
}

/// Measures.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let (size, batch) = (options.size as usize, options.batch as usize);
    let turns = options.turns as usize + WARM_UP;
    let mut pair = Pair::start(Workload::Stream, size, messages(size), turns)?;
    let mut rates: [Vec<f64>; 4] = Default::default();
    for turn in 0..turns {
        for kind in 0..rates.len() {
            let start = Instant::now();
            send(kind, &mut pair.side, size, batch)?;
            let end = (turn * rates.len() + kind + 1) as u64;
            while pair.side.floor.said() != end {
                std::hint::spin_loop();
            }
            let rate = messages(size) as f64 / start.elapsed().as_secs_f64() / 1e6;
            if let Some(rates) = rates.get_mut(kind).filter(|_| turn >= WARM_UP) {
                rates.push(rate);
            }
        }
    }
    pair.finish()?;
    let [one_by_one, batched, index, commit] = rates.map(median);
    let best = index.p50.max(commit.p50);
    let report = Report {
        size,
        batch,
        ratio_one_by_one: one_by_one.p50 / best,
        ratio_batched: batched.p50 / best,
        one_by_one_mps: one_by_one,
        batched_mps: batched,
        ring_with_index_mps: index,
        ring_with_commit_word_mps: commit,
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn median(mut rates: Vec<f64>) -> Rate {
    rates.sort_by(f64::total_cmp);
    let at = |quarter: usize| rates.get(rates.len() * quarter / 4).copied().unwrap_or_default();
    Rate { p50: at(2), p25: at(1), p75: at(3) }
}

fn send(kind: usize, side: &mut Side, size: usize, batch: usize) -> Result<(), Box<dyn Error>> {
    let (count, mut payload) = (messages(size), vec![0; size]);
    // Every byte of every message is written anew.
    let fill = |payload: &mut [u8], number: usize| payload.fill(number as u8);
    match kind {
        0 => {
            for number in 0..count {
                fill(&mut payload, number);
                side.link.send(&payload, WAIT)?;
            }
        }
        1 => {
            // As many of the largest as there is memory for.
            let batch = batch.min((8 << 20) / size).max(1);
            let mut payloads = vec![payload; batch];
            for first in (0..count).step_by(batch) {
                let payloads = payloads.get_mut(..batch.min(count - first)).unwrap_or_default();
                for (number, payload) in payloads.iter_mut().enumerate() {
                    fill(payload, first + number);
                }
                side.link.sender.send_batch(payloads, WAIT)?;
            }
        }
        2 => send_by_ring(&mut side.index, &mut payload, count, fill),
        _ => send_by_ring(&mut side.commit, &mut payload, count, fill),
    }
    Ok(())
}

fn send_by_ring(
    ring: &mut Ring,
    payload: &mut [u8],
    count: usize,
    fill: impl Fn(&mut [u8], usize),
) {
    for number in 0..count {
        fill(payload, number);
        ring.send(payload);
    }
}

/// Receives everything, and says so after each turn of each kind.
pub fn run_peer(options: &PeerOptions) -> Result<(), Box<dyn Error>> {
    let mut side = join(options)?;
    let mut payload = vec![0; options.size];
    let mut turns = 0;
    for _ in 0..options.rounds {
        for kind in 0..4 {
            match kind {
                0 | 1 => receive(&mut side.link, &mut payload, options.burst)?,
                2 => (0..options.burst).for_each(|_| side.index.receive(&mut payload)),
                _ => (0..options.burst).for_each(|_| side.commit.receive(&mut payload)),
            }
            turns += 1;
            side.floor.say(turns);
        }
    }
    Ok(())
}

fn receive(link: &mut Link, payload: &mut [u8], count: usize) -> Result<(), Box<dyn Error>> {
    for _ in 0..count {
        link.recv_into(payload, WAIT)?;
    }
    Ok(())
}

fn print(report: &Report) {
    let Report { size, batch, ratio_one_by_one, ratio_batched, .. } = report;
    println!(
        "messages of {size} bytes, one way: {ratio_one_by_one:.2} × the better ring one by one, \
         {ratio_batched:.2} × in batches of {batch}"
    );
    println!("{:>28} {:>8} {:>8} {:>8}", "million messages per second", "25 %", "median", "75 %");
    for (name, rate) in [
        ("link, one by one", report.one_by_one_mps),
        ("link, batched", report.batched_mps),
        ("ring with an index", report.ring_with_index_mps),
        ("ring with commit words", report.ring_with_commit_word_mps),
    ] {
        println!("{name:>28} {:>8.2} {:>8.2} {:>8.2}", rate.p25, rate.p50, rate.p75);
    }
}
