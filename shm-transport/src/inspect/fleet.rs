use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use shm_primitives::{
    Mapped,
    fleet::{MemberDetails, Members, Ring, RingGeometry},
    header::HEADER_SIZE,
};

use crate::{
    error::{FleetFileError, OsError},
    fleet::{
        Member, file, kind_of,
        membership::{self, FILE},
    },
    os::{
        lock::LockFile,
        memory::map_file_to_look,
        named::{Directory, NameError},
    },
};

/// The largest table of members, in bytes.
const MOST_MEMBERS: u64 = 1 << 20;

/// A fleet, seen by who is not in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FleetView {
    /// Its directory.
    pub path: PathBuf,
    /// How many members it has room for.
    pub nodes: u32,
    /// Nodes that are or were taken.
    pub members: Vec<Member>,
    /// Its rings.
    pub rings: Vec<RingView>,
    /// What is wrong with its files.
    pub problems: Vec<String>,
}

/// A ring of a fleet, seen by who is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingView {
    /// Which ring of its fleet it is.
    pub kind: u8,
    /// How many frames it keeps.
    pub capacity: u64,
    /// The largest payload, in bytes.
    pub max_payload: u32,
    /// Bytes of memory that it takes now.
    pub allocated: u64,
    /// Frames published so far.
    pub published: u64,
    /// The oldest position that is kept.
    pub oldest: u64,
}

impl FleetView {
    /// Looks at the fleet in a directory; `None` if there is none. It joins nothing.
    ///
    /// The files of a fleet can be cut by any of its members. Then whoever looks at them dies, as
    /// the members do.
    ///
    /// # Errors
    ///
    /// [`FleetFileError`] if the directory or its table of members is not the user's own, or
    /// cannot be looked at.
    pub fn look(path: &Path) -> Result<Option<Self>, FleetFileError> {
        let directory = match Directory::open(path) {
            Ok(directory) => directory,
            Err(NameError::Missing) => return Ok(None),
            Err(why) => return Err(file::error(path, why)),
        };
        let members = membership::open(&directory, |why| file::error(&path.join(FILE), why))?;
        let Some(lock) = members else { return Ok(None) };
        let mut view = Self {
            path: path.to_owned(),
            nodes: 0,
            members: Vec::new(),
            rings: Vec::new(),
            problems: Vec::new(),
        };
        view.look_at_members(&lock)?;
        for name in directory.names()? {
            let Some(kind) = kind_of(&name) else { continue };
            let seen =
                directory.open_file(&name).map_err(|why| file::error(&path.join(&name), why));
            match seen.map_err(|error| error.to_string()).and_then(|file| look_at_ring(kind, &file))
            {
                Ok(ring) => view.rings.push(ring),
                Err(problem) => view.problems.push(format!("{name}: {problem}")),
            }
        }
        view.rings.sort_unstable_by_key(|ring| ring.kind);
        Ok(Some(view))
    }

    fn look_at_members(&mut self, lock: &LockFile) -> Result<(), OsError> {
        let examine = |error| OsError::new("examine a fleet's members", error);
        let size = lock.file().metadata().map_err(examine)?.len();
        if !(u64::from(HEADER_SIZE)..=MOST_MEMBERS).contains(&size) || size % 8 != 0 {
            self.problems.push(format!("{FILE}: {size} bytes are no table of members"));
            return Ok(());
        }
        let segment = map_file_to_look(lock.file().as_fd(), size)?;
        let (members, _) = match Members::<Mapped>::read(segment.mapped()) {
            Ok(found) => found,
            Err(error) => {
                self.problems.push(format!("{FILE}: {error}"));
                return Ok(());
            }
        };
        self.nodes = members.nodes();
        for node in 0..self.nodes {
            let alive = lock.is_locked_elsewhere(u64::from(node))?;
            let details = members.details(node).unwrap_or_else(|_| {
                self.problems.push(format!("{FILE}: node {node} died while it joined"));
                None
            });
            if details.is_none() && !alive {
                continue;
            }
            let details = details.unwrap_or_default();
            let MemberDetails { pid, start_time, incarnation, joined, .. } = details;
            let heartbeat = members.heartbeat(node);
            self.members.push(Member {
                node,
                alive,
                pid,
                start_time,
                incarnation,
                joined,
                heartbeat,
            });
        }
        Ok(())
    }
}

fn look_at_ring(kind: u8, file: &File) -> Result<RingView, String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let size = metadata.len();
    if size < u64::from(HEADER_SIZE) || !size.is_multiple_of(8) {
        return Err(format!("{size} bytes are no ring"));
    }
    let segment = map_file_to_look(file.as_fd(), size).map_err(|error| error.to_string())?;
    let geometry = RingGeometry::read(&segment.mapped()).map_err(|error| error.to_string())?;
    if geometry.kind() != kind {
        return Err(format!("it says that it is ring {:02x}", geometry.kind()));
    }
    let ring = Ring::new(segment.mapped(), geometry);
    Ok(RingView {
        kind,
        capacity: geometry.capacity(),
        max_payload: geometry.max_payload(),
        allocated: metadata.blocks().saturating_mul(512),
        published: ring.end().number(),
        oldest: ring.oldest().number(),
    })
}
