//! The benchmarks between processes, which `shmctl bench` runs: two processes on two
//! processors, the library and the floor in turn. The criterion benchmarks of one process
//! are in `benches/`.
#![deny(unsafe_code)]

mod broadcast;
mod burst;
mod floor;
mod pair;
mod patience;
mod pingpong;
mod processors;
mod report;
mod rings;
mod stream;
mod system;

use std::process::ExitCode;

pub use patience::{WAIT, poll};
pub use system::{Error, Far, Opened, Runner, Setup, Side, System, Workload};

/// A benchmark.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Round trips of one message between two processes, beside the bare ping-pong
    /// through one shared buffer.
    Pingpong(pingpong::Options),
    /// Messages one way between two processes, one by one and in batches, beside two rings
    /// by hand.
    Stream(stream::Options),
    /// How long a published value takes to another process, beside the bare ping-pong, and
    /// what publishing costs by number of readers.
    Broadcast(broadcast::Options),
    /// A reader process of a benchmark.
    #[command(hide = true)]
    Reader(broadcast::ReaderOptions),
    /// The other process of a benchmark.
    #[command(hide = true)]
    Peer(pair::PeerOptions),
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
    let _ = (peers, path);
    match command {
        Command::Pingpong(options) => pingpong::run(options).map_err(|error| error.to_string())?,
        Command::Broadcast(options) => {
            broadcast::run(options).map_err(|error| error.to_string())?
        }
        Command::Reader(options) => {
            broadcast::run_reader(options).map_err(|error| error.to_string())?
        }
        Command::Stream(options) => stream::run(options).map_err(|error| error.to_string())?,
        Command::Peer(options) => match options.workload {
            pair::Workload::Pingpong => {
                pingpong::run_peer(options).map_err(|error| error.to_string())?
            }
            pair::Workload::Stream => {
                stream::run_peer(options).map_err(|error| error.to_string())?
            }
        },
    }
    Ok(ExitCode::SUCCESS)
}
