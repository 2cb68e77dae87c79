//! A store that four processes have open. Each appends in turn, and one follows. The owner is
//! killed twice: another takes over, and nobody else does anything about it.
//!
//! The program runs itself again for each process: `store member <directory>`.

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader, Write, stdin, stdout},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use shm_store::{Append, Followed, From, Producer, Store, StreamConfig};

const MEMBERS: [&str; 4] = ["anna", "ben", "carla", "dan"];
const WAIT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [role, directory] if role == "member" => member(directory.as_ref()),
        [] => all(),
        _ => Err("usage: store".into()),
    }
}

/// One process: appends each line that it is told. An append with a producer happens once,
/// also when the owner dies before it has answered.
fn member(directory: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open(directory)?;
    let id = format!("process {}", std::process::id());
    for (sequence, line) in (0..).zip(stdin().lines()) {
        let append = Append {
            entries: vec![line?.into()],
            producer: Some(Producer { id: id.clone(), epoch: 0, sequence }),
            ..Append::default()
        };
        store.append_with("talk", append)?;
        writeln!(stdout(), "{}", if store.is_owner() { "as the owner" } else { "as a guest" })?;
        stdout().flush()?;
    }
    Ok(())
}

/// A process of this program, seen from the one that started it.
struct Member {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Member {
    fn start(name: &'static str, directory: &Path) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(env::current_exe()?)
            .arg("member")
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { name, child, input, output })
    }

    /// Has it append something; returns whether it is the owner.
    fn say(&mut self, what: &str) -> Result<bool, Box<dyn Error>> {
        writeln!(self.input, "{}: {what}", self.name)?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        println!("{} appends {}", self.name, line.trim_end());
        Ok(line.contains("owner"))
    }

    fn kill(&mut self) -> Result<(), Box<dyn Error>> {
        println!("{} is killed", self.name);
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

fn all() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let directory = place.path().join("store");
    let mut members = Vec::new();
    for name in MEMBERS {
        let mut member = Member::start(name, &directory)?;
        if members.is_empty() {
            // Nobody is there yet: this makes the store, and leaves it to the others.
            Store::open(&directory)?.create("talk", StreamConfig::default())?;
        }
        member.say("hello")?;
        members.push(member);
    }
    let store = Store::open(&directory)?;
    let mut tail = store.tail("talk", From::Start)?;
    for round in 1..=2 {
        let mut owner = None;
        for (at, member) in members.iter_mut().enumerate() {
            if member.say(&format!("round {round}"))? {
                owner = Some(at);
            }
        }
        if let Some(owner) = owner {
            members.remove(owner).kill()?;
        }
        for member in &mut members {
            member.say(&format!("after the death in round {round}"))?;
        }
    }
    store.close("talk")?;
    println!("what was said:");
    while let Some(Followed::Entry(entry)) = tail.next(WAIT)? {
        println!("  {}", String::from_utf8_lossy(&entry.data));
    }
    Ok(())
}
