//! `shmctl bench`

use std::{error::Error, process::ExitCode};

/// The benchmarks.
#[derive(clap::Subcommand)]
pub enum Command {}

/// Runs a benchmark.
pub fn run(_command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    Ok(ExitCode::FAILURE)
}
