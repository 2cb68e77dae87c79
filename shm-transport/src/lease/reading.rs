use std::thread;

use shm_primitives::lease::{Damage, Found, LeaseHeader, ReaderRecord};

use super::{
    data::{DataFile, Ownership},
    page::Page,
};
use crate::error::{LeaseFileError, LeaseHeaderError, PageFailure};

/// How often a header is read that changes meanwhile.
const ATTEMPTS: u32 = 100;

/// What can be seen of a lease without taking part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseReading {
    /// Whether somebody owns the data file, as the kernel knows it.
    pub ownership: Ownership,
    /// What the owner says of itself, or the last one said. If nobody owns the file and
    /// this says that somebody does, the last owner died.
    pub header: LeaseHeader,
    /// The readers, as the kernel knows them.
    pub readers: Vec<SlotReading>,
}

/// A reader slot that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotReading {
    /// Its number.
    pub slot: u32,
    /// What the reader says of itself, if that can be read.
    pub record: Option<ReaderRecord>,
}

/// Reads what a lease says; `own` is the ownership as far as the kernel does not tell,
/// because `data` has it itself.
pub(crate) fn read(
    data: &DataFile,
    own: Option<Ownership>,
) -> Result<LeaseReading, LeaseHeaderError> {
    let path = data.shm_path();
    let damaged = |damage| LeaseHeaderError::Damaged { path: path.clone(), damage };
    let mut last = damaged(Damage::Missing);
    for _ in 0..ATTEMPTS {
        let ownership = own.map_or_else(|| data.ownership(), Ok)?;
        // An owner that is just beginning has not made one yet.
        let page = Page::open(&path, false)?;
        let contents = page.map(|page| page.read()).transpose()?;
        last = match contents.as_ref().map(|contents| contents.found) {
            None => damaged(Damage::Missing),
            Some(Found::Foreign) => return Err(occupied(data).into()),
            Some(Found::Version(found)) => return Err(version(data, found).into()),
            // One header is whole while the other is written: no harm.
            Some(Found::Whole(header) | Found::Damaged { header: Some(header), .. }) => {
                let bytes = contents.map(|contents| contents.bytes).unwrap_or_default();
                match ownership {
                    Ownership::Owned(generation) if generation != header.generation => {
                        damaged(Damage::Stale)
                    }
                    // It has changed on the way.
                    _ if own.is_none() && data.ownership()? != ownership => continue,
                    _ => {
                        let readers = data.slots()?.into_iter().map(|slot| SlotReading {
                            slot,
                            record: ReaderRecord::decode(&bytes, slot),
                        });
                        return Ok(LeaseReading { ownership, header, readers: readers.collect() });
                    }
                }
            }
            Some(Found::Damaged { damage, .. }) => damaged(damage),
            Some(_) => damaged(Damage::Magic),
        };
        thread::yield_now();
    }
    Err(last)
}

pub(crate) fn occupied(data: &DataFile) -> PageFailure {
    LeaseFileError::Occupied(data.shm_path()).into()
}

pub(crate) fn version(data: &DataFile, found: u32) -> PageFailure {
    LeaseFileError::Version { path: data.shm_path(), found }.into()
}
