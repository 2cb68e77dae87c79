//! Creators that race for one path, round after round, and check each time that one of them
//! has become the host and all others were told that there is one.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use nix::sys::signal::{Signal, raise};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket, sockopt::socket_peercred,
};
use shm_transport::{CreateError, Host};

use crate::{
    WAIT,
    pattern::mix,
    raw::{RawMemory, RawSocket},
};

/// How many race.
pub const CREATORS: u64 = 4;

/// Of so many rounds one ends with the death of the host.
pub const DEATH_EVERY: u64 = 64;

/// A creator's words: how many barriers it has reached, and what it found in the round.
const ARRIVED: u64 = 0;
const FOUND: u64 = 8;
/// Bytes from one creator's words to the next.
const CREATOR: u64 = 128;

const HOST: u64 = 1;
const HOST_EXISTS: u64 = 2;
const OTHER: u64 = 3;

/// How a round ends for its host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It is dropped before the next round begins.
    Dropped,
    /// It is dropped while the others create theirs.
    DroppedInTheRace,
    /// What a killed host leaves stays at the path.
    LeftBehind,
    /// Its process is killed.
    Killed,
}

/// How the round ends: the same for all who race.
fn ending(round: u64, dies: bool) -> Ending {
    match mix(round) % DEATH_EVERY {
        0 if dies => Ending::Killed,
        1..16 => Ending::LeftBehind,
        16..32 => Ending::DroppedInTheRace,
        _ => Ending::Dropped,
    }
}

/// How many rounds of these end with a kill.
#[must_use]
pub fn deaths(rounds: u64) -> u64 {
    (0..rounds).filter(|round| ending(*round, true) == Ending::Killed).count() as u64
}

/// Makes the memory in which creators meet.
///
/// # Panics
///
/// If it cannot be made.
pub fn prepare(meeting: &Path) {
    let file = File::create_new(meeting).expect("a file to meet in");
    file.set_len(CREATOR * CREATORS).expect("room to meet");
}

/// One of those who race.
pub struct Creator {
    memory: RawMemory,
    number: u64,
    path: PathBuf,
    /// Whether its process is killed in some rounds when it is the host.
    dies: bool,
    host: Option<Host>,
}

impl Creator {
    /// Creator `number`, which meets the others there.
    ///
    /// # Panics
    ///
    /// If there is no memory to meet in.
    #[must_use]
    pub fn new(meeting: &Path, number: u64, path: PathBuf, dies: bool) -> Self {
        let file = File::options().read(true).write(true).open(meeting).expect("a file");
        let size = (CREATOR * CREATORS) as usize;
        let memory = RawMemory::map(file.as_fd(), size, true).expect("a mapping");
        Self { memory, number, path, dies, host: None }
    }

    /// Races from where it, or its predecessor that was killed, has come.
    ///
    /// # Panics
    ///
    /// If a round has no host or two, if anybody is told anything else than that there is
    /// one, or if the path is not the host's.
    pub fn race(mut self, rounds: u64) {
        let begin = self.load(self.number, ARRIVED) / 3;
        for round in begin..rounds {
            // Together.
            self.arrive(3 * round + 1);
            let created = self.create();
            // All have an answer.
            self.store(FOUND, created);
            self.arrive(3 * round + 2);
            self.check(round);
            // All have looked.
            self.arrive(3 * round + 3);
            if self.host.is_some() {
                self.end(ending(round, self.dies));
            }
        }
    }

    fn create(&mut self) -> u64 {
        // That of the last round, in the race.
        self.host = None;
        match Host::create(&self.path) {
            Ok(host) => {
                self.host = Some(host);
                HOST
            }
            Err(CreateError::HostExists(_)) => HOST_EXISTS,
            Err(error) => {
                eprintln!("creator {}: {error:?}: {error}", self.number);
                OTHER
            }
        }
    }

    fn check(&self, round: u64) {
        let found: Vec<u64> = (0..CREATORS).map(|number| self.load(number, FOUND)).collect();
        let count = |what| found.iter().filter(|found| **found == what).count();
        let expected = (1, CREATORS as usize - 1);
        assert_eq!((count(HOST), count(HOST_EXISTS)), expected, "round {round}: {found:?}");
        if self.host.is_some() {
            // Who connects reaches this one.
            let socket = RawSocket::try_connect(&self.path);
            let socket = socket.unwrap_or_else(|| panic!("round {round}: nobody is reached"));
            let peer = socket_peercred(&socket).expect("credentials").pid;
            assert_eq!(peer.as_raw_nonzero().get() as u32, std::process::id(), "round {round}");
        }
    }

    fn end(&mut self, ending: Ending) {
        match ending {
            Ending::Dropped => self.host = None,
            Ending::DroppedInTheRace => {}
            Ending::LeftBehind => {
                self.host = None;
                leave_behind(&self.path).expect("a socket left behind");
            }
            Ending::Killed => raise(Signal::SIGKILL).expect("it does not return"),
        }
    }

    fn arrive(&self, barrier: u64) {
        self.store(ARRIVED, barrier);
        let start = Instant::now();
        let mut turns = 0u64;
        while (0..CREATORS).any(|number| self.load(number, ARRIVED) < barrier) {
            turns += 1;
            if turns > 50 {
                thread::yield_now();
            }
            assert!(
                !turns.is_multiple_of(1024) || start.elapsed() < WAIT,
                "the others are not there"
            );
        }
    }

    fn store(&self, at: u64, value: u64) {
        self.memory.store64(CREATOR * self.number + at, value);
    }

    fn load(&self, number: u64, at: u64) -> u64 {
        self.memory.load64(CREATOR * number + at)
    }
}

/// What a host that is killed leaves: a socket that nobody listens on, a lock file that is
/// not locked, and perhaps a socket that has not got its name yet.
fn leave_behind(path: &Path) -> io::Result<()> {
    for path in [path, &path.with_extension("new")] {
        let listener = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
        bind(&listener, &SocketAddrUnix::new(path)?)?;
        listen(&listener, 1)?;
    }
    fs::write(path.with_extension("lock"), [])
}
