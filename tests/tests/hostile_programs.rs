//! Hostile guests, each a program with a name: whatever it does, each call of the host returns
//! at its deadline, the host idles when there is nothing to do, the honest guest beside it is
//! served without an error, and the host holds afterwards what it held before.
//!
//! The programs are roles of the helper (`src/bin/peer/hostile/`). One test runs all of them,
//! one after the other, so that what this process holds and uses is the host's.

use std::time::{Duration, Instant};

use shm_tests::{
    WAIT, amount,
    counts::{self, Holdings},
    eventually,
    meter::{Meter, busy_share},
    peer,
    process::Peer,
    service::Service,
};
use shm_transport::{Guest, RecvError};

/// A call has this much time beyond its deadline, on a processor; and by the clock on a machine
/// that does nothing else.
const BOUND: Duration = Duration::from_millis(100);
/// By the clock on any machine.
const HANG: Duration = Duration::from_secs(20);
/// Percent of a processor that a host uses at most while nothing is to be done.
const IDLE: f64 = 5.0;

/// What a program is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It attaches, and then does its worst.
    Guest,
    /// As `Guest`, and it sends messages without end, well-formed ones: while it does, there is
    /// something to do.
    Talker,
    /// As `Guest`, and each of its tries must be refused: it says so.
    Refused,
    /// It does not attach.
    Outside,
    /// It attaches and leaves, again and again: while it does, there is something to do for a
    /// host that lets guests in.
    Storm,
}
use Kind::{Guest as Inside, Outside, Refused, Storm, Talker};

const OPEN: &str = "open";
const CORRUPT: &str = "corrupt";
const DEAD: &str = "peerdead";
const DEPARTED: &str = "departed";
const EVICTED: &str = "evicted";

/// Each program, and how its link may have ended before it is evicted.
const PROGRAMS: &[(&str, Kind, &[&str])] = &[
    ("frame-headers", Inside, &[CORRUPT]),
    ("index-jumps", Inside, &[OPEN, CORRUPT]),
    ("padding-loops", Inside, &[CORRUPT]),
    ("zero-lengths", Talker, &[OPEN]),
    ("huge-lengths", Inside, &[CORRUPT]),
    ("foreign-slots", Inside, &[CORRUPT]),
    ("stale-slots", Talker, &[OPEN]),
    ("double-acks", Inside, &[OPEN]),
    ("ack-flood", Inside, &[OPEN]),
    ("sleep-words", Inside, &[OPEN]),
    ("bells", Inside, &[OPEN]),
    ("wake-calls", Inside, &[OPEN]),
    ("bell-messages", Inside, &[OPEN, CORRUPT]),
    ("all-bells", Inside, &[OPEN, CORRUPT]),
    ("goodbyes", Inside, &[DEPARTED, EVICTED]),
    ("heartbeats", Inside, &[OPEN]),
    ("everything", Inside, &[CORRUPT, DEPARTED, EVICTED]),
    ("messages-without-room", Talker, &[OPEN, CORRUPT]),
    ("descriptor-flood", Inside, &[CORRUPT]),
    ("unsealed-payloads", Inside, &[CORRUPT]),
    ("half-sealed-extent", Inside, &[CORRUPT]),
    ("short-extent", Inside, &[CORRUPT]),
    ("growing-payload", Inside, &[CORRUPT]),
    ("shrinking-payload", Inside, &[CORRUPT]),
    ("payload-in-a-file", Inside, &[CORRUPT]),
    ("payload-in-dev-shm", Inside, &[CORRUPT]),
    ("payload-of-huge-pages", Inside, &[CORRUPT]),
    ("payload-with-holes", Inside, &[OPEN]),
    ("payload-that-is-punched", Inside, &[OPEN]),
    ("slow-to-close", Inside, &[CORRUPT]),
    ("resizes", Refused, &[OPEN]),
    ("removes-pages", Refused, &[OPEN]),
    ("writes-by-call", Refused, &[OPEN]),
    ("writes-by-mprotect", Refused, &[OPEN]),
    ("writes-by-new-mapping", Refused, &[OPEN]),
    ("writes-by-reopening", Refused, &[OPEN]),
    ("writes-by-proc-mem", Refused, &[OPEN]),
    ("handshake-garbage", Outside, &[]),
    ("half-a-handshake", Outside, &[]),
    ("silence", Outside, &[]),
    ("bad-outboxes", Outside, &[]),
    ("connect-storm", Outside, &[]),
    ("attach-storm", Storm, &[OPEN, DEPARTED, DEAD]),
    ("stops-in-mid-send", Inside, &[OPEN]),
    ("forks-and-exits", Inside, &[DEAD]),
    ("never-reads", Inside, &[OPEN]),
    ("writes-on-after-hanging-up", Inside, &[DEAD]),
    ("subscription-flood", Inside, &[OPEN]),
    ("sleep-flood", Inside, &[OPEN]),
    ("wakes-other-guests", Inside, &[OPEN]),
];

/// What came of one program.
struct Outcome {
    ends: String,
    heard: u64,
    /// The largest share of a processor while nothing was to be done, in percent.
    idle: f64,
    /// The same where something was to be done.
    busy: f64,
    meter: Meter,
    errors: u64,
}

fn honest(path: &std::path::Path) -> Peer {
    peer!("honest", path)
}

fn run(name: &str, kind: Kind, quiet: Duration) -> Outcome {
    let mut service = Service::new(1, honest);
    service.round();
    let mut hostile = peer!("hostile", service.place.hub(), name);
    let attaches = !matches!(kind, Outside | Storm);
    if attaches {
        let end = Instant::now() + WAIT;
        while service.strangers.is_empty() && service.ends.is_empty() {
            assert!(Instant::now() < end, "{name} does not attach");
            service.serve(Duration::from_millis(10));
        }
        assert_eq!(hostile.answer(), "attached");
        if kind == Refused {
            assert_eq!(hostile.answer(), "all refused");
        }
    } else {
        assert_eq!(hostile.answer(), "outside");
    }
    let mut shares = Vec::new();
    shares.push(undisturbed(&mut service, |service| wait_on_its_link(service, quiet)));
    shares.push(undisturbed(&mut service, |service| wait_on_all(service, kind, quiet)));
    // Work.
    let end = Instant::now() + quiet;
    let mut rounds = 0;
    while Instant::now() < end || rounds < 5 {
        rounds += 1;
        service.exercise();
        service.round();
    }
    shares.push(undisturbed(&mut service, |service| wait_on_its_link(service, quiet)));
    let largest = shares.iter().copied().fold(0.0, f64::max);
    let has_work = kind == Talker;
    service.evict_strangers();
    // Whatever it goes on doing: it is out.
    let out = undisturbed(&mut service, |service| wait_on_all(service, kind, quiet));
    let ends: Vec<String> = service.ends.keys().cloned().collect();
    let (idle, busy) = if has_work { (out, largest) } else { (largest.max(out), 0.0) };
    hostile.kill();
    settle(&mut service);
    let (heard, meter) = (service.heard, service.meter);
    Outcome { ends: ends.join(", "), heard, idle, busy, meter, errors: service.end() }
}

/// The share of a processor in an interval in which no link ended: to end one is something to
/// do, once. The least of a few, if it is too large.
fn undisturbed(service: &mut Service, mut quiet: impl FnMut(&mut Service)) -> f64 {
    // What it may do at once is done once.
    quiet(service);
    let mut least = f64::MAX;
    for _ in 0..4 {
        let ended = service.ends.values().sum::<u64>();
        least = least.min(busy_share(|| quiet(service)));
        // A machine that is busy with other things may disturb one.
        if least < IDLE && ended == service.ends.values().sum::<u64>() {
            break;
        }
    }
    least
}

/// One thread waits for a message of the stranger. Messages that come are taken.
fn wait_on_its_link(service: &mut Service, quiet: Duration) {
    let end = Instant::now() + quiet;
    if let Some(key) = service.strangers.first().copied() {
        let link = service.links.get_mut(key).expect("a link");
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match service.meter.call("recv", left, || link.recv(end).map(drop)) {
                Ok(()) => service.heard += 1,
                Err(RecvError::Ended(_)) => {
                    service.let_go(key);
                    break;
                }
                Err(_) => break,
            }
            if Instant::now() >= end {
                break;
            }
        }
    }
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
}

/// One thread waits for all, and for new guests unless there is a storm of them.
fn wait_on_all(service: &mut Service, kind: Kind, quiet: Duration) {
    let end = Instant::now() + quiet;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if kind == Storm {
            std::thread::sleep(left);
        } else {
            service.serve(left);
        }
    }
}

/// All entries but the honest guest's are free, and the next guest has one.
fn settle(service: &mut Service) {
    let end = Instant::now() + WAIT;
    loop {
        service.serve(Duration::from_millis(1));
        service.evict_strangers();
        if service.host.hub().peers().len() == 1 {
            break;
        }
        assert!(Instant::now() < end, "{:?}", service.host.hub().peers());
    }
    let path = service.place.hub();
    let next =
        std::thread::spawn(move || Guest::attach(path, WAIT).expect("attached").detach(WAIT));
    while !next.is_finished() {
        service.serve(Duration::from_millis(1));
    }
    next.join().expect("it attaches").expect("it detaches");
    service.round();
    service.evict_strangers();
}

#[test]
fn every_call_returns_the_host_idles_and_the_honest_guest_sees_nothing() {
    let names = peer!("hostile-programs").answer();
    let mut known: Vec<&str> = names.split(' ').collect();
    let mut listed: Vec<&str> = PROGRAMS.iter().map(|(name, ..)| *name).collect();
    known.sort_unstable();
    listed.sort_unstable();
    assert_eq!(known, listed);

    let quiet = Duration::from_millis(amount("SHM_TEST_HOSTILE_MILLIS", 60));
    let whole = quiet >= Duration::from_secs(1);
    let only = std::env::var("SHM_TEST_HOSTILE_PROGRAM").ok();
    // What is made once for a process is there before anything is counted.
    let _ = run("heartbeats", Inside, Duration::from_millis(10));
    let mut failed = Vec::new();
    let mut all = Meter::default();
    println!(
        "{:<28} {:<22} {:>7} {:>6} {:>7}  {:<28} {:<28} {:>6}",
        "program",
        "its link",
        "heard",
        "idle %",
        "busy %",
        "most work in a call",
        "latest call",
        "errors"
    );
    for (name, kind, ends) in PROGRAMS {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        let before = holdings();
        let outcome = run(name, *kind, quiet);
        let Outcome { ends: ended, heard, idle, busy, meter, errors } = outcome;
        println!(
            "{name:<28} {ended:<22} {heard:>7} {idle:>6.2} {busy:>7.1}  {:<28} {:<28} {errors:>6}",
            meter.work.to_string(),
            meter.late.to_string(),
        );
        all.merge(&meter);
        let mut expect = |what: &str, holds: bool| {
            if !holds {
                failed.push(format!("{name}: {what}"));
            }
        };
        let may_end =
            |end: &str| end.is_empty() || ends.contains(&end) || matches!(kind, Outside | Storm);
        expect(
            "its link ended otherwise",
            ended.split(", ").all(|end| may_end(end) || end == EVICTED || end == DEPARTED),
        );
        expect("it keeps an idle host busy", idle < IDLE);
        expect("a call worked for too long", meter.work.time < BOUND);
        expect("a call hung", meter.late.time < if whole { BOUND } else { HANG });
        expect("the honest guest was disturbed", errors == 0);
        eventually(|| (holdings() == before || !failed.is_empty()).then_some(()));
    }
    println!(
        "{} programs, {} calls: most work {}, latest {}",
        PROGRAMS.len(),
        all.calls,
        all.work,
        all.late
    );
    assert!(failed.is_empty(), "{failed:#?}");
}

fn holdings() -> Holdings {
    counts::holdings()
}
