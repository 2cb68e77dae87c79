//! Segments that were valid and of which a few words were changed, by the hundred thousand: to
//! attach to one or to use it gives an error, or correct data. What was not changed is what it
//! was; nothing panics, no signal comes, no call lasts.
//!
//! The cases run in a process of their own, with memory that ends at pages that nobody may
//! touch, so that a signal is one more failure and not the end of the test. A case is repeated
//! by `SHM_TEST_SEED=… SHM_TEST_MUTATION=…`.

use std::{
    collections::BTreeMap,
    fs::File,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    time::{Duration, Instant},
};

use shm_tests::{Place, WAIT, amount, peer, process::Peer, raw::RawMemory};

/// Nanoseconds that a case works on a processor, at most.
const BOUND: u64 = 100_000_000;

#[derive(Default)]
struct Count {
    unchanged: u64,
    other: u64,
    refused: u64,
    work: u64,
    clock: u64,
}

impl Count {
    fn add(&mut self, numbers: [u64; 5]) {
        let [unchanged, other, refused, work, clock] = numbers;
        self.unchanged += unchanged;
        self.other += other;
        self.refused += refused;
        self.work = self.work.max(work);
        self.clock = self.clock.max(clock);
    }
}

/// What the child said, and how it failed.
#[derive(Default)]
struct Results {
    counts: BTreeMap<String, Count>,
    panics: u64,
    wrong: u64,
    signals: u64,
    hangs: u64,
}

impl Results {
    /// Reads what a child says until it is done; `false` if it ends before, or stays at one case.
    fn follow(&mut self, child: &mut Peer, progress: &RawMemory, seed: u64) -> bool {
        let (mut seen, mut since) = (u64::MAX, Instant::now());
        loop {
            let Some(line) = child.answer_within(Duration::from_millis(100)) else {
                let case = progress.load64(0);
                if case != seen {
                    (seen, since) = (case, Instant::now());
                }
                if !child.is_running() || since.elapsed() > WAIT {
                    return false;
                }
                continue;
            };
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match word {
                "done" => return true,
                "kind" => self.count(rest),
                _ => {
                    *(if word == "panic" { &mut self.panics } else { &mut self.wrong }) += 1;
                    if self.panics + self.wrong <= 20 {
                        println!("SHM_TEST_SEED={seed} SHM_TEST_MUTATION={rest} ({word})");
                    }
                }
            }
        }
    }

    /// `NAME UNCHANGED OTHER REFUSED WORK CLOCK`; a name may have several words.
    fn count(&mut self, line: &str) {
        let mut words: Vec<&str> = line.split(' ').collect();
        let numbers = words.split_off(words.len() - 5);
        let numbers: Vec<u64> = numbers.iter().map(|word| word.parse().unwrap()).collect();
        let count = self.counts.entry(words.join(" ")).or_default();
        count.add(numbers.try_into().unwrap());
    }
}

#[test]
fn a_segment_of_which_words_were_changed_is_refused_or_read_correctly() {
    let cases = amount("SHM_TEST_MUTATIONS", 20_000);
    let seed = amount("SHM_TEST_SEED", 1);
    let (mut first, last) = match amount("SHM_TEST_MUTATION", u64::MAX) {
        u64::MAX => (0, cases),
        one => (one, one + 1),
    };
    let place = Place::new();
    let path = place.file("progress");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.set_len(4096).unwrap();
    let progress = RawMemory::map(file.as_fd(), 4096, false).unwrap();
    let mut results = Results::default();
    let ran = last - first;
    loop {
        let [from, to] = [first, last].map(|number| number.to_string());
        let mut child = peer!("mutations", &path, seed.to_string(), from, to);
        if results.follow(&mut child, &progress, seed) {
            child.succeeds();
            break;
        }
        let case = progress.load64(0);
        if child.is_running() {
            results.hangs += 1;
            println!("SHM_TEST_SEED={seed} SHM_TEST_MUTATION={case} (hangs)");
            child.kill();
        } else {
            results.signals += 1;
            let signal = child.wait().signal();
            println!("SHM_TEST_SEED={seed} SHM_TEST_MUTATION={case} (ended by signal {signal:?})");
        }
        first = case + 1;
        assert!(results.signals + results.hangs < 20, "too many to go on");
    }
    let Results { counts, panics, wrong, signals, hangs } = results;
    let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    println!("what was changed   unchanged     other   refused  most work ms    slowest ms");
    let mut total = Count::default();
    for (name, Count { unchanged, other, refused, work, clock }) in &counts {
        let (work_ms, clock_ms) = (ms(*work), ms(*clock));
        println!(
            "{name:<16} {unchanged:>11} {other:>9} {refused:>9} {work_ms:>13.3} {clock_ms:>13.3}"
        );
        total.add([*unchanged, *other, *refused, *work, *clock]);
    }
    println!(
        "seed {seed}, {ran} cases: {} as before, {} other data, {} refused; wrong {wrong}, panics \
         {panics}, signals {signals}, hangs {hangs}; most work {:.3} ms, slowest {:.3} ms",
        total.unchanged,
        total.other,
        total.refused,
        ms(total.work),
        ms(total.clock),
    );
    assert_eq!((wrong, panics, signals, hangs), (0, 0, 0, 0));
    assert!(total.work < BOUND);
    assert!(ran < 1000 || (total.unchanged > 0 && total.other > 0 && total.refused > 0));
}
