//! `shmctl recv`: what comes through a hub, as lines or bytes. It serves the path, or, if
//! somebody else does, attaches.

use std::{
    error::Error,
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::json;
use shm_transport::{
    AcceptError, CreateError, Deadline, Guest, Host, Link, LinkEnd, LinkEvent, LinkSet, RecvError,
};

use crate::options::{DIED, TIMED_OUT, hub, seconds};

/// Options of `recv`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 all senders have left, or as many messages came as asked \
                        for; 1 an error, or nobody reads the output; 4 timed out; 5 a sender died, \
                        or the host.")]
pub struct Options {
    /// The hub's path. In a directory that others can write, such as /tmp, the hub is kept in one
    /// of the user's own there, /tmp/shmctl-UID
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Write the messages' bytes as they are, without an end of line for each
    #[arg(long, conflicts_with = "json")]
    bytes: bool,

    /// Write to this file instead of the standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// End after so many messages, and not before
    #[arg(short = 'n', long, value_name = "MESSAGES")]
    count: Option<u64>,

    /// Give up if no message comes for so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Go on when all senders have left
    #[arg(long)]
    keep: bool,

    /// Print JSON, one object for each message
    #[arg(long)]
    json: bool,
}

/// Where messages go, and how many may still come.
struct Output {
    to: Box<dyn Write>,
    bytes: bool,
    json: bool,
    left: u64,
    timeout: Option<Duration>,
    /// When it gives up.
    end: Option<Instant>,
    died: bool,
}

/// What comes next.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    /// The link is over.
    Over,
    /// As many messages came as asked for.
    Enough,
}

pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let to: Box<dyn Write> = match &options.output {
        Some(path) => Box::new(BufWriter::new(
            File::create(path).map_err(|error| format!("{}: {error}", path.display()))?,
        )),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let mut output = Output {
        to,
        bytes: options.bytes,
        json: options.json,
        left: options.count.unwrap_or(u64::MAX),
        timeout: options.timeout,
        end: None,
        died: false,
    };
    output.begin_anew();
    let result = match Host::create(hub(&options.path)) {
        Ok(host) => serve(host, options, &mut output),
        Err(CreateError::HostExists(_)) => follow(options, &mut output),
        Err(error) => return Err(error.into()),
    };
    let written = output.to.flush();
    let code = result?;
    written?;
    Ok(code.unwrap_or(if output.died { ExitCode::from(DIED) } else { ExitCode::SUCCESS }))
}

fn timed_out() -> ExitCode {
    eprintln!("shmctl: no message came in time");
    ExitCode::from(TIMED_OUT)
}

type Result_ = Result<Option<ExitCode>, Box<dyn Error>>;

/// Receives from all who attach.
fn serve(mut host: Host, options: &Options, output: &mut Output) -> Result_ {
    let mut links = LinkSet::new()?;
    let mut events = Vec::new();
    let mut came = false;
    loop {
        match links.wait_with(&mut host, &mut events, output.deadline()) {
            Ok(()) | Err(AcceptError::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let key = match event {
                LinkEvent::Ready(key) => *key,
                LinkEvent::Attached(_) => {
                    came = true;
                    continue;
                }
                _ => continue,
            };
            let Some(link) = links.get_mut(key) else { continue };
            match output.drain(link)? {
                Next::GoOn => {}
                Next::Over => drop(links.remove(key)),
                Next::Enough => return Ok(None),
            }
        }
        output.to.flush()?;
        // Who asks for a number of messages waits for them.
        if came && links.is_empty() && !options.keep && options.count.is_none() {
            return Ok(None);
        }
        if events.is_empty() && output.deadline().has_passed() {
            return Ok(Some(timed_out()));
        }
    }
}

/// Receives from the host that is there.
fn follow(options: &Options, output: &mut Output) -> Result_ {
    let mut guest = Guest::attach(hub(&options.path), output.deadline())?;
    loop {
        match output.drain(&mut guest.link)? {
            Next::GoOn => {}
            Next::Over | Next::Enough => return Ok(None),
        }
        output.to.flush()?;
        match guest.link.receiver.recv(output.deadline()) {
            Ok(message) => {
                let message = message.to_bytes();
                if output.write(&message)? == Next::Enough {
                    return Ok(None);
                }
            }
            Err(RecvError::TimedOut) => return Ok(Some(timed_out())),
            Err(RecvError::Ended(end)) => {
                output.ended(end);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Output {
    fn begin_anew(&mut self) {
        self.end = self.timeout.map(|timeout| Instant::now() + timeout);
    }

    fn deadline(&self) -> Deadline {
        self.end.map_or(Deadline::NEVER, |end| {
            Deadline::from(end.saturating_duration_since(Instant::now()))
        })
    }

    /// Writes what is there.
    fn drain(&mut self, link: &mut Link) -> Result<Next, Box<dyn Error>> {
        loop {
            match link.try_recv() {
                Ok(Some(message)) => {
                    let message = message.to_bytes();
                    if self.write(&message)? == Next::Enough {
                        return Ok(Next::Enough);
                    }
                }
                Ok(None) => return Ok(Next::GoOn),
                Err(RecvError::Ended(end)) => {
                    self.ended(end);
                    return Ok(Next::Over);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn ended(&mut self, end: LinkEnd) {
        if end != LinkEnd::Departed {
            eprintln!("shmctl: {end}");
            self.died = true;
        }
    }

    fn write(&mut self, message: &[u8]) -> io::Result<Next> {
        self.begin_anew();
        if self.json {
            let object = match std::str::from_utf8(message) {
                Ok(text) => json!({"bytes": message.len(), "text": text}),
                Err(_) => {
                    let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
                    json!({"bytes": message.len(), "hex": hex})
                }
            };
            writeln!(self.to, "{object}")?;
        } else {
            self.to.write_all(message)?;
            if !self.bytes {
                self.to.write_all(b"\n")?;
            }
        }
        self.left = self.left.saturating_sub(1);
        Ok(if self.left == 0 { Next::Enough } else { Next::GoOn })
    }
}
