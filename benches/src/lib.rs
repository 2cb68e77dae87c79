//! The benchmarks between processes, which `shmctl bench` runs: two processes on two
//! processors, the library and the floor in turn. The criterion benchmarks of one process
//! are in `benches/`.
#![deny(unsafe_code)]

mod broadcast;
mod burst;
mod control;
mod far;
mod floor;
mod floors;
mod floors_report;
mod link;
mod memory;
mod options;
mod patience;
mod pingpong;
mod plot;
mod processors;
mod report;
mod round;
mod stream;
mod system;

use std::process::ExitCode;

pub use patience::{WAIT, poll};
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
    /// What the machine allows: cache lines and buffers that two processes pass to each
    /// other, the wake of a sleeping process, the disk.
    Floors(floors_report::Options),
    /// A reader process of a benchmark.
    #[command(hide = true)]
    Reader(broadcast::ReaderOptions),
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
        Command::Broadcast(options) => {
            broadcast::run(options, path).map_err(|error| error.to_string())?;
        }
        Command::Floors(options) => floors_report::run(options, path)?,
        Command::Reader(options) => {
            broadcast::run_reader(options).map_err(|error| error.to_string())?;
        }
        Command::Peer(options) => far::run_process(options, &options::all(peers))?,
    }
    Ok(ExitCode::SUCCESS)
}
