//! The benchmarks between processes, which `shmctl bench` runs: two processes on two
//! processors, the library and the floor in turn. The criterion benchmarks of one process
//! are in `benches/`.
#![deny(unsafe_code)]

mod attach;
mod broadcast;
mod fanin;
mod floor;
mod footprint;
mod helper;
mod newest;
mod pair;
mod pingpong;
mod processors;
mod report;
mod rings;
mod seqlock;
mod stream;
mod wake;
mod words;

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
    /// Another process of one of these.
    #[command(hide = true)]
    Helper(helper::Options),
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
        Command::Fanin(options) => fanin::run(options)?,
        Command::Attach(options) => attach::run(options)?,
        Command::Footprint(options) => footprint::run(options)?,
        Command::Wake(options) => wake::run(options)?,
        Command::Helper(options) => helper::run(options)?,
        Command::Reader(options) => broadcast::run_reader(options)?,
        Command::Stream(options) => stream::run(options)?,
        Command::Peer(options) => match options.workload {
            pair::Workload::Pingpong => pingpong::run_peer(options)?,
            pair::Workload::Stream => stream::run_peer(options)?,
        },
    }
    Ok(ExitCode::SUCCESS)
}
