use std::{error::Error, fmt, io, path::PathBuf, process::ExitStatus};

use shm_transport::LinkEnd;

/// Why the demo has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The input cannot be read.
    Input {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The input has no bytes.
    Empty(PathBuf),
    /// The input does not fit.
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes that the demo reads.
        max: u64,
    },
    /// A guest process ended before it attached.
    NeverAttached {
        /// Its number.
        guest: usize,
        /// How it ended.
        status: ExitStatus,
    },
    /// Guests did not attach in time.
    SlowToAttach,
    /// A link ended that should not have.
    Ended {
        /// The guest's number.
        guest: usize,
        /// How.
        end: LinkEnd,
    },
    /// A dead guest's entry in the hub was not freed.
    NotFreed {
        /// The guest's number.
        guest: usize,
    },
    /// A guest did not leave when all was done.
    Stays {
        /// Its number.
        guest: usize,
    },
    /// A guest left, and its process failed.
    BadExit {
        /// Its number.
        guest: usize,
        /// How its process ended.
        status: ExitStatus,
    },
    /// The user wants no more.
    Interrupted,
    /// A call of the transport or the operating system failed.
    Call {
        /// What was being done.
        operation: &'static str,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl Failure {
    /// Makes errors of a call, for `map_err`.
    pub fn of<E: Error + Send + Sync + 'static>(operation: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Call { operation, source: error.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input { path, source } => {
                write!(
                    f,
                    "cannot read {}: {source}; name another file with --input",
                    path.display()
                )
            }
            Self::Empty(path) => write!(
                f,
                "{} is empty, so there is nothing to send; name another file with --input",
                path.display()
            ),
            Self::TooLarge { path, max } => write!(
                f,
                "{} has more than {max} bytes; name a smaller file with --input",
                path.display()
            ),
            Self::NeverAttached { guest, status } => {
                write!(f, "guest {guest} ended before it attached ({status})")
            }
            Self::SlowToAttach => {
                f.write_str("not all guests attached in time; try again with fewer")
            }
            Self::Ended { guest, end } => write!(f, "the link to guest {guest} ended: {end}"),
            Self::NotFreed { guest } => {
                write!(f, "the hub still has an entry for guest {guest}, which is dead")
            }
            Self::Stays { guest } => write!(f, "guest {guest} did not leave when all was done"),
            Self::BadExit { guest, status } => write!(f, "guest {guest} failed ({status})"),
            Self::Interrupted => f.write_str("interrupted; all guests were stopped"),
            Self::Call { operation, source } => write!(f, "cannot {operation}: {source}"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Input { source, .. } => Some(source),
            Self::Ended { end, .. } => Some(end),
            Self::Call { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
