//! What the benchmarks of several systems have in common on the command line.

use std::{fs::File, path::PathBuf};

use crate::{
    floors::FLOORS,
    link::LinkSystem,
    system::{Error, System},
};

/// Sizes, systems and what is printed.
#[derive(clap::Args)]
pub struct Common {
    /// Bytes in a message, 8 to 16 MiB.
    #[arg(long, value_parser = sizes(), conflicts_with = "sizes")]
    size: Option<u32>,
    /// Bytes in a message, one size after the other.
    #[arg(
        long,
        value_parser = sizes(),
        value_delimiter = ',',
        default_values_t = [8, 32, 64, 256, 1024, 4096, 65_536, 1_048_576]
    )]
    sizes: Vec<u32>,
    /// Measure only the system of this name, beside the floors. May be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print JSON: one object on a line for each size and system.
    #[arg(long)]
    pub json: bool,
    /// Draw the medians over the sizes.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

fn sizes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(8..=16 << 20)
}

/// The floors, the library and its peers.
pub fn all<'a>(peers: &[&'a dyn System]) -> Vec<&'a dyn System> {
    let mut systems: Vec<&dyn System> = FLOORS.to_vec();
    systems.push(&LinkSystem);
    systems.extend(peers);
    systems
}

impl Common {
    pub fn sizes(&self) -> Vec<usize> {
        match self.size {
            Some(size) => vec![size as usize],
            None => self.sizes.iter().map(|&size| size as usize).collect(),
        }
    }

    /// The systems to measure. Whatever could go wrong with the options does so here, not
    /// after minutes.
    pub fn systems<'a>(&self, peers: &[&'a dyn System]) -> Result<Vec<&'a dyn System>, Error> {
        let mut systems = all(peers);
        for name in &self.only {
            if !systems.iter().any(|system| system.name() == name) {
                let names: Vec<_> = systems.iter().map(|system| system.name()).collect();
                return Err(format!("no system is called {name:?}, only {names:?}").into());
            }
        }
        if !self.only.is_empty() {
            let wanted = |name: &str| self.only.iter().any(|only| only == name);
            let floor = |name: &str| FLOORS.iter().any(|floor| floor.name() == name);
            systems.retain(|system| floor(system.name()) || wanted(system.name()));
        }
        if let Some(file) = &self.plot {
            File::create(file).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(systems)
    }
}
