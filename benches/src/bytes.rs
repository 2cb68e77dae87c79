use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Serialize;
use shm_transport::stream::{ShmListener, ShmStream};

use crate::{
    helper::Helper,
    patience::WAIT,
    processors::{pin, two_processors},
    report::{Percentiles, Quartiles, Times},
    system::Error,
};

/// Round trips in a turn.
const TRIPS: u32 = 500;
/// Bytes that are copied in a turn, unless that is too many writes.
const COPIED: u64 = 64 << 20;
const MOST_WRITES: u64 = 20_000;
/// Turns that are not counted.
const WARM_UP: usize = 2;
const NAMES: [&str; 2] = ["shm", "unix"];
/// What the other process is told: which stream, what to do, and the size and number of
/// messages.
const ORDER: usize = 13;
const ECHO: u8 = 1;
const SWALLOW: u8 = 2;

/// Options of `bench bytes`.
#[derive(clap::Args)]
pub struct Options {
    /// Bytes in a write, one size after the other.
    #[arg(
        long,
        value_parser = clap::value_parser!(u32).range(1..=16 << 20),
        value_delimiter = ',',
        default_values_t = [64, 1024, 16_384, 65_536, 1_048_576]
    )]
    sizes: Vec<u32>,
    /// Turns of each stream.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// What the other process is told as it starts.
#[derive(clap::Args)]
pub struct ClientOptions {
    /// Where the listeners are.
    #[arg(long)]
    directory: PathBuf,
}

#[derive(Serialize)]
struct Report {
    workload: &'static str,
    size: u32,
    /// The socket's median round trip by that of the stream.
    round_trip_ratio: f64,
    round_trip_ratio_of_turns: Quartiles,
    round_trip_ns: Percentiles,
    socket_round_trip_ns: Percentiles,
    /// The stream's throughput by that of the socket.
    copy_ratio: f64,
    copy_ratio_of_turns: Quartiles,
    copy_bytes_per_second: Quartiles,
    socket_copy_bytes_per_second: Quartiles,
}

trait Both: Read + Write {}

impl<T: Read + Write> Both for T {}

/// The near ends, and the way to tell the other process what to do.
struct Streams {
    streams: [Box<dyn Both>; 2],
    control: UnixStream,
    _client: Helper,
}

/// Measures.
pub fn run(options: &Options, path: &[&str]) -> Result<(), Error> {
    let (here, there) = two_processors()?;
    let directory = tempfile::tempdir()?;
    pin(here)?;
    let mut streams = Streams::open(directory.path(), path, there)?;
    for &size in &options.sizes {
        let report = measure(&mut streams, size, options.turns as usize)?;
        if options.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print(&report);
        }
    }
    Ok(())
}

fn measure(streams: &mut Streams, size: u32, turns: usize) -> Result<Report, Error> {
    let mut times = [Times::new(), Times::new()];
    let mut rates = [Vec::new(), Vec::new()];
    let mut medians = [Vec::new(), Vec::new()];
    let mut buffer = vec![0; size as usize];
    let writes = (COPIED / u64::from(size)).clamp(1, MOST_WRITES) as u32;
    for turn in 0..WARM_UP + turns {
        // Neither always follows the other.
        for index in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            let round_trips = streams.round_trips(index, &mut buffer)?;
            let rate = streams.copy(index, &buffer, writes)?;
            if turn >= WARM_UP {
                round_trips.iter().for_each(|time| times[index].record(*time));
                let median = round_trips.into_iter().collect::<Times>().percentiles().p50;
                medians[index].push(median as f64);
                rates[index].push(rate);
            }
        }
    }
    let ratios = |of: &[f64], by: &[f64]| Quartiles::of(of.iter().zip(by).map(|(a, b)| a / b));
    let [own, socket] = [times[0].percentiles(), times[1].percentiles()];
    let [copy, socket_copy] = [0, 1].map(|index: usize| Quartiles::of(rates[index].clone()));
    Ok(Report {
        workload: "bytes",
        size,
        round_trip_ratio: socket.p50 as f64 / own.p50 as f64,
        round_trip_ratio_of_turns: ratios(&medians[1], &medians[0]),
        round_trip_ns: own,
        socket_round_trip_ns: socket,
        copy_ratio: copy.p50 / socket_copy.p50,
        copy_ratio_of_turns: ratios(&rates[0], &rates[1]),
        copy_bytes_per_second: copy,
        socket_copy_bytes_per_second: socket_copy,
    })
}

impl Streams {
    fn open(directory: &Path, path: &[&str], processor: usize) -> Result<Self, Error> {
        let control = UnixListener::bind(directory.join("control"))?;
        let mut shm = ShmListener::bind(directory.join(NAMES[0]))?;
        let unix = UnixListener::bind(directory.join(NAMES[1]))?;
        let place = directory.to_string_lossy();
        let client = Helper::start(path, processor, ["bytes", "--directory", &place])?;
        let (control, _) = control.accept()?;
        let mut shm = shm.accept()?;
        let (unix, _) = unix.accept()?;
        shm.set_read_timeout(Some(WAIT))?;
        unix.set_read_timeout(Some(WAIT))?;
        Ok(Self { streams: [Box::new(shm), Box::new(unix)], control, _client: client })
    }

    fn order(&mut self, index: usize, task: u8, size: usize, count: u32) -> Result<(), Error> {
        let mut order = vec![index as u8, task];
        order.extend((size as u32).to_le_bytes());
        order.extend(count.to_le_bytes());
        order.resize(ORDER, 0);
        self.control.write_all(&order)?;
        // It is awake and about to begin.
        Ok(self.control.read_exact(&mut [0])?)
    }

    /// Sends as many bytes as the buffer has and gets them back, again and again; returns how
    /// long each took, in nanoseconds.
    fn round_trips(&mut self, index: usize, buffer: &mut [u8]) -> Result<Vec<u64>, Error> {
        self.order(index, ECHO, buffer.len(), TRIPS)?;
        let stream = &mut self.streams[index];
        let mut times = Vec::new();
        for trip in 0..TRIPS {
            buffer.fill(trip as u8);
            let start = Instant::now();
            stream.write_all(buffer)?;
            stream.read_exact(buffer)?;
            times.push(start.elapsed().as_nanos() as u64);
            if buffer.iter().any(|byte| *byte != trip as u8) {
                return Err(format!("{}: other bytes came back", NAMES[index]).into());
            }
        }
        Ok(times)
    }

    /// Writes, and waits until all was read; returns the bytes in a second.
    fn copy(&mut self, index: usize, buffer: &[u8], writes: u32) -> Result<f64, Error> {
        self.order(index, SWALLOW, buffer.len(), writes)?;
        let stream = &mut self.streams[index];
        let start = Instant::now();
        for _ in 0..writes {
            stream.write_all(buffer)?;
        }
        stream.read_exact(&mut [0])?;
        Ok(buffer.len() as f64 * f64::from(writes) / start.elapsed().as_secs_f64())
    }
}

/// Does what it is told, until nobody does any more.
pub fn run_client(options: &ClientOptions) -> Result<(), Error> {
    let place = |name: &str| options.directory.join(name);
    let mut control = UnixStream::connect(place("control"))?;
    let shm = ShmStream::connect(place(NAMES[0]))?;
    let unix = UnixStream::connect(place(NAMES[1]))?;
    let mut streams: [Box<dyn Both>; 2] = [Box::new(shm), Box::new(unix)];
    let mut order = [0; ORDER];
    while control.read_exact(&mut order).is_ok() {
        let [index, task, s0, s1, s2, s3, c0, c1, c2, c3, ..] = order;
        let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        let count = u32::from_le_bytes([c0, c1, c2, c3]);
        let stream = &mut streams[usize::from(index)];
        let mut buffer = vec![0; size.max(64 << 10)];
        control.write_all(&[0])?;
        match task {
            ECHO => {
                let buffer = &mut buffer[..size];
                for _ in 0..count {
                    stream.read_exact(buffer)?;
                    stream.write_all(buffer)?;
                }
            }
            _ => {
                let mut left = size as u64 * u64::from(count);
                while left > 0 {
                    let most = buffer.len().min(left.try_into().unwrap_or(usize::MAX));
                    match stream.read(&mut buffer[..most])? {
                        0 => return Err("the stream ended".into()),
                        read => left -= read as u64,
                    }
                }
                stream.write_all(&[0])?;
            }
        }
    }
    Ok(())
}

fn print(report: &Report) {
    let Report { size, round_trip_ns: own, socket_round_trip_ns: socket, .. } = report;
    println!(
        "{size} bytes there and back: {:.2} times as fast as a UnixStream ({:.2} to {:.2}); \
         median {:.2} µs to {:.2} µs, 99 % {:.2} µs to {:.2} µs",
        report.round_trip_ratio,
        report.round_trip_ratio_of_turns.p25,
        report.round_trip_ratio_of_turns.p75,
        own.p50 as f64 / 1e3,
        socket.p50 as f64 / 1e3,
        own.p99 as f64 / 1e3,
        socket.p99 as f64 / 1e3,
    );
    println!(
        "{size} bytes a write, one way: {:.2} times as fast as a UnixStream ({:.2} to {:.2}); \
         {:.0} MB/s to {:.0} MB/s",
        report.copy_ratio,
        report.copy_ratio_of_turns.p25,
        report.copy_ratio_of_turns.p75,
        report.copy_bytes_per_second.p50 / 1e6,
        report.socket_copy_bytes_per_second.p50 / 1e6,
    );
}
