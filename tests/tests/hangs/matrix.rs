//! The table of calls and peers, and how long each call took.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use shm_transport::LinkEnd;

/// How late a call may be on a machine that is busy with other things.
pub const MARGIN: Duration = Duration::from_secs(10);
/// The deadline of calls that are to reach it.
pub const SHORT: Duration = Duration::from_millis(50);
/// When the peer of a call that has no deadline meets its end.
pub const EVENT: Duration = Duration::from_millis(20);

/// How often everything is done.
pub fn rounds() -> u64 {
    shm_tests::amount("SHM_TEST_HANG_ROUNDS", 1)
}

/// What is the matter with the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It lives and reads nothing, or says nothing; what it could take is full.
    Full,
    /// It was stopped.
    Stopped,
    /// It was dead before.
    Dead,
    /// It is killed during the call.
    Dies,
    /// It says goodbye during the call.
    Closes,
    /// It is thrown out during the call.
    Evicted,
    /// It writes nonsense during the call.
    Corrupt,
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its deadline passed.
    TimedOut,
    /// The link is over.
    Ended(LinkEnd),
    /// Anything else, in words.
    Other(String),
}

impl Answer {
    pub fn other(what: impl fmt::Debug) -> Self {
        Self::Other(format!("{what:?}"))
    }
}

/// What was measured of one test.
#[derive(Debug, Default)]
pub struct Matrix {
    /// By call and state: how often, and the longest time beyond what was due.
    cells: BTreeMap<(&'static str, State), (u64, Duration)>,
}

impl Matrix {
    /// Makes a call that is due to return after `due`, and returns what it did.
    ///
    /// # Panics
    ///
    /// If it returns earlier than `not_before`, or [`MARGIN`] too late.
    pub fn call(
        &mut self,
        call: &'static str,
        state: State,
        (not_before, due): (Duration, Duration),
        run: impl FnOnce() -> Answer + Send + 'static,
    ) -> Answer {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let start = Instant::now();
            let answer = run();
            // Nobody waits for it any more if it was too late.
            let _ = sender.send((answer, start.elapsed()));
        });
        let Ok((answer, took)) = receiver.recv_timeout(due + MARGIN) else {
            panic!("{call} with a peer {state:?} hangs: it was due after {due:?}");
        };
        assert!(took >= not_before, "{call} with a peer {state:?} returned after {took:?}");
        let cell = self.cells.entry((call, state)).or_default();
        cell.0 += 1;
        cell.1 = cell.1.max(took.saturating_sub(due));
        answer
    }

    /// Prints the table; all of these calls must be in it.
    ///
    /// # Panics
    ///
    /// If one is not.
    pub fn finish(&self, title: &str, calls: &[&str]) {
        let states: BTreeSet<State> = self.cells.keys().map(|(_, state)| *state).collect();
        println!("{title}: calls made, longest time beyond what was due");
        print!("{:<28}", "");
        states.iter().for_each(|state| print!("{:>16}", format!("{state:?}")));
        println!();
        let names: BTreeSet<&str> = self.cells.keys().map(|(call, _)| *call).collect();
        for name in &names {
            print!("{name:<28}");
            for state in &states {
                let cell = self.cells.get(&(*name, *state));
                let text = cell.map(|(count, over)| format!("{count} {over:.1?}"));
                print!("{:>16}", text.unwrap_or_default());
            }
            println!();
        }
        let count: u64 = self.cells.values().map(|(count, _)| count).sum();
        let longest = self.cells.values().map(|(_, over)| *over).max().unwrap_or_default();
        println!("{count} calls, each returned; the latest {longest:.1?} late\n");
        for call in calls {
            assert!(names.contains(call), "{call} was not called");
        }
    }
}
