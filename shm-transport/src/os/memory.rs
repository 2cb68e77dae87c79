//! Anonymous memory: sealed memfds and their mappings.
//!
//! Source: memfd_create(2), fcntl(2) on file sealing.
#![allow(unsafe_code)]

use std::{
    fs::File,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::{Arc, OnceLock},
};

use memmap2::{Advice, Mmap, MmapMut, MmapOptions, MmapRaw};
use rustix::{
    fs::{
        FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
        fstatfs, ftruncate, memfd_create,
    },
    io::Errno,
};
use shm_primitives::{Mapped, header::HEADER_SIZE};

use super::forked::{NotForked, none_forked};
use crate::error::{BadDescriptor, OsError};

/// `TMPFS_MAGIC` of statfs(2): what memfds live on, unless they are huge pages.
const TMPFS: u64 = 0x0102_1994;

/// What all memory of a link is sealed with: its size stays, and nobody but who mapped
/// it before can ever write it.
const ONE_WRITER: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);
/// What a sealed payload is sealed with: nobody can ever write it.
const NO_WRITER: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);

/// A mapping that stays as long as somebody uses it. A forked child does not get it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    mapped: Mapped,
    _mapping: Arc<NotForked<MmapRaw>>,
}

impl Segment {
    pub(super) fn new(mapping: MmapRaw) -> Result<Self, OsError> {
        mapping
            .advise(Advice::DontFork)
            .map_err(|error| OsError::new("keep memory from forked children", error))?;
        // SAFETY: the mapping covers `len` bytes, page-aligned, and lives as long as
        // `_mapping` beside it; `MmapRaw` never forms references to them.
        let mapped = unsafe { Mapped::new(mapping.as_mut_ptr(), mapping.len()) };
        Ok(Self { mapped, _mapping: Arc::new(NotForked::new(mapping)) })
    }

    /// The door to the memory. Whoever keeps it keeps this segment beside it.
    pub(crate) fn mapped(&self) -> Mapped {
        self.mapped
    }

    /// The same segment, accessed with the asymmetric fence from now on.
    pub(crate) fn with_asymmetric_fence(mut self) -> Self {
        self.mapped = self.mapped.with_asymmetric_fence(super::fence::heavy);
        self
    }
}

/// New zeroed memory, of a size that can no longer change and with all its pages there:
/// a lack of memory shows here and never as a signal later.
pub(crate) fn create(name: &str, size: u64) -> Result<OwnedFd, OsError> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|errno| OsError::new("create shared memory", errno))?;
    make_room(fd.as_fd(), size).map_err(|errno| OsError::new("allocate shared memory", errno))?;
    seal(fd.as_fd(), SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(fd)
}

/// Gives new memory its size, and all its pages.
fn make_room(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    check_size(size)?;
    ftruncate(fd, size)?;
    allocate(fd, size)
}

/// Makes sure that all pages of the first `size` bytes are there.
fn allocate(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    check_size(size)?;
    loop {
        match fallocate(fd, FallocateFlags::empty(), 0, size) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Refuses what this machine cannot have. The kernel knows no limit for memory without a
/// name: it would take page after page, and then kill processes to get more.
fn check_size(size: u64) -> Result<(), Errno> {
    static ALL: OnceLock<u64> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let mut info = MaybeUninit::<libc::sysinfo>::uninit();
        // SAFETY: it writes one such structure, and nothing else.
        if unsafe { libc::sysinfo(info.as_mut_ptr()) } != 0 {
            // A filter forbids it: nothing is refused.
            return u64::MAX;
        }
        // SAFETY: the call has succeeded, and so it has written all of it.
        let info = unsafe { info.assume_init() };
        info.totalram.saturating_add(info.totalswap).saturating_mul(info.mem_unit.into())
    });
    if size > *all { Err(Errno::NOMEM) } else { Ok(()) }
}

fn seal(fd: BorrowedFd<'_>, seals: SealFlags) -> Result<(), OsError> {
    fcntl_add_seals(fd, seals).map_err(|errno| OsError::new("seal shared memory", errno))
}

/// Maps new memory for its one writer, and seals it so that it stays the only one.
pub(crate) fn map_as_writer(fd: BorrowedFd<'_>, size: u64) -> Result<Segment, OsError> {
    let _until_kept_from_children = none_forked();
    let mapping = MmapOptions::new()
        .len(size as usize)
        .populate()
        .map_raw(&fd)
        .map_err(|error| OsError::new("map shared memory", error))?;
    seal(fd, SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
    Segment::new(mapping)
}

/// Checks that a descriptor is memory of `size` bytes that only its owner writes, all of
/// it allocated, and maps it read-only.
pub(crate) fn map_as_reader(fd: BorrowedFd<'_>, size: u64) -> Result<Segment, MapError> {
    check(fd, ONE_WRITER, Size::Exactly(size))?;
    let _until_kept_from_children = none_forked();
    let mapping = MmapOptions::new()
        .len(size as usize)
        .populate()
        .map_raw_read_only(&fd)
        .map_err(|error| OsError::new("map shared memory", error))?;
    Ok(Segment::new(mapping)?)
}

/// Memory that is being filled and then sealed against all writing.
#[derive(Debug)]
pub(crate) struct Unsealed(File);

impl Unsealed {
    pub(crate) fn new() -> Result<Self, OsError> {
        let fd = memfd_create("shm-payload", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(|errno| OsError::new("create a payload's memory", errno))?;
        Ok(Self(File::from(fd)))
    }

    pub(crate) fn fill(&self, payload: &[u8]) -> Result<(), OsError> {
        self.0
            .write_all_at(payload, 0)
            .map_err(|error| OsError::new("allocate a payload's memory", error))
    }

    /// Allocates and maps `len` bytes, more than 0, for writing.
    pub(crate) fn map(&self, len: u64) -> Result<NotForked<MmapMut>, OsError> {
        make_room(self.0.as_fd(), len)
            .map_err(|errno| OsError::new("allocate a payload's memory", errno))?;
        // A child with this mapping would keep the payload from being sealed.
        let _until_kept_from_children = none_forked();
        // SAFETY: the file was made above and never leaves this process before it is
        // sealed, which fails while a writable mapping exists: nobody else changes it.
        let map = unsafe { MmapOptions::new().len(len as usize).populate().map_mut(&self.0) }
            .map_err(|error| OsError::new("map a payload's memory", error))?;
        map.advise(Advice::DontFork)
            .map_err(|error| OsError::new("keep memory from forked children", error))?;
        Ok(NotForked::new(map))
    }

    /// Cuts it to `len` bytes and seals it for ever.
    pub(crate) fn seal(self, len: u64) -> Result<OwnedFd, OsError> {
        ftruncate(&self.0, len).map_err(|errno| OsError::new("size a payload's memory", errno))?;
        seal(self.0.as_fd(), NO_WRITER)?;
        Ok(self.0.into())
    }
}

/// Checks that a descriptor is immutable memory of at most `max` bytes, and maps it.
pub(crate) fn map_sealed(fd: BorrowedFd<'_>, max: u64) -> Result<NotForked<Mmap>, MapError> {
    let size = check(fd, NO_WRITER, Size::AtMost(max))?;
    let _until_kept_from_children = none_forked();
    // Private, because kernels before 6.7 refuse shared mappings of write-sealed files.
    // SAFETY: the seals, checked above, rule out every change to contents and size.
    let map = unsafe { MmapOptions::new().len(size as usize).map_copy_read_only(&fd) }
        .map_err(|error| OsError::new("map a sealed payload", error))?;
    map.advise(Advice::DontFork)
        .map_err(|error| OsError::new("keep memory from forked children", error))?;
    Ok(NotForked::new(map))
}

/// Maps memory of another process that it handed to nobody, found from outside, for reading.
///
/// It is accepted as what a peer hands over is, but that nothing can be allocated in it: what
/// has holes is refused. Seals keep all of it as it is, so no access faults later.
pub(crate) fn map_to_look(fd: BorrowedFd<'_>) -> Result<Segment, MapError> {
    let stat = fstat(fd).map_err(|errno| OsError::new("examine memory", errno))?;
    let size = stat.st_size as u64;
    check_seals(fd, ONE_WRITER)?;
    // A segment begins with its header, and its words are whole.
    let allocated = (stat.st_blocks as u64).saturating_mul(512);
    let least = size.next_multiple_of(8).max(HEADER_SIZE.into());
    if size < least || allocated < size {
        return Err(BadDescriptor::Size { found: size.min(allocated), expected: least }.into());
    }
    let _until_kept_from_children = none_forked();
    let mapping = MmapOptions::new()
        .len(size as usize)
        .map_raw_read_only(&fd)
        .map_err(|error| OsError::new("map shared memory", error))?;
    Ok(Segment::new(mapping)?)
}

/// Maps the first `size` bytes of a file, which it has, for reading.
pub(crate) fn map_file_to_look(fd: BorrowedFd<'_>, size: u64) -> Result<Segment, OsError> {
    let _until_kept_from_children = none_forked();
    let mapping = MmapOptions::new()
        .len(size as usize)
        .map_raw_read_only(&fd)
        .map_err(|error| OsError::new("map a file", error))?;
    Segment::new(mapping)
}

/// Why a descriptor was not mapped: the other side's fault, or this system's.
#[derive(Debug)]
pub(crate) enum MapError {
    Bad(BadDescriptor),
    Os(OsError),
}

impl From<BadDescriptor> for MapError {
    fn from(bad: BadDescriptor) -> Self {
        Self::Bad(bad)
    }
}

impl From<OsError> for MapError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

/// What size memory must have, in bytes.
enum Size {
    Exactly(u64),
    /// And at least 1.
    AtMost(u64),
}

/// Checks seals first: from then on size and, with `NO_WRITER`, contents are what they
/// are, and nobody can punch holes. Holes that are there are filled, because touching one
/// can fail with a signal, where filling it fails with an error.
fn check(fd: BorrowedFd<'_>, seals: SealFlags, size: Size) -> Result<u64, MapError> {
    check_seals(fd, seals)?;
    let stat = fstat(fd).map_err(|errno| OsError::new("examine memory", errno))?;
    let found = stat.st_size as u64;
    let (least, most) = match size {
        Size::Exactly(size) => (size, size),
        Size::AtMost(size) => (1, size),
    };
    if !(least..=most).contains(&found) {
        return Err(BadDescriptor::Size { found, expected: most }.into());
    }
    match allocate(fd, found) {
        Ok(()) => Ok(found),
        Err(Errno::BADF) => Err(BadDescriptor::ReadOnly.into()),
        Err(errno) => Err(OsError::new("allocate what the peer left out", errno).into()),
    }
}

fn check_seals(fd: BorrowedFd<'_>, seals: SealFlags) -> Result<(), MapError> {
    let found = fcntl_get_seals(fd).map_err(|errno| match errno {
        // Not memory, or a descriptor by which nothing can be done.
        Errno::INVAL | Errno::BADF => BadDescriptor::NotSealable.into(),
        errno => MapError::from(OsError::new("examine memory", errno)),
    })?;
    if found != seals {
        let (found, expected) = (found.bits(), seals.bits());
        return Err(BadDescriptor::Seals { found, expected }.into());
    }
    let file_system = fstatfs(fd).map_err(|errno| OsError::new("examine memory", errno))?;
    if file_system.f_type as u64 != TMPFS {
        return Err(BadDescriptor::FileSystem.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_than_there_is_is_refused_before_any_is_taken() {
        let memory = Unsealed::new().unwrap();
        for len in [1 << 50, 1 << 60, i64::MAX as u64] {
            let refused = memory.map(len).map(drop);
            assert!(matches!(refused, Err(OsError::OutOfMemory { .. })), "{refused:?}");
            let refused = create("shm-test", len);
            assert!(matches!(refused, Err(OsError::OutOfMemory { .. })), "{refused:?}");
        }
    }
}
