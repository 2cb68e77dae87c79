use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use shm_primitives::{
    Mapped,
    ledger::{About, Ledger, LinkStatistics, Role},
    peer::PeerId,
};

use super::hub::HubView;
use crate::{
    ledger,
    os::{
        memory::{MapError, Segment, map_to_look},
        process::start_time,
    },
};

/// The most descriptors of one process that are looked at.
const MOST_DESCRIPTORS: usize = 1 << 20;
/// What the name of a hub's memory is.
const HUB: &str = "shm-hub";

/// A process that has links or hubs, seen from outside.
#[derive(Debug)]
#[non_exhaustive]
pub struct Process {
    /// Its number here.
    pub pid: u32,
    /// When it started, in clock ticks since boot: with the number it names one process for ever.
    pub start_time: u64,
    /// Its user.
    pub uid: u32,
    /// What it runs.
    pub command: String,
    /// What is wrong with memory that it has under the names of this library.
    pub problems: Vec<String>,
    ledgers: Vec<Seen<Ledger<Mapped>>>,
    hubs: Vec<HubView>,
}

/// Something in memory that stays mapped with it.
#[derive(Debug)]
struct Seen<T> {
    what: T,
    inode: u64,
    _segment: Segment,
}

/// A hub of a process: what its ledger says, and its memory.
#[derive(Debug)]
#[non_exhaustive]
pub struct Found<'a> {
    /// What the ledger says.
    pub about: About,
    /// Its memory; none if it is not there, or broken: see [`Process::problems`].
    pub view: Option<&'a HubView>,
}

/// One end of a link, as its process counts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkView {
    /// Which link it is.
    pub about: About,
    /// What was counted.
    pub statistics: LinkStatistics,
}

/// All processes with links or hubs into which this user may look.
///
/// # Errors
///
/// If proc(5) is not there.
pub fn processes() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(Some(process)) = Process::look(pid) {
            found.push(process);
        }
    }
    found.sort_unstable_by_key(|process| process.pid);
    // A forked child has its parent's descriptors. What a process counts says who it is; in
    // another pid namespace nothing does, and the elder is taken.
    let mut seen: Vec<(u64, bool)> = Vec::new();
    for process in &mut found {
        let pid = process.pid;
        process.ledgers.retain(|ledger| {
            let own = about_of(ledger).is_some_and(|about| about.pid == pid);
            match seen.iter_mut().find(|(inode, _)| *inode == ledger.inode) {
                Some((_, by_name)) if *by_name || !own => false,
                Some((_, by_name)) => {
                    *by_name = true;
                    true
                }
                None => {
                    seen.push((ledger.inode, own));
                    true
                }
            }
        });
    }
    found.retain(|process| {
        !process.ledgers.is_empty() || !process.hubs.is_empty() || !process.problems.is_empty()
    });
    Ok(found)
}

fn about_of(ledger: &Seen<Ledger<Mapped>>) -> Option<About> {
    entries_of(&ledger.what).next().map(|entry| entry.about)
}

fn entries_of(ledger: &Ledger<Mapped>) -> impl Iterator<Item = LinkView> + '_ {
    (0..ledger.len()).filter_map(|index| {
        let (about, statistics) = ledger.read(index).ok()??;
        Some(LinkView { about, statistics })
    })
}

impl Process {
    /// The process of this number; `None` if it has no links and no hubs.
    ///
    /// # Errors
    ///
    /// If it is gone, or another user's.
    pub fn look(pid: u32) -> io::Result<Option<Self>> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let mut process = Self {
            pid,
            start_time: start_time(pid),
            uid: fs::metadata(&directory)?.uid(),
            command: command(&directory),
            problems: Vec::new(),
            ledgers: Vec::new(),
            hubs: Vec::new(),
        };
        for entry in fs::read_dir(directory.join("fd"))?.take(MOST_DESCRIPTORS) {
            let path = entry?.path();
            // It may be closed by now.
            let Ok(target) = fs::read_link(&path) else { continue };
            let target = target.to_string_lossy().into_owned();
            let Some(name) = target.strip_prefix("/memfd:") else { continue };
            let name = name.trim_end_matches(" (deleted)");
            if name == HUB || name == ledger::NAME {
                process.add(name, &path);
            }
        }
        let empty = process.ledgers.is_empty() && process.hubs.is_empty();
        Ok((!empty || !process.problems.is_empty()).then_some(process))
    }

    fn add(&mut self, name: &str, path: &Path) {
        let (segment, inode) = match open(path) {
            Ok(Some(found)) => found,
            // Closed by now.
            Ok(None) => return,
            Err(problem) => {
                self.problems.push(format!("{name}: {problem}"));
                return;
            }
        };
        if name == HUB {
            match HubView::new(segment) {
                Ok(hub) => self.hubs.push(hub),
                Err(error) => self.problems.push(format!("{name}: {error}")),
            }
        } else if !self.ledgers.iter().any(|ledger| ledger.inode == inode) {
            match Ledger::check(segment.mapped()) {
                Ok(what) => self.ledgers.push(Seen { what, inode, _segment: segment }),
                Err(error) => self.problems.push(format!("{name}: {error}")),
            }
        }
    }

    /// The hubs that it hosts.
    #[must_use]
    pub fn hubs(&self) -> Vec<Found<'_>> {
        let about = |role| move |entry: &LinkView| entry.about.role == role;
        let hubs = self.entries().filter(about(Role::Hub));
        hubs.map(|entry| Found { view: self.hub(entry.about.incarnation), about: entry.about })
            .collect()
    }

    /// The hub that it hosts at a path.
    #[must_use]
    pub fn hub_at(&self, path: &Path) -> Option<Found<'_>> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let socket = (metadata.dev(), metadata.ino());
        self.hubs().into_iter().find(|hub| hub.about.socket == socket)
    }

    fn hub(&self, incarnation: u128) -> Option<&HubView> {
        self.hubs.iter().find(|hub| hub.incarnation() == incarnation)
    }

    /// Its ends of links, as they are now.
    pub fn links(&self) -> impl Iterator<Item = LinkView> + '_ {
        let is_link = |role| matches!(role, Role::Host | Role::Guest | Role::Pair);
        self.entries().filter(move |entry| is_link(entry.about.role))
    }

    /// Its end of the link of a guest, as the host or as that guest.
    #[must_use]
    pub fn link(&self, role: Role, incarnation: u128, peer: PeerId) -> Option<LinkView> {
        self.links().find(|LinkView { about, .. }| {
            about.role == role && about.incarnation == incarnation && about.peer == peer
        })
    }

    fn entries(&self) -> impl Iterator<Item = LinkView> + '_ {
        self.ledgers.iter().flat_map(|ledger| entries_of(&ledger.what))
    }
}

fn command(directory: &Path) -> String {
    let name = fs::read(directory.join("comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

/// Maps memory of another process, and says which it is; `None` if it was closed meanwhile.
fn open(path: &Path) -> Result<Option<(Segment, u64)>, String> {
    let as_path = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(found): Result<OwnedFd, _> = openat(CWD, path, as_path, Mode::empty()) else {
        return Ok(None);
    };
    // Only a file is opened: a process can give any name to what it has.
    let stat = fstat(&found).map_err(|errno| errno.to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("not memory".into());
    }
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = openat(CWD, again, flags, Mode::empty()).map_err(|errno| errno.to_string())?;
    match map_to_look(opened.as_fd()) {
        Ok(segment) => Ok(Some((segment, stat.st_ino))),
        Err(MapError::Bad(bad)) => Err(bad.to_string()),
        Err(MapError::Os(error)) => Err(error.to_string()),
    }
}
