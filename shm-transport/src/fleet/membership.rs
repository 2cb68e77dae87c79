//! Being in a fleet, and who else is.

use std::{
    io, thread,
    time::{Duration, SystemTime},
};

use shm_primitives::{
    Mapped,
    fleet::{MemberDetails, Members},
    seqlock::Busy,
};

use super::file;
use crate::{
    error::{FleetFileError, JoinError, OsError},
    os::{
        lock::LockFile,
        memory::Segment,
        named::{Directory, NameError},
        process,
    },
};

/// The file in a fleet's directory.
pub(crate) const FILE: &str = "members";
/// How often a node that is taken is tried, a millisecond apart: a process that was killed
/// takes a moment to go, and so does the lock of one that was just starting a child.
const GOING: u32 = 50;

/// A node of a fleet, and who joined as it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The node.
    pub node: u32,
    /// Whether it is in the fleet now: its process lives and has not left. A process that
    /// is stopped is alive.
    pub alive: bool,
    /// Its process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot: with the pid it names one
    /// process for ever.
    pub start_time: u64,
    /// Drawn at random when it joined.
    pub incarnation: u128,
    /// When it joined, in nanoseconds since 1970.
    pub joined: u64,
    /// Its signs of life so far; they go on growing when it joins anew.
    pub heartbeat: u64,
}

/// This process's hold on its node. The kernel ends it with the process.
#[derive(Debug)]
pub(super) struct Membership {
    lock: LockFile,
    members: Members<Mapped>,
    _segment: Segment,
    node: u32,
    /// Of this life of the node.
    incarnation: u128,
    /// Of the fleet.
    fleet: u128,
}

/// What became of an attempt to join.
pub(super) enum Joined {
    Member(Membership),
    /// There is no file yet, or no more.
    NoFile,
}

/// Opens the table of members of the fleet in a directory; `None` if there is none. `error` says
/// which file it was if something is wrong with it.
pub(crate) fn open(
    directory: &Directory,
    error: impl Fn(NameError) -> FleetFileError,
) -> Result<Option<LockFile>, FleetFileError> {
    let mut refused = None;
    let open = || {
        directory.open_file(FILE).map_err(|why| {
            refused = Some(why);
            io::ErrorKind::Other.into()
        })
    };
    match (LockFile::open(open), refused) {
        (Ok(lock), _) => Ok(Some(lock)),
        (Err(_), Some(NameError::Missing)) => Ok(None),
        (Err(_), Some(why)) => Err(error(why)),
        (Err(os), None) => Err(OsError::new("open a fleet's members", os).into()),
    }
}

impl Membership {
    /// Joins as a node of the fleet in a directory; `file` says which file it was if
    /// something is wrong with it.
    pub(super) fn join(
        directory: &Directory,
        node: u32,
        nodes: u32,
        error: impl Fn(NameError) -> FleetFileError,
    ) -> Result<Joined, JoinError> {
        let Some(lock) = open(directory, error)? else { return Ok(Joined::NoFile) };
        let segment = file::map(lock.file()).map_err(|refused| match refused {
            file::MapError::Header(header) => JoinError::Members(header),
            file::MapError::Os(os) => os.into(),
        })?;
        let (members, fleet) = Members::read(segment.mapped()).map_err(JoinError::Members)?;
        if members.nodes() != nodes {
            return Err(JoinError::OtherNodes { asked: nodes, found: members.nodes() });
        }
        for attempt in 1.. {
            if lock.try_lock(u64::from(node))? {
                break;
            }
            if attempt == GOING {
                let pid = members.details(node).ok().flatten().map_or(0, |member| member.pid);
                return Err(JoinError::NodeTaken { node, pid });
            }
            thread::sleep(Duration::from_millis(1));
        }
        let incarnation = crate::host::random()?;
        let member = Self { lock, members, _segment: segment, node, incarnation, fleet };
        Ok(Joined::Member(member))
    }

    /// Whether this process has joined, and not one that it was forked from.
    pub(super) fn is_ours(&self) -> bool {
        self.lock.is_ours()
    }

    /// Says who has joined.
    pub(super) fn enter(&self) {
        let pid = std::process::id();
        let joined = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let details = MemberDetails {
            pid,
            start_time: process::start_time(pid),
            incarnation: self.incarnation,
            joined: joined.map_or(0, |since| since.as_nanos() as u64),
        };
        self.members.enter(self.node, &details);
    }

    pub(super) fn node(&self) -> u32 {
        self.node
    }

    pub(super) fn nodes(&self) -> u32 {
        self.members.nodes()
    }

    pub(super) fn incarnation(&self) -> u128 {
        self.incarnation
    }

    pub(super) fn fleet(&self) -> u128 {
        self.fleet
    }

    pub(super) fn beat(&self) -> u64 {
        self.members.beat(self.node)
    }

    /// Who joined as a node last; none if nobody did.
    pub(super) fn member(&self, node: u32) -> Result<Option<Member>, OsError> {
        let alive = self.is_locked(node)?;
        let details = match self.members.details(node) {
            Ok(Some(details)) => details,
            Ok(None) if !alive => return Ok(None),
            // It is just joining, or died doing so.
            Ok(None) | Err(Busy) => MemberDetails::default(),
        };
        let MemberDetails { pid, start_time, incarnation, joined, .. } = details;
        let heartbeat = self.members.heartbeat(node);
        Ok(Some(Member { node, alive, pid, start_time, incarnation, joined, heartbeat }))
    }

    pub(super) fn all(&self) -> Result<Vec<Member>, OsError> {
        (0..self.members.nodes()).filter_map(|node| self.member(node).transpose()).collect()
    }

    /// Whether this life of a node goes on.
    pub(super) fn lives(&self, node: u32, incarnation: u128) -> Result<bool, OsError> {
        if node == self.node {
            return Ok(incarnation == self.incarnation);
        }
        // In this order: who has the lock now wrote the entry, or is about to; in the
        // latter case its predecessor seems to live a little longer.
        if !self.is_locked(node)? {
            return Ok(false);
        }
        // While its entry is being written, the one before it is over.
        let details = self.members.details(node).ok().flatten();
        Ok(details.is_some_and(|details| details.incarnation == incarnation))
    }

    fn is_locked(&self, node: u32) -> Result<bool, OsError> {
        if node == self.node { Ok(true) } else { self.lock.is_locked_elsewhere(u64::from(node)) }
    }
}
