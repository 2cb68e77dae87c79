use std::{
    hint::black_box,
    path::PathBuf,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use shm_transport::{
    BROADCAST, Guest, Host, Publisher, Start, Subscriber, SubscriberError, TopicConfig,
};

use crate::{
    helper::Helper, patience::WAIT, report::Quartiles, seqlock::Seqlock, system::Error,
    words::Words,
};

/// Slots of the topic: for one whose newest value is wanted, and the default.
const SLOTS: [u64; 2] = [16, 256];
/// Sizes of values.
const SIZES: [usize; 4] = [8, 64, 1024, 4096];
/// Bytes in a value that nobody writes while it is read.
const IDLE_SIZE: usize = 64;
/// Reads of one kind before the other takes its turn.
const BATCH: u32 = 20_000;
/// Turns of each kind, in all and before they count.
const TURNS: usize = 60;
const WARM_UP: usize = 5;
/// Attempts to read a value that are told apart; more count as more.
const ATTEMPTS: usize = 3;
/// Words: that the reader goes on, that it has ended, and what it counted.
const GO: usize = 0;
const DONE: usize = 1;
const COUNTS: usize = 2;
const ATTEMPTS_AT_MOST: usize = COUNTS + ATTEMPTS + 1;

/// What the reader is told.
#[derive(clap::Args)]
pub struct ReaderOptions {
    #[arg(long)]
    hub: PathBuf,
    #[arg(long)]
    words: String,
}

/// Reading the newest value of a writer that stores as fast as it can.
#[derive(Serialize)]
pub struct Busy {
    pub slots: u64,
    pub size: usize,
    pub reads: u64,
    pub writes: u64,
    /// Of the reads, the share that needed no more than one attempt, two, and three.
    pub within: [f64; ATTEMPTS],
    pub attempts_at_most: u64,
}

/// Reading a value while nobody writes, in one thread, beside a seqlock by hand, turn by turn.
///
/// Of both, each read puts the whole value into memory of the caller, which the compiler must
/// take to be used, and finds the shared memory by a pointer that the compiler must take to be
/// another each time. No read waits for the one before: these are reads per second, and every
/// instruction counts. If each read had to wait, what both wait for would hide the difference.
///
/// The seqlock copies from the shared memory each time; a subscriber does so only when there
/// is a newer value, and otherwise from a copy of its own. So there is the other case too:
/// each value is written, then read once.
#[derive(Serialize)]
pub struct Idle {
    pub size: usize,
    /// Of a typed subscriber.
    pub ratio: Quartiles,
    /// Of a subscriber to bytes whose number it learns from the value.
    pub ratio_of_bytes: Quartiles,
    /// Of a typed subscriber, each value written and read once.
    pub ratio_of_new: Quartiles,
    pub read_ns: Quartiles,
    pub bytes_ns: Quartiles,
    pub seqlock_ns: Quartiles,
    pub new_ns: Quartiles,
    pub new_seqlock_ns: Quartiles,
}

/// A value whose reading is timed.
type Value = [u64; IDLE_SIZE / 8];

/// What a turn took, in nanoseconds for each read.
struct Turn {
    typed: f64,
    bytes: f64,
    seqlock: f64,
    new: f64,
    new_seqlock: f64,
}

/// Reads on another processor under a writer that never rests, for so long each.
pub fn busy(there: usize, time: Duration, path: &[&str]) -> Result<Vec<Busy>, Error> {
    let all = SLOTS.into_iter().flat_map(|slots| SIZES.map(|size| (slots, size)));
    all.map(|topic| busy_with(topic, there, time, path)).collect()
}

fn host(slots: u64, size: usize, directory: &tempfile::TempDir) -> Result<Host, Error> {
    let topic = TopicConfig { slots, max_payload: size as u64 };
    Ok(Host::builder().broadcast(topic).create(directory.path().join("hub"))?)
}

fn busy_with(
    (slots, size): (u64, usize),
    there: usize,
    time: Duration,
    path: &[&str],
) -> Result<Busy, Error> {
    let directory = tempfile::tempdir()?;
    let mut host = host(slots, size, &directory)?;
    let mut publisher = host.hub().publisher(BROADCAST)?;
    let words = Words::create()?;
    let hub = host.path().to_string_lossy().into_owned();
    let mut reader =
        Helper::start(path, there, ["newest", "--hub", &hub, "--words", &words.ticket()])?;
    let _link = host.accept(WAIT)?;
    let mut payload = vec![0; size];
    publish(&mut publisher, &mut payload)?;
    words.word(GO).store(1, Ordering::Release);
    let start = Instant::now();
    while start.elapsed() < time {
        for _ in 0..1000 {
            publish(&mut publisher, &mut payload)?;
        }
    }
    // The reader counts only what it read while this wrote.
    words.word(GO).store(2, Ordering::Release);
    reader.wait_for(words.word(DONE), 1)?;
    let count = |number| words.word(COUNTS + number).load(Ordering::Relaxed);
    let reads: u64 = (0..=ATTEMPTS).map(count).sum();
    let mut so_far = 0;
    let within = std::array::from_fn(|number| {
        so_far += count(number);
        so_far as f64 / reads.max(1) as f64
    });
    let attempts_at_most = words.word(ATTEMPTS_AT_MOST).load(Ordering::Relaxed);
    Ok(Busy { slots, size, reads, writes: publisher.published(), within, attempts_at_most })
}

/// Publishes a value whose first and last words are its position.
fn publish(publisher: &mut Publisher, payload: &mut [u8]) -> Result<(), Error> {
    let number = publisher.published().to_le_bytes();
    let words = payload.as_chunks_mut::<8>().0;
    if let [first, ..] = words {
        *first = number;
    }
    if let [.., last] = words {
        *last = number;
    }
    publisher.publish(payload)?;
    Ok(())
}

/// Reads the newest value as often as it can while the writer writes.
pub fn run_reader(options: &ReaderOptions) -> Result<(), Error> {
    let words = Words::open(&options.words)?;
    let guest = Guest::attach(&options.hub, WAIT)?;
    let mut subscriber = guest.subscribe(BROADCAST, Start::Next)?;
    let deadline = Instant::now() + WAIT;
    while words.word(GO).load(Ordering::Acquire) < 1 {
        if Instant::now() > deadline {
            return Err("the writer does not begin".into());
        }
        std::hint::spin_loop();
    }
    let mut counts = [0; ATTEMPTS + 1];
    let mut most = 0;
    while words.word(GO).load(Ordering::Acquire) == 1 {
        let attempts = read(&mut subscriber)?;
        most = most.max(attempts);
        if let Some(count) = counts.get_mut(attempts.min(ATTEMPTS + 1) - 1) {
            *count += 1;
        }
    }
    for (number, count) in counts.into_iter().enumerate() {
        words.word(COUNTS + number).store(count, Ordering::Relaxed);
    }
    words.word(ATTEMPTS_AT_MOST).store(most as u64, Ordering::Relaxed);
    words.word(DONE).store(1, Ordering::Release);
    // It is killed when it is not needed any more.
    thread::sleep(WAIT);
    Ok(())
}

/// Reads the newest value; returns how many attempts it took.
fn read(subscriber: &mut Subscriber) -> Result<usize, Error> {
    for attempts in 1.. {
        match subscriber.try_newest() {
            Ok(Some(value)) => {
                let words = value.payload.as_chunks::<8>().0;
                let number = value.position.to_le_bytes();
                assert!(words.first() == Some(&number) && words.last() == Some(&number));
                return Ok(attempts);
            }
            Ok(None) => return Err("nothing was published".into()),
            Err(SubscriberError::Busy) => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
    }
    Err("it never succeeded".into())
}

/// Reads while nobody writes, beside a seqlock by hand.
pub fn idle() -> Result<Idle, Error> {
    let directory = tempfile::tempdir()?;
    let mut host = host(SLOTS[0], IDLE_SIZE, &directory)?;
    let mut publisher = host.hub().publisher(BROADCAST)?;
    let path = host.path().to_owned();
    let guest = thread::spawn(move || Guest::attach(path, WAIT));
    let _link = host.accept(WAIT)?;
    let guest = guest.join().map_err(|_| "the guest panicked")??;
    let mut bytes = guest.subscribe(BROADCAST, Start::Next)?;
    let mut typed = guest.subscribe_typed::<Value>(BROADCAST, Start::Next)?;
    publisher.publish(&[7; IDLE_SIZE])?;
    // Behind a pointer, as shared memory is.
    let mut seqlock = Box::new(Seqlock::new([7; IDLE_SIZE / 8]));
    let mut turns = Vec::new();
    for turn in 0..TURNS {
        let figures = Turn {
            typed: batch(|| black_box(&mut typed).get()?.ok_or_else(nothing))?,
            bytes: batch(|| {
                let value = black_box(&mut bytes).newest()?.ok_or_else(nothing)?;
                let words = value.payload.as_chunks::<8>().0;
                let words: &[_; IDLE_SIZE / 8] = words.try_into()?;
                Ok(words.map(u64::from_ne_bytes))
            })?,
            seqlock: batch(|| Ok(black_box(&seqlock).read()))?,
            new: batch(|| {
                black_box(&mut publisher).publish(black_box(&[7; IDLE_SIZE]))?;
                black_box(&mut typed).get()?.ok_or_else(nothing)
            })?,
            new_seqlock: batch(|| {
                black_box(&mut seqlock).write(black_box(&[7; IDLE_SIZE / 8]));
                Ok(black_box(&seqlock).read())
            })?,
        };
        if turn >= WARM_UP {
            turns.push(figures);
        }
    }
    let all = |figure: fn(&Turn) -> f64| Quartiles::of(turns.iter().map(figure));
    Ok(Idle {
        size: IDLE_SIZE,
        ratio: all(|turn| turn.typed / turn.seqlock),
        ratio_of_bytes: all(|turn| turn.bytes / turn.seqlock),
        ratio_of_new: all(|turn| turn.new / turn.new_seqlock),
        read_ns: all(|turn| turn.typed),
        bytes_ns: all(|turn| turn.bytes),
        seqlock_ns: all(|turn| turn.seqlock),
        new_ns: all(|turn| turn.new),
        new_seqlock_ns: all(|turn| turn.new_seqlock),
    })
}

#[cold]
fn nothing() -> Error {
    "nothing is there".into()
}

/// Nanoseconds that one of many reads takes.
#[inline(always)]
fn batch(mut read: impl FnMut() -> Result<Value, Error>) -> Result<f64, Error> {
    let start = Instant::now();
    for _ in 0..BATCH {
        black_box(&read()?);
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(BATCH))
}

pub fn print(busy: &[Busy], idle: &Idle) {
    for Busy { slots, size, reads, within: [one, two, three], attempts_at_most, .. } in busy {
        println!(
            "newest of {size} bytes in {slots} slots under a writer that never rests: {:.4} % of {reads} reads \
             within 3 attempts, {:.4} % within 2, {:.4} % at once; {attempts_at_most} at most",
            three * 100.0,
            two * 100.0,
            one * 100.0,
        );
    }
    let Idle { size, ratio, ratio_of_bytes, ratio_of_new, .. } = idle;
    println!(
        "newest of {size} bytes while nobody writes: {:.2} × a seqlock by hand ({:.2} to {:.2}), \
         as bytes {:.2} ×; {:.1} ns, as bytes {:.1}, the seqlock {:.1}",
        ratio.p50,
        ratio.p25,
        ratio.p75,
        ratio_of_bytes.p50,
        idle.read_ns.p50,
        idle.bytes_ns.p50,
        idle.seqlock_ns.p50,
    );
    println!(
        "{size} bytes, written and read once by one thread: {:.2} × a seqlock by hand \
         ({:.2} to {:.2}); {:.1} ns, the seqlock {:.1}",
        ratio_of_new.p50,
        ratio_of_new.p25,
        ratio_of_new.p75,
        idle.new_ns.p50,
        idle.new_seqlock_ns.p50,
    );
}
