use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    far::Task,
    floors::{ONE_LINE_FLOOR, PINGPONG_FLOOR, TWO_LINES_FLOOR},
    options::Common,
    plot::{Chart, Curve},
    report::{Percentiles, Quartiles, Times},
    round::Round,
    system::{Error, System, Workload},
};

/// Round trips of small messages in a turn, and bytes of larger ones.
const BURST: usize = 1000;
const BURST_BYTES: usize = 10 << 20;
/// Turns that are not counted.
const WARM_UP: usize = 3;

/// Options of `bench pingpong`.
#[derive(clap::Args)]
pub struct Options {
    /// Round trips of each system at each size: a turn for every thousand. The turns are
    /// shorter for messages of more than 10 KiB.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    round_trips: u32,
    #[command(flatten)]
    common: Common,
}

/// One system at one size.
#[derive(Serialize)]
pub struct Row {
    workload: &'static str,
    pub system: &'static str,
    pub size: usize,
    /// Its median by that of the floor.
    ratio: f64,
    /// The same for each turn.
    ratio_of_turns: Quartiles,
    ratio_p999: f64,
    /// Its median by those of the bare ping-pong of one line and of two, for the smallest
    /// messages.
    ratio_one_line: Option<f64>,
    ratio_two_lines: Option<f64>,
    round_trips: u64,
    pub rtt_ns: Percentiles,
}

/// What was measured of one system.
#[derive(Default)]
struct Measured {
    times: Times,
    /// The median of each turn.
    turns: Vec<f64>,
}

/// Measures.
pub fn run(options: &Options, peers: &[&dyn System], path: &[&str]) -> Result<(), Error> {
    let Options { round_trips, common } = options;
    let systems = common.systems(peers)?;
    let mut rows = Vec::new();
    for size in common.sizes() {
        let of_size = measure(&systems, path, size, *round_trips as usize)?;
        if common.json {
            for row in &of_size {
                println!("{}", serde_json::to_string(row)?);
            }
        } else {
            print(size, &of_size);
        }
        rows.extend(of_size);
    }
    match &common.plot {
        Some(file) => chart(&rows).draw(file),
        None => Ok(()),
    }
}

/// Measures all systems at one size, turn by turn.
pub fn measure(
    systems: &[&dyn System],
    path: &[&str],
    size: usize,
    round_trips: usize,
) -> Result<Vec<Row>, Error> {
    let turns = round_trips.div_ceil(BURST);
    let burst = (BURST_BYTES / size).clamp(2, BURST.min(round_trips.max(2)));
    // The first ones of each burst find the caches as the system before has left them.
    let lead = (burst / 20).max(1);
    Round::with(systems, path, (Workload::Pingpong, size), |round| {
        let systems = round.systems();
        let mut measured: Vec<Measured> = systems.iter().map(|_| Measured::default()).collect();
        let (mut message, mut times) = (vec![0; size], vec![0; lead + burst]);
        for turn in 0..WARM_UP + turns {
            for lane in round.lanes() {
                round.turn(lane, Task::Echo, lead + burst, |near, first| {
                    near.ping(&mut message, first, Duration::ZERO, &mut times)
                })?;
                if turn >= WARM_UP {
                    measured[lane].add(&times[lead..]);
                }
            }
        }
        Ok(rows(size, &systems, &measured))
    })
}

impl Measured {
    fn add(&mut self, times: &[u64]) {
        times.iter().for_each(|&time| self.times.record(time));
        self.turns.push(Quartiles::of(times.iter().map(|&time| time as f64)).p50);
    }
}

fn rows(size: usize, systems: &[&dyn System], measured: &[Measured]) -> Vec<Row> {
    let find = |name| {
        let found = systems.iter().position(|system| system.name() == name);
        found.map(|at| (&measured[at], measured[at].times.percentiles()))
    };
    let (one_line, two_lines) = (find(ONE_LINE_FLOOR), find(TWO_LINES_FLOOR));
    let Some((floor, floor_ns)) = find(PINGPONG_FLOOR) else { return Vec::new() };
    let row = |(system, own): (&&dyn System, &Measured)| {
        let rtt_ns = own.times.percentiles();
        let by = |floor: u64| rtt_ns.p50 as f64 / floor as f64;
        let turns = own.turns.iter().zip(&floor.turns);
        Row {
            workload: "pingpong",
            system: system.name(),
            size,
            ratio: by(floor_ns.p50),
            ratio_of_turns: Quartiles::of(turns.map(|(own, floor)| own / floor)),
            ratio_p999: rtt_ns.p999 as f64 / floor_ns.p999 as f64,
            ratio_one_line: one_line.as_ref().map(|(_, ns)| by(ns.p50)),
            ratio_two_lines: two_lines.as_ref().map(|(_, ns)| by(ns.p50)),
            round_trips: own.times.count(),
            rtt_ns,
        }
    };
    systems.iter().zip(measured).map(row).collect()
}

fn print(size: usize, rows: &[Row]) {
    println!("round trips of {size} bytes: × the floor, of each turn, of the 99.9 %; ns");
    println!(
        "{:>7} {:>15} {:>7}  {:28} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "median", "of turns", "99.9 %", "", "25 %", "median", "75 %", "99 %", "99.9 %"
    );
    for row in rows {
        println!("{row}");
    }
    if let Some(row) = rows.iter().find(|row| row.system == "link")
        && let (Some(one), Some(two)) = (row.ratio_one_line, row.ratio_two_lines)
    {
        println!("link: {two:.2} × two lines, {one:.2} × one line");
    }
    println!();
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let (turns, ns) = (self.ratio_of_turns, self.rtt_ns);
        write!(
            out,
            "{:>7.2} {:>5.2} {:.2}–{:.2} {:>7.2}  {:28} {:>9} {:>9} {:>9} {:>9} {:>9}",
            self.ratio,
            turns.p50,
            turns.p25,
            turns.p75,
            self.ratio_p999,
            self.system,
            ns.p25,
            ns.p50,
            ns.p75,
            ns.p99,
            ns.p999
        )
    }
}

fn chart(rows: &[Row]) -> Chart {
    let mut curves: Vec<Curve> = Vec::new();
    for row in rows {
        Curve::add(&mut curves, row.system, false, (row.size, row.rtt_ns.p50 as f64));
    }
    Chart { title: "Round trip between two processes", unit: "nanoseconds, median", curves }
}
