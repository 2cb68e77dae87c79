//! Files in memory, of a disk that can be stopped, filled, and robbed of its power.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{File, FileSystem};

const SECTOR: usize = 512;

/// A file system in memory. Clones are the same one.
///
/// After [`record`](Self::record) it knows what a loss of power may take away.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedFs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    files: Vec<Vec<u8>>,
    recording: Option<Durable>,
    /// Operations so far that change something or make it durable.
    operations: u64,
    fault: Option<(u64, Fault)>,
    stopped: bool,
    limit: Option<u64>,
}

/// What is on the disk, and what may get there or not.
#[derive(Clone, Debug, Default)]
struct Durable {
    names: BTreeMap<PathBuf, usize>,
    files: HashMap<usize, Vec<u8>>,
    pending: Vec<Change>,
}

/// What reaches the disk as a whole or not at all.
#[derive(Clone, Debug)]
enum Change {
    Write { file: usize, at: usize, bytes: Vec<u8> },
    Length { file: usize, len: usize },
    Name { path: PathBuf, file: usize },
    Rename { from: PathBuf, to: PathBuf, file: usize },
    Remove { path: PathBuf, file: usize },
}

/// What happens at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It and every call after it fail.
    Stop,
    /// It alone fails; a write has got half way, a sync has lost what it was for.
    Once(io::ErrorKind),
}

/// Which changes that were not synced survive a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survives {
    Nothing,
    Everything,
    Only(usize),
    AllBut(usize),
    /// Each or not, as the seed has it.
    Some(u64),
}

impl Survives {
    fn takes(self, index: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Only(one) => index == one,
            Self::AllBut(one) => index != one,
            Self::Some(seed) => scramble(seed ^ scramble(index as u64)) & 1 == 1,
        }
    }
}

/// The finishing steps of splitmix64.
fn scramble(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

impl SimulatedFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on remembers what is not synced. All that is there counts as synced.
    pub(crate) fn record(&self) {
        let mut state = self.state();
        let files = state.files.iter().cloned().enumerate().collect();
        let names = state.names.clone();
        state.recording = Some(Durable { names, files, pending: Vec::new() });
    }

    /// How many operations there were that change something or make it durable.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// What happens at an operation, counted from 0 since the beginning.
    pub(crate) fn fail(&self, operation: u64, fault: Fault) {
        self.state().fault = Some((operation, fault));
    }

    /// How many bytes all files may have together.
    pub(crate) fn limit(&self, bytes: Option<u64>) {
        self.state().limit = bytes;
    }

    /// How many changes are not synced: sectors of writes, lengths, names.
    pub(crate) fn pending(&self) -> usize {
        self.state().recording.as_ref().map_or(0, |durable| durable.pending.len())
    }

    /// Another disk with the same files, synced or not: what a killed process leaves behind.
    pub(crate) fn clone_disk(&self) -> Self {
        let state = self.state();
        let (names, files) = (state.names.clone(), state.files.clone());
        Self(Arc::new(Mutex::new(State { names, files, ..State::default() })))
    }

    /// The disk after a loss of power, as a file system that records.
    pub(crate) fn crash(&self, survives: Survives) -> Self {
        let mut disk = self.state().recording.clone().unwrap_or_default();
        for (index, change) in std::mem::take(&mut disk.pending).into_iter().enumerate() {
            if survives.takes(index) {
                disk.apply(change);
            }
        }
        let mut state = State::default();
        for (path, file) in disk.names {
            state.names.insert(path, state.files.len());
            state.files.push(disk.files.get(&file).cloned().unwrap_or_default());
        }
        let crashed = Self(Arc::new(Mutex::new(state)));
        crashed.record();
        crashed
    }
}

impl Durable {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Write { file, at, bytes } => {
                let content = self.files.entry(file).or_default();
                content.resize(content.len().max(at + bytes.len()), 0);
                content[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            Change::Length { file, len } => self.files.entry(file).or_default().resize(len, 0),
            Change::Name { path, file } => {
                self.names.insert(path, file);
            }
            Change::Rename { from, to, file } => {
                if self.names.get(&from) == Some(&file) {
                    self.names.remove(&from);
                }
                self.names.insert(to, file);
            }
            Change::Remove { path, file } => {
                if self.names.get(&path) == Some(&file) {
                    self.names.remove(&path);
                }
            }
        }
    }

    /// Makes some changes durable, or forgets them.
    fn settle(&mut self, kept: bool, which: impl Fn(&Change) -> bool) {
        let (settled, pending) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| which(change));
        self.pending = pending;
        let settled: Vec<_> = settled;
        settled.into_iter().filter(|_| kept).for_each(|change| self.apply(change));
    }
}

impl Change {
    fn is_of_file(&self, number: usize) -> bool {
        match self {
            Self::Write { file, .. } | Self::Length { file, .. } => *file == number,
            _ => false,
        }
    }

    fn is_in(&self, directory: &Path) -> bool {
        match self {
            Self::Name { path, .. } | Self::Remove { path, .. } => path.parent() == Some(directory),
            Self::Rename { to, .. } => to.parent() == Some(directory),
            _ => false,
        }
    }
}

impl State {
    /// Counts an operation. An error that it must have, if it is not to stop.
    fn step(&mut self) -> io::Result<Option<io::Error>> {
        self.alive()?;
        let operation = self.operations;
        self.operations += 1;
        match self.fault {
            Some((at, Fault::Stop)) if at == operation => {
                self.stopped = true;
                Err(stopped())
            }
            Some((at, Fault::Once(kind))) if at == operation => Ok(Some(kind.into())),
            _ => Ok(None),
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.stopped { Err(stopped()) } else { Ok(()) }
    }

    fn pend(&mut self, change: Change) {
        if let Some(durable) = &mut self.recording {
            durable.pending.push(change);
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn make_room(&self, file: usize, len: usize) -> io::Result<()> {
        let more = len.saturating_sub(self.files[file].len()) as u64;
        let used = || self.names.values().map(|&file| self.files[file].len() as u64).sum::<u64>();
        match self.limit {
            Some(limit) if more > 0 && used() + more > limit => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, file: usize, at: usize, bytes: &[u8]) {
        let content = &mut self.files[file];
        content.resize(content.len().max(at + bytes.len()), 0);
        content[at..at + bytes.len()].copy_from_slice(bytes);
        let mut from = 0;
        while from < bytes.len() && self.recording.is_some() {
            let until = bytes.len().min(from + SECTOR - (at + from) % SECTOR);
            self.pend(Change::Write { file, at: at + from, bytes: bytes[from..until].to_vec() });
            from = until;
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

fn position(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl FileSystem for SimulatedFs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.alive()?;
        let file = match state.find(path) {
            Err(_) if create => {
                if let Some(error) = state.step()? {
                    return Err(error);
                }
                let file = state.files.len();
                state.files.push(Vec::new());
                state.names.insert(path.into(), file);
                state.pend(Change::Name { path: path.into(), file });
                file
            }
            found => found?,
        };
        Ok(Arc::new(SimulatedFile { fs: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        if let Some(error) = state.step()? {
            return Err(error);
        }
        let file = state.find(from)?;
        state.names.remove(from);
        state.names.insert(to.into(), file);
        state.pend(Change::Rename { from: from.into(), to: to.into(), file });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if let Some(error) = state.step()? {
            return Err(error);
        }
        let file = state.find(path)?;
        state.names.remove(path);
        state.pend(Change::Remove { path: path.into(), file });
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into())).collect())
    }

    /// Directories need not be made: a name has them.
    fn create_dir_all(&self, _directory: &Path) -> io::Result<()> {
        self.state().alive()
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        let error = state.step()?;
        if let Some(durable) = &mut state.recording {
            durable.settle(error.is_none(), |change| change.is_in(directory));
        }
        error.map_or(Ok(()), Err)
    }
}

#[derive(Debug)]
struct SimulatedFile {
    fs: SimulatedFs,
    file: usize,
}

impl File for SimulatedFile {
    fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        let state = self.fs.state();
        state.alive()?;
        let behind = state.files[self.file].get(position(at)?..).unwrap_or_default();
        let read = behind.len().min(to.len());
        to[..read].copy_from_slice(&behind[..read]);
        Ok(read)
    }

    fn write_all_at(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let mut state = self.fs.state();
        let at = position(at)?;
        if let Some(error) = state.step()? {
            state.write(self.file, at, &from[..from.len() / 2]);
            return Err(error);
        }
        state.make_room(self.file, at + from.len())?;
        state.write(self.file, at, from);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.fs.state();
        let error = state.step()?;
        if let Some(durable) = &mut state.recording {
            durable.settle(error.is_none(), |change| change.is_of_file(self.file));
        }
        error.map_or(Ok(()), Err)
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.fs.state();
        state.alive()?;
        Ok(state.files[self.file].len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        if let Some(error) = state.step()? {
            return Err(error);
        }
        let len = position(len)?;
        state.make_room(self.file, len)?;
        state.files[self.file].resize(len, 0);
        state.pend(Change::Length { file: self.file, len });
        Ok(())
    }
}
