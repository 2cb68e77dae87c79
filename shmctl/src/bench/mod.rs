//! `shmctl bench`: two processes on two processors, the library and the floor in turn.

mod floor;
mod pair;
mod pingpong;
mod report;

use std::{error::Error, process::ExitCode};

/// The benchmarks.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Round trips of one message between two processes, beside the bare ping-pong
    /// through one shared buffer.
    Pingpong(pingpong::Options),
    /// The other process of a benchmark.
    #[command(hide = true)]
    Peer(pair::PeerOptions),
}

/// Runs a benchmark.
pub fn run(command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Pingpong(options) => pingpong::run(options)?,
        Command::Peer(options) => pingpong::run_peer(options)?,
    }
    Ok(ExitCode::SUCCESS)
}
