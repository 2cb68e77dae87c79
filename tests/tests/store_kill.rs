//! Processes append to a store while one of them is killed again and again, often the owner:
//! nothing that was acknowledged is lost, nothing is there twice, nothing is torn, and those
//! who follow get exactly what is there.
//!
//! `SHM_TEST_STORE_SECONDS=600` is the whole form.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use shm_store::{From, Offset, Store};
use shm_tests::{Place, WAIT, amount, eventually, monotonic, peer, process::Peer, store::Text};
use shm_transport::{Lease, lease::Ownership};

const APPENDERS: usize = 8;
/// Each is appended to by several.
const STREAMS: usize = 4;
const FOLLOWERS: usize = 2;

/// A process that appends, and what is known of the ones before it in its place.
struct Appender {
    number: usize,
    life: usize,
    peer: Peer,
}

impl Appender {
    fn start(place: &Place, number: usize, life: usize) -> Self {
        let name = format!("{number}-{life}");
        let peer = peer!(
            "store-append",
            place.file("store"),
            stream(number),
            &name,
            place.file(&format!("log-{name}")),
            if has_producer(number) { "producer" } else { "none" },
        );
        Self { number, life, peer }
    }
}

fn stream(number: usize) -> String {
    format!("stream-{}", number % STREAMS)
}

fn has_producer(number: usize) -> bool {
    number < APPENDERS / 2
}

fn owner_of(directory: &Path) -> Option<u32> {
    let reading = Lease::read_header(directory.join("lease")).ok()?;
    matches!(reading.ownership, Ownership::Owned(_)).then_some(reading.header.pid)
}

/// What one life has logged.
#[derive(Default)]
struct Log {
    /// Number, when it was sent, when it was acknowledged, where it is.
    acknowledged: Vec<(u64, u64, u64, Offset)>,
    unknown: u64,
}

fn read_log(path: &Path) -> Log {
    let mut log = Log::default();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            [_, "?", "?"] => log.unknown += 1,
            [number, sent, at, offset] => log.acknowledged.push((
                number.parse().unwrap(),
                sent.parse().unwrap(),
                at.parse().unwrap(),
                offset.parse().unwrap(),
            )),
            _ => panic!("{}: {line}", path.display()),
        }
    }
    log
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_torn_while_processes_are_killed() {
    let place = Place::new();
    let directory = place.file("store");
    let seconds = amount("SHM_TEST_STORE_SECONDS", 6);
    let pause = if seconds > 60 { Duration::from_secs(1) } else { Duration::from_millis(300) };
    let store = Store::open(&directory).unwrap();
    (0..STREAMS).for_each(|at| drop(store.create(&stream(at), Default::default()).unwrap()));
    let mut followers: Vec<_> = (0..FOLLOWERS)
        .map(|at| {
            let mut peer =
                peer!("store-follow", &directory, stream(0), place.file(&format!("followed-{at}")));
            assert_eq!(peer.answer(), "following");
            peer
        })
        .collect();
    let mut appenders: Vec<_> =
        (0..APPENDERS).map(|number| Appender::start(&place, number, 0)).collect();
    for appender in &mut appenders {
        assert_eq!(appender.peer.answer(), "appending");
    }
    drop(store);

    let mut random = 0x5eed_u64;
    let mut owner_kills = Vec::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        thread::sleep(pause);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let owner = owner_of(&directory)
            .and_then(|pid| appenders.iter().position(|appender| appender.peer.pid() == pid));
        let victim = match owner {
            Some(owner) if random >> 63 == 0 => owner,
            _ => (random >> 33) as usize % APPENDERS,
        };
        let at = monotonic();
        let killed_owner = owner == Some(victim);
        appenders[victim].peer.kill();
        if killed_owner {
            owner_kills.push(at);
        }
        let Appender { number, life, .. } = appenders[victim];
        appenders[victim] = Appender::start(&place, number, life + 1);
    }
    // The last ones have appended, too.
    for Appender { number, life, .. } in &appenders {
        let log = place.file(&format!("log-{number}-{life}"));
        eventually(|| (!read_log(&log).acknowledged.is_empty()).then_some(()));
    }
    for appender in &mut appenders {
        assert!(appender.peer.is_running(), "{} has failed", appender.number);
        appender.peer.kill();
    }
    let store = Store::open(&directory).unwrap().waiting(WAIT);
    (0..STREAMS).for_each(|at| drop(store.close(&stream(at)).unwrap()));
    followers.iter_mut().for_each(Peer::succeeds);

    let verified = store.verify().unwrap();
    assert_eq!(verified.problems, Vec::<String>::new());
    let mut found = HashMap::new();
    for at in 0..STREAMS {
        let entries = contents(&store, &stream(at));
        for (&offset, text) in &entries {
            let (life, number) = text.split_once(' ').expect("not torn");
            let number: u64 = number.parse().expect("not torn");
            let before = found.insert((life.to_owned(), number), offset);
            assert_eq!(before, None, "{text} is there twice");
        }
        if at == 0 {
            (0..FOLLOWERS).for_each(|follower| {
                assert_followed(&place.file(&format!("followed-{follower}")), &entries);
            });
        }
    }
    let (mut acknowledged, mut unknown) = (0, 0);
    let mut times = Vec::new();
    for Appender { number, life, .. } in &appenders {
        for life in 0..=*life {
            let name = format!("{number}-{life}");
            let log = read_log(&place.file(&format!("log-{name}")));
            let mut last = None;
            for &(number, sent, at, offset) in &log.acknowledged {
                let there = found.get(&(name.clone(), number));
                assert_eq!(there, Some(&offset), "{name} {number} is lost or elsewhere");
                assert!(last < Some(offset), "{name} {number}: offsets increase");
                last = Some(offset);
                times.push((sent, at));
            }
            acknowledged += log.acknowledged.len() as u64;
            unknown += log.unknown;
            // What a producer has sent is there up to some number; of the others, only what
            // was sent.
            let mut numbers: Vec<u64> =
                found.keys().filter(|(life, _)| *life == name).map(|&(_, number)| number).collect();
            numbers.sort_unstable();
            let logged = log.acknowledged.len() as u64 + log.unknown;
            assert!(numbers.last().is_none_or(|&last| last <= logged), "{name}: never sent");
            if has_producer(*number) {
                assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{name}: a gap");
            }
        }
    }
    // From a death to the first acknowledgement of what was sent after it.
    let mut fail_overs: Vec<Duration> = owner_kills
        .iter()
        .filter_map(|&kill| {
            let first = times.iter().filter(|(sent, _)| *sent >= kill).map(|(_, at)| at).min()?;
            Some(Duration::from_nanos(first - kill))
        })
        .collect();
    fail_overs.sort_unstable();
    println!(
        "{acknowledged} acknowledged, {unknown} unknown, {} in the store, {} owners killed, \
         fail-over {:?} median, {:?} longest",
        found.len(),
        owner_kills.len(),
        fail_overs.get(fail_overs.len() / 2),
        fail_overs.last(),
    );
    assert!(!owner_kills.is_empty(), "no owner was killed");
}

/// What a stream holds, by offset.
fn contents(store: &Store, stream: &str) -> BTreeMap<Offset, String> {
    let pages = store.pages(stream, From::Start);
    let entries = pages.flat_map(|page| page.unwrap().entries);
    entries.map(|entry| (entry.offset, Text::describe(&entry.data))).collect()
}

fn assert_followed(log: &PathBuf, entries: &BTreeMap<Offset, String>) {
    let text = fs::read_to_string(log).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let end = lines.pop().expect("an end");
    assert!(end.starts_with("Closed"), "{end}");
    println!("followed {} entries, {end} readings", lines.len());
    let expected: Vec<_> =
        entries.iter().map(|(offset, text)| format!("{offset} {text}")).collect();
    if let Some(at) = (0..lines.len().max(expected.len()))
        .find(|&at| lines.get(at).copied() != expected.get(at).map(String::as_str))
    {
        panic!("entry {at}: {:?} instead of {:?}", lines.get(at), expected.get(at));
    }
}
