use std::{
    ffi::OsStr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::{
    asynchronous, attach, broadcast, bytes, dense, fanin, footprint, newest, patience::WAIT,
    processors::pin, system::Error,
};

/// What another process of a benchmark does.
#[derive(clap::Subcommand)]
pub enum Task {
    /// Echoes or swallows bytes.
    Bytes(bytes::ClientOptions),
    /// Sends as fast as it can.
    Fanin(fanin::GuestOptions),
    /// Attaches and detaches.
    Attach(attach::GuestOptions),
    /// Holds idle links.
    Footprint(footprint::GuestOptions),
    /// Answers or reads values.
    Broadcast(broadcast::ReaderOptions),
    /// Reads the newest value.
    Newest(newest::ReaderOptions),
    /// Answers messages, after some work.
    Dense(dense::GuestOptions),
    /// Answers messages in a task.
    Async(asynchronous::GuestOptions),
}

/// What another process of a benchmark is told.
#[derive(clap::Args)]
pub struct Options {
    /// The processor to run on.
    #[arg(long)]
    processor: usize,
    #[command(subcommand)]
    task: Task,
}

/// Does what another process asks for, and ends no later than that.
pub fn run(options: &Options) -> Result<(), Error> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    pin(options.processor)?;
    match &options.task {
        Task::Bytes(options) => bytes::run_client(options),
        Task::Fanin(options) => fanin::run_guest(options),
        Task::Attach(options) => attach::run_guest(options),
        Task::Footprint(options) => footprint::run_guest(options),
        Task::Broadcast(options) => broadcast::run_reader(options),
        Task::Newest(options) => newest::run_reader(options),
        Task::Dense(options) => dense::run_guest(options),
        Task::Async(options) => asynchronous::run_guest(options),
    }
}

/// Another process of a benchmark, which does not outlive the measuring one.
#[derive(Debug)]
pub struct Helper(Child);

impl Helper {
    /// Starts this executable anew on a processor, with `path` in front of the hidden
    /// subcommand.
    pub fn start(
        path: &[&str],
        processor: usize,
        task: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(path).args(["helper", "--processor", &processor.to_string()]);
        Ok(Self(command.args(task).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?))
    }

    /// What it prints.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Waits until a word is no less than `value`, while this process lives.
    pub fn wait_for(&mut self, word: &AtomicU64, value: u64) -> Result<(), Error> {
        let end = Instant::now() + WAIT;
        while word.load(Ordering::Acquire) < value {
            if let Some(status) = self.0.try_wait()? {
                return Err(format!("the other process: {status}").into());
            }
            if Instant::now() > end {
                return Err("the other process has not answered".into());
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Neither does anything to a process that was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
