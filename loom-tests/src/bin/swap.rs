//! Swaps every pair of neighbouring stores, one at a time, and requires that a model fails.
//!
//! `swap` runs every model once to learn which pairs there are; then itself, for each pair and
//! model that has it, until a model fails. Pairs that nobody could tell apart when swapped are
//! listed here with the reason; one of them that a model notices, or that does not exist any more,
//! fails. `swap --all` tries those with all models, and not for some seconds only.

use std::{
    collections::{BTreeMap, HashMap},
    env, fs, io,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use loom_tests::{
    models::{self, Model},
    mutants::{Outcome, each, run, run_model},
    swap::{self, Pair, SWAP, Site},
};

/// Why two stores may change places, and which: the lines of code in which they stand.
type Reason = (&'static str, &'static [(&'static str, &'static str)]);

/// Pairs that nobody can tell apart when they are swapped.
const EQUIVALENT: &[Reason] = &[
    (
        "before the frame is published nobody looks at either",
        &[
            (
                "self.own.write(at.plus(HEADER), payload);",
                "self.own.store64(self.track.offset(next), 0, OWN);",
            ),
            (
                "grant.producer.own.write(grant.payload(), payload);",
                "producer.own.store64(producer.track.offset(next), 0, OWN);",
            ),
            (
                "producer.own.store64(producer.track.offset(next), 0, OWN);",
                "producer.own.store64(producer.track.offset(at), word, OWN);",
            ),
            (
                "producer.own.store64(producer.track.offset(next), 0, OWN);",
                "self.own.store64(self.track.offset(self.head), word, OWN);",
            ),
            (
                "producer.own.store64(producer.track.offset(at), word, OWN);",
                "self.own.store64(self.track.offset(self.head), word, OWN);",
            ),
            (
                "producer.own.store64(producer.track.offset(next), 0, OWN);",
                "grant.producer.own.write(grant.payload(), payload);",
            ),
            (
                "self.own.store64(self.track.offset(self.head), word, OWN);",
                "grant.producer.own.write(grant.payload(), payload);",
            ),
            ("own.store64(DROPPED, total, HINT);", "self.own.write(at.plus(HEADER), payload);"),
            (
                "extent.write(place(slot), &[value; LEN]);",
                "extent.write(place(slot), &[value; LEN]);",
            ),
            (
                "extent.write(place(slot), &[value; LEN]);",
                "producer.own.store64(producer.track.offset(next), 0, OWN);",
            ),
            (
                "memory.write(grant.payload(), &message(LENS, sent));",
                "producer.own.store64(producer.track.offset(next), 0, OWN);",
            ),
        ],
    ),
    (
        "nobody but tools reads how far the ring is written",
        &[
            (
                "self.own.store64(at, Frame::Inline { len }.encode(), FRAME_PUBLISH);",
                "self.own.store64(HEAD, next.0, HINT);",
            ),
            (
                "self.own.store64(self.track.offset(self.published), word, FRAME_PUBLISH);",
                "self.own.store64(HEAD, self.head.0, HINT);",
            ),
            (
                "self.own.store64(HEAD, next.0, HINT);",
                "own.store32(GOODBYE_AT, word, GOODBYE_SAY);",
            ),
            ("self.own.store64(HEAD, next.0, HINT);", "own.store64(DROPPED, total, HINT);"),
            ("self.own.store64(HEAD, next.0, HINT);", "self.own.write(at.plus(HEADER), payload);"),
            (
                "self.own.store64(HEAD, next.0, HINT);",
                "grant.producer.own.write(grant.payload(), payload);",
            ),
            (
                "self.own.store64(HEAD, self.head.0, HINT);",
                "self.own.write(at.plus(HEADER), payload);",
            ),
        ],
    ),
    (
        "words of one value, between the odd and the even sequence",
        &[
            (
                "memory.store64(slot.plus(LENGTH), len, OWN);",
                "memory.store_words(slot.plus(PAYLOAD), value, OWN);",
            ),
            (
                "memory.store_words(slot.plus(PAYLOAD), value, OWN);",
                "memory.store_words(slot.plus(PAYLOAD), value, OWN);",
            ),
            (
                "self.memory.store_words(self.at.plus(8), value, OWN);",
                "self.memory.store_words(self.at.plus(8), value, OWN);",
            ),
        ],
    ),
    (
        "how many values were published is a hint, and one less while one is being published",
        &[
            (
                "ring.memory.store64(ring.at.plus(PUBLISHED), next, HINT);",
                "memory.store64(slot, sequence.wrapping_sub(1), OWN);",
            ),
            (
                "memory.store64(at.plus(PUBLISHED), self.next, HINT);",
                "memory.store64(slot, sequence.wrapping_sub(1), OWN);",
            ),
        ],
    ),
    (
        "each gives something else back",
        &[(
            "own.store32(self.at, self.count, ACK_PUBLISH);",
            "self.own.store64(TAIL, self.position.0, TAIL_PUBLISH);",
        )],
    ),
    (
        "of two processes: a model that goes on with the ring does both in one thread",
        &[(
            "self.own.store64(TAIL, self.position.0, TAIL_PUBLISH);",
            "self.own.write(at.plus(HEADER), payload);",
        )],
    ),
    (
        "late to be awake: one ring for nobody, and no frame is published yet",
        &[(
            "self.own.store64(self.word, self.state, OWN);",
            "grant.producer.own.write(grant.payload(), payload);",
        )],
    ),
    (
        "one thread at a time has the alarm; a publisher that sees it awaited for longer rings again",
        &[(
            "memory.store64(at.plus(AWAITED), 0, OWN);",
            "memory.add32(self.ring.bell(), 1, BELL_RING);",
        )],
    ),
    (
        "the slot still has its old frame, whose counter tells how far the lane had got",
        &[(
            "ring.memory().store64(ready, next.wrapping_add(1), OWN);",
            "memory.store64(place, NOWHERE, OWN);",
        )],
    ),
    (
        "a frame without its place is looked for in the index",
        &[
            (
                "memory.store64(place, position.number().wrapping_add(1), FLEET_PLACE);",
                "memory.store64(place, NOWHERE, OWN);",
            ),
            (
                "ring.memory().store64(place, position.number().wrapping_add(1), FLEET_PLACE);",
                "ring.memory().store64(ready, next.wrapping_add(1), OWN);",
            ),
        ],
    ),
    (
        "the position of a frame is at the tail or before it once it is committed, and can be read in both cases",
        &[
            (
                "self.memory.exchange64(TAIL, from.number(), next, FLEET_TAIL);",
                "memory.store64(place, position.number().wrapping_add(1), FLEET_PLACE);",
            ),
            (
                "self.memory.exchange64(TAIL, from.number(), next, FLEET_TAIL);",
                "ring.memory().store64(place, position.number().wrapping_add(1), FLEET_PLACE);",
            ),
        ],
    ),
];

/// How long a model is looked for that notices a pair which is said to be equivalent, unless all
/// are tried; and one that is not.
const EQUIVALENT_FOR: Duration = Duration::from_secs(2);
const FOR: Duration = Duration::from_secs(120);

/// Pairs are the same with more preemptions than this.
const PREEMPTIONS: &str = "1";

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (None, None) => check_all(EQUIVALENT_FOR),
        (Some("--all"), None) => check_all(Duration::MAX),
        (Some("--model"), Some(name)) => run_model(&name),
        (Some("--record"), Some(name)) => {
            swap::record();
            let result = run_model(&name);
            for pair in swap::recorded() {
                println!("{PAIR}{pair}");
            }
            result
        }
        _ => {
            eprintln!("usage: swap [--all | --model NAME | --record NAME]");
            ExitCode::from(2)
        }
    }
}

const PAIR: &str = "pair ";

/// A model that has a pair, and how long it took to find it.
type Having = (&'static Model, Duration);

fn record(model: &'static Model) -> io::Result<(Having, Vec<Pair>)> {
    let start = Instant::now();
    let with = [("LOOM_MAX_PREEMPTIONS", PREEMPTIONS)];
    let Outcome::Passed(printed) = run("--record", model, &with, FOR)? else {
        return Err(io::Error::other(format!("{} does not run", model.name)));
    };
    let pairs = printed.lines().filter_map(|line| Pair::parse(line.strip_prefix(PAIR)?)).collect();
    Ok(((model, start.elapsed()), pairs))
}

/// The lines of code that sites stand in.
#[derive(Default)]
struct Code(HashMap<String, Vec<String>>);

impl Code {
    /// The file without what all have in common, and the line without its indentation.
    fn line(&mut self, site: &Site) -> (String, String) {
        let lines = self.0.entry(site.file.clone()).or_insert_with(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            let text = fs::read_to_string(root.join(&site.file)).unwrap_or_default();
            text.lines().map(|line| line.trim().to_owned()).collect()
        });
        let file = site.file.split_once("src/").map_or("", |(_, file)| file);
        let number = site.line as usize;
        (file.to_owned(), lines.get(number.saturating_sub(1)).cloned().unwrap_or_default())
    }
}

/// A pair in the code.
struct Swap {
    pair: Pair,
    /// The quickest first.
    having: Vec<Having>,
    lines: [(String, String); 2],
    /// Why it may be, if it may.
    reason: Option<&'static str>,
}

struct Verdict {
    caught: Option<(&'static Model, String)>,
    tried: usize,
    took: Duration,
}

/// Runs the models that have a pair, until one fails.
fn judge(swap: &Swap, limit: Duration) -> io::Result<Verdict> {
    let start = Instant::now();
    let (mut tried, mut caught) = (0, None);
    for (model, _) in &swap.having {
        let left = limit.saturating_sub(start.elapsed());
        match run("--model", model, &[(SWAP, &swap.pair.to_string())], left)? {
            // That it does not come where it should is not what is wrong.
            Outcome::Failed(message) if !message.contains("no execution reached") => {
                caught = Some((*model, message));
                break;
            }
            Outcome::Late => break,
            _ => tried += 1,
        }
    }
    Ok(Verdict { caught, tried, took: start.elapsed() })
}

fn check_all(limit: Duration) -> ExitCode {
    check(limit).unwrap_or_else(|error| {
        eprintln!("cannot run a model: {error}");
        ExitCode::FAILURE
    })
}

/// All pairs that the models make.
fn find() -> io::Result<Vec<Swap>> {
    let models: Vec<&Model> = models::ALL.iter().collect();
    let mut pairs: BTreeMap<Pair, Vec<Having>> = BTreeMap::new();
    for recorded in each(&models, |model| record(model)) {
        let (having, found) = recorded?;
        for pair in found {
            pairs.entry(pair).or_default().push(having);
        }
    }
    let mut code = Code::default();
    let swaps = pairs.into_iter().map(|(pair, mut having)| {
        having.sort_by_key(|(_, took)| *took);
        let lines = [code.line(&pair.first), code.line(&pair.second)];
        let [(_, first), (_, second)] = &lines;
        let lines_are = |&(one, other): &(&str, &str)| one == first && other == second;
        let reason = EQUIVALENT.iter().find(|(_, pairs)| pairs.iter().any(lines_are));
        let reason = reason.map(|(reason, _)| *reason);
        Swap { pair, having, lines, reason }
    });
    Ok(swaps.collect())
}

fn check(limit: Duration) -> io::Result<ExitCode> {
    let start = Instant::now();
    let swaps = find()?;
    println!("{} pairs; {:.0} s", swaps.len(), start.elapsed().as_secs_f64());
    let verdicts =
        each(&swaps, |swap| judge(swap, if swap.reason.is_some() { limit } else { FOR }));

    let (mut caught, mut equivalent, mut bad) = (0, 0, 0);
    let mut catchers = Vec::new();
    for (swap, verdict) in swaps.iter().zip(verdicts) {
        let Verdict { caught: by, tried, took } = verdict?;
        let Swap { pair, having, lines: [first, second], reason } = swap;
        let fenced = if pair.fenced { "  and behind a fence\n" } else { "" };
        println!("{}:{} {}", first.0, pair.first.line, first.1);
        println!("{fenced}{}:{} {}", second.0, pair.second.line, second.1);
        let took = took.as_secs_f64();
        match (by, reason) {
            (Some((model, said)), None) => {
                caught += 1;
                catchers.push(model);
                println!("    {took:.1} s {}: {said}", model.name);
            }
            (None, Some(reason)) => {
                equivalent += 1;
                let models = having.len();
                println!("    {took:.1} s equivalent, {tried} of {models} models tried: {reason}");
            }
            (Some((model, said)), Some(_)) => {
                bad += 1;
                println!("    NOT EQUIVALENT: {}: {said}", model.name);
            }
            (None, None) => {
                bad += 1;
                println!("    NOTICED BY NONE of {tried} models");
            }
        }
    }
    for (one, other) in EQUIVALENT.iter().flat_map(|(_, pairs)| *pairs) {
        let exists = |swap: &Swap| swap.lines[0].1 == *one && swap.lines[1].1 == *other;
        if !swaps.iter().any(exists) {
            bad += 1;
            println!("{one}\n{other}\n    NO SUCH PAIR any more");
        }
    }

    // What fails anyway catches nothing.
    catchers.sort_by_key(|model| model.name);
    catchers.dedup_by_key(|model| model.name);
    for (model, outcome) in
        catchers.iter().zip(each(&catchers, |model| run("--model", model, &[], FOR)))
    {
        if let Outcome::Failed(said) = outcome? {
            bad += 1;
            println!("{} fails with nothing swapped: {said}", model.name);
        }
    }
    println!(
        "{} pairs swapped, {caught} caught, {equivalent} equivalent, {bad} wrong; {:.0} s",
        swaps.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
