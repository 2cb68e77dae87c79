//! The one door to files: everything that a store writes goes through a [`FileSystem`], so
//! that tests can stop, fail or tear it at any step.

mod backend;
mod memory;
mod real;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod watched;

use std::{fmt::Debug, io, path::Path, sync::Arc};

pub(crate) use backend::Backend;
pub(crate) use memory::MemoryFs;
pub(crate) use real::RealFs;
#[cfg(test)]
pub(crate) use simulated::{Fault, SimulatedFs, Survives};
#[cfg(test)]
pub(crate) use watched::{Step, Watched};

/// Directories and names.
pub(crate) trait FileSystem: Debug + Send + Sync {
    /// Opens a file for reading and writing; if there is none, makes it when `create` says so
    /// (its name is durable after [`sync_dir`](Self::sync_dir)).
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>>;
    /// Replaces `to` in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names of the files in a directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory, for this user alone, and those above it that are not there.
    fn create_dir_all(&self, directory: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
}

/// A file that is read and written by position.
pub(crate) trait File: Debug + Send + Sync {
    /// How many bytes were read: less than asked for only at the end.
    fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<usize>;
    /// Writes all of it, and the file grows if it must.
    fn write_all_at(&self, at: u64, from: &[u8]) -> io::Result<()>;
    /// Makes contents and length durable.
    fn sync_data(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// All of a file, unless it has more bytes than it may.
pub(crate) fn read_all(file: &dyn File, most: u64) -> io::Result<Option<Vec<u8>>> {
    let len = file.len()?;
    if len > most {
        return Ok(None);
    }
    let mut bytes = vec![0; len as usize];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}
