use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;

/// Options of `shmctl demo`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_long_help = AFTER_HELP)]
pub struct Options {
    /// The file to split into blocks [default: this program itself]
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// How many guest processes to start
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub guests: u16,

    /// Kill a guest with SIGKILL in the middle, and hand its unanswered blocks to a new one
    #[arg(long)]
    pub kill: bool,

    /// Go over the file again and again until so many seconds have gone; at least once
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub seconds: Duration,

    /// Go over the file exactly so many times
    #[arg(long, value_name = "N", conflicts_with = "seconds",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub passes: Option<u64>,

    /// Count blocks as lost when no guest has answered anything for so long
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub patience: Duration,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// What this process is, if not the host
    #[arg(long, hide = true)]
    pub role: Option<Role>,

    /// Makes a process misbehave once, so that one can test that the counts are counted
    #[arg(long, hide = true)]
    pub fault: Option<Fault>,
}

const AFTER_HELP: &str = "\
The counts (--json has the same names):
  messages     blocks answered; each is one message to a guest and one back
  bytes        bytes in those blocks
  lost         blocks that were never answered
  duplicated   answers to blocks that were answered before
  reordered    answers of a guest in another order than its blocks were dealt
  mismatched   answers with another digest than the host's, or to what was not asked
  detect_ms    from the kill until the link reports its end, after all answers before it
  reclaim_ms   from the kill until the dead guest's entry in the hub was free, a new guest
               attached in its place, and all unanswered blocks were sent to it
  leaked_slots slots that a guest has not given back when all have left, and mappings of
               shared memory that are left when the host is gone
  leaked_fds   descriptors of the host process that are left when the host is gone

Exit status 0 only if lost, duplicated, reordered, mismatched and both leaks are 0.";

/// What a process of the demo is, beside the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Answers blocks.
    Guest,
}

/// What the first guest does wrong, once; or the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// It does not answer a block.
    Lose,
    /// It answers a block twice.
    Duplicate,
    /// It answers a block after the next one.
    Reorder,
    /// It answers with a wrong digest.
    Mismatch,
    /// It keeps a block's slot for itself.
    Keep,
    /// It exits.
    Exit,
    /// The host forgets to close a link of its own.
    Forget,
}

impl Fault {
    /// As an argument of the command line.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Lose => "lose",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Mismatch => "mismatch",
            Self::Keep => "keep",
            Self::Exit => "exit",
            Self::Forget => "forget",
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=86_400.0).contains(number));
    number.map(Duration::from_secs_f64).ok_or("expected a number of seconds, 0 to 86400".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_a_number_of_at_most_a_day() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["", "-1", "NaN", "inf", "86401", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn faults_parse_from_their_arguments() {
        for fault in Fault::value_variants() {
            assert_eq!(Fault::from_str(fault.argument(), false).as_ref(), Ok(fault));
        }
    }
}
