//! The files of a fleet, mapped.

use std::{fs::File, path::Path};

use shm_primitives::header::{HEADER_SIZE, HeaderError};

use crate::{
    error::{FleetFileError, OsError},
    os::{
        memory::Segment,
        named::{self, NameError},
    },
};

/// Why a file is not mapped.
pub(super) enum MapError {
    Header(HeaderError),
    Os(OsError),
}

impl From<OsError> for MapError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

/// Maps all of a file that has room for a header.
pub(super) fn map(file: &File) -> Result<Segment, MapError> {
    let size = named::size(file)?;
    if size < u64::from(HEADER_SIZE) {
        return Err(MapError::Header(HeaderError::TooSmall { size }));
    }
    // Words are accessed whole.
    if !size.is_multiple_of(8) {
        return Err(MapError::Header(HeaderError::TotalSize { claimed: size & !7, actual: size }));
    }
    Ok(named::map(file, size)?)
}

/// What is wrong with the file or directory at `path`.
pub(crate) fn error(path: &Path, error: NameError) -> FleetFileError {
    let path = path.to_owned();
    match error {
        // Files are made when they are missing; that fails if their directory is gone.
        NameError::Missing => FleetFileError::Unlinked(path),
        // Names are taken over when they exist.
        NameError::Exists | NameError::WrongType => FleetFileError::WrongType(path),
        NameError::Owner(uid) => FleetFileError::ForeignOwner { path, uid },
        NameError::Mode(mode) => FleetFileError::UnsafeMode { path, mode },
        NameError::Os(error) => error.into(),
    }
}
