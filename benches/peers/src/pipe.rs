use std::{
    fs::{File, OpenOptions},
    io::{PipeReader, PipeWriter, pipe},
    os::fd::{AsFd, AsRawFd},
};

use rustix::{io::ioctl_fionbio, pipe::fcntl_setpipe_size};
use shm_benches::{Error, Opened, Runner, Setup, System, Workload};

use crate::{Wait, bytes::Bytes, later::Later};

/// What an unprivileged process may ask for.
const LARGEST: usize = 1 << 20;

/// Two pipes.
pub struct Pipe(pub Wait);

fn set(end: impl AsFd, wait: Wait) -> Result<(), Error> {
    Ok(ioctl_fionbio(end, wait == Wait::Polled)?)
}

fn sized(setup: &Setup) -> Result<(PipeReader, PipeWriter), Error> {
    let (reader, writer) = pipe()?;
    // A smaller one carries every message, too.
    let _ = fcntl_setpipe_size(&writer, (4 * setup.size).clamp(64 << 10, LARGEST));
    Ok((reader, writer))
}

impl System for Pipe {
    fn name(&self) -> &'static str {
        match self.0 {
            Wait::Blocking => "pipe, blocking",
            Wait::Polled => "pipe, polled",
        }
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        workload != Workload::Wake || self.0 == Wait::Blocking
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        let (there, writer) = sized(setup)?;
        let (reader, back) = sized(setup)?;
        set(&reader, self.0)?;
        set(&writer, self.0)?;
        let path = |number| format!("/proc/{}/fd/{number}", std::process::id());
        let ticket = format!("{} {}", path(there.as_raw_fd()), path(back.as_raw_fd()));
        let near = Bytes::new(reader, writer, self.0, setup);
        let near = Later::new(move || {
            // The far end has opened its own, and this one is to notice when they are closed.
            drop((there, back));
            Ok(near)
        });
        Ok(Opened { near: Box::new(near), ticket })
    }

    fn join(&self, setup: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        let (reader, writer) = ticket.split_once(' ').ok_or("not a ticket for two pipes")?;
        let reader = File::open(reader)?;
        let writer = OpenOptions::new().write(true).open(writer)?;
        set(&reader, self.0)?;
        set(&writer, self.0)?;
        Ok(Box::new(Bytes::new(reader, writer, self.0, setup)))
    }
}
