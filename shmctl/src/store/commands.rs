//! What the commands do.

use std::{
    error::Error,
    io::{self, BufRead, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shm_store::{Followed, From, OpenError, ReadError, Store, StreamConfig};

use super::{Append, Create, List, Read, Stat, Tail, Target, Verify, print};

type Result = std::result::Result<ExitCode, Box<dyn Error>>;

/// How often one that follows looks whether anybody still listens.
const LOOK: Duration = Duration::from_secs(1);

/// Opens a store that may be made.
fn open(target: &Target) -> std::result::Result<Store, OpenError> {
    Ok(Store::open(&target.directory)?.waiting(target.wait))
}

/// Opens a store that must be there.
fn open_existing(target: &Target) -> std::result::Result<Store, Box<dyn Error>> {
    if !target.directory.join("layout.json").exists() {
        return Err(format!("there is no store in {}", target.directory.display()).into());
    }
    Ok(open(target)?)
}

pub(super) fn create(options: &Create) -> Result {
    let Create { target, name, content_type, time_to_live, expires_at, max_bytes } = options;
    let config = StreamConfig {
        content_type: content_type.clone(),
        time_to_live: *time_to_live,
        expires_at: *expires_at,
        max_bytes: *max_bytes,
    };
    let written = open(target)?.create(name, config)?;
    print::written(target, name, 0, &written)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn append(options: &Append) -> Result {
    let Append { target, name, batch, close } = options;
    let store = open_existing(target)?;
    let mut lines = io::stdin().lock().split(b'\n');
    let mut count = 0;
    let mut last = None;
    loop {
        let entries: Vec<_> =
            lines.by_ref().take(*batch as usize).collect::<io::Result<Vec<Vec<u8>>>>()?;
        if entries.is_empty() {
            break;
        }
        let appended = entries.len() as u64;
        let written = store.append_batch(name, entries).inspect_err(|_| {
            eprintln!("shmctl: {count} lines were appended before");
        })?;
        count += appended;
        last = Some(written);
    }
    if *close {
        last = Some(store.close(name)?);
    }
    if let Some(written) = last {
        print::written(target, name, count, &written)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn read(options: &Read) -> Result {
    let Read { target, name, from } = options;
    let store = open_existing(target)?;
    let mut output = io::stdout().lock();
    for page in store.pages(name, *from) {
        for entry in page?.entries {
            print::entry(&mut output, target.json, &entry)?;
        }
        output.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn tail(options: &Tail) -> Result {
    let Tail { target, name, follow, lines } = options;
    let store = open_existing(target)?;
    let mut last = std::collections::VecDeque::new();
    let mut behind = From::Start;
    for page in store.pages(name, From::Start) {
        let page = page?;
        last.extend(page.entries);
        last.drain(..last.len().saturating_sub(*lines));
        behind = From::Offset(page.next);
    }
    let mut output = io::stdout().lock();
    for entry in last {
        print::entry(&mut output, target.json, &entry)?;
    }
    output.flush()?;
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    let mut tail = store.tail(name, behind)?;
    let mut reached = Instant::now();
    loop {
        match tail.next(LOOK) {
            Ok(Some(Followed::Entry(entry))) => {
                print::entry(&mut output, target.json, &entry)?;
                output.flush()?;
            }
            Ok(Some(_)) => return Ok(ExitCode::SUCCESS),
            Ok(None) if nobody_listens() => return Ok(ExitCode::SUCCESS),
            Ok(None) => {}
            // Between two owners.
            Err(ReadError::TimedOut) if reached.elapsed() < target.wait => continue,
            Err(error) => return Err(error.into()),
        }
        reached = Instant::now();
    }
}

/// Whether whatever reads the output of this process is gone.
fn nobody_listens() -> bool {
    let output = io::stdout();
    let mut look = [PollFd::new(&output, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut look, Some(&now)).is_ok() && look[0].revents().intersects(PollFlags::ERR)
}

pub(super) fn list(options: &List) -> Result {
    let List { target, prefix } = options;
    let store = open_existing(target)?;
    let mut output = io::stdout().lock();
    let mut after: Option<String> = None;
    loop {
        let heads = store.list(prefix, after.as_deref())?;
        let Some(last) = heads.last() else { return Ok(ExitCode::SUCCESS) };
        after = Some(last.name.clone());
        for head in &heads {
            print::head(&mut output, target.json, head)?;
        }
    }
}

pub(super) fn stat(options: &Stat) -> Result {
    let Stat { target, name } = options;
    let store = open_existing(target)?;
    let mut output = io::stdout().lock();
    match name {
        Some(name) => print::head(&mut output, target.json, &store.head(name)?)?,
        None => print::stat(&mut output, target.json, &store.stat()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn verify(options: &Verify) -> Result {
    let Verify { target } = options;
    let store = open_existing(target)?;
    // It takes as long as reading everything.
    let verified = store.waiting(Duration::from_secs(24 * 3600)).verify()?;
    print::verified(&mut io::stdout().lock(), target.json, &verified)?;
    Ok(if verified.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
