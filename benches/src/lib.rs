//! The benchmarks between processes, which `shmctl bench` runs: two processes on two
//! processors, the library and the floor in turn. The criterion benchmarks of one process
//! are in `benches/`.
#![deny(unsafe_code)]

mod asynchronous;
mod attach;
mod broadcast;
mod burst;
mod bytes;
mod control;
mod dense;
mod fanin;
mod far;
mod floors;
mod floors_report;
mod footprint;
mod helper;
mod link;
mod memory;
mod newest;
mod options;
mod patience;
mod pingpong;
mod plot;
mod processors;
mod report;
mod round;
mod seqlock;
mod stream;
mod system;
mod wake;
mod words;

use std::process::ExitCode;

pub use patience::{WAIT, poll};
pub use processors::{pin, two_processors};
pub use system::{Error, Far, Opened, Runner, Setup, Side, System, Workload};

/// A benchmark.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Round trips of one message between two processes, beside the floor: the bare
    /// ping-pong through one shared buffer.
    Pingpong(pingpong::Options),
    /// Messages one way between two processes, one by one and in batches, beside the
    /// floor: the better of two rings by hand.
    Stream(stream::Options),
    /// How long a published value takes to another process, beside the bare ping-pong, and
    /// what publishing costs by number of readers.
    Broadcast(broadcast::Options),
    /// Messages of many guests to one host, beside those of one guest.
    Fanin(fanin::Options),
    /// How long it takes from attaching to the first message, beside a bare socket, and how
    /// often a guest can attach and detach.
    Attach(attach::Options),
    /// What an idle link costs: descriptors, mappings, memory.
    Footprint(footprint::Options),
    /// How long it takes to wake a receiver that sleeps, beside a bare futex, and that dense
    /// traffic never sleeps.
    Wake(wake::Options),
    /// Round trips between tasks of two processes, parked on every message and polling first,
    /// beside a Unix socket of the same runtime.
    Async(asynchronous::Options),
    /// Bytes through a stream in shared memory, there and back and one way, beside a
    /// `UnixStream`.
    Bytes(bytes::Options),
    /// Another process of one of these.
    #[command(hide = true)]
    Helper(helper::Options),
    /// What the machine allows: cache lines and buffers that two processes pass to each
    /// other, the wake of a sleeping process, the disk.
    Floors(floors_report::Options),
    /// The other process of a benchmark.
    #[command(hide = true)]
    Peer(far::Options),
}

/// Runs a benchmark.
///
/// `peers` take part beside the library and the floors. `path` is what comes before the name
/// of a benchmark in the command line of this executable: it starts itself anew for the
/// other process, which must call this function with the same peers.
///
/// # Errors
///
/// What went wrong with it, for people to read.
pub fn run(command: &Command, peers: &[&dyn System], path: &[&str]) -> Result<ExitCode, Error> {
    match command {
        Command::Pingpong(options) => pingpong::run(options, peers, path)?,
        Command::Stream(options) => stream::run(options, peers, path)?,
        Command::Wake(options) => wake::run(options, peers, path)?,
        Command::Broadcast(options) => broadcast::run(options, path)?,
        Command::Fanin(options) => fanin::run(options, path)?,
        Command::Attach(options) => attach::run(options, path)?,
        Command::Footprint(options) => footprint::run(options, path)?,
        Command::Async(options) => asynchronous::run(options, path)?,
        Command::Floors(options) => floors_report::run(options, path)?,
        Command::Bytes(options) => bytes::run(options, path)?,
        Command::Helper(options) => helper::run(options)?,
        Command::Peer(options) => far::run_process(options, &options::all(peers))?,
    }
    Ok(ExitCode::SUCCESS)
}
