//! A fleet of equal processes: they join by name, publish readings into a ring and follow
//! it, and elect a leader by a claim. Then the leader is killed, and another one takes over.
//!
//! ```sh
//! cargo run -p shm-examples --bin fleet
//! ```

use std::{
    env,
    error::Error,
    io::{self, BufRead, Write},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use shm_transport::fleet::{
    Cache, ClaimError, Claims, Fleet, FleetId, FleetValue, JoinError, RingConfig, Start,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const MEMBERS: u32 = 3;
const READINGS: u32 = 5;
const LEADER: u8 = 0x30;
const CACHE: u8 = 0x20;
const WAIT: Duration = Duration::from_secs(30);

/// What members publish: bytes as they are, with a kind of its own.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Reading {
    sensor: u32,
    number: u32,
    value: f64,
}

impl FleetValue for Reading {
    const KIND: u8 = 0x10;
    const VERSION: u16 = 1;
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => observe(),
        [directory, node] => member(directory, node.parse()?),
        _ => Err("usage: fleet".into()),
    }
}

fn join(directory: &str, node: u32) -> Result<Fleet, JoinError> {
    Fleet::builder().directory(directory).nodes(MEMBERS + 1).join("example", node)
}

/// A member: publishes its readings, then leads or waits to lead, until its input ends.
fn member(directory: &str, node: u32) -> Result<(), Box<dyn Error>> {
    let fleet = join(directory, node)?;
    let ring = Reading::ring(&fleet, 64)?;
    for number in 0..READINGS {
        let value = f64::from(node) + f64::from(number) / 10.0;
        Reading { sensor: node, number, value }.publish(&ring)?;
        fleet.beat();
    }
    let mut cache = Cache::open(&fleet, CACHE, &RingConfig::default())?;
    let claims = Claims::open(&fleet, LEADER, &RingConfig::default())?;
    thread::spawn(move || {
        // The observer is done, or dead.
        let _ = io::stdin().lock().lines().next();
        std::process::exit(0);
    });
    loop {
        match claims.claim(b"leader", Duration::from_secs(600)) {
            Ok(guard) => {
                // Who reads this knows by the token whether it is the latest one.
                let leader = format!("node {node}, token {}", guard.token());
                cache.put(b"leader", leader.as_bytes(), None)?;
                while guard.is_held()? {
                    thread::sleep(Duration::from_millis(10));
                }
            }
            Err(ClaimError::Held { .. } | ClaimError::Busy) => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Starts the members, follows what they publish, and kills a leader.
fn observe() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("fleets");
    let path = path.to_str().ok_or("a path that is text")?;
    let fleet = join(path, MEMBERS)?;
    let ring = Reading::ring(&fleet, 64)?;
    let mut cursor = ring.cursor(Start::Oldest);
    let mut members = Vec::new();
    for node in 0..MEMBERS {
        members.push(Member::start(path, node)?);
    }

    let mut total = 0;
    let mut last: Option<FleetId> = None;
    until("all readings", || {
        while let Some(next) = cursor.next()? {
            let reading = Reading::of(&next.frame)?;
            total += 1;
            if reading.number == READINGS - 1 {
                last = Some(next.frame.id());
                println!("{} at {}: {reading:?}", next.frame.id(), next.frame.position());
            }
        }
        Ok(total == MEMBERS * READINGS)
    })?;
    println!("{total} readings of {MEMBERS} members, {} lost", cursor.lost());
    if let Some(id) = last {
        let again: FleetId = id.to_string().parse()?;
        println!("once more by its id {again}: {:?}", Reading::read(&ring, again)?);
    }

    let claims = Claims::open(&fleet, LEADER, &RingConfig::default())?;
    let mut cache = Cache::open(&fleet, CACHE, &RingConfig::default())?;
    let first = leader(&claims, None)?;
    println!("the leader is node {first}");
    match claims.claim(b"leader", Duration::from_secs(1)) {
        Err(ClaimError::Held { node, .. }) => println!("claiming it as well: node {node} holds it"),
        other => return Err(format!("two leaders: {other:?}").into()),
    }
    if let Some(member) = members.get_mut(first as usize) {
        member.0.kill()?;
        member.0.wait()?;
    }
    println!("node {first} is killed");
    let second = leader(&claims, Some(first))?;
    println!("the leader is node {second}");
    let named = format!("node {second}, ");
    until("the new leader's word", || {
        let said = cache.get(b"leader")?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&said).starts_with(&named))
    })?;
    for member in fleet.members()? {
        let state = if member.alive { "alive" } else { "gone" };
        println!("node {} is {state}, {} signs of life", member.node, member.heartbeat);
    }
    // What the dead one published is as good as before.
    println!(
        "the newest reading: {:?}",
        Reading::read_newest(&ring)?.map(|reading| reading.number)
    );
    drop(members);
    fleet.unlink()?;
    io::stdout().flush()?;
    Ok(())
}

/// Waits for a leader that is another one than before.
fn leader(claims: &Claims, before: Option<u32>) -> Result<u32, Box<dyn Error>> {
    let mut leader = None;
    until("a leader", || {
        leader = claims.holder(b"leader")?.map(|holder| holder.node);
        Ok(leader.is_some() && leader != before)
    })?;
    leader.ok_or_else(|| "a leader".into())
}

fn until(
    what: &str,
    mut done: impl FnMut() -> Result<bool, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + WAIT;
    while !done()? {
        if Instant::now() > end {
            return Err(format!("waited too long for {what}").into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A member's process, which ends with this value.
struct Member(Child);

impl Member {
    fn start(directory: &str, node: u32) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args([directory, &node.to_string()]).stdin(Stdio::piped()).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
