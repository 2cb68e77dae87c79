//! `shmctl demo`

use std::{error::Error, process::ExitCode};

/// Options of `shmctl demo`.
#[derive(clap::Args)]
pub struct Options {}

/// Runs the demo.
pub fn run(_options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    Ok(ExitCode::FAILURE)
}
