//! What was found, for people and for programs.

use std::{fmt, fs, thread, time::Duration};

use super::{MEMORY_TOLERANCE, checker::Counts};
use crate::counts::{Holdings, holdings};

/// The account of all links of a storm.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Guests that were started.
    pub started: u64,
    /// Guests that were killed.
    pub kills: u64,
    /// Those of them that had no link yet, as far as they had told.
    pub kills_before_attach: u64,
    /// Those of them that were stopped.
    pub kills_while_stopped: u64,
    /// Guests that were stopped, and continued if they were not killed first.
    pub stops: u64,
    /// Links that ended with a goodbye.
    pub departed: u64,
    /// Links that ended with a death.
    pub died: u64,
    /// Deaths in the middle of a call that sends.
    pub in_mid_send: u64,
    /// Deaths that left a part of a batch.
    pub partial_batches: u64,
    /// The longest time from a kill to the end of the link, with all before it received.
    pub longest_to_end: Duration,
    /// What the host found in what guests sent.
    pub to_host: Counts,
    /// What guests found in what the host sent.
    pub to_guest: Counts,
    /// Entries and links that are left of guests that are gone.
    pub entries_left: usize,
    /// Slots and sealed payloads that were not given back when a guest that had received
    /// everything left, on either side.
    pub slots_left: u64,
    /// Everything else that went wrong.
    pub failures: Vec<String>,
}

impl Totals {
    /// Says that something went wrong.
    pub fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// All messages that were received.
    #[must_use]
    pub fn messages(&self) -> u64 {
        let of = |counts: &Counts| counts.received + counts.to_all;
        of(&self.to_host) + of(&self.to_guest)
    }

    fn both(&self) -> Counts {
        let mut both = self.to_host;
        both.add(&self.to_guest);
        both
    }

    /// One line of it.
    #[must_use]
    pub fn in_short(&self) -> String {
        let Counts { lost, duplicated, reordered, torn, .. } = self.both();
        format!(
            "{} kills, {} stops, {} M messages; lost {lost}, duplicated {duplicated}, reordered \
             {reordered}, torn {torn}, other failures {}",
            self.kills,
            self.stops,
            self.messages() / 1_000_000,
            self.failures.len(),
        )
    }
}

/// What a process holds: descriptors, mappings, threads, memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Descriptors and mappings.
    pub holdings: Holdings,
    /// Threads.
    pub threads: usize,
    /// Resident memory, in bytes.
    pub memory: u64,
}

/// Resident memory of this process, in bytes, without pages of files and what the allocator keeps
/// for later: each of its arenas, and there is one for each of the first threads, may keep
/// megabytes.
pub fn memory() -> u64 {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches nothing but memory that nobody has.
    unsafe {
        nix::libc::malloc_trim(0);
    }
    let status = fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.expect("resident memory")
    };
    (kib("RssAnon:") + kib("RssShmem:")) << 10
}

impl Held {
    fn now() -> Self {
        let threads = fs::read_dir("/proc/self/task").expect("/proc/self/task").count();
        Self { holdings: holdings(), threads, memory: memory() }
    }

    /// What is held once that is no more than `expected`, or stays what it is: threads that
    /// have just ended may still be about to let go.
    pub fn settled(expected: Option<&Self>) -> Self {
        let mut last = Self::now();
        for _ in 0..100 {
            thread::sleep(Duration::from_millis(50));
            let now = Self::now();
            let same = (now.holdings, now.threads) == (last.holdings, last.threads);
            last = now;
            match expected {
                Some(expected) if last.is_like(expected) => break,
                None if same => break,
                _ => {}
            }
        }
        last
    }

    fn is_like(&self, before: &Self) -> bool {
        (self.holdings, self.threads) == (before.holdings, before.threads)
            && self.memory <= before.memory + MEMORY_TOLERANCE
    }
}

/// All that a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The account of its links.
    pub totals: Totals,
    /// What went wrong before anything was counted.
    pub failures_before: Vec<String>,
    /// What the host held before.
    pub before: Held,
    /// What it held afterwards.
    pub after: Held,
    /// How long it took.
    pub elapsed: Duration,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.totals.both().are_clean()
            && self.totals.failures.is_empty()
            && self.failures_before.is_empty()
            && self.totals.entries_left == 0
            && self.totals.slots_left == 0
            && self.after.is_like(&self.before)
    }

    fn failures(&self) -> impl Iterator<Item = &String> {
        self.failures_before.iter().chain(&self.totals.failures)
    }

    /// The names and values of the report.
    fn numbers(&self) -> Vec<(&'static str, u64)> {
        let (totals, both) = (&self.totals, self.totals.both());
        let (before, after) = (&self.before, &self.after);
        vec![
            ("seconds", self.elapsed.as_secs()),
            ("guests_started", totals.started),
            ("kills", totals.kills),
            ("kills_before_attach", totals.kills_before_attach),
            ("kills_while_stopped", totals.kills_while_stopped),
            ("stops", totals.stops),
            ("links_departed", totals.departed),
            ("links_died", totals.died),
            ("deaths_in_mid_send", totals.in_mid_send),
            ("deaths_that_left_a_partial_batch", totals.partial_batches),
            ("longest_from_kill_to_end_us", totals.longest_to_end.as_micros() as u64),
            ("messages", totals.messages()),
            ("messages_to_host", totals.to_host.received),
            ("messages_to_guests", totals.to_guest.received),
            ("messages_to_all", totals.to_guest.to_all),
            ("lost", both.lost),
            ("duplicated", both.duplicated),
            ("reordered", both.reordered),
            ("torn", both.torn),
            ("other_failures", self.failures().count() as u64),
            ("entries_left", totals.entries_left as u64),
            ("slots_left", totals.slots_left),
            ("descriptors_before", before.holdings.descriptors as u64),
            ("descriptors_after", after.holdings.descriptors as u64),
            ("memfds_before", before.holdings.memfds as u64),
            ("memfds_after", after.holdings.memfds as u64),
            ("mappings_before", before.holdings.mappings as u64),
            ("mappings_after", after.holdings.mappings as u64),
            ("threads_before", before.threads as u64),
            ("threads_after", after.threads as u64),
            ("resident_kib_before", before.memory >> 10),
            ("resident_kib_after", after.memory >> 10),
            ("resident_kib_tolerance", MEMORY_TOLERANCE >> 10),
        ]
    }

    /// The report for programs.
    #[must_use]
    pub fn json(&self) -> String {
        let mut fields: Vec<String> =
            self.numbers().iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        fields.push(format!("\"clean\": {}", self.is_clean()));
        format!("{{{}}}", fields.join(", "))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.numbers() {
            writeln!(f, "{:<34} {value}", name.replace('_', " "))?;
        }
        for failure in self.failures().take(20) {
            writeln!(f, "{failure}")?;
        }
        f.write_str(if self.is_clean() { "clean" } else { "NOT CLEAN" })
    }
}
