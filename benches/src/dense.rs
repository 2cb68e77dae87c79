//! Dense traffic: round trips with a little work between them, in which nobody is to sleep.

use std::{fs, path::PathBuf, sync::atomic::Ordering, thread, time::Duration};

use serde::Serialize;
use shm_transport::{Guest, Host};

use crate::{
    helper::Helper,
    patience::{WAIT, stopwatch, work},
    processors::{pin, two_processors},
    report::{Percentiles, Times},
    system::Error,
    words::Words,
};

/// Bytes in a message.
const SIZE: usize = 64;
/// How long each end works before it sends.
const WORK: Duration = Duration::from_micros(5);
/// Round trips that are not counted.
const WARM_UP: usize = 1000;
/// The words: that the guest is done, and how often it has slept.
const DONE: usize = 0;
const SLEPT: usize = 1;

/// What the other process is told.
#[derive(clap::Args)]
pub struct GuestOptions {
    #[arg(long)]
    hub: PathBuf,
    #[arg(long)]
    words: String,
    #[arg(long)]
    round_trips: usize,
}

#[derive(Serialize)]
struct Row {
    workload: &'static str,
    system: &'static str,
    size: usize,
    work_ns: u64,
    round_trips: usize,
    /// Voluntary context switches, per 100,000 round trips.
    sleeps_here: f64,
    sleeps_there: f64,
    /// Of a round trip, less the work of both ends.
    rtt_ns: Percentiles,
}

/// Measures and prints.
pub fn run(round_trips: usize, json: bool, path: &[&str]) -> Result<(), Error> {
    let (here, there) = two_processors()?;
    let directory = tempfile::tempdir()?;
    let mut host = Host::builder().create(directory.path().join("hub"))?;
    let words = Words::create()?;
    let hub = host.path().to_string_lossy().into_owned();
    let count = round_trips.to_string();
    let arguments = ["dense", "--hub", &hub, "--words", &words.ticket(), "--round-trips", &count];
    let mut guest = Helper::start(path, there, arguments)?;
    pin(here)?;
    let mut link = host.accept(WAIT)?;
    let mut message = [0; SIZE];
    let mut times = Times::new();
    let mut slept = 0;
    let mut lap = stopwatch();
    for number in 0..WARM_UP + round_trips {
        if number == WARM_UP {
            slept = sleeps()?;
            lap();
        }
        message[..8].copy_from_slice(&number.to_le_bytes());
        work(WORK);
        link.send(&message, WAIT)?;
        link.recv_into(&mut message, WAIT)?;
        let time = lap();
        if number >= WARM_UP {
            times.record(time.saturating_sub(2 * WORK.as_nanos() as u64));
        }
    }
    let slept = sleeps()? - slept;
    guest.wait_for(words.word(DONE), 1)?;
    let per_100_000 = |count: u64| count as f64 * 1e5 / round_trips as f64;
    let row = Row {
        workload: "dense",
        system: "link",
        size: SIZE,
        work_ns: WORK.as_nanos() as u64,
        round_trips,
        sleeps_here: per_100_000(slept),
        sleeps_there: per_100_000(words.word(SLEPT).load(Ordering::Relaxed)),
        rtt_ns: times.percentiles(),
    };
    if json {
        println!("{}", serde_json::to_string(&row)?);
    } else {
        print(&row);
    }
    Ok(())
}

/// Answers all messages.
pub fn run_guest(options: &GuestOptions) -> Result<(), Error> {
    let words = Words::open(&options.words)?;
    let mut guest = Guest::attach(&options.hub, WAIT)?;
    let mut message = [0; SIZE];
    let mut slept = 0;
    for number in 0..WARM_UP + options.round_trips {
        if number == WARM_UP {
            slept = sleeps()?;
        }
        guest.link.recv_into(&mut message, WAIT)?;
        work(WORK);
        guest.link.send(&message, WAIT)?;
    }
    words.word(SLEPT).store(sleeps()? - slept, Ordering::Relaxed);
    words.word(DONE).store(1, Ordering::Release);
    // It is killed when it is not needed any more.
    thread::sleep(WAIT);
    Ok(())
}

/// How often this thread has left its processor of its own accord; see proc(5).
fn sleeps() -> Result<u64, Error> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    Ok(line.ok_or("the kernel does not count context switches")?.trim().parse()?)
}

fn print(row: &Row) {
    let Row { size, round_trips, sleeps_here, sleeps_there, rtt_ns, .. } = row;
    println!(
        "{round_trips} round trips of {size} bytes with {} µs of work at each end: {sleeps_here} \
         and {sleeps_there} sleeps per 100,000; without the work {} ns, 99 % {} ns",
        WORK.as_micros(),
        rtt_ns.p50,
        rtt_ns.p99,
    );
}
