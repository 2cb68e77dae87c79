use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::Serialize;
use shm_transport::asynchronous::{AsyncGuest, AsyncHost, AsyncLink, DEFAULT_SPIN};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{
    helper::Helper,
    patience::{WAIT, work},
    processors::{pin, two_processors},
    report::{Percentiles, Quartiles, Times},
    system::Error,
};

/// Round trips in a turn, and those before them that are not counted: they find the caches as
/// the system before has left them.
const BURST: usize = 1000;
const LEAD: usize = 50;
/// Turns that are not counted.
const WARM_UP: usize = 2;

/// Options of `bench async`.
#[derive(clap::Args)]
pub struct Options {
    /// Round trips of each system: a turn for every thousand.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    round_trips: u32,
    /// Bytes in a message.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(8..=1 << 20))]
    size: u32,
    /// How long the polling link polls before its task sleeps, in microseconds.
    #[arg(long, default_value_t = DEFAULT_SPIN.as_micros() as u64)]
    spin: u64,
    /// How long each side works before it sends, in microseconds: long enough, and the other
    /// side sleeps for every message. It is not counted.
    #[arg(long, default_value_t = 0)]
    work: u64,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// What the other process is told.
#[derive(clap::Args)]
pub struct GuestOptions {
    #[arg(long)]
    hub: PathBuf,
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    size: usize,
    #[arg(long)]
    turns: usize,
    #[arg(long)]
    spin: u64,
    #[arg(long)]
    work: u64,
}

/// One system.
#[derive(Serialize)]
struct Row {
    workload: &'static str,
    system: &'static str,
    size: usize,
    /// How long it polls before it sleeps, in microseconds.
    spin_us: Option<u64>,
    /// How long each side works before it sends, in microseconds.
    work_us: u64,
    /// Its median by that of the Unix socket.
    ratio: f64,
    /// The same for each turn.
    ratio_of_turns: Quartiles,
    round_trips: u64,
    /// How often this side's thread slept for each round trip.
    sleeps: f64,
    rtt_ns: Percentiles,
}

/// One way to pass messages between the two processes. The first is what the others are compared
/// with.
enum Lane {
    Socket(UnixStream),
    Link(Box<AsyncLink>),
}

#[derive(Default)]
struct Measured {
    times: Times,
    turns: Vec<f64>,
    sleeps: u64,
}

fn runtime() -> Result<Runtime, Error> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Measures.
pub fn run(options: &Options, path: &[&str]) -> Result<(), Error> {
    let (here, there) = two_processors()?;
    let Options { round_trips, size, spin, work, json } = *options;
    let turns = WARM_UP + (round_trips as usize).div_ceil(BURST);
    let directory = tempfile::tempdir()?;
    let (hub, socket) = (directory.path().join("hub"), directory.path().join("socket"));
    let measured = runtime()?.block_on(async {
        let mut host = AsyncHost::create(&hub)?;
        let listener = UnixListener::bind(&socket)?;
        let arguments = [
            ("--hub", hub.to_string_lossy().into_owned()),
            ("--socket", socket.to_string_lossy().into_owned()),
            ("--size", size.to_string()),
            ("--turns", turns.to_string()),
            ("--spin", spin.to_string()),
            ("--work", work.to_string()),
        ];
        let arguments = arguments.iter().flat_map(|(name, value)| [*name, value]);
        let _guest = Helper::start(path, there, ["async"].into_iter().chain(arguments))?;
        pin(here)?;
        let (stream, _) = timeout(WAIT, listener.accept()).await??;
        let mut lanes = vec![Lane::Socket(stream)];
        for spin in [Duration::ZERO, Duration::from_micros(spin)] {
            let link = timeout(WAIT, host.accept()).await??;
            lanes.push(Lane::link(link, spin));
        }
        let work = Duration::from_micros(work);
        let mut measured: Vec<Measured> = lanes.iter().map(|_| Measured::default()).collect();
        for turn in 0..turns {
            for (lane, measured) in lanes.iter_mut().zip(&mut measured) {
                let slept = sleeps();
                let times = timeout(WAIT, lane.ping(size as usize, work)).await??;
                if turn >= WARM_UP {
                    measured.sleeps += sleeps() - slept;
                    measured.add(&times[LEAD..]);
                }
            }
        }
        Ok::<_, Error>(measured)
    })?;
    let rows = rows(options, &measured);
    if json {
        for row in &rows {
            println!("{}", serde_json::to_string(row)?);
        }
    } else {
        print(&rows);
    }
    Ok(())
}

/// Answers everything, in the same turns.
pub fn run_guest(options: &GuestOptions) -> Result<(), Error> {
    let GuestOptions { hub, socket, size, turns, spin, work: time } = options;
    let time = Duration::from_micros(*time);
    runtime()?.block_on(async {
        let mut lanes = vec![Lane::Socket(UnixStream::connect(socket).await?)];
        // Their hub's view is not needed.
        for spin in [Duration::ZERO, Duration::from_micros(*spin)] {
            lanes.push(Lane::link(AsyncGuest::attach(hub).await?.link, spin));
        }
        for _ in 0..*turns {
            for lane in &mut lanes {
                lane.echo(*size, time).await?;
            }
        }
        Ok(())
    })
}

impl Lane {
    fn link(mut link: AsyncLink, spin: Duration) -> Self {
        link.set_spin(spin);
        Self::Link(Box::new(link))
    }

    /// A turn of round trips; returns how long each took without the work, in nanoseconds.
    async fn ping(&mut self, size: usize, time: Duration) -> Result<Vec<u64>, Error> {
        let mut message = vec![0; size];
        let mut times = Vec::with_capacity(LEAD + BURST);
        for number in 0..(LEAD + BURST) as u64 {
            message[..8].copy_from_slice(&number.to_le_bytes());
            work(time);
            let start = Instant::now();
            match self {
                Self::Socket(stream) => {
                    stream.write_all(&message).await?;
                    stream.read_exact(&mut message).await?;
                }
                Self::Link(link) => {
                    link.send(&message).await?;
                    link.recv().await?.copy_to(0, &mut message);
                }
            }
            times.push(start.elapsed().saturating_sub(time).as_nanos() as u64);
            if message[..8] != number.to_le_bytes() {
                return Err("an answer to another message".into());
            }
        }
        Ok(times)
    }

    async fn echo(&mut self, size: usize, time: Duration) -> Result<(), Error> {
        let mut message = vec![0; size];
        for _ in 0..LEAD + BURST {
            match self {
                Self::Socket(stream) => {
                    stream.read_exact(&mut message).await?;
                    work(time);
                    stream.write_all(&message).await?;
                }
                Self::Link(link) => {
                    link.recv().await?.copy_to(0, &mut message);
                    work(time);
                    link.send(&message).await?;
                }
            }
        }
        Ok(())
    }
}

impl Measured {
    fn add(&mut self, times: &[u64]) {
        times.iter().for_each(|&time| self.times.record(time));
        self.turns.push(Quartiles::of(times.iter().map(|&time| time as f64)).p50);
    }
}

/// How often this thread has slept; see proc(5).
fn sleeps() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}

fn rows(options: &Options, measured: &[Measured]) -> Vec<Row> {
    let Some(socket) = measured.first() else { return Vec::new() };
    let socket_ns = socket.times.percentiles();
    let row = |(system, own): ((&'static str, Option<u64>), &Measured)| {
        let rtt_ns = own.times.percentiles();
        let turns = own.turns.iter().zip(&socket.turns);
        Row {
            workload: "async",
            system: system.0,
            size: options.size as usize,
            spin_us: system.1,
            work_us: options.work,
            ratio: rtt_ns.p50 as f64 / socket_ns.p50 as f64,
            ratio_of_turns: Quartiles::of(turns.map(|(own, socket)| own / socket)),
            round_trips: own.times.count(),
            sleeps: own.sleeps as f64 / (own.turns.len() * (LEAD + BURST)) as f64,
            rtt_ns,
        }
    };
    let systems =
        [("UnixStream", None), ("link, parked", Some(0)), ("link, polling", Some(options.spin))];
    systems.into_iter().zip(measured).map(row).collect()
}

fn print(rows: &[Row]) {
    println!("round trips between two tasks: × the Unix socket, of each turn; sleeps of each; ns");
    println!(
        "{:>7} {:>15} {:>7}  {:16} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "median", "of turns", "sleeps", "", "25 %", "median", "75 %", "99 %", "99.9 %"
    );
    for Row { system, ratio, ratio_of_turns: turns, sleeps, rtt_ns: ns, .. } in rows {
        println!(
            "{ratio:>7.2} {:>5.2} {:.2}–{:.2} {sleeps:>7.2}  {system:16} {:>9} {:>9} {:>9} {:>9} \
             {:>9}",
            turns.p50, turns.p25, turns.p75, ns.p25, ns.p50, ns.p75, ns.p99, ns.p999
        );
    }
}
