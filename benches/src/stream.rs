use std::time::Duration;

use serde::Serialize;

use crate::{
    far::Task,
    floors::STREAM_FLOORS,
    options::Common,
    plot::{Chart, Curve},
    report::Quartiles,
    round::Round,
    system::{Error, System, Workload},
};

/// Turns that are not counted; the first one is short, the others tell how many messages
/// go into a turn.
const WARM_UP: usize = 3;
/// About how long a turn takes.
const TURN: Duration = Duration::from_millis(5);
/// At least so many messages are in a turn.
const LEAST: usize = 16;
/// Bytes in the messages of a batch, at most.
const BATCH_BYTES: usize = 8 << 20;

/// Options of `bench stream`.
#[derive(clap::Args)]
pub struct Options {
    /// Turns of each system at each size, one by one and in batches, of about 5 ms each.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Messages in a batch, of at most 8 MiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    #[command(flatten)]
    common: Common,
}

/// One system at one size.
#[derive(Serialize)]
struct Row {
    workload: &'static str,
    system: &'static str,
    size: usize,
    one_by_one: Rate,
    /// Messages in a batch.
    batch: usize,
    batched: Rate,
}

#[derive(Clone, Copy, Serialize)]
struct Rate {
    /// Its median by that of the better of the two rings, both in this way.
    ratio: f64,
    /// The same for each turn, with the ring that is better on the whole.
    ratio_of_turns: Quartiles,
    /// Million messages per second.
    mps: Quartiles,
    /// 10⁹ bytes per second.
    gbps: Quartiles,
}

/// Messages per second of each turn, one by one and in batches.
type Rates = [Vec<f64>; 2];

/// Measures.
pub fn run(options: &Options, peers: &[&dyn System], path: &[&str]) -> Result<(), Error> {
    let Options { turns, batch, common } = options;
    let systems = common.systems(peers)?;
    let mut rows = Vec::new();
    for size in common.sizes() {
        let batch = (*batch as usize).min(BATCH_BYTES / size).max(1);
        let of_size = measure(&systems, path, size, batch, *turns as usize)?;
        if common.json {
            for row in &of_size {
                println!("{}", serde_json::to_string(row)?);
            }
        } else {
            print(size, batch, &of_size);
        }
        rows.extend(of_size);
    }
    match &common.plot {
        Some(file) => chart(&rows).draw(file),
        None => Ok(()),
    }
}

fn measure(
    systems: &[&dyn System],
    path: &[&str],
    size: usize,
    batch: usize,
    turns: usize,
) -> Result<Vec<Row>, Error> {
    Round::with(systems, path, (Workload::Stream, size), |round| {
        let systems = round.systems();
        let mut rates: Vec<Rates> = systems.iter().map(|_| Rates::default()).collect();
        let short = ((1 << 20) / size).clamp(LEAST, 1000);
        let mut counts = vec![[short; 2]; systems.len()];
        let mut messages = vec![vec![0; size]; batch];
        for turn in 0..WARM_UP + turns {
            for lane in round.lanes() {
                for kind in [0, 1] {
                    let count = counts[lane][kind];
                    let time = if kind == 0 {
                        round.turn(lane, Task::Receive, count, |near, first| {
                            near.send(&mut messages[0], first, count)
                        })?
                    } else {
                        round.turn(lane, Task::ReceiveBatches(batch), count, |near, first| {
                            near.send_batches(&mut messages, first, count)
                        })?
                    };
                    let rate = count as f64 / time.as_secs_f64();
                    if turn < WARM_UP {
                        counts[lane][kind] = ((rate * TURN.as_secs_f64()) as usize).max(LEAST);
                    } else {
                        rates[lane][kind].push(rate);
                    }
                }
            }
        }
        Ok(rows(size, batch, &systems, &rates))
    })
}

fn rows(size: usize, batch: usize, systems: &[&dyn System], rates: &[Rates]) -> Vec<Row> {
    let median = |rates: &[f64]| Quartiles::of(rates.iter().copied()).p50;
    // The better of the two rings, one by one and in batches.
    let floors = [0, 1].map(|kind| {
        let rings = systems.iter().zip(rates);
        let rings = rings.filter(|(system, _)| STREAM_FLOORS.contains(&system.name()));
        let rings = rings.map(|(_, rates)| &rates[kind]);
        rings.max_by(|a, b| median(a).total_cmp(&median(b))).cloned().unwrap_or_default()
    });
    let rate = |rates: &Rates, kind: usize| {
        let (own, floor) = (&rates[kind], &floors[kind]);
        let quartiles = Quartiles::of(own.iter().copied());
        Rate {
            ratio: quartiles.p50 / median(floor),
            ratio_of_turns: Quartiles::of(own.iter().zip(floor).map(|(own, floor)| own / floor)),
            mps: quartiles.scaled(1e-6),
            gbps: quartiles.scaled(size as f64 * 1e-9),
        }
    };
    let row = |(system, rates): (&&dyn System, &Rates)| Row {
        workload: "stream",
        system: system.name(),
        size,
        one_by_one: rate(rates, 0),
        batch,
        batched: rate(rates, 1),
    };
    systems.iter().zip(rates).map(row).collect()
}

fn print(size: usize, batch: usize, rows: &[Row]) {
    println!("messages of {size} bytes one way: × the better ring, of each turn");
    println!(
        "{:>7} {:>15}  {:28} {:>12} {:>9} {:>9} {:>9} {:>9}",
        "median", "of turns", "", "", "25 %", "median", "75 %", "GB/s"
    );
    let batches = format!("{batch} at once");
    for row in rows {
        for (rate, how) in [(row.one_by_one, "one by one"), (row.batched, &batches)] {
            let (turns, mps) = (rate.ratio_of_turns, rate.mps);
            println!(
                "{:>7.2} {:>5.2} {:.2}–{:.2}  {:28} {:>12} {:>9.3} {:>9.3} {:>9.3} {:>9.3}",
                rate.ratio,
                turns.p50,
                turns.p25,
                turns.p75,
                row.system,
                how,
                mps.p25,
                mps.p50,
                mps.p75,
                rate.gbps.p50
            );
        }
    }
    println!("(million messages per second)\n");
}

fn chart(rows: &[Row]) -> Chart {
    let mut curves: Vec<Curve> = Vec::new();
    for row in rows {
        Curve::add(&mut curves, row.system, false, (row.size, row.one_by_one.gbps.p50));
        Curve::add(&mut curves, row.system, true, (row.size, row.batched.gbps.p50));
    }
    Chart {
        title: "Messages one way; dashed: in batches",
        unit: "gigabytes per second, median",
        curves,
    }
}
