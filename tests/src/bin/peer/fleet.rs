//! A member of a fleet.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use shm_tests::{
    fleet::{self, CONFIG, Content, RING, Stats},
    steps,
};
use shm_transport::fleet::{
    ClaimError, Claims, Fleet, FleetRing, JoinError, Position, ReadAtError, Start,
};

use super::{command, number, say};

pub(super) fn join(directory: &str, node: &str) -> Fleet {
    let end = Instant::now() + shm_tests::WAIT;
    loop {
        let builder = Fleet::builder().directory(directory).nodes(fleet::NODES);
        match builder.join(fleet::NAME, number(node) as u32) {
            // Its predecessor was killed and is not quite gone.
            Err(JoinError::NodeTaken { .. }) if Instant::now() < end => std::thread::yield_now(),
            joined => return joined.expect("joined"),
        }
    }
}

/// Takes commands.
pub(super) fn run(directory: &str, node: &str) {
    let fleet = join(directory, node);
    let ring = fleet.ring(RING, &CONFIG).expect("the ring");
    let claims = Claims::open(&fleet, fleet::CLAIMS, &CONFIG).expect("the claims");
    let mut guards = Vec::new();
    say("joined");
    while let Some(line) = command() {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["publish", count] => {
                let mut last = None;
                for sequence in 0..number(count) {
                    let content = Content { node: fleet.node(), life: 0, sequence };
                    last = Some(ring.publish(0, 1, &content.bytes()).expect("published"));
                }
                let last = last.expect("some frames");
                say(&format!("{} {}", last.id, last.position));
            }
            // Until it is killed.
            ["spin"] => {
                say("spinning");
                let mut sequence = 0;
                loop {
                    let content = Content { node: fleet.node(), life: 0, sequence };
                    ring.publish(0, 1, &content.bytes()).expect("published");
                    sequence += 1;
                }
            }
            ["beat"] => say(&fleet.beat().to_string()),
            ["claim", subject, milliseconds] => {
                let ttl = Duration::from_millis(number(milliseconds));
                match claims.claim(subject.as_bytes(), ttl) {
                    Ok(guard) => {
                        say(&format!("held {}", guard.token()));
                        guards.push(guard);
                    }
                    Err(ClaimError::Held { node, .. }) => say(&format!("by {node}")),
                    Err(error) => say(&format!("{error:?}")),
                }
            }
            ["release"] => {
                guards.clear();
                say("released");
            }
            // Claims, holds, adds to what only a holder may change, and releases.
            ["contend", subject, path, count] => {
                say(&contend(&claims, subject, path, number(count)).to_string());
            }
            _ => say("unknown command"),
        }
    }
}

/// Adds `count` to the number in a file, under a claim each time; returns how often it was
/// told that somebody else holds it.
fn contend(claims: &Claims, subject: &str, path: &str, count: u64) -> u64 {
    let mut told = 0;
    for _ in 0..count {
        let guard = loop {
            match claims.claim(subject.as_bytes(), Duration::from_secs(60)) {
                Ok(guard) => break guard,
                Err(ClaimError::Held { .. } | ClaimError::Busy) => told += 1,
                Err(error) => panic!("{error}"),
            }
            std::thread::yield_now();
        };
        // Not atomic on purpose: two holders at once lose an addition.
        let before = std::fs::read_to_string(path).expect("a number");
        // Empty if a holder was killed while it wrote.
        let before: u64 = before.parse().unwrap_or(0);
        std::thread::yield_now();
        assert!(guard.is_held().expect("it can be told"));
        std::fs::write(path, (before + 1).to_string()).expect("written");
    }
    told
}

/// Publishes and reads for ever, and checks all that it reads.
pub(super) fn soak(directory: &str, node: &str, life: &str) {
    let fleet = join(directory, node);
    let ring = fleet.ring(RING, &fleet::SOAK).expect("the ring");
    let mut soak = Soak {
        ring,
        node: fleet.node(),
        life: number(life),
        sequence: 0,
        random: number(life) << 8 | u64::from(fleet.node()) | 1 << 60,
        committed: fleet::committed_file(directory),
        errors: OpenOptions::new()
            .append(true)
            .create(true)
            .open(fleet::errors_path(directory))
            .expect("the file of errors"),
        stats_file: fleet::stats_file(directory),
        stats: Stats::default(),
    };
    soak.stats.load(&soak.stats_file, soak.node);
    soak.stats.lives += 1;
    soak.run();
}

struct Soak {
    ring: FleetRing,
    node: u32,
    life: u64,
    sequence: u64,
    random: u64,
    committed: File,
    errors: File,
    stats_file: File,
    stats: Stats,
}

impl Soak {
    fn run(&mut self) {
        let mut cursor = self.ring.cursor(Start::Newest);
        let mut after_cursor = cursor.position();
        let pause = Duration::from_micros(shm_tests::amount("SHM_TEST_FLEET_PAUSE", 0));
        loop {
            for _ in 0..1 + self.random() % 8 {
                self.publish();
            }
            for _ in 0..16 {
                match self.random() % 4 {
                    0 => {
                        let read = self.timed(|soak| soak.ring.read_newest());
                        match read {
                            Ok(Some(frame)) => self.check(&frame),
                            other => self.error(&format!("newest: {other:?}")),
                        }
                    }
                    1 => {
                        let (oldest, end) = (self.ring.oldest(), self.ring.end());
                        let kept = end.since(oldest).max(1);
                        let position = oldest.plus(self.random() % kept);
                        match self.timed(|soak| soak.ring.read_at(position)) {
                            Ok(frame) if frame.position() == position => self.check(&frame),
                            Err(ReadAtError::Lost { oldest }) if oldest > position => {}
                            other => self.error(&format!("at {position} of {end}: {other:?}")),
                        }
                    }
                    2 => {
                        let newest = self.ring.end().minus(1 + self.random() % 64);
                        let Ok(frame) = self.ring.read_at(newest) else { continue };
                        let id = frame.id();
                        match self.timed(|soak| soak.ring.read(id)) {
                            Ok(Some(again)) if again == frame => self.check(&again),
                            // Overwritten meanwhile, or there would be an error.
                            Ok(None) if self.ring.read_at(newest).is_err() => {}
                            other => self.error(&format!("{id}: {other:?}")),
                        }
                    }
                    _ => match self.timed(|_| cursor.next()) {
                        Ok(Some(next)) => {
                            after_cursor = after_cursor.plus(next.lost);
                            if next.frame.position() != after_cursor {
                                self.error(&format!("{after_cursor} is {next:?}"));
                            }
                            after_cursor = next.frame.position().plus(1);
                            self.check(&next.frame);
                        }
                        Ok(None) => {}
                        Err(error) => self.error(&error.to_string()),
                    },
                }
            }
            self.stats.store(&self.stats_file, self.node);
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn publish(&mut self) {
        let content = Content { node: self.node, life: self.life, sequence: self.sequence };
        let published = match self.ring.publish(self.node as u8, 1, &content.bytes()) {
            Ok(published) => published,
            Err(error) => return self.error(&error.to_string()),
        };
        self.sequence += 1;
        self.stats.published += 1;
        // What the killer holds us to: it was committed before this is written.
        let mut report = [0; 16];
        report[..8].copy_from_slice(&published.id.bits().to_le_bytes());
        report[8..].copy_from_slice(&(published.position.number() + 1).to_le_bytes());
        self.committed.write_all_at(&report, u64::from(self.node) * 16).expect("reported");
    }

    /// Measures how long a read takes: by the clock, where waiting for a processor counts,
    /// and in time on a processor.
    fn timed<T>(&mut self, read: impl FnOnce(&Self) -> T) -> T {
        let cpu = || {
            let time = clock_gettime(ClockId::ThreadCPUTime);
            time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
        };
        let (start, start_cpu) = (Instant::now(), cpu());
        let result = read(self);
        let (took, took_cpu) = (start.elapsed().as_nanos() as u64, cpu() - start_cpu);
        let stats = &mut self.stats;
        stats.reads += 1;
        stats.slow += u64::from(took >= 10_000_000);
        stats.max_wall = stats.max_wall.max(took);
        stats.max_cpu = stats.max_cpu.max(took_cpu);
        result
    }

    fn check(&mut self, frame: &shm_transport::fleet::FleetFrame) {
        if let Err(error) = Content::check(frame) {
            self.error(&error);
        }
    }

    fn error(&mut self, error: &str) {
        let _ = writeln!(self.errors, "node {} life {}: {error}", self.node, self.life);
    }
}

/// Joins, opens a ring and publishes, one instruction after the other for who traces it,
/// between two stops.
pub(super) fn create(directory: &str) {
    // What is done once in a process is done before, and alike in each.
    join(&format!("{directory}-before"), "1").unlink().expect("removed");
    steps::begin();
    let fleet = Fleet::builder().directory(directory).nodes(fleet::NODES).join(fleet::NAME, 0);
    let fleet = fleet.expect("joined");
    let ring = fleet.ring(RING, &fleet::TINY).expect("the ring");
    let published = ring.publish(0, 1, b"x").expect("published");
    steps::end();
    assert_eq!(published.position, Position::new(0));
}
