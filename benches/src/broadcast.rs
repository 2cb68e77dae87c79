use std::{
    path::PathBuf,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use shm_transport::{BROADCAST, Guest, Host, Publisher, Start, Subscriber, TopicConfig};

use crate::{
    floors::ONE_BUFFER,
    helper::Helper,
    memory::WORD,
    newest,
    patience::{WAIT, stopwatch},
    processors::{pin, two_processors},
    report::{Percentiles, Quartiles, Times},
    system::{Error, Setup, System, Workload},
    words::Words,
};

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
/// The word in which the readers are told something.
const SAID: usize = 0;
/// The word in which they count how often one of them has heard it.
const HEARD: usize = 1;

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
    /// How long the newest value is read while it changes, in milliseconds, for each size.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    milliseconds: u32,
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
    /// What the floor's other end is made with.
    #[arg(long, default_value = "")]
    floor: String,
    /// The words that all share.
    #[arg(long)]
    words: String,
    /// Bytes in a value.
    #[arg(long)]
    size: usize,
    /// Turns of answering.
    #[arg(long, default_value_t = 0)]
    rounds: usize,
    /// It reads while more readers than this are to read.
    #[arg(long, default_value_t = 0)]
    index: u64,
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
    newest_while_written: Vec<newest::Busy>,
    newest_while_idle: newest::Idle,
}

/// Measures.
pub fn run(options: &Options, path: &[&str]) -> Result<(), Error> {
    let directory = tempfile::tempdir()?;
    let size = options.size as usize;
    let (here, there) = two_processors()?;
    let mut writer = Writer {
        host: Host::builder()
            .max_guests(options.readers as usize + 1)
            .broadcast(TopicConfig { slots: 256, max_payload: size as u64 })
            .create(directory.path().join("hub"))?,
        words: Words::create()?,
        payload: vec![0; size],
        others: Vec::new(),
        directory,
        processor: there,
        path,
    };
    pin(here)?;
    let rounds = (options.round_trips as usize).div_ceil(BURST) + WARM_UP;
    let (latency, floor) = writer.round_trips(rounds)?;
    let costs = writer.costs(options.readers)?;
    let time = Duration::from_millis(options.milliseconds.into());
    let (latency_ns, floor_ns) = (latency.percentiles(), floor.percentiles());
    let report = Report {
        size,
        ratio_p50: latency_ns.p50 as f64 / floor_ns.p50 as f64,
        latency_ns,
        floor_ns,
        readers: options.readers,
        publish_ns_without_readers: p50(costs.iter().map(|[none, _, _]| *none)),
        publish_ns_with_one: p50(costs.iter().map(|[_, one, _]| *one)),
        publish_ns_with_all: p50(costs.iter().map(|[_, _, all]| *all)),
        ratio_all_to_one: p50(costs.iter().map(|[_, one, all]| all / one)),
        newest_while_written: newest::busy(there, time, path)?,
        newest_while_idle: newest::idle()?,
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

struct Writer<'a> {
    host: Host,
    words: Words,
    payload: Vec<u8>,
    others: Vec<Helper>,
    directory: tempfile::TempDir,
    processor: usize,
    /// What comes before the hidden subcommand in the command line of a reader.
    path: &'a [&'a str],
}

impl Writer<'_> {
    fn start(&mut self, arguments: &[&str]) -> Result<(), Error> {
        let hub = self.host.path().to_string_lossy().into_owned();
        let (words, size) = (self.words.ticket(), self.payload.len().to_string());
        let task = ["broadcast", "--hub", &hub, "--words", &words, "--size", &size];
        self.others.push(Helper::start(self.path, self.processor, task.iter().chain(arguments))?);
        Ok(())
    }

    fn say(&self, number: u64) {
        self.words.word(SAID).store(number, Ordering::Release);
    }

    /// Half round trips of values and of the floor, in turn.
    fn round_trips(&mut self, rounds: usize) -> Result<(Times, Times), Error> {
        let answers = self.directory.path().join("answers");
        let own_hub = answers.to_string_lossy().into_owned();
        let setup = floor_setup(self.payload.len());
        let mut floor_end = ONE_BUFFER.open(&setup)?;
        let rounds_too = rounds.to_string();
        self.start(
            &[
                ["--own-hub", &own_hub].as_slice(),
                &["--floor", &floor_end.ticket, "--rounds", &rounds_too],
            ]
            .concat(),
        )?;
        // It is ready when it says so.
        let mut link = self.host.accept(WAIT)?;
        link.recv(WAIT)?;
        let guest = Guest::attach(&answers, WAIT)?;
        link.send(b"attached", WAIT)?;
        let mut publisher = self.host.hub().publisher(BROADCAST)?;
        let mut subscriber = guest.subscribe(BROADCAST, Start::Next)?;
        let (mut values, mut floor) = (Times::new(), Times::new());
        let (mut message, mut times) = (vec![0; setup.size], vec![0; BURST]);
        for round in 0..rounds {
            if round == WARM_UP {
                values.clear();
                floor.clear();
            }
            let mut lap = stopwatch();
            for _ in 0..BURST {
                publisher.publish(&self.payload)?;
                self.payload.copy_from_slice(subscriber.next(WAIT)?.payload);
                values.record(lap() / 2);
            }
            floor_end.near.ping(&mut message, first(round), Duration::ZERO, &mut times)?;
            times.iter().for_each(|time| floor.record(time / 2));
        }
        self.others.clear();
        Ok((values, floor))
    }

    /// What it costs to publish a value, in nanoseconds: without readers, with one, and with
    /// all of them, turn by turn.
    fn costs(&mut self, readers: u32) -> Result<Vec<[f64; 3]>, Error> {
        let mut links = Vec::new();
        self.say(START);
        for index in 0..readers {
            self.start(&["--index", &index.to_string()])?;
            links.push(self.host.accept(WAIT)?);
        }
        let mut publisher = self.host.hub().publisher(BROADCAST)?;
        let mut costs = vec![[0.0; 3]; TURNS];
        let mut told = 0;
        for costs in &mut costs {
            for (active, nanoseconds) in [0, 1, readers.into()].into_iter().zip(costs) {
                self.say(active);
                told += u64::from(readers);
                while self.words.word(HEARD).load(Ordering::Acquire) < told {
                    thread::sleep(Duration::from_millis(1));
                }
                *nanoseconds = cost(&mut publisher, &self.payload)?;
            }
        }
        self.say(END);
        self.others.clear();
        Ok(costs)
    }
}

fn p50(figures: impl Iterator<Item = f64>) -> f64 {
    Quartiles::of(figures).p50
}

/// The floor carries a number in each message, so its messages are no smaller than one.
fn floor_setup(size: usize) -> Setup {
    Setup { workload: Workload::Pingpong, size: size.max(WORD), directory: PathBuf::new() }
}

/// The first number of a burst over the floor, in which both messages of a round trip have
/// one.
fn first(round: usize) -> u64 {
    (2 * BURST * round) as u64
}

fn cost(publisher: &mut Publisher, payload: &[u8]) -> Result<f64, Error> {
    const COUNT: u32 = 20_000;
    let start = Instant::now();
    for _ in 0..COUNT {
        publisher.publish(payload)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(COUNT))
}

/// Another process: it answers each value, or only reads.
pub fn run_reader(options: &ReaderOptions) -> Result<(), Error> {
    let words = Words::open(&options.words)?;
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
        Some(host) => answer(options, host, guest, subscriber),
        None => read(options.index, subscriber, &words),
    }
}

fn answer(
    options: &ReaderOptions,
    mut host: Host,
    mut guest: Guest,
    mut subscriber: Subscriber,
) -> Result<(), Error> {
    let setup = floor_setup(options.size);
    let mut floor = ONE_BUFFER.join(&setup, &options.floor)?;
    let mut message = vec![0; setup.size];
    guest.link.send(b"ready", WAIT)?;
    let _link = host.accept(WAIT)?;
    guest.link.recv(WAIT)?;
    let mut publisher = host.hub().publisher(BROADCAST)?;
    let mut payload = vec![0; options.size];
    for round in 0..options.rounds {
        for _ in 0..BURST {
            payload.copy_from_slice(subscriber.next(WAIT)?.payload);
            publisher.publish(&payload)?;
        }
        floor.echo(&mut message, first(round), BURST)?;
    }
    // It is killed when it is not needed any more.
    thread::sleep(WAIT);
    Ok(())
}

fn read(index: u64, mut subscriber: Subscriber, words: &Words) -> Result<(), Error> {
    let mut active = START;
    loop {
        let said = words.word(SAID).load(Ordering::Acquire);
        if said != active {
            active = said;
            words.word(HEARD).fetch_add(1, Ordering::Release);
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
    newest::print(&report.newest_while_written, &report.newest_while_idle);
}
