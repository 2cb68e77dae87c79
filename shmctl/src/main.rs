//! The tool to try, measure and inspect the shared-memory transport.

mod demo;
mod doctor;
mod inspect;
mod links;
mod look;
mod ls;
mod manual;
mod options;
mod recv;
mod send;
mod store;
mod table;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
    /// List hubs, fleets and stores: live or stale, and whose
    Ls(ls::Options),
    /// Decode a hub, a fleet, a store, a lease or a process, and say what is wrong with it
    Inspect(inspect::Options),
    /// Watch links: messages and bytes each second, fill, stalls
    Top(top::Options),
    /// Send lines or files through a hub
    Send(send::Options),
    /// Receive lines or bytes through a hub: serve it, or attach to who does
    Recv(recv::Options),
    /// Say what is stale or leaked and which command clears it, or clear it
    Doctor(doctor::Options),
    /// Print what makes a shell complete commands
    Completions(manual::Completions),
    /// Print the manual
    Man(manual::Manual),
    /// Streams in a store that any number of processes have open.
    #[command(subcommand)]
    Store(store::Command),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Ls(options) => ls::run(&options),
        Command::Inspect(options) => inspect::run(&options),
        Command::Top(options) => top::run(&options),
        Command::Send(options) => send::run(&options),
        Command::Recv(options) => recv::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Completions(options) => manual::completions(&options, Arguments::command()),
        Command::Man(options) => manual::man(&options, Arguments::command()),
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
