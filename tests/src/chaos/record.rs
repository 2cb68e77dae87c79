//! What a guest tells about itself in memory that survives it, and what it is told there.

use std::{
    fs::File,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::checker::Counts;
use crate::raw::RawMemory;

/// Bytes of a record.
const SIZE: u64 = 256;
/// Records of a file: many more lives than can be unaccounted for at a time.
const RECORDS: u64 = 4096;

const PHASE: u64 = 0;
const LEAVE: u64 = 8;
const IN_FLIGHT: u64 = 16;
const COUNTS: u64 = 32;
/// Two words for each direction, a cache line or more apart.
const TO_HOST: u64 = 128;
const TO_GUEST: u64 = 192;

/// The file of all records.
#[derive(Debug)]
pub struct Records {
    memory: Arc<RawMemory>,
    path: PathBuf,
    free: Mutex<Vec<u64>>,
}

impl Records {
    /// A new file.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn create(path: PathBuf) -> Self {
        let file = File::create_new(&path).expect("a file for the records");
        file.set_len(SIZE * RECORDS).expect("room for the records");
        drop(file);
        Self { memory: map(&path), path, free: Mutex::new((0..RECORDS).rev().collect()) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A record for a new life, with everything 0.
    ///
    /// # Panics
    ///
    /// If there are more lives than records.
    #[must_use]
    pub fn take(&self) -> Record {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let record = Record::new(&self.memory, free.pop().expect("a free record"));
        (0..SIZE).step_by(8).for_each(|at| record.store(at, 0));
        record
    }

    /// Takes a record back.
    pub fn give_back(&self, number: u64) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }
}

fn map(path: &Path) -> Arc<RawMemory> {
    let file = File::options().read(true).write(true).open(path).expect("the records' file");
    Arc::new(RawMemory::map(file.as_fd(), (SIZE * RECORDS) as usize, true).expect("a mapping"))
}

/// How far a guest has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// It was started.
    Started = 0,
    /// It has a link.
    Attached = 1,
    /// It has received and sent everything, and is about to leave.
    Finished = 2,
    /// It met what it should not have.
    Failed = 3,
}

/// The record of one life of a guest.
#[derive(Clone, Debug)]
pub struct Record {
    memory: Arc<RawMemory>,
    /// Which one of the file it is.
    pub number: u64,
}

impl Record {
    fn new(memory: &Arc<RawMemory>, number: u64) -> Self {
        Self { memory: Arc::clone(memory), number }
    }

    /// In the guest: its record.
    #[must_use]
    pub fn open(path: &Path, number: u64) -> Self {
        Self::new(&map(path), number)
    }

    fn store(&self, at: u64, value: u64) {
        self.memory.store64(SIZE * self.number + at, value);
    }

    fn load(&self, at: u64) -> u64 {
        self.memory.load64(SIZE * self.number + at)
    }

    /// The guest's: how far it is.
    pub fn set_phase(&self, phase: Phase) {
        self.store(PHASE, phase as u64);
    }

    /// How far the guest is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.load(PHASE) {
            0 => Phase::Started,
            1 => Phase::Attached,
            2 => Phase::Finished,
            _ => Phase::Failed,
        }
    }

    /// The host's: both sides are to finish.
    pub fn ask_to_leave(&self) {
        self.store(LEAVE, 1);
    }

    /// Whether both sides are to finish.
    #[must_use]
    pub fn is_to_leave(&self) -> bool {
        self.load(LEAVE) != 0
    }

    /// The guest's: slots that it did not get back.
    pub fn set_in_flight(&self, slots: u64) {
        self.store(IN_FLIGHT, slots);
    }

    /// Slots that the guest did not get back.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.load(IN_FLIGHT)
    }

    /// The guest's: what it found in what it received.
    pub fn set_counts(&self, counts: &Counts) {
        (COUNTS..).step_by(8).zip(counts.words()).for_each(|(at, count)| self.store(at, count));
    }

    /// What the guest found in what it received.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut at = (COUNTS..).step_by(8);
        Counts::from_words(std::array::from_fn(|_| self.load(at.next().unwrap_or_default())))
    }

    /// The marks of what the guest sends.
    #[must_use]
    pub fn to_host(&self) -> Marks {
        Marks { record: self.clone(), at: TO_HOST }
    }

    /// The marks of what the host sends.
    #[must_use]
    pub fn to_guest(&self) -> Marks {
        Marks { record: self.clone(), at: TO_GUEST }
    }
}

/// How many messages a side has sent, as two bounds: it may be killed between the send and
/// the store that tells of it.
#[derive(Clone, Debug)]
pub struct Marks {
    record: Record,
    at: u64,
}

impl Marks {
    /// So many were sent, or are about to be.
    pub fn set_started(&self, messages: u64) {
        self.record.store(self.at, messages);
    }

    /// For so many the send has returned.
    pub fn set_sent(&self, messages: u64) {
        self.record.store(self.at + 8, messages);
    }

    /// How many may have been sent.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.record.load(self.at)
    }

    /// How many were sent for certain.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.record.load(self.at + 8)
    }
}
