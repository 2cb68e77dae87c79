use std::{
    path::PathBuf,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use shm_transport::{Guest, Host, LinkEvent, LinkKey, LinkSet, RecvError};

use crate::{
    helper::Helper,
    patience::WAIT,
    processors::{pin, two_processors},
    report::Quartiles,
    system::Error,
    words::Words,
};

/// Numbers of guests that are compared.
const GUESTS: [usize; 5] = [1, 2, 4, 8, 16];
/// Messages received from one guest before the next guest's turn.
const BATCH: usize = 64;
/// What is not counted at the beginning of a turn, as a share of it.
const WARM_UP: u32 = 5;
/// The longest wait between two looks at the clock.
const TICK: Duration = Duration::from_millis(5);
/// The word that says how many guests send, and in front of that number, how often it was
/// changed. Behind it are those of the guests, who repeat it when they have seen it.
const ACTIVE: usize = 0;
const CHANGE: u64 = 1 << 16;
/// Messages between two looks at that word.
const BURST: usize = 64;

/// Options of `shmctl bench fanin`.
#[derive(clap::Args)]
pub struct Options {
    /// Bytes in a message.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(8..=1 << 20))]
    size: u32,
    /// How long each number of guests sends in a turn, in milliseconds.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    milliseconds: u32,
    /// Turns to measure, of each number of guests.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// What a sending process is told.
#[derive(clap::Args)]
pub struct GuestOptions {
    #[arg(long)]
    hub: PathBuf,
    #[arg(long)]
    words: String,
    #[arg(long)]
    index: usize,
    #[arg(long)]
    size: usize,
}

#[derive(Serialize)]
struct Row {
    workload: &'static str,
    size: usize,
    guests: usize,
    /// Beside one guest's, turn by turn.
    ratio_to_one: Quartiles,
    messages_per_second: Quartiles,
    /// What the guest with the fewest messages got of an even share; turn by turn.
    smallest_share: Quartiles,
}

/// Measures.
pub fn run(options: &Options, path: &[&str]) -> Result<(), Error> {
    let size = options.size as usize;
    let time = Duration::from_millis(options.milliseconds.into());
    let mut server = Server::start(size, path)?;
    let mut turns = Vec::new();
    for _ in 0..options.turns {
        let mut turn = Vec::new();
        for guests in GUESTS {
            turn.push(server.turn(guests, time)?);
        }
        turns.push(turn);
    }
    for (at, guests) in GUESTS.into_iter().enumerate() {
        let each = |figure: &dyn Fn(&Vec<Turn>) -> f64| Quartiles::of(turns.iter().map(figure));
        let row = Row {
            workload: "fanin",
            size,
            guests,
            ratio_to_one: each(&|turn| turn[at].rate / turn[0].rate),
            messages_per_second: each(&|turn| turn[at].rate),
            smallest_share: each(&|turn| turn[at].smallest_share),
        };
        if options.json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            print(&row);
        }
    }
    Ok(())
}

/// What one number of guests came to.
struct Turn {
    rate: f64,
    smallest_share: f64,
}

/// The host, which receives from all guests.
struct Server {
    // Dropped in this order: guests, links, host, and the directory of its path.
    guests: Vec<Helper>,
    links: LinkSet,
    /// Of each guest, in the order of their start.
    keys: Vec<LinkKey>,
    received: Vec<u64>,
    host: Host,
    _directory: tempfile::TempDir,
    words: Words,
    said: u64,
    events: Vec<LinkEvent>,
    payload: Vec<u8>,
}

impl Server {
    fn start(size: usize, path: &[&str]) -> Result<Self, Error> {
        let (here, there) = two_processors()?;
        let directory = tempfile::tempdir()?;
        let most = GUESTS.into_iter().max().unwrap_or_default();
        let host = Host::builder().max_guests(most).create(directory.path().join("hub"))?;
        let mut server = Self {
            guests: Vec::new(),
            links: LinkSet::new()?,
            keys: Vec::new(),
            received: vec![0; most],
            host,
            _directory: directory,
            words: Words::create()?,
            said: 0,
            events: Vec::new(),
            payload: vec![0; size],
        };
        for index in 0..most {
            let hub = server.host.path().to_string_lossy().into_owned();
            let words = server.words.ticket();
            let (index, size) = (index.to_string(), size.to_string());
            server.guests.push(Helper::start(
                path,
                there,
                ["fanin", "--hub", &hub, "--words", &words, "--index", &index, "--size", &size],
            )?);
            let link = server.host.accept(WAIT)?;
            server.keys.push(server.links.insert(link)?);
        }
        pin(here)?;
        Ok(server)
    }

    fn turn(&mut self, guests: usize, time: Duration) -> Result<Turn, Error> {
        self.tell(guests)?;
        self.serve(time / WARM_UP)?;
        self.received.fill(0);
        let start = Instant::now();
        self.serve(time)?;
        let elapsed = start.elapsed();
        let received = self.received.get(..guests).unwrap_or_default();
        let total = received.iter().sum::<u64>() as f64;
        let smallest = received.iter().copied().min().unwrap_or_default() as f64;
        self.tell(0)?;
        Ok(Turn {
            rate: total / elapsed.as_secs_f64(),
            smallest_share: smallest * guests as f64 / total.max(1.0),
        })
    }

    /// Tells the guests how many of them are to send, and receives until all have seen it.
    fn tell(&mut self, guests: usize) -> Result<(), Error> {
        self.said = (self.said / CHANGE + 1) * CHANGE + guests as u64;
        self.words.word(ACTIVE).store(self.said, Ordering::Release);
        let end = Instant::now() + WAIT;
        let seen = |words: &Words, guest| words.word(ACTIVE + 1 + guest).load(Ordering::Acquire);
        while (0..self.guests.len()).any(|guest| seen(&self.words, guest) != self.said) {
            if Instant::now() > end {
                return Err("a guest does not answer".into());
            }
            self.serve_once()?;
        }
        Ok(())
    }

    fn serve(&mut self, time: Duration) -> Result<(), Error> {
        let start = Instant::now();
        while start.elapsed() < time {
            self.serve_once()?;
        }
        Ok(())
    }

    fn serve_once(&mut self) -> Result<(), Error> {
        let mut events = std::mem::take(&mut self.events);
        self.links.wait_with(&mut self.host, &mut events, TICK)?;
        for event in &events {
            if let LinkEvent::Ready(key) = *event {
                self.receive(key)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn receive(&mut self, key: LinkKey) -> Result<(), Error> {
        let guest = self.keys.iter().position(|known| *known == key);
        let count = guest.and_then(|guest| self.received.get_mut(guest));
        let (Some(link), Some(count)) = (self.links.get_mut(key), count) else { return Ok(()) };
        for _ in 0..BATCH {
            match link.receiver.try_recv_into(&mut self.payload) {
                Ok(Some(_)) => *count += 1,
                Ok(None) => break,
                Err(RecvError::Ended(end)) => return Err(format!("a guest: {end}").into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A guest: sends while it is to.
pub fn run_guest(options: &GuestOptions) -> Result<(), Error> {
    let words = Words::open(&options.words)?;
    let mut guest = Guest::attach(&options.hub, WAIT)?;
    let mut payload = vec![0; options.size];
    let mut number = 0u64;
    // It is killed when it is not needed any more.
    loop {
        let said = words.word(ACTIVE).load(Ordering::Acquire);
        words.word(ACTIVE + 1 + options.index).store(said, Ordering::Release);
        if said % CHANGE <= options.index as u64 {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        for _ in 0..BURST {
            number += 1;
            if let Some(first) = payload.first_chunk_mut() {
                *first = number.to_le_bytes();
            }
            guest.link.send(&payload, WAIT)?;
        }
    }
}

fn print(row: &Row) {
    let Row { size, guests, ratio_to_one, messages_per_second, smallest_share, .. } = row;
    println!(
        "{guests:>2} guests, {size} bytes: {:.2} × one guest's ({:.2} to {:.2}), {:.2} million \
         messages per second ({:.2} to {:.2}), smallest share {:.2} of an even one",
        ratio_to_one.p50,
        ratio_to_one.p25,
        ratio_to_one.p75,
        messages_per_second.p50 / 1e6,
        messages_per_second.p25 / 1e6,
        messages_per_second.p75 / 1e6,
        smallest_share.p50,
    );
}
