//! A process that has a store open and does what it is told, or appends until it is killed.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    time::Duration,
};

use shm_store::{
    Append, Followed, From, Producer, ReadError, Store, StreamConfig, Tail, WriteError,
};
use shm_tests::{WAIT, monotonic, store::Text};

use crate::{command, say};

/// Obeys commands about one store.
pub(crate) fn run(path: &str) {
    let mut store = None;
    let mut tail = None;
    let mut pages = None;
    let mut sequence = 0;
    while let Some(line) = command() {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match (words.as_slice(), store.as_ref()) {
            (["open"], _) => match Store::open(path) {
                Ok(opened) => {
                    let owner = opened.is_owner();
                    store = Some(opened.waiting(WAIT));
                    if owner { "owner".into() } else { "guest".into() }
                }
                Err(error) => format!("error {error:?}"),
            },
            (["drop"], _) => {
                tail = None;
                store = None;
                "dropped".into()
            }
            (["owner"], Some(store)) => store.is_owner().to_string(),
            (["durable"], Some(store)) => shown(store.durable_lsn().map(|lsn| lsn.number())),
            (["create", name], Some(store)) => {
                shown(store.create(name, StreamConfig::default()).map(|ack| ack.repeated))
            }
            // Exactly once, also if the owner has just been killed.
            (["append", name, text], Some(store)) => {
                let id = format!("process {}", std::process::id());
                let producer = Some(Producer { id, epoch: 0, sequence });
                let entries = vec![(*text).to_owned().into()];
                let append = Append { entries, producer, ..Append::default() };
                sequence += 1;
                shown(store.append_with(name, append).map(|ack| ack.start.to_string()))
            }
            (["append-large", name, bytes], Some(store)) => {
                let entry = Text::of_len(bytes.parse().expect("a number"));
                shown(store.append(name, entry).map(|ack| ack.start.to_string()))
            }
            // Entries and bytes from the start to the end, and whether they are as they should
            // be.
            (["read", name], Some(store)) => shown(read(store, name)),
            // The first page; the pages stay open.
            (["begin", name], Some(store)) => {
                let begun = pages.insert(store.pages(name, From::Start));
                shown(begun.next().expect("a page").map(|page| match page.up_to_date {
                    true => "all",
                    false => "more",
                }))
            }
            (["tail", name], Some(store)) => match store.tail(name, From::Start) {
                Ok(opened) => {
                    tail = Some(opened);
                    "tailing".into()
                }
                Err(error) => format!("error {error:?}"),
            },
            // So many entries, joined.
            (["next", count], _) => next(&mut tail, count.parse().expect("a number")),
            _ => format!("unknown command {line}"),
        };
        say(&answer);
    }
}

fn shown<T: ToString, E: std::fmt::Debug>(result: Result<T, E>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => format!("error {error:?}"),
    }
}

fn read(store: &Store, name: &str) -> Result<String, ReadError> {
    let mut texts = Vec::new();
    for page in store.pages(name, From::Start) {
        let entries = page?.entries;
        texts.extend(entries.iter().map(|entry| match Text::check(&entry.data) {
            Some(len) => len.to_string(),
            None => String::from_utf8_lossy(&entry.data).into_owned(),
        }));
    }
    Ok(texts.join(" "))
}

fn next(tail: &mut Option<Tail>, count: usize) -> String {
    let tail = tail.as_mut().expect("a tail");
    let mut texts = Vec::new();
    while texts.len() < count {
        match tail.next(WAIT) {
            Ok(Some(Followed::Entry(entry))) => {
                texts.push(String::from_utf8_lossy(&entry.data).into_owned());
            }
            Ok(Some(end)) => {
                texts.push(format!("{end:?}"));
                break;
            }
            Ok(None) => return format!("nothing after {texts:?}"),
            Err(error) => return format!("error {error:?} after {texts:?}"),
        }
    }
    texts.join(" ")
}

/// Appends numbered entries to a stream until it is killed, and logs what was acknowledged:
/// `number sent-at acknowledged-at offset`, of calls without an answer that is known
/// `number ? ?`. With a producer no call has an unknown outcome.
pub(crate) fn append(path: &str, stream: &str, life: &str, log: &str, with_producer: bool) {
    let log = OpenOptions::new().append(true).create(true).open(log).expect("a log");
    let store = Store::open(path).expect("a store").waiting(WAIT);
    store.create(stream, StreamConfig::default()).map(drop).or_else(unknown).expect("a stream");
    say("appending");
    for number in 0u64.. {
        let entry = Text::numbered(life, number);
        let producer =
            with_producer.then(|| Producer { id: life.into(), epoch: 0, sequence: number });
        let append = Append { entries: vec![entry], producer, ..Append::default() };
        let sent = monotonic();
        match store.append_with(stream, append) {
            Ok(ack) => {
                note(&log, &format!("{number} {sent} {} {}\n", monotonic(), ack.start));
            }
            Err(WriteError::Indeterminate) if !with_producer => {
                note(&log, &format!("{number} ? ?\n"));
            }
            Err(error) => {
                note(&log, &format!("{number} error {error:?}\n"));
                panic!("{error:?}");
            }
        }
    }
}

/// Whether a stream was made is seen by appending to it.
fn unknown(error: WriteError) -> Result<(), WriteError> {
    match error {
        WriteError::Indeterminate => Ok(()),
        error => Err(error),
    }
}

/// One write: a death in between leaves no half of a line.
fn note(mut log: &File, line: &str) {
    log.write_all(line.as_bytes()).expect("logged");
}

/// Follows a stream until it is killed, and logs the entries that it gets.
pub(crate) fn follow(path: &str, stream: &str, log: &str) {
    let log = OpenOptions::new().append(true).create(true).open(log).expect("a log");
    let store = Store::open(path).expect("a store").waiting(WAIT);
    let mut tail = store.tail(stream, From::Start).expect("a tail");
    say("following");
    loop {
        match tail.next(Duration::from_secs(1)) {
            Ok(Some(Followed::Entry(entry))) => {
                note(&log, &format!("{} {}\n", entry.offset, Text::describe(&entry.data)));
            }
            Ok(Some(end)) => {
                note(&log, &format!("{end:?} {}\n", tail.reads()));
                return;
            }
            // No owner could be reached within the second: the machine is busy.
            Ok(None) | Err(ReadError::TimedOut) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}
