//! `shmctl top`: a live table of links. It reads what the processes count, and nothing else: they
//! do not notice.

mod rates;
mod screen;

use std::{
    error::Error,
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use shm_transport::inspect::Process;

use self::{
    rates::{Rated, Rates},
    screen::{Key, Screen, View},
};
use crate::{links::links, look, options, table};

/// How often processes are looked for that were not there before.
const SEARCH: Duration = Duration::from_secs(2);

/// Options of `top`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Only links of the hubs at these paths
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Look again after so long
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = options::seconds)]
    interval: Duration,

    /// Print so many looks, then end
    #[arg(short = 'n', long, value_name = "LOOKS")]
    count: Option<u64>,

    /// Print one look, then end
    #[arg(long, conflicts_with = "count")]
    once: bool,

    /// Print JSON, one object for each link and look, with counts and rates
    #[arg(long)]
    json: bool,
}

/// What is looked at, again and again.
struct Watch {
    hubs: Vec<(u64, u64)>,
    processes: Vec<Process>,
    searched: Instant,
    rates: Rates,
}

impl Watch {
    fn new(paths: &[PathBuf]) -> Result<Self, Box<dyn Error>> {
        let identify = |path: &PathBuf| match fs::symlink_metadata(options::existing_hub(path)) {
            Ok(metadata) => Ok((metadata.dev(), metadata.ino())),
            Err(error) => Err(format!("{}: {error}", path.display())),
        };
        let hubs = paths.iter().map(identify).collect::<Result<_, _>>()?;
        let (processes, searched) = (look::processes()?, Instant::now());
        Ok(Self { hubs, processes, searched, rates: Rates::default() })
    }

    fn look(&mut self) -> Result<Vec<Rated>, Box<dyn Error>> {
        if self.searched.elapsed() >= SEARCH {
            self.processes = look::processes()?;
            self.searched = Instant::now();
        }
        let mut links = links(self.processes.iter());
        links.retain(|link| self.hubs.is_empty() || self.hubs.contains(&link.socket));
        Ok(self.rates.of(links))
    }
}

pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let mut watch = Watch::new(&options.paths)?;
    let count = if options.once { Some(1) } else { options.count };
    if options.json || count.is_some() {
        return print(&mut watch, options, count.unwrap_or(u64::MAX));
    }
    let mut view = View::default();
    let mut screen = Screen::new()?;
    loop {
        let rows = watch.look()?;
        screen.show(&view.render(&rows, screen.size()))?;
        let end = Instant::now() + options.interval;
        loop {
            match screen.key(end)? {
                None => break,
                Some(Key::Quit) => return Ok(ExitCode::SUCCESS),
                Some(key) => {
                    view.obey(key);
                    screen.show(&view.render(&rows, screen.size()))?;
                }
            }
        }
    }
}

/// Prints looks, the first with rates of 0 unless there is a second: then it is left out.
fn print(watch: &mut Watch, options: &Options, count: u64) -> Result<ExitCode, Box<dyn Error>> {
    let view = View::default();
    let mut next = Instant::now();
    if count > 1 && !options.json {
        watch.look()?;
        next += options.interval;
    }
    for _ in 0..count {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += options.interval;
        let rows = watch.look()?;
        let printed = if options.json {
            table::json(&rows)
        } else {
            use io::Write;
            writeln!(io::stdout().lock(), "{}", view.table(&rows))
        };
        match printed {
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            printed => printed?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
