//! `shmctl send`: lines or files to whoever serves a path, such as `shmctl recv`.

use std::{
    error::Error,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use shm_transport::{AttachError, DetachError, Guest, SendError};

use crate::options::{DIED, TIMED_OUT, existing_hub, seconds};

/// How long until a host that is not there is looked for again.
const PAUSE: Duration = Duration::from_millis(20);

/// Options of `send`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 all was read by the receiver, 1 an error, 4 timed out, \
                        5 the receiver left or died before it had read all.")]
pub struct Options {
    /// The hub's path. In a directory that others can write, such as /tmp, the hub is kept in one
    /// of the user's own there, /tmp/shmctl-UID
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// What to send, instead of the standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Send pieces of bytes instead of a message for each line
    #[arg(long)]
    bytes: bool,

    /// The size of a piece, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10, requires = "bytes",
          value_parser = clap::value_parser!(u32).range(1..))]
    piece: u32,

    /// Give up after so long: without a host, without room, or until the rest is read
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,

    /// Print what was sent as JSON
    #[arg(long)]
    json: bool,
}

/// What was sent.
#[derive(Default)]
struct Sent {
    messages: u64,
    bytes: u64,
}

pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let mut guest = match attach(options) {
        Ok(guest) => guest,
        Err(
            error @ (AttachError::NoHost(_) | AttachError::HostDead(_) | AttachError::TimedOut),
        ) => {
            eprintln!("shmctl: {error}");
            return Ok(ExitCode::from(TIMED_OUT));
        }
        Err(error) => return Err(error.into()),
    };
    let mut sent = Sent::default();
    let code = match send_all(options, &mut guest, &mut sent) {
        Ok(()) => match guest.detach(options.timeout) {
            Ok(()) => ExitCode::SUCCESS,
            Err(DetachError::TimedOut) => failed(TIMED_OUT, "the receiver has not read all yet"),
            Err(DetachError::Ended(end)) => failed(DIED, end),
            Err(error) => return Err(error.into()),
        },
        Err(Stop::Send(SendError::TimedOut)) => failed(TIMED_OUT, "the receiver makes no room"),
        Err(Stop::Send(SendError::Ended(end))) => failed(DIED, end),
        Err(Stop::Send(error)) => return Err(error.into()),
        Err(Stop::Input(error)) => return Err(error.into()),
    };
    if options.json {
        println!("{}", json!({"messages": sent.messages, "bytes": sent.bytes}));
    }
    Ok(code)
}

fn failed(code: u8, why: impl std::fmt::Display) -> ExitCode {
    eprintln!("shmctl: {why}");
    ExitCode::from(code)
}

/// Attaches, also to a host that is only about to be there.
fn attach(options: &Options) -> Result<Guest, AttachError> {
    let end = Instant::now() + options.timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match Guest::attach(existing_hub(&options.path), left) {
            Err(AttachError::NoHost(_) | AttachError::HostDead(_) | AttachError::HostGone)
                if !left.is_zero() =>
            {
                thread::sleep(PAUSE.min(left));
            }
            result => return result,
        }
    }
}

/// Why sending ended early.
enum Stop {
    Input(io::Error),
    Send(SendError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Input(error)
    }
}

fn send_all(options: &Options, guest: &mut Guest, sent: &mut Sent) -> Result<(), Stop> {
    if options.files.is_empty() {
        return send_from(options, io::stdin().lock(), guest, sent);
    }
    for path in &options.files {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(named)?;
        send_from(options, BufReader::new(file), guest, sent)?;
    }
    Ok(())
}

fn send_from(
    options: &Options,
    mut input: impl BufRead,
    guest: &mut Guest,
    sent: &mut Sent,
) -> Result<(), Stop> {
    let mut message = Vec::new();
    loop {
        message.clear();
        let read = if options.bytes {
            input.by_ref().take(options.piece.into()).read_to_end(&mut message)?
        } else {
            let read = input.read_until(b'\n', &mut message)?;
            if message.last() == Some(&b'\n') {
                message.pop();
            }
            read
        };
        if read == 0 {
            return Ok(());
        }
        guest.link.send(&message, options.timeout).map_err(Stop::Send)?;
        sent.messages += 1;
        sent.bytes += message.len() as u64;
    }
}
