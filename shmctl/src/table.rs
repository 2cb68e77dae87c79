//! Tables and lines on the standard output.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

/// Prints one object a line.
pub fn json(lines: impl IntoIterator<Item = impl Serialize>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for line in lines {
        serde_json::to_writer(&mut output, &line)?;
        output.write_all(b"\n")?;
    }
    output.flush()
}

/// A table, its columns as wide as what is in them. Those of numbers are aligned right.
pub struct Table<'a> {
    /// What stands over each column; a `>` before it aligns it right.
    pub head: &'a [&'a str],
    /// What stands in them.
    pub rows: Vec<Vec<String>>,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads: Vec<&str> = self.head.iter().map(|head| head.trim_start_matches('>')).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let cells = cells.map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(heads.get(column).map_or(0, |head| head.chars().count()))
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String]| {
            let mut text = String::new();
            for ((cell, width), head) in cells.iter().zip(&widths).zip(self.head) {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                let right = head.starts_with('>');
                let (before, after) = if right { (&*padding, "") } else { ("", &*padding) };
                text.push_str(&format!("{before}{cell}{after}  "));
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(f, &heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>())?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
}

/// Text of another process without what a terminal obeys.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A count in four or five characters.
pub fn short(count: f64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.iter().find(|(size, _)| count >= *size * 0.9995) {
        Some((size, unit)) if count / size < 9.995 => format!("{:.2}{unit}", count / size),
        Some((size, unit)) if count / size < 99.95 => format!("{:.1}{unit}", count / size),
        Some((size, unit)) => format!("{:.0}{unit}", count / size),
        None if count == 0.0 || count >= 9.95 => format!("{count:.0}"),
        None => format!("{count:.1}"),
    }
}

/// A time in two or three digits.
pub fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s >= 3600.0 => format!("{:.1} h", s / 3600.0),
        s if s >= 60.0 => format!("{:.1} min", s / 60.0),
        s if s >= 1.0 => format!("{s:.1} s"),
        s if s >= 0.001 => format!("{:.0} ms", s * 1e3),
        s if s > 0.0 => format!("{:.0} µs", s * 1e6),
        _ => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_times_are_short() {
        let cases =
            [(0.0, "0"), (0.5, "0.5"), (999.0, "999"), (999.6, "1.00k"), (12_345.0, "12.3k")];
        for (count, text) in cases {
            assert_eq!(short(count), text);
        }
        assert_eq!(short(1.5e9), "1.50G");
        assert_eq!(time(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(time(Duration::ZERO), "-");
    }

    #[test]
    fn a_table_is_as_wide_as_what_is_in_it() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["long".into(), "100".into()]];
        let table = Table { head: &["NAME", ">COUNT"], rows };
        assert_eq!(table.to_string(), "NAME  COUNT\na         1\nlong    100\n");
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
