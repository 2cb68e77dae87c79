//! The table on a terminal, and the keys that sort it.

use std::{
    cmp::Ordering,
    error::Error,
    io::{self, IsTerminal, Read, Write},
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr},
};

use super::rates::Rated;
use crate::{
    links::Way,
    table::{Table, harmless, short, time},
};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Quit,
    Left,
    Right,
    Reverse,
    Up,
    Down,
}

/// The columns. An arrow to the right is the way to the guest.
const HEAD: [&str; 14] = [
    "HUB",
    "LINK",
    ">GUEST",
    "COMMAND",
    ">→MSG/S",
    ">→B/S",
    ">→FILL",
    ">→FULL/S",
    ">→STALL",
    ">←MSG/S",
    ">←B/S",
    ">←FILL",
    ">←FULL/S",
    ">←STALL",
];
/// What the table is sorted by at first: messages to the guest.
const FIRST: usize = 4;

/// How the table is looked at.
#[derive(Debug)]
pub struct View {
    sort: usize,
    reverse: bool,
    from: usize,
}

impl Default for View {
    fn default() -> Self {
        Self { sort: FIRST, reverse: false, from: 0 }
    }
}

impl View {
    pub fn obey(&mut self, key: Key) {
        match key {
            Key::Left => self.sort = (self.sort + HEAD.len() - 1) % HEAD.len(),
            Key::Right => self.sort = (self.sort + 1) % HEAD.len(),
            Key::Reverse => self.reverse = !self.reverse,
            Key::Up => self.from = self.from.saturating_sub(1),
            Key::Down => self.from += 1,
            Key::Quit => {}
        }
    }

    /// The whole table.
    pub fn table(&self, rows: &[Rated]) -> String {
        let mut rows: Vec<&Rated> = rows.iter().collect();
        rows.sort_by(|a, b| {
            let order = compare(self.sort, a, b);
            let order = if self.reverse { order.reverse() } else { order };
            order.then_with(|| a.link.peer.cmp(&b.link.peer))
        });
        let table = Table { head: &HEAD, rows: rows.into_iter().map(cells).collect() };
        table.to_string()
    }

    /// As much of it as fits.
    pub fn render(&self, rows: &[Rated], (height, width): (usize, usize)) -> String {
        let order = if self.reverse { "reversed" } else { "" };
        let sorted = HEAD[self.sort].trim_start_matches('>');
        let mut text = format!(
            "{} links, by {sorted} {order}   ← → sort, r reverse, ↑ ↓ scroll, q quit\n",
            rows.len()
        );
        let table = self.table(rows);
        let mut lines = table.lines();
        text.extend(lines.next().map(|head| format!("\x1b[7m{}\x1b[0m\n", cut(head, width))));
        let from = self.from.min(rows.len().saturating_sub(1));
        for line in lines.skip(from).take(height.saturating_sub(3)) {
            text.push_str(&cut(line, width));
            text.push('\n');
        }
        text
    }
}

fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}

/// The largest first, names in order.
fn compare(column: usize, a: &Rated, b: &Rated) -> Ordering {
    let names = |row: &Rated| match column {
        0 => row.link.hub.clone(),
        1 => row.link.peer.clone(),
        3 => row.link.command.clone().unwrap_or_default(),
        _ => String::new(),
    };
    let number = |row: &Rated| {
        let (way, rate) = if column < 9 {
            (&row.link.to_guest, &row.to_guest_rate)
        } else {
            (&row.link.to_host, &row.to_host_rate)
        };
        match column {
            2 => f64::from(row.link.guest.unwrap_or(0)),
            4 | 9 => rate.messages,
            5 | 10 => rate.bytes,
            6 | 11 => way.fill.unwrap_or(0.0),
            7 | 12 => rate.full,
            8 | 13 => way.stalled.unwrap_or(0.0),
            _ => 0.0,
        }
    };
    names(a).cmp(&names(b)).then_with(|| number(b).total_cmp(&number(a)))
}

fn cells(row: &Rated) -> Vec<String> {
    let link = &row.link;
    let fill = |way: &Way| way.fill.map_or("-".into(), |fill| format!("{:.0} %", fill * 100.0));
    let stall = |way: &Way| time(Duration::from_secs_f64(way.stalled.unwrap_or(0.0)));
    let name = Path::new(&link.hub).file_name().unwrap_or_default().to_string_lossy().into_owned();
    vec![
        harmless(&name),
        link.peer.clone(),
        link.guest.map_or("-".into(), |pid| pid.to_string()),
        harmless(link.command.as_deref().unwrap_or("-")),
        short(row.to_guest_rate.messages),
        short(row.to_guest_rate.bytes),
        fill(&link.to_guest),
        short(row.to_guest_rate.full),
        stall(&link.to_guest),
        short(row.to_host_rate.messages),
        short(row.to_host_rate.bytes),
        fill(&link.to_host),
        short(row.to_host_rate.full),
        stall(&link.to_host),
    ]
}

/// The terminal, with keys as they are pressed. It is as it was before when this is dropped.
pub struct Screen {
    before: Termios,
}

impl Screen {
    pub fn new() -> Result<Self, Box<dyn Error>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err("this is no terminal: use --json, --once or --count".into());
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        let screen = Self { before };
        screen.show_raw("\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }

    fn show_raw(&self, text: &str) -> io::Result<()> {
        let mut output = io::stdout().lock();
        output.write_all(text.as_bytes())?;
        output.flush()
    }

    pub fn show(&self, text: &str) -> io::Result<()> {
        let lines = text.replace('\n', "\x1b[K\r\n");
        self.show_raw(&format!("\x1b[H{lines}\x1b[J"))
    }

    /// Lines and columns.
    pub fn size(&self) -> (usize, usize) {
        let size = rustix::termios::tcgetwinsize(io::stdout());
        size.map_or((24, 80), |size| (size.ws_row.into(), size.ws_col.into()))
    }

    /// The next key until a moment.
    pub fn key(&mut self, end: Instant) -> Result<Option<Key>, Box<dyn Error>> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = PollTimeout::from(left.as_millis().min(60_000) as u16 + 1);
            let stdin = io::stdin();
            let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, left) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(0) => return Ok(None),
                Ok(_) => {}
            }
            let mut bytes = [0; 8];
            let count = stdin.lock().read(&mut bytes)?;
            if count == 0 {
                // The terminal is gone.
                return Ok(Some(Key::Quit));
            }
            if let Some(key) = key(&bytes[..count]) {
                return Ok(Some(key));
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing more can be done about it.
        let _ = self.show_raw("\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

fn key(bytes: &[u8]) -> Option<Key> {
    Some(match bytes {
        b"q" | b"Q" | b"\x03" | b"\x04" | b"\x1b" => Key::Quit,
        b"\x1b[D" | b"\x1bOD" | b"<" | b"h" => Key::Left,
        b"\x1b[C" | b"\x1bOC" | b">" | b"l" => Key::Right,
        b"\x1b[A" | b"\x1bOA" | b"k" => Key::Up,
        b"\x1b[B" | b"\x1bOB" | b"j" => Key::Down,
        b"r" | b"R" => Key::Reverse,
        _ => return None,
    })
}
