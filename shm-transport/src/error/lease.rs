use std::{error::Error, ffi::OsString, fmt, path::PathBuf};

use shm_primitives::lease::Damage;

use super::os::OsError;

/// Why a data file cannot be leased.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataFileError {
    /// There is none.
    Missing(PathBuf),
    /// It is not a regular file.
    NotAFile(PathBuf),
    /// This process may not open it, or not for writing.
    NotPermitted(PathBuf),
    /// Its path leads to another file than the one that was opened, or to none.
    Replaced(PathBuf),
}

impl fmt::Display for DataFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => {
                write!(f, "there is no file {}: create it before opening its lease", path.display())
            }
            Self::NotAFile(path) => {
                write!(f, "{} is not a regular file: check the path", path.display())
            }
            Self::NotPermitted(path) => write!(
                f,
                "this process may not open {}: a lease needs reading and writing",
                path.display()
            ),
            Self::Replaced(path) => write!(
                f,
                "{} is not the file any more that was opened: stop using that one, and open the \
                 lease again",
                path.display()
            ),
        }
    }
}

impl Error for DataFileError {}

/// Why the `-shm` file beside a data file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseFileError {
    /// Something that is not a lease's stands at its path. It is left as it is.
    Occupied(PathBuf),
    /// This process may not open it, or not create it.
    NotPermitted(PathBuf),
    /// It is of another version. It is left as it is.
    Version {
        /// Its path.
        path: PathBuf,
        /// Its version; ours is [`LEASE_VERSION`](shm_primitives::lease::LEASE_VERSION).
        found: u32,
    },
}

impl fmt::Display for LeaseFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied(path) => write!(
                f,
                "{} is not a lease's file: it is left alone, move it away or rename the data file",
                path.display()
            ),
            Self::NotPermitted(path) => write!(
                f,
                "this process may not open or create {}: permit it to read and write there",
                path.display()
            ),
            Self::Version { path, found } => write!(
                f,
                "{} is of version {found}: use the same release in all processes",
                path.display()
            ),
        }
    }
}

impl Error for LeaseFileError {}

/// Why there is no lease, or no ownership.
#[derive(Debug)]
#[non_exhaustive]
pub enum LeaseError {
    /// The data file cannot be leased.
    Data(DataFileError),
    /// The `-shm` file cannot be used.
    File(LeaseFileError),
    /// Somebody holds the owner's lock for long and has not become the owner: a process
    /// that was stopped while it opened the lease, or one that locks whole files.
    Busy(PathBuf),
    /// There was a living owner up to the deadline.
    TimedOut,
    /// Leases are switched off.
    Off,
    /// This process was forked from the one that opened the lease.
    Forked,
    /// The environment variable `SHM_LEASE` is neither `on` nor `off`.
    Variable(OsString),
    /// The operating system refused something.
    Os(OsError),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Busy(path) => write!(
                f,
                "somebody locks {} and does not become its owner: look for a stopped process, or \
                 one that locks all of the file",
                path.display()
            ),
            Self::TimedOut => f.write_str("the owner lived up to the deadline: wait again"),
            Self::Off => f.write_str(OFF),
            Self::Forked => f.write_str(FORKED),
            Self::Variable(value) => write!(
                f,
                "SHM_LEASE is {}: set it to on or off, or not at all",
                value.to_string_lossy()
            ),
            Self::Os(error) => error.fmt(f),
        }
    }
}

const OFF: &str = "leases are switched off: switch them on in code or by SHM_LEASE=on";
const FORKED: &str = "the lease is that of the process before the fork: open it again in this one";

impl Error for LeaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Data(error) => Some(error),
            Self::File(error) => Some(error),
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

/// Why an owner's heartbeat did not go out. What it owns, it goes on owning, but for
/// [`Data`](Self::Data).
#[derive(Debug)]
#[non_exhaustive]
pub enum BeatError {
    /// This process is not the owner.
    NotOwner,
    /// The data file was replaced: the lease is of a file without a name.
    Data(DataFileError),
    /// The `-shm` file cannot be used.
    File(LeaseFileError),
    /// Leases are switched off.
    Off,
    /// This process was forked from the one that opened the lease.
    Forked,
    /// The operating system refused something.
    Os(OsError),
}

impl fmt::Display for BeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOwner => {
                f.write_str("only the owner has a heartbeat: wait for the ownership first")
            }
            Self::Data(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Off => f.write_str(OFF),
            Self::Forked => f.write_str(FORKED),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for BeatError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Data(error) => Some(error),
            Self::File(error) => Some(error),
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a reader is not there, or not asked about.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReaderError {
    /// All reader slots are taken.
    Full {
        /// How many there are.
        slots: u32,
    },
    /// The position is too large to be pinned.
    Position {
        /// The largest that is not.
        max: u64,
    },
    /// The data file cannot be opened for one more reader.
    Data(DataFileError),
    /// Leases are switched off.
    Off,
    /// This process was forked from the one that opened the lease.
    Forked,
    /// The operating system refused something.
    Os(OsError),
}

impl fmt::Display for ReaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { slots } => write!(
                f,
                "all {slots} reader slots are taken: wait until one detaches, or share one reader \
                 in each process"
            ),
            Self::Position { max } => {
                write!(f, "only positions up to {max} can be pinned: count in larger units")
            }
            Self::Data(error) => error.fmt(f),
            Self::Off => f.write_str(OFF),
            Self::Forked => f.write_str(FORKED),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for ReaderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Data(error) => Some(error),
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a header was not read.
#[derive(Debug)]
#[non_exhaustive]
pub enum LeaseHeaderError {
    /// The data file cannot be opened.
    Data(DataFileError),
    /// The `-shm` file cannot be used.
    File(LeaseFileError),
    /// There is no header to be read, or none of the living owner.
    Damaged {
        /// The `-shm` file.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// Leases are switched off.
    Off,
    /// The operating system refused something.
    Os(OsError),
}

impl fmt::Display for LeaseHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Damaged { path, damage } => write!(
                f,
                "{}: {damage}; the owner heals it with its next heartbeat, or the next owner when \
                 it opens the lease",
                path.display()
            ),
            Self::Off => f.write_str(OFF),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for LeaseHeaderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Data(error) => Some(error),
            Self::File(error) => Some(error),
            Self::Damaged { damage, .. } => Some(damage),
            Self::Os(error) => Some(error),
            Self::Off => None,
        }
    }
}

/// What opening a data file can meet.
#[derive(Debug)]
pub(crate) enum DataFailure {
    File(DataFileError),
    Os(OsError),
}

/// What using a `-shm` file can meet.
#[derive(Debug)]
pub(crate) enum PageFailure {
    File(LeaseFileError),
    Os(OsError),
}

macro_rules! convert {
    ($($to:ident from $from:ident { $($variant:ident => $other:ident),+ });+ $(;)?) => {$(
        impl From<$from> for $to {
            fn from(error: $from) -> Self {
                match error {
                    $($from::$variant(error) => Self::$other(error),)+
                }
            }
        }
    )+};
}

convert! {
    LeaseError from DataFailure { File => Data, Os => Os };
    BeatError from DataFailure { File => Data, Os => Os };
    ReaderError from DataFailure { File => Data, Os => Os };
    LeaseHeaderError from DataFailure { File => Data, Os => Os };
    LeaseError from PageFailure { File => File, Os => Os };
    BeatError from PageFailure { File => File, Os => Os };
    LeaseHeaderError from PageFailure { File => File, Os => Os };
}

macro_rules! from_os {
    ($($to:ident),+) => {$(
        impl From<OsError> for $to {
            fn from(error: OsError) -> Self {
                Self::Os(error)
            }
        }
    )+};
}

from_os!(LeaseError, BeatError, ReaderError, LeaseHeaderError, DataFailure, PageFailure);

impl From<DataFileError> for DataFailure {
    fn from(error: DataFileError) -> Self {
        Self::File(error)
    }
}

impl From<LeaseFileError> for PageFailure {
    fn from(error: LeaseFileError) -> Self {
        Self::File(error)
    }
}
