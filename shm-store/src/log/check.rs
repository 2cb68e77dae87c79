//! Reading a log that is in use: whether what is durable is still there.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    recover::walk,
    segment::{self, HEADER, Name},
};
use crate::{Lsn, OpenError, fs::FileSystem};

/// Where a log is, for those who check it while it is written.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
    identity: u128,
}

impl Check {
    pub(crate) fn new(fs: Arc<dyn FileSystem>, directory: &Path, identity: u128) -> Self {
        Self { fs, directory: directory.join("log"), identity }
    }

    /// Reads all records up to one that was durable before.
    ///
    /// # Errors
    ///
    /// [`OpenError::Damaged`] if one is not whole.
    pub(crate) fn run(&self, durable: Lsn) -> Result<(), OpenError> {
        let mut numbers: Vec<u64> = self
            .fs
            .list(&self.directory)?
            .iter()
            .filter_map(|name| match Name::parse(name) {
                Some(Name::Log(number)) => Some(number),
                _ => None,
            })
            .collect();
        // From the newest one, as each says what of the one before counts.
        numbers.sort_unstable();
        let mut until = durable.0;
        for number in numbers.into_iter().rev() {
            match self.segment(number, until) {
                Ok(follows) => until = until.min(follows),
                // The owner has taken it back meanwhile, and all before it.
                Err(_) if !self.is_there(number)? => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads a segment's records, and returns what it follows.
    fn segment(&self, number: u64, until: u64) -> Result<u64, OpenError> {
        let file = self.fs.open(&Name::Log(number).path(&self.directory), false)?;
        let mut block = vec![0; HEADER as usize];
        let read = file.read_at(0, &mut block)?;
        block.truncate(read);
        let header = segment::Header::decode(&block, number, self.identity)?;
        if until > header.follows {
            walk(&file, &header, Some(until), u64::MAX, &mut |_, _| Ok(()))?;
        }
        Ok(header.follows)
    }

    fn is_there(&self, number: u64) -> io::Result<bool> {
        let name = Name::Log(number).file();
        Ok(self.fs.list(&self.directory)?.contains(&name))
    }
}
