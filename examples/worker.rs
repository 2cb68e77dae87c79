//! A host that starts a worker, gives it jobs and takes the results. The worker dies in the middle
//! of a job: the host notices at once, starts another one, and gives that the job.
//!
//! `cargo run -p shm-examples --bin worker`

use std::{
    env,
    error::Error,
    process::{Child, Command, abort},
    time::Duration,
};

use shm_transport::{CommandExt, Guest, Host, Link, LinkEnd, RecvError};

const WAIT: Duration = Duration::from_secs(30);
const JOBS: u64 = 20;
/// The job in which the first worker dies.
const DEADLY: u64 = 13;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        None => supervise(),
        Some("the first") => work(Some(DEADLY)),
        Some("another") => work(None),
        Some(other) => Err(format!("unknown role {other:?}").into()),
    }
}

/// The worker: squares numbers until its host leaves.
fn work(deadly: Option<u64>) -> Result<(), Box<dyn Error>> {
    let mut guest = Guest::attach_inherited(WAIT)?;
    loop {
        let job = match guest.link.recv(WAIT) {
            Ok(message) => message.read_u64(0).ok_or("a job is a number")?,
            Err(RecvError::Ended(LinkEnd::Departed)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if Some(job) == deadly {
            abort();
        }
        guest.link.send(&(job * job).to_le_bytes(), WAIT)?;
    }
}

/// The host: gives out the jobs one by one, and each again whose worker died.
fn supervise() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let mut host = Host::create(directory.path().join("hub"))?;
    let (mut worker, mut link) = start(&mut host, "the first")?;
    let mut sum = 0;
    let mut job = 1;
    while job <= JOBS {
        link.send(&job.to_le_bytes(), WAIT)?;
        match link.recv(WAIT).map(|result| result.read_u64(0)) {
            Ok(result) => {
                sum += result.ok_or("a result is a number")?;
                job += 1;
            }
            Err(RecvError::Ended(LinkEnd::PeerDead)) => {
                println!("the worker died in job {job}: {}", worker.wait()?);
                (worker, link) = start(&mut host, "another")?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    println!("{JOBS} jobs are done, the sum is {sum}");
    link.detach(WAIT)?;
    println!("the worker left: {}", worker.wait()?);
    Ok(())
}

fn start(host: &mut Host, role: &str) -> Result<(Child, Link), Box<dyn Error>> {
    let worker = Command::new(env::current_exe()?).arg(role).spawn_guest(host.hub())?;
    let link = host.accept(WAIT)?;
    Ok((worker.child, link))
}
