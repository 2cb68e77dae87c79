//! `shmctl store`: streams on the command line. Each command opens the store like any other
//! process: as a guest of its owner, or, if there is none, as the owner.

mod bench;
mod commands;
mod print;

use std::{
    error::Error,
    io,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Commands of `shmctl store`.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    /// Make a stream, and the store if there is none
    Create(Create),
    /// Append each line of the standard input to a stream
    Append(Append),
    /// Print a stream's entries up to its end
    Read(Read),
    /// Print a stream's last entries
    Tail(Tail),
    /// List streams
    Ls(List),
    /// Print sizes of the store, or what a stream is
    Stat(Stat),
    /// Read and check everything; fails if anything is wrong
    Verify(Verify),
    /// Measure appends from several processes, beside redb alone
    Bench(bench::Options),
}

/// A store on the command line.
#[derive(clap::Args, Clone, Debug)]
pub struct Target {
    /// The store's directory
    #[arg(value_name = "DIRECTORY")]
    pub directory: PathBuf,

    /// Wait so long for the owner
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub wait: Duration,

    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// Options of `create`.
#[derive(clap::Args, Clone, Debug)]
pub struct Create {
    #[command(flatten)]
    target: Target,

    /// The stream's name
    #[arg(value_name = "STREAM")]
    name: String,

    /// What its entries are, as a media type
    #[arg(long, value_name = "TYPE", default_value = "")]
    content_type: String,

    /// Delete it when nobody has read or written it for so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    time_to_live: Option<Duration>,

    /// Delete it at this time, in seconds since 1970: `date +%s -d tomorrow` says some
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires_at: Option<SystemTime>,

    /// The most bytes that it may hold
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,
}

/// Options of `append`.
#[derive(clap::Args, Clone, Debug)]
pub struct Append {
    #[command(flatten)]
    target: Target,

    /// The stream's name
    #[arg(value_name = "STREAM")]
    name: String,

    /// Append up to so many lines at once, all or none
    #[arg(long, value_name = "LINES", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,

    /// Close the stream behind the last line
    #[arg(long)]
    close: bool,
}

/// Options of `read`.
#[derive(clap::Args, Clone, Debug)]
pub struct Read {
    #[command(flatten)]
    target: Target,

    /// The stream's name
    #[arg(value_name = "STREAM")]
    name: String,

    /// Where to begin: start, now, or an offset
    #[arg(long, value_name = "POSITION", default_value = "start", value_parser = position)]
    from: shm_store::From,
}

/// Options of `tail`.
#[derive(clap::Args, Clone, Debug)]
pub struct Tail {
    #[command(flatten)]
    target: Target,

    /// The stream's name
    #[arg(value_name = "STREAM")]
    name: String,

    /// Go on with what is appended, until the stream is closed or deleted
    #[arg(short, long)]
    follow: bool,

    /// Begin so many entries before the end
    #[arg(short = 'n', long, value_name = "ENTRIES", default_value_t = 10)]
    lines: usize,
}

/// Options of `ls`.
#[derive(clap::Args, Clone, Debug)]
pub struct List {
    #[command(flatten)]
    target: Target,

    /// Only streams whose names begin so
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: String,
}

/// Options of `stat`.
#[derive(clap::Args, Clone, Debug)]
pub struct Stat {
    #[command(flatten)]
    target: Target,

    /// A stream, instead of the store
    #[arg(value_name = "STREAM")]
    name: Option<String>,
}

/// Options of `verify`.
#[derive(clap::Args, Clone, Debug)]
pub struct Verify {
    #[command(flatten)]
    target: Target,
}

/// Runs a command.
pub fn run(command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    run_to_end(command).or_else(|error| match error.downcast_ref::<io::Error>() {
        // Whoever reads the output has read enough.
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        _ => Err(error),
    })
}

fn run_to_end(command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Create(options) => commands::create(options),
        Command::Append(options) => commands::append(options),
        Command::Read(options) => commands::read(options),
        Command::Tail(options) => commands::tail(options),
        Command::Ls(options) => commands::list(options),
        Command::Stat(options) => commands::stat(options),
        Command::Verify(options) => commands::verify(options),
        Command::Bench(options) => bench::run(options),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn time(text: &str) -> Result<SystemTime, String> {
    UNIX_EPOCH.checked_add(seconds(text)?).ok_or_else(|| "too late a time".to_owned())
}

fn position(text: &str) -> Result<shm_store::From, String> {
    match text {
        "start" => Ok(shm_store::From::Start),
        "now" => Ok(shm_store::From::Now),
        offset => offset
            .parse()
            .map(shm_store::From::Offset)
            .map_err(|error: shm_store::ParseOffsetError| error.to_string()),
    }
}
