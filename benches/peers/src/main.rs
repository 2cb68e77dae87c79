//! Runs the benchmarks of `shmctl bench` with the peers beside the library.

use std::process::ExitCode;

use clap::Parser;
use shm_benches::{Command, run};
use shm_peers::{SYSTEMS, clean_up};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let result = run(&Arguments::parse().command, SYSTEMS, &[]);
    clean_up();
    result.unwrap_or_else(|error| {
        eprintln!("shm-peers: {error}");
        ExitCode::FAILURE
    })
}
