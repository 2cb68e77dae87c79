//! One thread without a runtime serves several links from a plain epoll loop: it neither waits
//! to receive nor to send, and a guest that does not read holds up nobody.
//!
//! `cargo run -p shm-examples --bin epoll`

use std::{
    collections::{HashMap, VecDeque},
    env,
    error::Error,
    os::fd::AsFd,
    process::Command,
    thread,
    time::Duration,
};

use bytes::Bytes;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
};
use shm_transport::{Armed, CommandExt, Guest, Host, Link, RecvError, SendError};

const WAIT: Duration = Duration::from_secs(10);
const GUESTS: u64 = 4;
const QUESTIONS: u32 = 2000;
/// Answers that are kept for a guest that does not read. It is not listened to meanwhile.
const MOST_ANSWERS: usize = 16;
/// Steps for one link before the others get their turn.
const STEPS: u32 = 64;

const HOST: u64 = 0;

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => serve(),
        Some(number) => ask(number.parse()?),
    }
}

/// A link and the answers that found no room yet.
struct Served {
    link: Link,
    answers: VecDeque<Bytes>,
    answered: u32,
}

/// What becomes of a link.
enum Next {
    /// Its descriptor tells when there is something to do.
    Sleeps,
    /// There may be something to do now.
    Busy,
    /// There is something to do in a moment, and nothing tells.
    Later,
    Over,
}

impl Served {
    /// Does what can be done without waiting.
    fn advance(&mut self) -> Result<Next, Box<dyn Error>> {
        // Whatever the descriptor told was for both halves.
        self.link.sender.disarm();
        self.link.receiver.disarm();
        for _ in 0..STEPS {
            while let Some(answer) = self.answers.front() {
                match self.link.try_send(answer) {
                    Ok(()) => {
                        self.answers.pop_front();
                        self.answered += 1;
                    }
                    Err(SendError::Full) => break,
                    Err(SendError::Ended(_)) => return Ok(Next::Over),
                    Err(error) => return Err(error.into()),
                }
            }
            let listens = self.answers.len() < MOST_ANSWERS;
            if listens {
                match self.link.try_recv() {
                    Ok(Some(question)) => {
                        self.answers.push_back(question.to_bytes().to_ascii_uppercase().into());
                        continue;
                    }
                    Ok(None) => {}
                    Err(RecvError::Ended(_)) => return Ok(Next::Over),
                    Err(error) => return Err(error.into()),
                }
            }
            // Both halves sleep on the one descriptor, or none does.
            if listens && !self.link.receiver.arm() {
                continue;
            }
            match self.answers.front().map(|answer| self.link.sender.arm(answer.len())) {
                None | Some(Armed::Waiting) => return Ok(Next::Sleeps),
                Some(Armed::Ready) => {}
                Some(Armed::Later) => return Ok(Next::Later),
            }
        }
        Ok(Next::Busy)
    }
}

/// The host.
fn serve() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let mut host = Host::create(directory.path().join("hub"))?;
    let mut children = Vec::new();
    for number in 0..GUESTS {
        let mut command = Command::new(env::current_exe()?);
        children.push(command.arg(number.to_string()).spawn_guest(host.hub())?.child);
    }

    let set = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&set, host.as_fd(), EventData::new_u64(HOST), EventFlags::IN)?;
    let mut links: HashMap<u64, Served> = HashMap::new();
    // Those that are looked at without being told to.
    let mut busy: Vec<u64> = Vec::new();
    let mut soon = None;
    let (mut next, mut served) = (HOST + 1, 0);
    while served < GUESTS {
        let mut events: Vec<Event> = Vec::with_capacity(64);
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = if busy.is_empty() { soon.as_ref() } else { Some(&none) };
        epoll::wait(&set, spare_capacity(&mut events), timeout)?;
        if soon.take().is_some() {
            busy.extend(links.keys());
        }
        let mut ready = std::mem::take(&mut busy);
        for event in events {
            match event.data.u64() {
                HOST => {
                    while let Some(link) = host.try_accept()? {
                        let key = EventData::new_u64(next);
                        epoll::add(&set, link.as_fd(), key, EventFlags::IN)?;
                        links.insert(next, Served { link, answers: VecDeque::new(), answered: 0 });
                        ready.push(next);
                        next += 1;
                    }
                }
                key => ready.push(key),
            }
        }
        ready.sort_unstable();
        ready.dedup();
        for key in ready {
            let Some(served_link) = links.get_mut(&key) else { continue };
            match served_link.advance()? {
                Next::Sleeps => {}
                Next::Busy => busy.push(key),
                Next::Later => soon = Some(Timespec { tv_sec: 0, tv_nsec: 1_000_000 }),
                Next::Over => {
                    epoll::delete(&set, served_link.link.as_fd())?;
                    println!("answered {} questions", served_link.answered);
                    links.remove(&key);
                    served += 1;
                }
            }
        }
    }
    for mut child in children {
        if !child.wait()?.success() {
            return Err("a guest failed".into());
        }
    }
    Ok(())
}

/// A guest: it asks everything on one thread and reads the answers on another, which begins
/// late, so that there is no room for answers meanwhile.
fn ask(number: u64) -> Result<(), Box<dyn Error>> {
    let guest = Guest::attach_inherited(WAIT)?;
    let (mut sender, mut receiver) = guest.link.split();
    let questions = thread::spawn(move || {
        (0..QUESTIONS).try_for_each(|question| sender.send(&text("question", question), WAIT))
    });
    thread::sleep(Duration::from_millis(50 * number));
    for question in 0..QUESTIONS {
        let answer = receiver.recv(WAIT)?.to_bytes();
        if answer != text("QUESTION", question) {
            return Err(format!("guest {number}: not the answer to question {question}").into());
        }
    }
    Ok(questions.join().map_err(|_| "the asking thread failed")??)
}

/// Small or large.
fn text(word: &str, number: u32) -> Vec<u8> {
    let text = format!("{word} {number} ");
    let times = if number.is_multiple_of(100) { 2000 } else { 10 };
    text.repeat(times).into_bytes()
}
