//! What came of the demo, as a table or as JSON.

use std::{fmt::Write as _, time::Duration};

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::{blocks::Blocks, host::Outcome, leaks::Leaks, recovery::Recovery, worker::Work};

/// The result, field by field as in `--json`; `shmctl demo --help` explains each.
#[derive(Debug, Serialize)]
pub struct Report {
    guests: usize,
    messages: u64,
    bytes: u64,
    seconds: f64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    mismatched: u64,
    killed: usize,
    detect_ms: Option<f64>,
    reclaim_ms: Option<f64>,
    leaked_slots: usize,
    leaked_fds: usize,
}

impl Report {
    /// The result of an outcome.
    pub fn new(outcome: &Outcome, leaks: &Leaks) -> Self {
        let recovery = outcome.recovery.as_ref();
        let killed = usize::from(recovery.is_some());
        let sum = |of: fn(&Work) -> u64| outcome.guests.iter().map(|(_, _, work)| of(work)).sum();
        Self {
            guests: outcome.guests.len() - recovery.and_then(|r| r.heir).map_or(0, |_| 1),
            messages: sum(|work| work.blocks),
            bytes: sum(|work| work.bytes),
            seconds: rounded(outcome.time.as_secs_f64()),
            lost: outcome.lost,
            duplicated: outcome.faults.duplicated,
            reordered: outcome.faults.reordered,
            mismatched: outcome.faults.mismatched,
            killed,
            detect_ms: recovery.and_then(|recovery| recovery.detected).map(milliseconds),
            reclaim_ms: recovery.and_then(|recovery| recovery.reclaimed).map(milliseconds),
            leaked_slots: outcome.slots_left + leaks.mappings,
            leaked_fds: leaks.descriptors,
        }
    }

    /// Whether nothing was lost, repeated, reordered, wrong or leaked.
    pub fn is_clean(&self) -> bool {
        let counts = [self.lost, self.duplicated, self.reordered, self.mismatched];
        counts == [0; 4] && self.leaked_slots == 0 && self.leaked_fds == 0
    }

    /// One JSON object.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// The table, and what is to be said about it.
    pub fn text(&self, blocks: &Blocks, outcome: &Outcome) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text, blocks, outcome);
        text
    }

    fn write(&self, out: &mut String, blocks: &Blocks, outcome: &Outcome) -> std::fmt::Result {
        let (shortest, longest) = blocks.extremes();
        writeln!(
            out,
            "{}: {} in {} of {} to {}, {}\n",
            blocks.path().display(),
            HumanBytes(blocks.file_len()),
            counted(blocks.per_pass() as usize, "block"),
            HumanBytes(shortest),
            HumanBytes(longest),
            match self.messages.div_ceil(blocks.per_pass()) {
                1 => "once".to_owned(),
                passes => format!("{} times", HumanCount(passes)),
            },
        )?;
        let recovery = outcome.recovery.as_ref();
        let mut table = Table::new(["guest", "pid", "messages", "bytes", "messages/s", "bytes/s"]);
        for (number, pid, work) in &outcome.guests {
            let note = recovery.map_or(String::new(), |recovery| note(recovery, *number));
            let [messages, bytes, per_second, throughput] =
                numbers(work.blocks, work.bytes, work.time);
            let cells =
                [number.to_string(), pid.to_string(), messages, bytes, per_second, throughput];
            table.row(cells, note);
        }
        let [messages, bytes, per_second, throughput] =
            numbers(self.messages, self.bytes, outcome.time);
        let note = format!("in {:.2} s", self.seconds);
        table.row(["all".into(), String::new(), messages, bytes, per_second, throughput], note);
        table.write(out)?;
        writeln!(out)?;
        if let Some(recovery) = recovery {
            describe(out, recovery)?;
        }
        writeln!(
            out,
            "answers    {} lost, {} duplicated, {} reordered, {} mismatched",
            self.lost, self.duplicated, self.reordered, self.mismatched
        )?;
        let slots = counted(self.leaked_slots, "slot");
        let descriptors = counted(self.leaked_fds, "descriptor");
        writeln!(out, "leaks      {slots}, {descriptors}")?;
        let verdict = if self.is_clean() {
            "ok: every block was answered exactly once, in order, with the right SHA-256"
        } else {
            "FAILED: not all of these are 0"
        };
        writeln!(out, "\n{verdict}")
    }
}

fn note(recovery: &Recovery, guest: usize) -> String {
    if guest == recovery.guest {
        "killed".into()
    } else if Some(guest) == recovery.heir {
        format!("replaces guest {}", recovery.guest)
    } else {
        String::new()
    }
}

fn describe(out: &mut String, recovery: &Recovery) -> std::fmt::Result {
    let Recovery { guest, pid, after, handed_over, slots_held, .. } = recovery;
    writeln!(out, "SIGKILL    guest {guest} (pid {pid}) after {:.2} s", after.as_secs_f64())?;
    if let Some(detected) = recovery.detected {
        let slots = counted(*slots_held, "slot");
        writeln!(
            out,
            "detected   {:.2} ms after the kill; {slots} that it held went with its link",
            milliseconds(detected)
        )?;
    }
    if let (Some(heir), Some(reclaimed)) = (recovery.heir, recovery.reclaimed) {
        let blocks = counted(*handed_over, "unanswered block");
        writeln!(
            out,
            "reclaimed  {:.2} ms after the kill; {blocks} handed to guest {heir} in its place",
            milliseconds(reclaimed)
        )?;
    }
    Ok(())
}

/// A number of things, with the right ending.
fn counted(count: usize, thing: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {thing}{s}", HumanCount(count as u64))
}

/// Messages, bytes, messages per second and bytes per second.
fn numbers(messages: u64, bytes: u64, time: Duration) -> [String; 4] {
    let seconds = time.as_secs_f64();
    let rate = |count: u64| if seconds > 0.0 { (count as f64 / seconds) as u64 } else { 0 };
    [
        HumanCount(messages).to_string(),
        HumanBytes(bytes).to_string(),
        HumanCount(rate(messages)).to_string(),
        format!("{}/s", HumanBytes(rate(bytes))),
    ]
}

fn milliseconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

/// To three digits after the point.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// Columns aligned to the right, with a remark after the last. The first row is the head, the
/// last the sum.
struct Table<const N: usize> {
    rows: Vec<([String; N], String)>,
}

impl<const N: usize> Table<N> {
    fn new(head: [&str; N]) -> Self {
        Self { rows: vec![(head.map(Into::into), String::new())] }
    }

    fn row(&mut self, cells: [String; N], remark: String) {
        self.rows.push((cells, remark));
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let widths: [usize; N] = std::array::from_fn(|column| {
            self.rows.iter().map(|(cells, _)| cells[column].chars().count()).max().unwrap_or(0)
        });
        let line = "─".repeat(widths.iter().sum::<usize>() + 3 * N - 1);
        for (index, (cells, remark)) in self.rows.iter().enumerate() {
            let is_total = index + 1 == self.rows.len();
            if index == 1 || is_total {
                writeln!(out, "{line}")?;
            }
            let mut text = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                write!(text, "  {cell:>width$} ")?;
            }
            writeln!(out, "{}", format!("{text}  {remark}").trim_end())?;
        }
        Ok(())
    }
}
