//! A data file that four processes open, and that one of them owns at a time. The owner is
//! killed, and another takes over, until the last one leaves in peace.
//!
//! The program runs itself again for each process: `lease member <path> <name>`.

use std::{
    env,
    error::Error,
    fs,
    io::{BufRead, BufReader, Write, stdin, stdout},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use shm_transport::{
    Deadline,
    lease::{Lease, Outcome, Ownership},
};

const MEMBERS: [&str; 4] = ["anna", "ben", "carla", "dan"];
const WAIT: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [role, path, position] if role == "member" => member(path.as_ref(), position.parse()?),
        [] => all(),
        _ => Err("usage: lease".into()),
    }
}

/// One process: opens the lease, reads from a position on, waits to be the owner, and is it
/// until it is told to leave, or killed.
fn member(path: &Path, position: u64) -> Result<(), Box<dyn Error>> {
    let mut lease = Lease::open(path)?;
    // Attached before anybody relies on it.
    let _reader = lease.attach_reader(position)?;
    say(&describe(&lease))?;
    if !lease.is_owner() {
        lease.wait_for_ownership(Deadline::NEVER)?;
        say(&describe(&lease))?;
    }
    // Its own lines of work would go here; a heartbeat now and then keeps the file current.
    let (told, leave) = mpsc::channel();
    thread::spawn(move || {
        let _ = stdin().lines().next();
        let _ = told.send(());
    });
    while leave.recv_timeout(Duration::from_millis(10)).is_err() {
        lease.beat()?;
    }
    Ok(())
}

fn describe(lease: &Lease) -> String {
    match lease.outcome() {
        Outcome::Created => "owns the file: it is the first".into(),
        Outcome::Attached => "is attached to a living owner".into(),
        Outcome::Recovered => "owns the file: the owner before died".into(),
        Outcome::Reopened => "owns the file: the owner before left".into(),
        other => format!("{other:?}"),
    }
}

fn say(line: &str) -> std::io::Result<()> {
    let mut output = stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

/// A process of this program, seen from the one that started it.
struct Member {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Member {
    fn start(name: &'static str, path: &Path, position: u64) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(env::current_exe()?)
            .arg("member")
            .arg(path)
            .arg(position.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut member = Self { name, input: child.stdin.take(), child, output };
        member.report()?;
        Ok(member)
    }

    /// Passes on what the process says next.
    fn report(&mut self) -> Result<(), Box<dyn Error>> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        println!("{} {}", self.name, line.trim_end());
        Ok(())
    }
}

/// Waits until the lease has another owner than the one before; returns its pid and
/// generation.
fn next_owner(path: &Path, last: u64) -> Result<(u32, u64), Box<dyn Error>> {
    let end = std::time::Instant::now() + WAIT;
    while std::time::Instant::now() < end {
        if let Ok(reading) = Lease::read_header(path)
            && let Ownership::Owned(generation) = reading.ownership
            && generation.get() > last
        {
            return Ok((reading.header.pid, generation.get()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err("nobody took over".into())
}

fn all() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("data");
    fs::write(&path, "what they share")?;
    let mut members = Vec::new();
    for (name, position) in MEMBERS.into_iter().zip([100, 200, 300, 400]) {
        members.push(Member::start(name, &path, position)?);
    }
    let mut generation = 0;
    loop {
        let (pid, newer) = next_owner(&path, generation)?;
        let at = members.iter().position(|member| member.child.id() == pid);
        let mut owner = members.remove(at.ok_or("a stranger owns the file")?);
        if generation > 0 {
            owner.report()?;
        }
        generation = newer;
        // Taking no part, one sees who reads, too.
        let reading = Lease::read_header(&path)?;
        let pins = reading.readers.iter().filter_map(|slot| slot.record);
        let oldest = pins.map(|record| record.position).min().unwrap_or_default();
        println!("  {} readers, from position {oldest} on", reading.readers.len());
        if members.is_empty() {
            println!("{} leaves", owner.name);
            drop(owner.input.take());
            let status = owner.child.wait()?;
            let reading = Lease::read_header(&path)?;
            println!("  {:?}, {:?}, {status}", reading.ownership, reading.header.state);
            return Ok(());
        }
        println!("{} is killed", owner.name);
        owner.child.kill()?;
        owner.child.wait()?;
    }
}
