//! The committed counts, and what differs from them too much.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

/// How many more instructions an operation may take: this share of them, and one at least.
const ROOM: f64 = 0.03;

/// What decides the counts beside this repository.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    compiler: String,
    target: String,
    c_library: String,
}

impl Toolchain {
    /// The one that is in use.
    pub fn of_this() -> Result<Self, Box<dyn Error>> {
        let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        Ok(Self {
            compiler: first_line(Command::new(rustc).arg("-V"))?,
            target: format!("{}-{}", env::consts::ARCH, env::consts::OS),
            c_library: first_line(Command::new("getconf").arg("GNU_LIBC_VERSION"))?,
        })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {} with {}", self.compiler, self.target, self.c_library)
    }
}

fn first_line(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8(output.stdout)?;
    Ok(said.lines().next().ok_or_else(|| format!("{command:?} said nothing"))?.to_owned())
}

/// The committed counts.
#[derive(Serialize, Deserialize)]
pub struct Baseline {
    pub made_with: Toolchain,
    /// By the name of the operation.
    pub instructions: BTreeMap<String, f64>,
}

impl Baseline {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json")
    }

    pub fn read() -> Result<Self, Box<dyn Error>> {
        let path = Self::path();
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}; `--update` writes it", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    pub fn write(&self) -> Result<PathBuf, Box<dyn Error>> {
        let path = Self::path();
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(path)
    }
}

/// What a count says beside the committed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within the room that it has.
    Same,
    /// More than it may.
    More,
    /// Less, by more than the room: it should not get worse again unnoticed.
    Less,
    /// Nothing is committed for it.
    New,
}

impl Verdict {
    pub fn of(before: Option<f64>, now: f64) -> Self {
        let Some(before) = before else { return Self::New };
        let room = (before * ROOM).max(1.0);
        if now > before + room {
            Self::More
        } else if now < before - room {
            Self::Less
        } else {
            Self::Same
        }
    }

    pub fn is_failure(self) -> bool {
        matches!(self, Self::More | Self::New)
    }

    pub fn remark(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::More => "  FAILED: more than the room of 3 %",
            Self::Less => "  less: --update keeps it so",
            Self::New => "  FAILED: not in the baseline",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_may_take_three_percent_more_and_one_instruction_at_least() {
        let verdict = |now| Verdict::of(Some(1000.0), now);
        assert_eq!(verdict(1030.0), Verdict::Same);
        assert_eq!(verdict(1030.1), Verdict::More);
        assert_eq!(verdict(970.0), Verdict::Same);
        assert_eq!(verdict(969.9), Verdict::Less);
        assert_eq!(Verdict::of(Some(10.0), 11.0), Verdict::Same);
        assert_eq!(Verdict::of(Some(10.0), 11.1), Verdict::More);
    }

    #[test]
    fn an_operation_that_is_not_committed_fails() {
        assert!(Verdict::of(None, 1.0).is_failure());
    }
}
