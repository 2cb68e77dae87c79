use std::{
    error::Error,
    fs::{File, OpenOptions},
    os::fd::AsRawFd,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use shm_transport::{CommandExt, Guest, Host, Link, LinkConfig};

use super::{
    floor::Floor,
    processors::{pin, two_processors},
};

const WAIT: Duration = Duration::from_secs(10);

/// What the other process of a benchmark is told.
#[derive(clap::Args)]
pub struct PeerOptions {
    /// The floor's memory.
    #[arg(long)]
    floor: PathBuf,
    /// Payload bytes.
    #[arg(long)]
    pub size: usize,
    /// Round trips in a row.
    #[arg(long)]
    pub burst: usize,
    /// How often the two kinds take turns.
    #[arg(long)]
    pub rounds: usize,
    /// The processor to run on.
    #[arg(long)]
    processor: usize,
}

/// One side of a benchmark: a link and the floor, to the same other process.
pub struct Side {
    pub link: Link,
    pub floor: Floor,
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
    pub fn start(size: usize, burst: usize, rounds: usize) -> Result<Self, Box<dyn Error>> {
        let (here, there) = two_processors()?;
        let directory = tempfile::tempdir()?;
        let max_message = LinkConfig::default().max_message.max(size as u64);
        let mut host = Host::builder()
            .link(LinkConfig { max_message, ..LinkConfig::default() })
            .create(directory.path().join("hub"))?;
        let memory = Floor::create(size)?;
        let floor = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
        let guest = Command::new(std::env::current_exe()?)
            .args(["bench", "peer", "--floor", &floor])
            .args(["--size", &size.to_string(), "--burst", &burst.to_string()])
            .args(["--rounds", &rounds.to_string(), "--processor", &there.to_string()])
            .spawn_guest(host.hub())?;
        let other = Other(guest.child);
        pin(here)?;
        let link = host.accept(WAIT)?;
        let floor = Floor::map(&memory, size)?;
        let mut pair = Self { side: Side { link, floor }, other, _host: host };
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
    let memory: File = OpenOptions::new().read(true).write(true).open(&options.floor)?;
    let floor = Floor::map(&memory, options.size)?;
    let mut link = Guest::attach_inherited(WAIT)?.link;
    link.send(&[], WAIT)?;
    Ok(Side { link, floor })
}
