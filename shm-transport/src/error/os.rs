use std::{error::Error, fmt, io};

/// The operating system refused something.
#[derive(Debug)]
#[non_exhaustive]
pub enum OsError {
    /// No memory is left (`ENOMEM`), for this process, its control group or the machine.
    OutOfMemory {
        /// What was being done.
        operation: &'static str,
    },
    /// The file system is full (`ENOSPC`).
    OutOfSpace {
        /// What was being done.
        operation: &'static str,
    },
    /// No descriptor is left for this process (`EMFILE`) or the system (`ENFILE`).
    OutOfDescriptors {
        /// What was being done.
        operation: &'static str,
    },
    /// Anything else.
    Other {
        /// What was being done.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl OsError {
    pub(crate) fn new(operation: &'static str, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match source.raw_os_error() {
            Some(libc::ENOMEM) => Self::OutOfMemory { operation },
            Some(libc::ENOSPC | libc::EDQUOT) => Self::OutOfSpace { operation },
            Some(libc::EMFILE | libc::ENFILE) => Self::OutOfDescriptors { operation },
            _ => Self::Other { operation, source },
        }
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory { operation } => write!(
                f,
                "cannot {operation}: out of memory (ENOMEM); free some, raise the control \
                 group's limit, or configure smaller rings and slots"
            ),
            Self::OutOfSpace { operation } => write!(
                f,
                "cannot {operation}: the file system is full (ENOSPC); free some space, or \
                 configure smaller rings and slots"
            ),
            Self::OutOfDescriptors { operation } => write!(
                f,
                "cannot {operation}: out of descriptors (EMFILE); close some or raise the limit \
                 (ulimit -n)"
            ),
            Self::Other { operation, source } => write!(f, "cannot {operation}: {source}"),
        }
    }
}

impl Error for OsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Other { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A descriptor that is not the memory it was passed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadDescriptor {
    /// It came without a descriptor, or with more than one.
    Missing,
    /// Not memory that can be sealed.
    NotSealable,
    /// Sealed otherwise than it must be (`F_SEAL_*` bits of fcntl(2)).
    Seals {
        /// Its seals.
        found: u32,
        /// What they must be.
        expected: u32,
    },
    /// Memory of another kind, such as huge pages.
    FileSystem,
    /// Of another size, in bytes; for a payload `expected` is the largest allowed.
    Size {
        /// Its size.
        found: u64,
        /// What it must be.
        expected: u64,
    },
    /// Open for reading only, so that it cannot be made sure that all of it is there.
    ReadOnly,
}

impl fmt::Display for BadDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not exactly one descriptor where one belongs"),
            Self::NotSealable => f.write_str("a descriptor that is not sealable memory"),
            Self::Seals { found, expected } => {
                write!(f, "memory sealed with {found:#x} instead of {expected:#x}")
            }
            Self::FileSystem => f.write_str("memory of a file system other than tmpfs"),
            Self::Size { found, expected } => {
                write!(f, "memory of {found} bytes instead of {expected}")
            }
            Self::ReadOnly => f.write_str("a descriptor that is open for reading only"),
        }
    }
}

impl Error for BadDescriptor {}
