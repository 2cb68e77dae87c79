use std::{
    cell::Cell,
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

const STEPS: u64 = 1000;
const INTERVAL: Duration = Duration::from_millis(50);

/// A bar on a terminal; nothing in a pipe.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    drawn: Cell<Instant>,
}

impl Progress {
    /// A bar at its beginning.
    pub fn new() -> Self {
        let target = if io::stdout().is_terminal() && io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(STEPS), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}") {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        bar.set_message("reading and hashing the file");
        Self { bar, drawn: Cell::new(Instant::now()) }
    }

    /// How far it has come, from 0 to 1, with what.
    pub fn show(&self, now: Instant, done: f64, messages: u64, bytes: u64, guests: usize) {
        if now.saturating_duration_since(self.drawn.get()) < INTERVAL {
            return;
        }
        self.drawn.set(now);
        let (messages, bytes) = (HumanCount(messages), HumanBytes(bytes));
        let s = if guests == 1 { "" } else { "s" };
        self.bar.set_message(format!("{guests} guest{s}  {messages} messages  {bytes}"));
        self.bar.set_position((done.clamp(0.0, 1.0) * STEPS as f64) as u64);
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
