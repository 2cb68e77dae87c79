//! Segments that were valid and are not any more: a few words of each are changed, and then the
//! library's own code uses them. Each case follows from a seed and its number, so that it can be
//! run again alone.

mod change;
mod files;
mod hub;
mod live;
mod outbox;

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use shm_tests::{
    meter::Meter,
    pattern::{Random, mix},
    raw::RawMemory,
};

use crate::say;

/// What came of one case.
enum Outcome {
    /// All was as if nothing had been changed.
    Unchanged,
    /// Something else was read, where something else stood.
    Other,
    /// An error said so.
    Refused,
    /// What had not been changed was not what it had been.
    Wrong(String),
}
use Outcome::{Other, Refused, Unchanged, Wrong};

/// What is changed in a case, and used.
trait Kind {
    fn name(&self) -> &'static str;
    fn run(&mut self, random: &mut Random) -> Outcome;
}

/// One in so many cases goes through a real link.
const LIVE: u64 = 250;

#[derive(Default)]
struct Count {
    unchanged: u64,
    other: u64,
    refused: u64,
    meter: Meter,
}

/// Runs cases `first` to `last`; keeps the number of the case that runs in the file `progress`.
/// Answers `wrong CASE TEXT` or `panic CASE TEXT` for each that fails, and in the end
/// `kind NAME UNCHANGED OTHER REFUSED WORK CLOCK` for each kind, the longest times in
/// nanoseconds.
pub(crate) fn run(progress: &str, seed: u64, first: u64, last: u64) {
    let file = File::options().read(true).write(true).open(progress).expect("a file");
    let progress = RawMemory::map(file.as_fd(), 4096, true).expect("mapped");
    static PANIC: Mutex<String> = Mutex::new(String::new());
    set_hook(Box::new(|panic| {
        let mut text = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        *text = panic.to_string().replace('\n', " ");
    }));
    let mut kinds: Vec<Box<dyn Kind>> = vec![
        Box::new(outbox::Frames::new()),
        Box::new(outbox::Tail::new()),
        Box::new(outbox::Acks::new()),
        Box::new(outbox::Header::new()),
        Box::new(outbox::Frames::new()),
        Box::new(hub::Hub::new()),
        Box::new(hub::Broadcast::new()),
        Box::new(files::Fleet::new()),
        Box::new(files::Members::new()),
        Box::new(files::Lease::new()),
    ];
    let mut live = live::Live::new();
    let mut counts: BTreeMap<&'static str, Count> = BTreeMap::new();
    for case in first..last {
        progress.store64(0, case);
        let mut random = Random::new(mix(seed) ^ mix(!case));
        let number = kinds.len() as u64;
        let kind: &mut dyn Kind = match case % LIVE {
            0 => &mut live,
            _ => &mut *kinds[(case % number) as usize],
        };
        let name = kind.name();
        let count = counts.entry(name).or_default();
        let ran = count.meter.call(name, Duration::ZERO, || {
            catch_unwind(AssertUnwindSafe(|| kind.run(&mut random)))
        });
        match ran {
            Ok(Unchanged) => count.unchanged += 1,
            Ok(Other) => count.other += 1,
            Ok(Refused) => count.refused += 1,
            Ok(Wrong(text)) => say(&format!("wrong {case} {name}: {text}")),
            Err(_) => {
                let text = PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
                say(&format!("panic {case} {name}: {text}"));
            }
        }
    }
    for (name, Count { unchanged, other, refused, meter }) in counts {
        let (work, clock) = (meter.work.time.as_nanos(), meter.late.time.as_nanos());
        say(&format!("kind {name} {unchanged} {other} {refused} {work} {clock}"));
    }
    say("done");
}
