//! A host that sends every message back, to try guests in other languages.
//!
//! ```sh
//! cargo run -p shm-ffi --bin shm-echo-host -- /run/user/1000/echo
//! cargo run -p shm-ffi --bin shm-echo-host -- /run/user/1000/echo ./my-guest argument
//! ```
//!
//! It prints `ready` when guests can attach, and ends when its input does. With a command it
//! starts that as a guest, which inherits its socket, and ends with it, with its exit status.

use std::{
    env,
    error::Error,
    ffi::OsString,
    io::{self, Write},
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use shm_transport::{CommandExt, Host, Link, LinkEvent, LinkSet, RecvError, SendError};

/// How long a guest may take to make room for what it is sent back.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at whether it is over.
const LOOK: Duration = Duration::from_millis(20);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let path = arguments.next().ok_or("usage: shm-echo-host PATH [COMMAND [ARGUMENT...]]")?;
    let mut host = Host::create(path)?;
    let command: Vec<OsString> = arguments.collect();
    let mut child = match command.split_first() {
        None => None,
        Some((program, arguments)) => {
            Some(Command::new(program).args(arguments).spawn_guest(host.hub())?.child)
        }
    };
    let over = Arc::new(AtomicBool::new(false));
    if child.is_none() {
        let over = Arc::clone(&over);
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            over.store(true, Ordering::Relaxed);
        });
        println!("ready");
        io::stdout().flush()?;
    }
    let mut links = LinkSet::new()?;
    let mut events = Vec::new();
    loop {
        if over.load(Ordering::Relaxed) {
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(child) = &mut child
            && let Some(status) = child.try_wait()?
        {
            return Ok(ExitCode::from(
                status.code().and_then(|code| code.try_into().ok()).unwrap_or(1),
            ));
        }
        links.wait_with(&mut host, &mut events, LOOK)?;
        for event in &events {
            let LinkEvent::Ready(key) = *event else { continue };
            let Some(link) = links.get_mut(key) else { continue };
            if echo(link)? {
                links.remove(key);
            }
        }
    }
}

/// Sends back what is there; returns whether the link is over.
fn echo(link: &mut Link) -> Result<bool, Box<dyn Error>> {
    loop {
        let message = match link.receiver.try_recv() {
            Ok(Some(message)) => message.to_bytes(),
            Ok(None) => return Ok(false),
            Err(RecvError::Ended(_)) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        match link.sender.send(&message, PATIENCE) {
            Ok(()) => {}
            // It left without its answers.
            Err(SendError::Ended(_) | SendError::TimedOut) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
