//! Calls of a gRPC service by `tonic` over a stream in shared memory, beside the same service
//! over a `UnixStream`: how many a second, and how long one takes. Client and server are two
//! processes on two processors, each with a runtime of one thread; the two streams take turns.
//!
//! `cargo bench -p shm-benches --bench grpc`
//!
//! It is not part of `shmctl bench`, which need not have `tonic` built.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use futures_util::{StreamExt, future::try_join_all, stream};
use hdrhistogram::Histogram;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use shm_benches::{WAIT, pin, two_processors};
use shm_examples::{
    echo::{EchoClient, EchoServer},
    grpc::{Connection, connect},
};
use shm_transport::stream::{AsyncShmListener, AsyncShmStream};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tower::service_fn;

const NAMES: [&str; 2] = ["shm", "unix"];
/// Turns that are not counted.
const WARM_UP: usize = 2;

#[derive(Parser)]
struct Options {
    /// Bytes in a message, each way, one size after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 4096, 65_536, 1_048_576])]
    sizes: Vec<usize>,
    /// Calls at a time, one number after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    in_flight: Vec<usize>,
    /// Turns of each stream.
    #[arg(long, default_value_t = 20)]
    turns: usize,
    /// Milliseconds of a turn.
    #[arg(long, default_value_t = 200)]
    turn: u64,
    /// How long a task polls a stream before it sleeps, in microseconds; the library's default
    /// otherwise.
    #[arg(long)]
    spin: Option<u64>,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// Serve in this directory: for the other process.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
    /// What cargo says.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Serialize)]
struct Report {
    workload: &'static str,
    size: usize,
    in_flight: usize,
    /// Calls a second by those over the socket.
    throughput_ratio: f64,
    /// The quartiles of that ratio, turn by turn.
    throughput_ratio_of_turns: [f64; 3],
    calls_per_second: f64,
    socket_calls_per_second: f64,
    /// The median latency by that over the socket.
    latency_ratio: f64,
    latency_ns: [u64; 2],
    socket_latency_ns: [u64; 2],
}

struct OtherProcess(Child);

impl Drop for OtherProcess {
    fn drop(&mut self) {
        // Neither does anything to a process that was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let (here, there) = two_processors()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(directory) = &options.serve {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        pin(there)?;
        return runtime.block_on(serve(directory, &options));
    }
    let directory = tempfile::tempdir()?;
    let mut server = Command::new(std::env::current_exe()?);
    server.arg("--serve").arg(directory.path());
    if let Some(spin) = options.spin {
        server.args(["--spin", &spin.to_string()]);
    }
    let _server = OtherProcess(server.spawn()?);
    pin(here)?;
    runtime.block_on(measure(directory.path(), &options))
}

fn spun(mut stream: AsyncShmStream, spin: Option<u64>) -> AsyncShmStream {
    if let Some(spin) = spin {
        stream.set_spin(Duration::from_micros(spin));
    }
    stream
}

/// The same service over both.
async fn serve(directory: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let shm = AsyncShmListener::bind(directory.join(NAMES[0]))?;
    let spin = options.spin;
    let shm = shm.map(move |stream| stream.map(|stream| Connection(spun(stream, spin))));
    let unix = UnixListener::bind(directory.join(NAMES[1]))?;
    let unix = stream::unfold(unix, |unix| async {
        let accepted = unix.accept().await.map(|(stream, _)| stream);
        Some((accepted, unix))
    });
    tokio::try_join!(
        Server::builder().serve_with_incoming(EchoServer, shm),
        Server::builder().serve_with_incoming(EchoServer, Box::pin(unix)),
    )?;
    Ok(())
}

async fn connect_shm(path: PathBuf, spin: Option<u64>) -> Result<Channel, tonic::transport::Error> {
    if spin.is_none() {
        return connect(&path).await;
    }
    let connector = move |_: Uri| {
        let path = path.clone();
        async move {
            let stream = AsyncShmStream::connect(path).await?;
            Ok::<_, std::io::Error>(TokioIo::new(spun(stream, spin)))
        }
    };
    Endpoint::from_static("http://shm").connect_with_connector(service_fn(connector)).await
}

async fn connect_unix(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connector = move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    };
    Endpoint::from_static("http://unix").connect_with_connector(service_fn(connector)).await
}

async fn measure(directory: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let clients = loop {
        let shm = connect_shm(directory.join(NAMES[0]), options.spin).await;
        let unix = connect_unix(directory.join(NAMES[1])).await;
        match (shm, unix) {
            (Ok(shm), Ok(unix)) => break [EchoClient::new(shm), EchoClient::new(unix)],
            _ if start.elapsed() < WAIT => tokio::time::sleep(Duration::from_millis(20)).await,
            (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        }
    };
    for &size in &options.sizes {
        for &in_flight in &options.in_flight {
            let report = compare(&clients, size, in_flight, options).await?;
            if options.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                print(&report);
            }
        }
    }
    Ok(())
}

async fn compare(
    clients: &[EchoClient; 2],
    size: usize,
    in_flight: usize,
    options: &Options,
) -> Result<Report, Box<dyn Error>> {
    let data = Bytes::from(vec![7; size]);
    let new = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3);
    let mut latencies = [new()?, new()?];
    let mut rates = [Vec::new(), Vec::new()];
    for turn in 0..WARM_UP + options.turns {
        // Neither always follows the other.
        for index in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            let start = Instant::now();
            let end = start + Duration::from_millis(options.turn);
            let calls = (0..in_flight).map(|_| call(clients[index].clone(), data.clone(), end));
            let times: Vec<u64> = try_join_all(calls).await?.into_iter().flatten().collect();
            if turn >= WARM_UP {
                rates[index].push(times.len() as f64 / start.elapsed().as_secs_f64());
                times.iter().for_each(|time| latencies[index].saturating_record(*time));
            }
        }
    }
    let ratios = quartiles(rates[0].iter().zip(&rates[1]).map(|(shm, unix)| shm / unix));
    let [[_, shm, _], [_, unix, _]] = rates.map(|rates| quartiles(rates.into_iter()));
    let [own, socket] =
        latencies.map(|times| [times.value_at_quantile(0.5), times.value_at_quantile(0.99)]);
    Ok(Report {
        workload: "grpc",
        size,
        in_flight,
        throughput_ratio: shm / unix,
        throughput_ratio_of_turns: ratios,
        calls_per_second: shm,
        socket_calls_per_second: unix,
        latency_ratio: own[0] as f64 / socket[0] as f64,
        latency_ns: own,
        socket_latency_ns: socket,
    })
}

/// One call after the other until `end`; returns how long each took, in nanoseconds.
async fn call(
    mut client: EchoClient,
    data: Bytes,
    end: Instant,
) -> Result<Vec<u64>, Box<dyn Error>> {
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(times);
        }
        let answer = client.once(data.clone()).await?;
        times.push(start.elapsed().as_nanos() as u64);
        if answer.len() != data.len() {
            return Err("another message came back".into());
        }
    }
}

fn quartiles(figures: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    [1, 2, 3].map(|quarter| figures.get((last * quarter + 2) / 4).copied().unwrap_or_default())
}

fn print(report: &Report) {
    let Report { size, in_flight, latency_ns: own, socket_latency_ns: socket, .. } = report;
    println!(
        "{size} bytes, {in_flight} at a time: {:.2} times the calls of a UnixStream ({:.2} to \
         {:.2}), {:.0}/s to {:.0}/s; {:.2} times its latency, median {:.1} µs to {:.1} µs, \
         99 % {:.1} µs to {:.1} µs",
        report.throughput_ratio,
        report.throughput_ratio_of_turns[0],
        report.throughput_ratio_of_turns[2],
        report.calls_per_second,
        report.socket_calls_per_second,
        report.latency_ratio,
        own[0] as f64 / 1e3,
        socket[0] as f64 / 1e3,
        own[1] as f64 / 1e3,
        socket[1] as f64 / 1e3,
    );
}
