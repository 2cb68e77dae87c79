use std::{
    error::Error,
    fs::OpenOptions,
    os::fd::AsRawFd,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use clap::ValueEnum;
use shm_transport::{CommandExt, Guest, Host, Link, LinkConfig};

use super::{
    floor::Floor,
    processors::{pin, two_processors},
    rings::{Ring, Way},
};

const WAIT: Duration = Duration::from_secs(10);

/// What two processes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    Pingpong,
    Stream,
}

/// What the other process of a benchmark is told.
#[derive(clap::Args)]
pub struct PeerOptions {
    /// What it does.
    #[arg(long)]
    pub workload: Workload,
    /// The floor's memory.
    #[arg(long)]
    floor: PathBuf,
    /// The memory of the ring with an index.
    #[arg(long)]
    index: PathBuf,
    /// The memory of the ring with commit words.
    #[arg(long)]
    commit: PathBuf,
    /// Payload bytes.
    #[arg(long)]
    pub size: usize,
    /// Round trips or messages in a row.
    #[arg(long)]
    pub burst: usize,
    /// How often all kinds take their turn.
    #[arg(long)]
    pub rounds: usize,
    /// The processor to run on.
    #[arg(long)]
    processor: usize,
}

/// One side of a benchmark: a link and what it is compared with, to the same other process.
pub struct Side {
    pub link: Link,
    pub floor: Floor,
    pub index: Ring,
    pub commit: Ring,
}

/// The measuring side, with the process at the other end.
pub struct Pair {
    pub side: Side,
    other: Other,
    _host: Host,
}

/// The process at the other end, which does not outlive the measuring one.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        // Neither does anything to a process that was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pair {
    /// Starts the other process, each on a processor of its own.
    pub fn start(
        workload: Workload,
        size: usize,
        burst: usize,
        rounds: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let (here, there) = two_processors()?;
        let directory = tempfile::tempdir()?;
        let max_message = LinkConfig::default().max_message.max(size as u64);
        let mut host = Host::builder()
            .link(LinkConfig { max_message, ..LinkConfig::default() })
            .create(directory.path().join("hub"))?;
        let memory = [Floor::create(size)?, Ring::create(size)?, Ring::create(size)?];
        let [floor, index, commit] = memory
            .each_ref()
            .map(|file| format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        let workload = workload.to_possible_value().map(|value| value.get_name().to_owned());
        let guest = Command::new(std::env::current_exe()?)
            .args(["bench", "peer", "--workload", &workload.unwrap_or_default()])
            .args(["--floor", &floor, "--index", &index, "--commit", &commit])
            .args(["--size", &size.to_string(), "--burst", &burst.to_string()])
            .args(["--rounds", &rounds.to_string(), "--processor", &there.to_string()])
            .spawn_guest(host.hub())?;
        let other = Other(guest.child);
        pin(here)?;
        let link = host.accept(WAIT)?;
        let [floor, index, commit] = &memory;
        let side = Side {
            link,
            floor: Floor::map(floor, size)?,
            index: Ring::map(index, size, Way::Index)?,
            commit: Ring::map(commit, size, Way::CommitWord)?,
        };
        let mut pair = Self { side, other, _host: host };
        // It is ready when it says so.
        pair.side.link.recv(WAIT)?;
        Ok(pair)
    }

    /// Waits for the other process.
    pub fn finish(mut self) -> Result<(), Box<dyn Error>> {
        drop(self.side);
        let status = self.other.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the other process: {status}").into()) }
    }
}

/// The other process's side.
pub fn join(options: &PeerOptions) -> Result<Side, Box<dyn Error>> {
    pin(options.processor)?;
    let open = |path| OpenOptions::new().read(true).write(true).open(path);
    let floor = Floor::map(&open(&options.floor)?, options.size)?;
    let index = Ring::map(&open(&options.index)?, options.size, Way::Index)?;
    let commit = Ring::map(&open(&options.commit)?, options.size, Way::CommitWord)?;
    let mut link = Guest::attach_inherited(WAIT)?.link;
    link.send(&[], WAIT)?;
    Ok(Side { link, floor, index, commit })
}
