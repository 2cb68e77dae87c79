use std::{
    error::Error,
    fs::OpenOptions,
    os::fd::AsRawFd,
    path::PathBuf,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use shm_transport::{BROADCAST, Guest, Host, Publisher, Start, Subscriber, TopicConfig};

use super::{
    floor::Floor,
    processors::{pin, two_processors},
    report::{Percentiles, Times},
};

const WAIT: Duration = Duration::from_secs(10);
/// Operations of one kind before the next takes its turn.
const BURST: usize = 1000;
/// Turns that are not counted.
const WARM_UP: usize = 5;
/// How long a reader that is not to read sleeps before it looks again.
const PAUSE: Duration = Duration::from_millis(10);
/// Turns of publishing with each number of readers.
const TURNS: usize = 60;
/// Told to the readers: that they wait for what they are told.
const START: u64 = END - 1;
/// Told to the readers: that they end.
const END: u64 = u64::MAX;

/// Options of `shmctl bench broadcast`.
#[derive(clap::Args)]
pub struct Options {
    /// Bytes in a value.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=1 << 20))]
    size: u32,
    /// Reader processes, for what publishing costs.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    readers: u32,
    /// Round trips to measure, of values and of the floor each.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(1..))]
    round_trips: u32,
    /// Print one JSON object on the last line.
    #[arg(long)]
    json: bool,
}

/// What another process of the benchmark is told.
#[derive(clap::Args)]
pub struct ReaderOptions {
    /// The hub of the writer.
    #[arg(long)]
    hub: PathBuf,
    /// The hub to answer from; without one it only reads.
    #[arg(long)]
    own_hub: Option<PathBuf>,
    /// The floor's memory.
    #[arg(long)]
    floor: PathBuf,
    /// Bytes in a value.
    #[arg(long)]
    size: usize,
    /// Turns of answering.
    #[arg(long, default_value_t = 0)]
    rounds: usize,
    /// It reads while more readers than this are to read.
    #[arg(long, default_value_t = 0)]
    index: u64,
    /// The processor to run on.
    #[arg(long)]
    processor: usize,
}

#[derive(Serialize)]
struct Report {
    size: usize,
    /// From the call that publishes to the return of the call that reads: half a round trip
    /// of values.
    latency_ns: Percentiles,
    /// Half a round trip through one shared buffer.
    floor_ns: Percentiles,
    ratio_p50: f64,
    readers: u32,
    /// Of one value, by number of processes that read all the time.
    publish_ns_without_readers: f64,
    publish_ns_with_one: f64,
    publish_ns_with_all: f64,
    /// The median of the turns' ratios.
    ratio_all_to_one: f64,
}

/// Measures.
pub fn run(options: &Options, path: &[&str]) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let size = options.size as usize;
    let (here, there) = two_processors()?;
    let memory = Floor::create(size)?;
    let floor_path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
    let mut writer = Writer {
        host: Host::builder()
            .max_guests(options.readers as usize + 1)
            .broadcast(TopicConfig { slots: 256, max_payload: size as u64 })
            .create(directory.path().join("hub"))?,
        floor: Floor::map(&memory, size)?,
        payload: vec![0; size],
        others: Vec::new(),
        directory,
        floor_path,
        processor: there,
        path: path.iter().map(|&argument| argument.to_owned()).collect(),
    };
    pin(here)?;
    let rounds = (options.round_trips as usize).div_ceil(BURST) + WARM_UP;
    let (latency, floor) = writer.round_trips(rounds)?;
    let costs = writer.costs(options.readers)?;
    let (latency_ns, floor_ns) = (latency.percentiles(), floor.percentiles());
    let report = Report {
        size,
        ratio_p50: latency_ns.p50 as f64 / floor_ns.p50 as f64,
        latency_ns,
        floor_ns,
        readers: options.readers,
        publish_ns_without_readers: median(costs.iter().map(|[none, _, _]| *none)),
        publish_ns_with_one: median(costs.iter().map(|[_, one, _]| *one)),
        publish_ns_with_all: median(costs.iter().map(|[_, _, all]| *all)),
        ratio_all_to_one: median(costs.iter().map(|[_, one, all]| all / one)),
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// A process that does not outlive the measuring one.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Writer {
    host: Host,
    floor: Floor,
    payload: Vec<u8>,
    others: Vec<Other>,
    directory: tempfile::TempDir,
    floor_path: String,
    processor: usize,
    /// What comes before the hidden subcommand in the command line of a reader.
    path: Vec<String>,
}

impl Writer {
    fn start(&mut self, arguments: &[&str]) -> Result<(), Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(&self.path).args(["reader", "--floor", &self.floor_path]);
        command.arg("--hub").arg(self.host.path());
        command.args(["--size", &self.payload.len().to_string()]);
        command.args(["--processor", &self.processor.to_string()]);
        self.others.push(Other(command.args(arguments).spawn()?));
        Ok(())
    }

    /// Half round trips of values and of the floor, in turn.
    fn round_trips(&mut self, rounds: usize) -> Result<(Times, Times), Box<dyn Error>> {
        let answers = self.directory.path().join("answers");
        let own_hub = answers.to_string_lossy().into_owned();
        self.start(&["--own-hub", &own_hub, "--rounds", &rounds.to_string()])?;
        // It is ready when it says so.
        let mut link = self.host.accept(WAIT)?;
        link.recv(WAIT)?;
        let guest = Guest::attach(&answers, WAIT)?;
        link.send(b"attached", WAIT)?;
        let mut publisher = self.host.hub().publisher(BROADCAST)?;
        let mut subscriber = guest.subscribe(BROADCAST, Start::Next)?;
        let (mut values, mut floor) = (Times::new(), Times::new());
        for round in 0..rounds {
            if round == WARM_UP {
                values.clear();
                floor.clear();
            }
            let mut start = Instant::now();
            for _ in 0..BURST {
                publisher.publish(&self.payload)?;
                self.payload.copy_from_slice(subscriber.next(WAIT)?.payload);
                let end = Instant::now();
                values.record((end - start).as_nanos() as u64 / 2);
                start = end;
            }
            let mut start = Instant::now();
            for _ in 0..BURST {
                self.floor.send(&self.payload);
                self.floor.receive(&mut self.payload);
                let end = Instant::now();
                floor.record((end - start).as_nanos() as u64 / 2);
                start = end;
            }
        }
        self.others.clear();
        Ok((values, floor))
    }

    /// What it costs to publish a value, in nanoseconds: without readers, with one, and with
    /// all of them, turn by turn.
    fn costs(&mut self, readers: u32) -> Result<Vec<[f64; 3]>, Box<dyn Error>> {
        let mut links = Vec::new();
        self.floor.say(START);
        for index in 0..readers {
            self.start(&["--index", &index.to_string()])?;
            links.push(self.host.accept(WAIT)?);
        }
        let mut publisher = self.host.hub().publisher(BROADCAST)?;
        let mut costs = vec![[0.0; 3]; TURNS];
        let mut told = 0;
        for costs in &mut costs {
            for (active, nanoseconds) in [0, 1, readers.into()].into_iter().zip(costs) {
                self.floor.say(active);
                told += u64::from(readers);
                while self.floor.heard() < told {
                    thread::sleep(Duration::from_millis(1));
                }
                *nanoseconds = cost(&mut publisher, &self.payload)?;
            }
        }
        self.floor.say(END);
        self.others.clear();
        Ok(costs)
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn cost(publisher: &mut Publisher, payload: &[u8]) -> Result<f64, Box<dyn Error>> {
    const COUNT: u32 = 20_000;
    let start = Instant::now();
    for _ in 0..COUNT {
        publisher.publish(payload)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(COUNT))
}

/// Another process: it answers each value, or only reads.
pub fn run_reader(options: &ReaderOptions) -> Result<(), Box<dyn Error>> {
    pin(options.processor)?;
    let memory = OpenOptions::new().read(true).write(true).open(&options.floor)?;
    let floor = Floor::map(&memory, options.size)?;
    let own_hub = options.own_hub.as_ref();
    let host = own_hub.map(|path| {
        Host::builder()
            .broadcast(TopicConfig { slots: 256, max_payload: options.size as u64 })
            .create(path)
    });
    let host = host.transpose()?;
    let guest = Guest::attach(&options.hub, WAIT)?;
    let subscriber = guest.subscribe(BROADCAST, Start::Next)?;
    match host {
        Some(host) => answer(options, host, guest, subscriber, floor),
        None => read(options.index, subscriber, &floor),
    }
}

fn answer(
    options: &ReaderOptions,
    mut host: Host,
    mut guest: Guest,
    mut subscriber: Subscriber,
    mut floor: Floor,
) -> Result<(), Box<dyn Error>> {
    guest.link.send(b"ready", WAIT)?;
    let _link = host.accept(WAIT)?;
    guest.link.recv(WAIT)?;
    let mut publisher = host.hub().publisher(BROADCAST)?;
    let mut payload = vec![0; options.size];
    for _ in 0..options.rounds {
        for _ in 0..BURST {
            payload.copy_from_slice(subscriber.next(WAIT)?.payload);
            publisher.publish(&payload)?;
        }
        for _ in 0..BURST {
            floor.receive(&mut payload);
            floor.send(&payload);
        }
    }
    // It is killed when it is not needed any more.
    thread::sleep(WAIT);
    Ok(())
}

fn read(index: u64, mut subscriber: Subscriber, floor: &Floor) -> Result<(), Box<dyn Error>> {
    let mut active = START;
    loop {
        let said = floor.said();
        if said != active {
            active = said;
            floor.hear();
        }
        match active {
            END => return Ok(()),
            START => thread::sleep(PAUSE),
            active if active > index => {
                for _ in 0..1000 {
                    subscriber.try_next()?;
                    std::hint::spin_loop();
                }
            }
            _ => thread::sleep(PAUSE),
        }
    }
}

fn print(report: &Report) {
    let Report { size, latency_ns, floor_ns, ratio_p50, readers, .. } = report;
    println!("one value of {size} bytes to another process: {ratio_p50:.2} × the floor");
    println!("{:>10} {:>10} {:>10} {:>10}", "ns", "median", "99 %", "99.9 %");
    for (name, times) in [("broadcast", latency_ns), ("floor", floor_ns)] {
        println!("{name:>10} {:>10} {:>10} {:>10}", times.p50, times.p99, times.p999);
    }
    println!(
        "publishing one: {:.0} ns without readers, {:.0} ns with one, {:.0} ns with {readers}, \
         which is {:.2} ×",
        report.publish_ns_without_readers,
        report.publish_ns_with_one,
        report.publish_ns_with_all,
        report.ratio_all_to_one,
    );
}
