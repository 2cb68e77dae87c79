use std::{
    fs,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    dense,
    far::Task,
    floors::FutexWake,
    link::LinkSystem,
    patience::{poll, work},
    report::{Percentiles, Quartiles, Times},
    round::Round,
    system::{Error, System, Workload},
};

/// Bytes in a message.
const SIZE: usize = 8;
/// How long the far end is left alone at least, so that its processor sleeps, too.
const PAUSE: Duration = Duration::from_micros(300);
/// Wakes that are not counted.
const WARM_UP: usize = 20;

/// Options of `bench wake`.
#[derive(clap::Args)]
pub struct Options {
    /// Wakes of each system.
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..))]
    wakes: u32,
    /// Round trips of dense traffic.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    round_trips: u32,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// One system.
#[derive(Serialize)]
struct Row {
    workload: &'static str,
    system: &'static str,
    size: usize,
    /// Its median by that of the bare futex.
    ratio: f64,
    /// Of each wake by the futex's of the same turn.
    ratio_of_turns: Quartiles,
    wakes: usize,
    /// From before the message is sent until what the receiver did then is seen.
    wake_ns: Percentiles,
}

/// Measures.
pub fn run(options: &Options, peers: &[&dyn System], path: &[&str]) -> Result<(), Error> {
    let mut systems: Vec<&dyn System> = vec![&FutexWake, &LinkSystem];
    systems.extend(peers);
    let rows = Round::with(&systems, path, (Workload::Wake, SIZE), |round| {
        let mut times = vec![Vec::new(); round.systems().len()];
        for wake in 0..WARM_UP + options.wakes as usize {
            for lane in round.lanes() {
                let time = wake_once(round, lane)?;
                if wake >= WARM_UP {
                    times[lane].push(time.as_nanos() as u64);
                }
            }
        }
        Ok(rows(&round.systems(), &times))
    })?;
    if options.json {
        for row in &rows {
            println!("{}", serde_json::to_string(row)?);
        }
    } else {
        print(&rows);
    }
    dense::run(options.round_trips as usize, options.json, path)
}

/// Sends one message to an end that sleeps. It says that its turn is over when it has
/// received it: that is the answer that is waited for.
fn wake_once(round: &mut Round, lane: usize) -> Result<Duration, Error> {
    let (pid, mut start) = (round.pid(), Instant::now());
    round.turn(lane, Task::Receive, 1, |near, first| {
        work(PAUSE);
        if let Some(pid) = pid {
            // A process that is gone sleeps for ever.
            poll(|| sleeps(pid).unwrap_or(true))?;
        }
        start = Instant::now();
        near.send(&mut [0; SIZE], first, 1)
    })?;
    Ok(start.elapsed())
}

/// Whether the first thread of a process sleeps in the kernel; see proc(5).
fn sleeps(pid: u32) -> Option<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may be anything in parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.starts_with('S'))
}

fn rows(systems: &[&dyn System], times: &[Vec<u64>]) -> Vec<Row> {
    let floor = systems.iter().position(|system| system.name() == FutexWake.name());
    let Some(floor) = floor.map(|at| &times[at]) else { return Vec::new() };
    let percentiles = |times: &[u64]| times.iter().copied().collect::<Times>().percentiles();
    let floor_ns = percentiles(floor);
    let row = |(system, times): (&&dyn System, &Vec<u64>)| {
        let wake_ns = percentiles(times);
        let turns = times.iter().zip(floor).map(|(own, floor)| *own as f64 / *floor as f64);
        Row {
            workload: "wake",
            system: system.name(),
            size: SIZE,
            ratio: wake_ns.p50 as f64 / floor_ns.p50 as f64,
            ratio_of_turns: Quartiles::of(turns),
            wakes: times.len(),
            wake_ns,
        }
    };
    systems.iter().zip(times).map(row).collect()
}

fn print(rows: &[Row]) {
    println!("wake of a receiver that sleeps: × the bare futex, of each turn; ns");
    println!(
        "{:>7} {:>15}  {:28} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "median", "of turns", "", "25 %", "median", "75 %", "99 %", "99.9 %"
    );
    for Row { system, ratio, ratio_of_turns: turns, wake_ns: ns, .. } in rows {
        println!(
            "{ratio:>7.2} {:>5.2} {:.2}–{:.2}  {system:28} {:>9} {:>9} {:>9} {:>9} {:>9}",
            turns.p50, turns.p25, turns.p75, ns.p25, ns.p50, ns.p75, ns.p99, ns.p999
        );
    }
}
