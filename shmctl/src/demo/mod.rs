//! `shmctl demo`: real input and real processes, every answer checked.
//!
//! The host splits a file into blocks and deals them to guest processes over links; each
//! guest answers each block with its SHA-256. One thread of the host serves all guests.

mod blocks;
mod failure;
mod guest;
mod host;
mod interrupt;
mod leaks;
mod ledger;
mod options;
mod progress;
mod recovery;
mod report;
mod wire;
mod worker;

use std::{error::Error, process::ExitCode};

pub use self::options::Options;
use self::{
    blocks::Blocks,
    host::Demo,
    interrupt::Interrupt,
    leaks::Footprint,
    options::{Fault, Role},
    progress::Progress,
    report::Report,
};

/// Runs the demo.
pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    match options.role {
        Some(Role::Guest) => Ok(guest::run(options.fault)?),
        None => Ok(run_host(options)?),
    }
}

fn run_host(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let progress = Progress::new();
    let blocks = Blocks::of_file(options.input.as_deref())?;
    // Before the first thread starts, so that no thread takes a signal by itself.
    let interrupt = Interrupt::new()?;
    leaks::warm_up()?;
    let before = Footprint::now()?;
    if options.fault == Some(Fault::Forget) {
        leaks::leak()?;
    }
    let outcome = Demo::start(options, &blocks, &interrupt, &progress)?.run();
    progress.clear();
    let outcome = outcome?;
    let report = Report::new(&outcome, &before.leaked()?);
    if options.json {
        println!("{}", report.json()?);
    } else {
        print!("{}", report.text(&blocks, &outcome));
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
