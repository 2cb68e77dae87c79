//! Random operations in random processes that have one store open, while processes, often the
//! owner, are killed or leave: every answer, and all that is seen, is what a plain model gives
//! that did the writes in some order, those without an answer once or not at all.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write as _},
    process::{Child, ChildStdin, Stdio},
    sync::{
        atomic::AtomicI64,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
};

use proptest::test_runner::TestRunner;

use super::{
    itself::{command, die, role},
    model::{Answer, Model, Shown, answer, dump},
    random::{NAMES, seed},
    script::{draw, random},
    *,
};
use crate::{
    Durability, Head, Store,
    place::{Home, Place},
    protocol::{self, Request},
};

const TEST: &str = concat!(
    module_path!(),
    "::what_processes_see_while_some_are_killed_is_what_a_plain_model_does"
);
/// How long anything may take.
const WAIT: Duration = Duration::from_secs(60);
/// Processes that have the store open.
const PROCESSES: usize = 4;
/// Writes that are under way at a time: each order of them is tried.
const MOST_AT_ONCE: usize = 3;

/// One of the processes.
struct Process {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Process {
    fn start(dir: &Path) -> Self {
        let mut child = command(TEST, dir.to_str().expect("a path"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let output = child.stdout.take().expect("its output is piped");
        let commands = child.stdin.take().expect("its input is piped");
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The rest is what every test says.
                if let Some(answer) = line.strip_prefix("> ")
                    && sender.send(answer.into()).is_err()
                {
                    break;
                }
            }
        });
        let process = Self { child, commands, answers };
        assert_eq!(process.answer().as_deref(), Some("open"));
        process
    }

    /// Nobody listens if it has died.
    fn tell(&mut self, command: &str) {
        let _ = writeln!(self.commands, "{command}");
    }

    /// Its next answer; none if it has died.
    fn answer(&self) -> Option<String> {
        match self.answers.recv_timeout(WAIT) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        }
    }

    fn ask(&mut self, command: &str) -> Option<String> {
        self.tell(command);
        self.answer()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Obeys commands about a store, whose files are a disk that can be told to be deadly.
fn obey(dir: &str) {
    let fuse = Arc::new(AtomicI64::new(-1));
    let burning = Arc::clone(&fuse);
    let fs = Watched::new(RealFs, move |step| {
        let is_step = !matches!(step, Step::Read);
        if is_step && burning.fetch_sub(1, Ordering::Relaxed) == 0 {
            die();
        }
    });
    let home = Home::Directory(Place::new(Path::new(dir)).expect("a place"), fs);
    let store = Store::open_at(home, small()).expect("opened").waiting(WAIT);
    say("open");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("write", write) => {
                let request = Request::decode(&bytes(write).into()).expect("a request");
                let (_, Request::Write(write)) = request else { panic!("{request:?}") };
                let result = store.write(write).map(|ack| *ack);
                if let Ok(written) = &result {
                    assert!(store.durable_lsn().expect("an owner") >= written.lsn);
                }
                say(&hex(&protocol::Answer::Written(Durability::Durable, result).encode(1)));
            }
            ("dump", _) => say(&hex(dump(&store, &NAMES).as_bytes())),
            ("owner", _) => say(&store.is_owner().to_string()),
            ("verify", _) => say(&format!("{:?}", store.verify().expect("verified").problems)),
            // At so many steps from now on.
            ("die", steps) => {
                fuse.store(steps.parse().expect("a number"), Ordering::Relaxed);
                say("yes");
            }
            ("leave", _) => break,
            _ => panic!("{line}"),
        }
    }
}

impl Shown for Store {
    fn heads(&self) -> Vec<Head> {
        self.list("", None).expect("a list")
    }

    fn head(&self, name: &str) -> Result<Head, ReadError> {
        self.head(name)
    }

    fn whole(&self, name: &str) -> Page {
        let pages = self.pages(name, From::Start).map(|page| page.expect("a page"));
        pages
            .reduce(|mut all, page| {
                all.entries.extend(page.entries);
                Page { entries: all.entries, ..page }
            })
            .expect("one page at least")
    }

    fn sums(&self) -> (u64, u64) {
        let stat = self.stat().expect("sums");
        (stat.streams, stat.bytes)
    }
}

fn say(answer: &str) {
    println!("\n> {answer}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// A write that was sent, and what is known of it.
#[derive(Debug)]
struct Sent {
    write: Write,
    /// `None` if nobody knows whether it was done.
    result: Option<Result<Written, WriteError>>,
    /// It may have been sent twice: if it was done, the answer may be that of a repetition.
    maybe_repeated: bool,
}

impl Sent {
    /// Whether a model that answers so may be what the store is.
    fn allows(&self, modelled: &Answer) -> bool {
        let Some(result) = &self.result else { return true };
        let mut found = answer(result);
        if self.maybe_repeated
            && let (Ok(found), Ok(modelled)) = (&mut found, modelled)
        {
            found.2 = modelled.2;
        }
        found == *modelled
    }
}

/// All that a store can be that was as `model`, and then was sent these, in any order.
fn outcomes(model: &Model, sent: &[&Sent], all: &mut Vec<Model>) {
    if sent.is_empty() && !all.contains(model) {
        all.push(model.clone());
    }
    for (at, one) in sent.iter().enumerate() {
        let mut rest = sent.to_vec();
        rest.remove(at);
        let mut after = model.clone();
        if one.allows(&after.write(&one.write)) {
            outcomes(&after, &rest, all);
        }
        if one.result.is_none() {
            outcomes(model, &rest, all);
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    writes: usize,
    unknown: usize,
    killed: usize,
    owners_gone: usize,
    left: usize,
    /// The most that the store could have been, before it was looked at.
    most: usize,
}

/// A store, processes that have it open, and all that it may be.
struct Case {
    dir: PathBuf,
    random: TestRunner,
    processes: Vec<Process>,
    models: Vec<Model>,
    /// The process that will kill itself, or has done so unseen.
    armed: Option<usize>,
    /// The last number that was given.
    last: u64,
    counts: Counts,
}

impl Case {
    fn draw(&mut self, below: usize) -> usize {
        draw(&mut self.random, 0..below)
    }

    /// A write that never expires what it makes: the model's time stands still.
    fn write(&mut self) -> Write {
        let mut write = draw(&mut self.random, seed()).write(&self.models[0]);
        if let Write::Create { config, .. } | Write::Fork { config, .. } = &mut write {
            config.time_to_live = config.time_to_live.map(|_| Duration::from_secs(36_000));
            let year_2200 = UNIX_EPOCH + Duration::from_secs(7_258_118_400);
            config.expires_at = config.expires_at.map(|_| year_2200);
        }
        write
    }

    fn owner(&mut self) -> Option<usize> {
        (0..PROCESSES).find(|&at| self.processes[at].ask("owner").as_deref() == Some("true"))
    }

    /// Some writes at once, and some end of a process meanwhile.
    fn round(&mut self) {
        let owner = self.owner();
        let chosen = self.draw(PROCESSES);
        let victim = owner.filter(|_| chosen.is_multiple_of(2)).unwrap_or(chosen);
        let end = self.draw(10);
        let is_killed = end < 3;
        let leaves = end == 3;
        if end == 4 && self.armed.is_none() {
            let steps = self.draw(60);
            assert!(self.processes[victim].ask(&format!("die {steps}")).is_some());
            self.armed = Some(victim);
        }
        // Who leaves has nothing under way.
        let mut askers: Vec<usize> = (0..PROCESSES).filter(|&at| !leaves || at != victim).collect();
        let count = 1 + self.draw(MOST_AT_ONCE);
        while askers.len() > count {
            askers.remove(self.draw(askers.len()));
        }
        let writes: Vec<Write> = askers.iter().map(|_| self.write()).collect();
        for (&at, write) in askers.iter().zip(&writes) {
            let request = hex(&Request::Write(write.clone()).encode(1));
            self.processes[at].tell(&format!("write {request}"));
        }
        thread::sleep(Duration::from_micros(self.draw(2_000) as u64));
        if is_killed {
            self.counts.killed += 1;
            self.processes[victim].child.kill().expect("killed");
        } else if leaves {
            self.counts.left += 1;
            self.processes[victim].tell("leave");
        }
        let answers: Vec<_> = askers.iter().map(|&at| self.processes[at].answer()).collect();
        // These are gone, or about to be.
        let gone = askers.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
        let gone = gone.map(|(&at, _)| at).chain((is_killed || leaves).then_some(victim));
        for at in gone.collect::<Vec<_>>() {
            self.processes[at].child.wait().expect("it ends");
        }
        let maybe_repeated = is_killed || self.armed.is_some();
        let sent: Vec<Sent> = writes
            .into_iter()
            .zip(answers)
            .map(|(write, answer)| Sent { write, result: answer.and_then(known), maybe_repeated })
            .collect();
        let unknown = sent.iter().filter(|sent| sent.result.is_none()).count();
        assert!(maybe_repeated || unknown == 0, "nobody died, and there is {sent:?}");
        self.counts.writes += sent.len();
        self.counts.unknown += unknown;
        self.check_numbers(&sent);
        let mut all = Vec::new();
        let refs: Vec<&Sent> = sent.iter().collect();
        self.models.iter().for_each(|model| outcomes(model, &refs, &mut all));
        let before: Vec<_> = self.models.iter().map(Model::dump).collect();
        assert!(!all.is_empty(), "no order of {sent:?} gives these answers, in {before:?}");
        self.models = all;
        self.counts.most = self.counts.most.max(self.models.len());
        self.replace(owner);
        self.look();
    }

    /// Numbers are never given twice, and those of a round are above all before.
    fn check_numbers(&mut self, sent: &[Sent]) {
        let results = sent.iter().filter_map(|sent| sent.result.as_ref()?.as_ref().ok());
        let fresh: Vec<u64> =
            results.filter(|written| !written.repeated).map(|written| written.lsn.0).collect();
        assert_eq!(fresh.iter().collect::<BTreeSet<_>>().len(), fresh.len(), "{sent:?}");
        assert!(fresh.iter().all(|&number| number > self.last), "{} before {sent:?}", self.last);
        self.last = fresh.into_iter().fold(self.last, u64::max);
    }

    /// Others take the place of those that are gone.
    fn replace(&mut self, owner: Option<usize>) {
        for at in 0..PROCESSES {
            if self.processes[at].child.try_wait().expect("it can be waited for").is_some() {
                self.counts.owners_gone += usize::from(owner == Some(at));
                self.armed = self.armed.filter(|&armed| armed != at);
                self.processes[at] = Process::start(&self.dir);
            }
        }
    }

    /// What a process sees is one of those that the store may be, which it is from now on.
    fn look(&mut self) {
        // What somebody sent before it died is done before this is answered.
        let none = Write::Delete { name: "none".into() };
        let none = format!("write {}", hex(&Request::Write(none).encode(1)));
        let mut looked = 0;
        while looked < 2 {
            let at = self.draw(PROCESSES);
            let process = &mut self.processes[at];
            let settled = process.ask(&none).is_some();
            let Some(seen) = process.ask("dump").filter(|_| settled) else {
                assert_eq!(self.armed, Some(at), "it died by itself");
                self.processes[at].child.wait().expect("it has died");
                self.replace(None);
                continue;
            };
            let seen = String::from_utf8(bytes(&seen)).expect("a text");
            let possible: Vec<_> = self.models.iter().map(Model::dump).collect();
            self.models.retain(|model| model.dump() == seen);
            assert!(!self.models.is_empty(), "{seen}is seen, not one of {possible:#?}");
            looked += 1;
        }
    }

    /// All of them at once.
    fn kill_all(&mut self) {
        for process in &mut self.processes {
            process.child.kill().expect("killed");
            process.child.wait().expect("killed");
            self.counts.killed += 1;
        }
        self.counts.owners_gone += 1;
        self.replace(None);
        self.look();
    }
}

/// What a process has heard, if that says what happened.
fn known(line: String) -> Option<Result<Written, WriteError>> {
    match protocol::Answer::decode(&bytes(&line).into()).expect("an answer") {
        protocol::Answer::Written(_, Err(WriteError::Indeterminate)) => None,
        protocol::Answer::Written(_, result) => Some(result),
        answer => panic!("{answer:?}"),
    }
}

/// `SHM_TEST_STORE_PROCESSES=200` is the whole form: so many stores.
#[test]
fn what_processes_see_while_some_are_killed_is_what_a_plain_model_does() {
    if let Some(role) = role() {
        return obey(&role[0]);
    }
    let cases = amount("SHM_TEST_STORE_PROCESSES", 3);
    for case in 0..cases {
        // Who is killed loses nothing of what the system has, on whatever disk.
        let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let dir = place.path().join("store");
        let processes = (0..PROCESSES).map(|_| Process::start(&dir)).collect();
        let mut case = Case {
            dir,
            random: random(case),
            processes,
            models: vec![Model { now: 1_000_000, ..Model::default() }],
            armed: None,
            last: 0,
            counts: Counts::default(),
        };
        for round in 0..40 {
            case.round();
            if round % 20 == 19 {
                case.kill_all();
            }
        }
        let verified = case.processes[0].ask("verify");
        assert_eq!(verified.as_deref(), Some("[]"));
        println!("{:?}", case.counts);
        assert!(case.counts.owners_gone > 0, "no owner was killed");
    }
}
