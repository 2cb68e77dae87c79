//! The tool to try, measure and inspect the shared-memory transport.

mod demo;
mod store;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Split a file into blocks, have guest processes hash them, check every answer.
    Demo(demo::Options),
    /// Measure, beside what the hardware allows.
    #[command(subcommand)]
    Bench(shm_benches::Command),
    /// Streams in a store that any number of processes have open.
    #[command(subcommand)]
    Store(store::Command),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Store(command) => store::run(&command),
        Command::Bench(command) => {
            shm_benches::run(&command, &[], &["bench"]).map_err(|error| error as _)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("shmctl: {error}");
        ExitCode::FAILURE
    })
}
