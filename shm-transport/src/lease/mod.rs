//! Leases: who owns a data file, and who reads it.
//!
//! All truth is in kernel locks on the data file, which end with the process that has them.
//! `<data>-shm` beside it tells people, tools and the next owner about it. [`Lease`] is where
//! to begin.

mod data;
mod owner;
mod page;
mod policy;
mod reader;
mod reading;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

pub use shm_primitives::lease::{Damage, Generation, LeaseHeader, LeaseState, ReaderRecord};

pub use self::{
    data::Ownership,
    policy::LeasePolicy,
    reader::Reader,
    reading::{LeaseReading, SlotReading},
};
use self::{
    data::{Access, DataFile},
    owner::Owner,
};
pub use crate::error::{
    BeatError, DataFileError, LeaseError, LeaseFileError, LeaseHeaderError, ReaderError,
};
use crate::{deadline::Deadline, error::DataFailure};

/// How long an owner may take to become one, before whoever opens beside it gives up.
const SETTLE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// A part in the ownership of a data file: one process at a time owns it, any number are
/// attached, and any may read.
///
/// `<data>-shm` beside the data file says who the owner is. The ownership itself is a kernel
/// lock on the data file, which ends with the process that has it: at once, however it ends,
/// and in whatever pid namespace it is. The data file's contents are not touched.
///
/// The lease is that of the file that was opened. If another file is put in its place, the
/// owner learns of it by [`beat`](Self::beat).
///
/// A lease takes one descriptor, the owner's one more. In a child that is forked from the
/// process it does not work, and drops without an effect.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use shm_transport::lease::{Lease, Outcome};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("data");
/// std::fs::write(&path, "contents")?;
///
/// let mut owner = Lease::open(&path)?;
/// assert_eq!(owner.outcome(), Outcome::Created);
/// assert!(owner.is_owner());
///
/// // In another process:
/// let mut second = Lease::open(&path)?;
/// assert_eq!(second.outcome(), Outcome::Attached);
/// assert_eq!(second.generation(), owner.generation());
///
/// let mut reader = second.attach_reader(100)?;
/// reader.pin(200)?;
/// assert_eq!((owner.reader_count()?, owner.oldest_pin()?), (1, Some(200)));
/// owner.beat()?;
/// assert_eq!(Lease::read_header(&path)?.header.readers, 1);
///
/// // The owner leaves, or dies; the second takes over.
/// let first = owner.generation();
/// drop(owner);
/// assert_eq!(second.wait_for_ownership(Duration::from_secs(5))?, Outcome::Reopened);
/// assert!(second.generation() > first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Lease {
    outcome: Outcome,
    /// `None` if leases are off.
    part: Option<Part>,
}

#[derive(Debug)]
struct Part {
    data: DataFile,
    /// The newest generation that is known: an owner's own.
    generation: Generation,
    owner: Option<Owner>,
}

/// How a lease came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// This process owns the data file and made the `-shm` file: there was none.
    Created,
    /// Somebody else owns the data file, and lives.
    Attached,
    /// This process owns the data file. The owner before gave it up.
    Reopened,
    /// This process owns the data file. The owner before died.
    Recovered,
    /// This process owns the data file and healed the `-shm` file. How the owner before
    /// ended is not known for sure: take it that it died.
    Healed(Damage),
    /// Leases are off. Who owns the data file is not known.
    Off,
}

/// What an owner found when it wrote its heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Beat {
    /// The `-shm` file was as it had left it.
    Sound,
    /// It was not, and is healed.
    Healed(Damage),
}

/// How a lease is opened.
///
/// ```
/// use shm_transport::lease::{Lease, LeasePolicy, Outcome};
///
/// let lease = Lease::builder().policy(LeasePolicy::Off).open("no/file")?;
/// assert_eq!(lease.outcome(), Outcome::Off);
/// # Ok::<(), shm_transport::LeaseError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct LeaseBuilder {
    policy: LeasePolicy,
}

impl LeaseBuilder {
    /// Whether leases are taken. By default the environment decides.
    pub fn policy(mut self, policy: LeasePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// As [`Lease::open`].
    ///
    /// # Errors
    ///
    /// As [`Lease::open`].
    pub fn open(self, data_path: impl AsRef<Path>) -> Result<Lease, LeaseError> {
        if !self.policy.is_on()? {
            return Ok(Lease { outcome: Outcome::Off, part: None });
        }
        Lease::take(data_path.as_ref())
    }
}

impl Lease {
    /// A lease with other settings than the default.
    pub fn builder() -> LeaseBuilder {
        LeaseBuilder::default()
    }

    /// Opens the lease of a data file: owns it if nobody does, and attaches otherwise.
    ///
    /// The data file must be there, and open for reading and writing. Beside an owner that
    /// is just opening, this waits until it is ready, for at most 5 seconds.
    ///
    /// # Errors
    ///
    /// [`Data`](LeaseError::Data) if the data file cannot be leased;
    /// [`File`](LeaseError::File) if something else stands at the place of the `-shm` file;
    /// [`Busy`](LeaseError::Busy) if somebody holds the lock and does not become the owner;
    /// [`Variable`](LeaseError::Variable) if the environment is not understood;
    /// [`Os`](LeaseError::Os).
    pub fn open(data_path: impl AsRef<Path>) -> Result<Self, LeaseError> {
        Self::builder().open(data_path)
    }

    fn take(path: &Path) -> Result<Self, LeaseError> {
        let end = Instant::now() + SETTLE;
        let mut pause = Pause::default();
        loop {
            let data = DataFile::open(path, Access::Take)?;
            let owned = data.try_own()?;
            let ownership = if owned { Ownership::Free } else { data.ownership()? };
            // Looked at after the locks: before them, a new file could have come.
            let refusal = match (data.check_path(), ownership) {
                (Ok(()), Ownership::Free) if owned => {
                    let (owner, outcome) = Owner::begin(&data, None)?;
                    let generation = owner.generation();
                    let part = Part { data, generation, owner: Some(owner) };
                    return Ok(Self { outcome, part: Some(part) });
                }
                (Ok(()), Ownership::Owned(generation)) => {
                    let part = Part { data, generation, owner: None };
                    return Ok(Self { outcome: Outcome::Attached, part: Some(part) });
                }
                // Its owner is opening, or was leaving.
                (Ok(()), _) => LeaseError::Busy(path.to_owned()),
                (Err(DataFailure::File(replaced)), _) => replaced.into(),
                (Err(error), _) => return Err(error.into()),
            };
            drop(data);
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Err(refusal),
                left => pause.sleep(left),
            }
        }
    }

    /// How it came about: of the opening, or of the taking over since.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether this handle owns the data file. It does until it is dropped.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.owner.is_some() && part.data.is_ours())
    }

    /// The owner's generation: of this one, or of the one that lived when this was opened.
    /// `None` if leases are off.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.part.as_ref().map(|part| part.generation)
    }

    /// Writes down that the owner lives, and how many readers there are, and heals the
    /// `-shm` file.
    ///
    /// Nothing depends on its being called: an owner that does not call it is one as long as
    /// it lives.
    ///
    /// # Errors
    ///
    /// [`NotOwner`](BeatError::NotOwner);
    /// [`Data`](BeatError::Data) if the data file was replaced or removed: then this is the
    /// owner of a file that nobody finds any more, and another process may be the owner of
    /// the new one; [`File`](BeatError::File) if something else stands at the place of the
    /// `-shm` file; [`Off`](BeatError::Off); [`Forked`](BeatError::Forked);
    /// [`Os`](BeatError::Os).
    pub fn beat(&mut self) -> Result<Beat, BeatError> {
        let part = self.part.as_mut().ok_or(BeatError::Off)?;
        if !part.data.is_ours() {
            return Err(BeatError::Forked);
        }
        let owner = part.owner.as_mut().ok_or(BeatError::NotOwner)?;
        owner.beat(&part.data)
    }

    /// What the owner says of itself, and who reads. As [`read_header`](Self::read_header),
    /// of the file that was opened.
    ///
    /// # Errors
    ///
    /// As [`read_header`](Self::read_header), and [`Off`](LeaseHeaderError::Off).
    pub fn header(&self) -> Result<LeaseReading, LeaseHeaderError> {
        let part = self.part.as_ref().ok_or(LeaseHeaderError::Off)?;
        match part.data.is_ours() {
            // To its own eyes the owner's lock is none.
            true => {
                let own = part.owner.is_some().then_some(Ownership::Owned(part.generation));
                reading::read(&part.data, own)
            }
            false => Self::read_header(part.data.path()),
        }
    }

    /// Reads what the lease of a data file says, without taking part in it: takes no lock,
    /// makes nothing, and needs no permission to write.
    ///
    /// # Errors
    ///
    /// [`Data`](LeaseHeaderError::Data) if the data file cannot be opened for reading;
    /// [`Damaged`](LeaseHeaderError::Damaged) if there is no `-shm` file, or no header in it
    /// that can be read, or not that of the living owner;
    /// [`File`](LeaseHeaderError::File) if it is something else; [`Os`](LeaseHeaderError::Os).
    pub fn read_header(data_path: impl AsRef<Path>) -> Result<LeaseReading, LeaseHeaderError> {
        reading::read(&DataFile::open(data_path.as_ref(), Access::Ask)?, None)
    }

    /// Attaches a reader that has a position pinned, in whatever unit the data file has.
    ///
    /// An owner that has just asked for the oldest pin may not know of it yet. So look
    /// afterwards whether what stands at the position is still there: if it is, it stays.
    ///
    /// # Errors
    ///
    /// [`Full`](ReaderError::Full) if all slots are taken;
    /// [`Position`](ReaderError::Position) if the position is 2⁶¹ or more;
    /// [`Data`](ReaderError::Data) if the data file was replaced;
    /// [`Off`](ReaderError::Off); [`Forked`](ReaderError::Forked); [`Os`](ReaderError::Os).
    pub fn attach_reader(&self, position: u64) -> Result<Reader, ReaderError> {
        Reader::attach(self.asking()?, position)
    }

    /// How many readers are attached now, in all processes.
    ///
    /// # Errors
    ///
    /// [`Off`](ReaderError::Off); [`Forked`](ReaderError::Forked); [`Os`](ReaderError::Os).
    pub fn reader_count(&self) -> Result<u32, ReaderError> {
        let slots = self.asking()?.slots()?;
        Ok(u32::try_from(slots.len()).unwrap_or(u32::MAX))
    }

    /// The lowest position that a reader has pinned now, in all processes; `None` if there
    /// is no reader. What lies before it may be given up, as far as no reader comes that
    /// looks for it: see [`attach_reader`](Self::attach_reader).
    ///
    /// # Errors
    ///
    /// [`Off`](ReaderError::Off): without leases it is not known who reads;
    /// [`Forked`](ReaderError::Forked); [`Os`](ReaderError::Os).
    pub fn oldest_pin(&self) -> Result<Option<u64>, ReaderError> {
        Ok(self.asking()?.oldest_pin()?)
    }

    fn asking(&self) -> Result<&DataFile, ReaderError> {
        let part = self.part.as_ref().ok_or(ReaderError::Off)?;
        if part.data.is_ours() { Ok(&part.data) } else { Err(ReaderError::Forked) }
    }

    /// Waits until this handle owns the data file. Of several that wait one succeeds when
    /// the owner dies or leaves. Returns at once if it owns it already.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](LeaseError::TimedOut) if the owner lived up to the deadline;
    /// [`Data`](LeaseError::Data) if the data file was replaced: what is waited for is the
    /// ownership of a file that nobody finds any more; and all of [`open`](Self::open). The
    /// lease is then attached as before.
    pub fn wait_for_ownership(
        &mut self,
        deadline: impl Into<Deadline>,
    ) -> Result<Outcome, LeaseError> {
        let deadline = deadline.into().fixed();
        let part = self.part.as_mut().ok_or(LeaseError::Off)?;
        if !part.data.is_ours() {
            return Err(LeaseError::Forked);
        }
        if part.owner.is_some() {
            return Ok(self.outcome);
        }
        let mut pause = Pause::default();
        loop {
            part.data.check_path()?;
            if part.data.try_own()? {
                self.outcome = part.take_over()?;
                return Ok(self.outcome);
            }
            match deadline.remaining() {
                Some(Duration::ZERO) => return Err(LeaseError::TimedOut),
                left => pause.sleep(left.unwrap_or(Duration::MAX)),
            }
        }
    }
}

impl Part {
    /// Becomes the owner, having its lock; or gives the lock back.
    fn take_over(&mut self) -> Result<Outcome, LeaseError> {
        // Looked at under the lock: before it, a new file could have come.
        let begun = self.data.check_path().map_err(LeaseError::from);
        let begun = begun.and_then(|()| Owner::begin(&self.data, Some(self.generation)));
        match begun {
            Ok((owner, outcome)) => {
                self.generation = owner.generation();
                self.owner = Some(owner);
                Ok(outcome)
            }
            Err(error) => {
                self.data.disown(None)?;
                Err(error)
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(part) = &mut self.part
            && part.data.is_ours()
            && let Some(owner) = part.owner.take()
        {
            owner.close(&part.data);
            // Here, and not with the file: for whoever waits, it is ready to be taken.
            let _ = part.data.disown(Some(part.generation));
        }
    }
}

/// Pauses that grow, between looks at a lock that nobody can be woken by.
#[derive(Debug)]
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(SHORTEST_PAUSE)
    }
}

impl Pause {
    fn sleep(&mut self, at_most: Duration) {
        thread::sleep(self.0.min(at_most));
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

impl From<DataFileError> for LeaseError {
    fn from(error: DataFileError) -> Self {
        Self::Data(error)
    }
}
