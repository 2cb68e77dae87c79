use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    event::{self, PollFd, PollFlags},
    time::{ClockId, Timespec, clock_gettime},
};
use serde::Serialize;
use shm_transport::{Guest, Host, LinkEvent, LinkSet, RecvError};

use crate::{
    helper::Helper,
    patience::{WAIT, poll, work},
    processors::{pin, two_processors},
    report::{Percentiles, Quartiles, Times},
    system::Error,
    words::Words,
};

/// How long the guest waits before it attaches, so that the host sleeps by then.
const PAUSE: Duration = Duration::from_micros(300);
/// Times that are not counted.
const WARM_UP: usize = 10;
/// Cycles in a turn, of which each has a rate.
const TURN: usize = 100;
/// The word that says how many things the guest is to do: attach and a bare connection in
/// turn, then cycles.
const TOLD: usize = 0;

/// Options of `bench attach`.
#[derive(clap::Args)]
pub struct Options {
    /// First messages to time.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    attaches: u32,
    /// Turns of a hundred cycles of attaching and detaching.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// What the guest's process is told.
#[derive(clap::Args)]
pub struct GuestOptions {
    #[arg(long)]
    hub: PathBuf,
    /// A bare socket, to compare with.
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    words: String,
    #[arg(long)]
    attaches: usize,
    #[arg(long)]
    turns: usize,
}

#[derive(Serialize)]
struct Report {
    workload: &'static str,
    /// The median by that of a bare socket.
    ratio: f64,
    ratio_of_turns: Quartiles,
    attaches: usize,
    /// From the call that attaches until the host has the first message.
    first_message_ns: Percentiles,
    /// From connecting a bare Unix socket until the other end has the first message.
    socket_ns: Percentiles,
    /// Attaching and detaching, one guest after the other.
    cycles_per_second: Quartiles,
}

/// Measures.
pub fn run(options: &Options, path: &[&str]) -> Result<(), Error> {
    let (here, there) = two_processors()?;
    let (attaches, turns) = (options.attaches as usize, options.turns as usize);
    let directory = tempfile::tempdir()?;
    let mut host = Host::create(directory.path().join("hub"))?;
    let socket = directory.path().join("socket");
    let listener = UnixListener::bind(&socket)?;
    let words = Words::create()?;
    let arguments = [
        ("--hub", host.path().to_string_lossy().into_owned()),
        ("--socket", socket.to_string_lossy().into_owned()),
        ("--words", words.ticket()),
        ("--attaches", attaches.to_string()),
        ("--turns", turns.to_string()),
    ];
    let arguments = arguments.iter().flat_map(|(name, value)| [*name, value]);
    let _guest = Helper::start(path, there, ["attach"].into_iter().chain(arguments))?;
    pin(here)?;
    let (mut first_messages, mut sockets) = (Vec::new(), Vec::new());
    let told = words.word(TOLD);
    for number in 0..WARM_UP + attaches {
        told.fetch_add(1, Ordering::Release);
        let first_message = first_message(&mut host)?;
        told.fetch_add(1, Ordering::Release);
        let socket = first_bytes(&listener)?;
        if number >= WARM_UP {
            first_messages.push(first_message);
            sockets.push(socket);
        }
    }
    told.fetch_add(1, Ordering::Release);
    let rates = cycles(&mut host, turns)?;
    let percentiles = |times: &[u64]| times.iter().copied().collect::<Times>().percentiles();
    let (first_message_ns, socket_ns) = (percentiles(&first_messages), percentiles(&sockets));
    let ratios = first_messages.iter().zip(&sockets).map(|(own, bare)| *own as f64 / *bare as f64);
    let report = Report {
        workload: "attach",
        ratio: first_message_ns.p50 as f64 / socket_ns.p50 as f64,
        ratio_of_turns: Quartiles::of(ratios),
        attaches,
        first_message_ns,
        socket_ns,
        cycles_per_second: Quartiles::of(rates),
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

/// Nanoseconds on the clock that all processes share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Lets in one guest; returns how long it was from its attach to its first message here,
/// which says when that began.
fn first_message(host: &mut Host) -> Result<u64, Error> {
    let mut link = host.accept(WAIT)?;
    let mut began = [0; 8];
    link.recv_into(&mut began, WAIT)?;
    let time = now().saturating_sub(u64::from_le_bytes(began));
    // The guest detaches.
    match link.recv(WAIT) {
        Err(RecvError::Ended(_)) => Ok(time),
        _ => Err("a guest did not detach".into()),
    }
}

/// The same over a bare socket.
fn first_bytes(listener: &UnixListener) -> Result<u64, Error> {
    let timeout = Timespec { tv_sec: WAIT.as_secs() as i64, tv_nsec: 0 };
    let mut ready = [PollFd::new(listener, PollFlags::IN)];
    if event::poll(&mut ready, Some(&timeout))? == 0 {
        return Err("nobody has connected".into());
    }
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(WAIT))?;
    let mut began = [0; 8];
    stream.read_exact(&mut began)?;
    Ok(now().saturating_sub(u64::from_le_bytes(began)))
}

/// Serves guests that attach and detach; returns how many did in a second, of each turn.
fn cycles(host: &mut Host, turns: usize) -> Result<Vec<f64>, Error> {
    let mut links = LinkSet::new()?;
    let (mut events, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        let start = Instant::now();
        let mut gone = 0;
        while gone < TURN {
            if start.elapsed() > WAIT {
                return Err("guests do not come and go".into());
            }
            links.wait_with(host, &mut events, WAIT)?;
            for event in &events {
                let LinkEvent::Ready(key) = *event else { continue };
                let Some(link) = links.get_mut(key) else { continue };
                let ended = matches!(link.try_recv(), Err(RecvError::Ended(_)));
                if ended {
                    links.remove(key);
                    gone += 1;
                }
            }
        }
        rates.push(TURN as f64 / start.elapsed().as_secs_f64());
    }
    Ok(rates)
}

/// Attaches when it is told to, then as often as it can.
pub fn run_guest(options: &GuestOptions) -> Result<(), Error> {
    let words = Words::open(&options.words)?;
    let told = words.word(TOLD);
    let mut done = 0;
    for _ in 0..WARM_UP + options.attaches {
        wait_for_word(told, &mut done)?;
        let began = now();
        let mut guest = Guest::attach(&options.hub, WAIT)?;
        guest.link.send(&began.to_le_bytes(), WAIT)?;
        guest.detach(WAIT)?;
        wait_for_word(told, &mut done)?;
        connect(&options.socket)?;
    }
    wait_for_word(told, &mut done)?;
    for _ in 0..options.turns * TURN {
        Guest::attach(&options.hub, WAIT)?.detach(WAIT)?;
    }
    Ok(())
}

fn wait_for_word(told: &AtomicU64, done: &mut u64) -> Result<(), Error> {
    *done += 1;
    poll(|| told.load(Ordering::Acquire) >= *done)?;
    work(PAUSE);
    Ok(())
}

fn connect(socket: &Path) -> Result<(), Error> {
    let began = now();
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(&began.to_le_bytes())?;
    Ok(())
}

fn print(report: &Report) {
    let Report {
        ratio, ratio_of_turns, first_message_ns: ns, socket_ns, cycles_per_second, ..
    } = report;
    println!(
        "from attaching to the first message: {ratio:.2} × a bare socket ({:.2} to {:.2})",
        ratio_of_turns.p25, ratio_of_turns.p75
    );
    println!(
        "{:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "µs", "25 %", "median", "75 %", "99 %", "99.9 %"
    );
    for (name, ns) in [("attach", ns), ("socket", socket_ns)] {
        let [p25, p50, p75, p99, p999] =
            [ns.p25, ns.p50, ns.p75, ns.p99, ns.p999].map(|ns| ns as f64 / 1e3);
        println!("{name:>10} {p25:>9.1} {p50:>9.1} {p75:>9.1} {p99:>9.1} {p999:>9.1}");
    }
    println!(
        "attach and detach: {:.0} a second ({:.0} to {:.0})",
        cycles_per_second.p50, cycles_per_second.p25, cycles_per_second.p75
    );
}
