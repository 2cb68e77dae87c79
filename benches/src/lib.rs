//! The benchmarks between processes, which `shmctl bench` runs: two processes on two
//! processors, the library and the floor in turn. The criterion benchmarks of one process
//! are in `benches/`.
#![deny(unsafe_code)]

mod broadcast;
mod floor;
mod pair;
mod pingpong;
mod processors;
mod report;
mod rings;
mod stream;

use std::{error::Error, process::ExitCode};

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
/// # Errors
///
/// What went wrong with it, for people to read.
pub fn run(command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Pingpong(options) => pingpong::run(options)?,
        Command::Broadcast(options) => broadcast::run(options)?,
        Command::Reader(options) => broadcast::run_reader(options)?,
        Command::Stream(options) => stream::run(options)?,
        Command::Peer(options) => match options.workload {
            pair::Workload::Pingpong => pingpong::run_peer(options)?,
            pair::Workload::Stream => stream::run_peer(options)?,
        },
    }
    Ok(ExitCode::SUCCESS)
}
