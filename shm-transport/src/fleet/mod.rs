//! Equal processes that share named rings, without a host.

mod cache;
mod claim_fold;
mod claims;
pub(crate) mod file;
pub(crate) mod membership;
mod ring;
mod value;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use shm_primitives::{
    Mapped,
    fleet::{MAX_NODES, Members, RingGeometry},
};

pub use cache::{Cache, CacheError};
pub use claims::{ClaimGuard, Claims, Holder};
pub use membership::Member;
pub(crate) use ring::kind_of;
pub use ring::{FleetCursor, FleetRing, Published, RingConfig};
pub use value::{FleetValue, ValueError};

pub use crate::error::{ClaimError, FleetFileError, FleetPublishError, JoinError, RingError};
pub use shm_primitives::fleet::{
    CorruptFleet, FleetFrame, FleetId, LaneError, Next, ParseFleetIdError, Position, PublishError,
    ReadAtError, RingGeometryError, RingHeaderError, Start,
};

use crate::{
    error::OsError,
    os::named::{self, Directory, NameError},
};
use membership::{Joined, Membership};

/// Nodes of a fleet, unless its builder says otherwise.
const NODES: u32 = 64;
/// What a fleet that is being unlinked is called.
const UNLINKED: &str = ".unlinked-";
/// How often a fleet that others unlink meanwhile is looked for again.
const ATTEMPTS: u32 = 100;

/// A process's membership in a fleet: equal processes of one user that publish and read
/// frames in named rings. None of them is the host, and none waits for another.
///
/// Each member has a *node* number of its own. There is one living process for a node,
/// which a lock of the kernel guards; it may die anywhere and be followed by another. The
/// first to join makes the fleet, the first to open a ring makes the ring; they last until
/// they are [unlinked](Self::unlink) or the machine stops.
///
/// # Trust
///
/// The members of a fleet trust each other: all of them can write all of its memory, and a
/// member that truncates a file kills the others. It is closed to other users: its files
/// lie in a directory that belongs to this user and that nobody else can write.
///
/// # Forks
///
/// A forked child is not a member and must not use what it inherited: the memory is not
/// there, and touching it is a fault. It can join under another node.
///
/// # Example
///
/// ```
/// use shm_transport::fleet::{Fleet, RingConfig};
///
/// let directory = tempfile::tempdir()?;
/// // In two processes:
/// let left = Fleet::builder().directory(directory.path()).join("pair", 0)?;
/// let right = Fleet::builder().directory(directory.path()).join("pair", 1)?;
///
/// let published = left.ring(1, &RingConfig::default())?.publish(0, 1, b"hello")?;
/// assert_eq!(published.id.to_string(), "01-0-0");
/// let frame = right.ring(1, &RingConfig::default())?.read_newest()?.expect("published");
/// assert_eq!((frame.id(), frame.payload()), (published.id, &b"hello"[..]));
///
/// drop(left);
/// let alive = |node| right.members().unwrap().iter().any(|m| m.node == node && m.alive);
/// assert_eq!((alive(0), alive(1)), (false, true));
/// right.unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Fleet {
    name: String,
    root: Directory,
    directory: Directory,
    path: PathBuf,
    membership: Arc<Membership>,
    created: bool,
    rings: Mutex<BTreeMap<u8, FleetRing>>,
}

/// How a fleet is joined.
#[derive(Clone, Debug)]
pub struct FleetBuilder {
    directory: Option<PathBuf>,
    nodes: u32,
}

impl Fleet {
    /// Joins the fleet of this name of this user as a node, and makes it if there is none:
    /// in `/dev/shm/shm-fleets-<user>/`, for 64 nodes. If the node's process is just dying,
    /// this waits for that, 50 ms at most.
    ///
    /// # Errors
    ///
    /// Each reason has its own [`JoinError`].
    pub fn join(name: &str, node: u32) -> Result<Self, JoinError> {
        Self::builder().join(name, node)
    }

    /// For another directory or number of nodes.
    #[must_use]
    pub fn builder() -> FleetBuilder {
        FleetBuilder { directory: None, nodes: NODES }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node that this process joined as.
    #[must_use]
    pub fn node(&self) -> u32 {
        self.membership.node()
    }

    /// The directory that its files are in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process made it, when it joined.
    #[must_use]
    pub fn created(&self) -> bool {
        self.created
    }

    /// A number drawn when this process joined: it names this life of its node.
    #[must_use]
    pub fn incarnation(&self) -> u128 {
        self.membership.incarnation()
    }

    /// The ring of a kind, which is made if there is none. The same kind again is the same
    /// ring.
    ///
    /// # Errors
    ///
    /// If it was made with other sizes, or belongs to somebody else: each mismatch has its
    /// own [`RingError`], with what was asked for and what was found.
    pub fn ring(&self, kind: u8, config: &RingConfig) -> Result<FleetRing, RingError> {
        let nodes = u64::from(self.membership.nodes());
        let asked = RingGeometry::new(kind, config.capacity, nodes, u64::from(config.max_payload))
            .map_err(RingError::Geometry)?;
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ring) = rings.get(&kind) {
            ring.check(&asked)?;
            return Ok(ring.clone());
        }
        let path = self.path.join(ring::file_name(kind));
        let ring = FleetRing::open(&self.directory, asked, &self.membership, path)?;
        rings.insert(kind, ring.clone());
        Ok(ring)
    }

    /// The kinds of the rings that there are.
    ///
    /// # Errors
    ///
    /// If the operating system refuses to list them.
    pub fn rings(&self) -> Result<Vec<u8>, OsError> {
        let mut kinds: Vec<_> =
            self.directory.names()?.iter().filter_map(|name| ring::kind_of(name)).collect();
        kinds.sort_unstable();
        Ok(kinds)
    }

    /// Removes the name of a ring; whether there was one.
    ///
    /// Who has it open goes on with it, this process as well through the handles that it
    /// has. Whoever opens it from now on makes a new one, which starts again at the first
    /// id and position.
    ///
    /// # Errors
    ///
    /// If the operating system refuses.
    pub fn unlink_ring(&self, kind: u8) -> Result<bool, FleetFileError> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let name = ring::file_name(kind);
        let removed = match self.directory.remove(&name) {
            Ok(()) => true,
            Err(NameError::Missing) => false,
            Err(why) => return Err(file::error(&self.path.join(name), why)),
        };
        rings.remove(&kind);
        Ok(removed)
    }

    /// Removes the fleet's name and all its files. Who has joined goes on with the rings
    /// that it has open; whoever joins from now on makes a new fleet.
    ///
    /// A process that dies in here has unlinked the fleet or not; what it leaves, the next
    /// one to unlink a fleet removes.
    ///
    /// # Errors
    ///
    /// [`FleetFileError::Unlinked`] if it is unlinked already.
    pub fn unlink(&self) -> Result<(), FleetFileError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |why| file::error(&path, why)
        };
        if !self.root.has(&self.name, &self.directory)? {
            return Err(FleetFileError::Unlinked(self.path.clone()));
        }
        // One step for all that look for it by its name.
        let unlinked = format!("{UNLINKED}{:032x}", crate::host::random()?);
        self.root.rename(&self.name, &unlinked).map_err(at(&self.path))?;
        for name in self.root.names()?.iter().filter(|name| name.starts_with(UNLINKED)) {
            match self.root.remove_directory(name) {
                // Somebody else removes it as well.
                Ok(()) | Err(NameError::Missing) => {}
                Err(why) => return Err(at(&self.path.with_file_name(name))(why)),
            }
        }
        Ok(())
    }

    /// All nodes that anybody ever joined as: who is alive and who is gone.
    ///
    /// # Errors
    ///
    /// If the operating system does not tell.
    pub fn members(&self) -> Result<Vec<Member>, OsError> {
        self.membership.all()
    }

    /// Gives a sign of life; returns how many this node has given. It says that a member
    /// makes progress: one that gives none is stalled, not dead.
    pub fn beat(&self) -> u64 {
        self.membership.beat()
    }
}

impl FleetBuilder {
    /// The directory in which fleets have theirs; `/dev/shm/shm-fleets-<user>` if it is not
    /// said. It is made if it is not there, must belong to this user, and nobody else may
    /// write it. On a file system other than tmpfs, everything is written to its disk now
    /// and then.
    #[must_use]
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// For how many nodes the fleet is, 1 to 1024; 64 if it is not said. All members say
    /// the same.
    #[must_use]
    pub fn nodes(mut self, nodes: u32) -> Self {
        self.nodes = nodes;
        self
    }

    /// Joins a fleet: see [`Fleet::join`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn join(self, name: &str, node: u32) -> Result<Fleet, JoinError> {
        let nodes = self.nodes;
        if !is_name(name) {
            return Err(JoinError::Name(name.to_owned()));
        }
        if !(1..=MAX_NODES).contains(&nodes) {
            return Err(JoinError::Nodes(nodes));
        }
        if node >= nodes {
            return Err(JoinError::NoSuchNode { node, nodes });
        }
        let root_path = self
            .directory
            .unwrap_or_else(|| format!("/dev/shm/shm-fleets-{}", named::user()).into());
        let path = root_path.join(name);
        let root = Directory::make(&root_path).map_err(|why| file::error(&root_path, why))?;
        let mut created = false;
        for _ in 0..ATTEMPTS {
            match root.make_directory(name) {
                Ok(()) | Err(NameError::Exists) => {}
                Err(why) => return Err(file::error(&path, why).into()),
            }
            let directory = match root.open_directory(name) {
                Ok(directory) => directory,
                // Unlinked meanwhile.
                Err(NameError::Missing) => continue,
                Err(why) => return Err(file::error(&path, why).into()),
            };
            let members_path = path.join(membership::FILE);
            let error = |why| file::error(&members_path, why);
            let member = match Membership::join(&directory, node, nodes, error)? {
                Joined::Member(member) => member,
                Joined::NoFile => {
                    let fleet = crate::host::random()?;
                    let size = Members::<Mapped>::size(nodes);
                    let fill = |segment: &crate::os::memory::Segment| {
                        Members::<Mapped>::header(nodes, fleet).write(&segment.mapped());
                    };
                    match directory.create_file(membership::FILE, size, size, fill) {
                        Ok(()) => created = true,
                        Err(NameError::Exists | NameError::Missing) => {}
                        Err(why) => return Err(error(why).into()),
                    }
                    continue;
                }
            };
            // A fleet that was unlinked before we had our node is not the one to join.
            if !root.has(name, &directory)? {
                created = false;
                continue;
            }
            member.enter();
            let (name, membership) = (name.to_owned(), Arc::new(member));
            let rings = Mutex::default();
            return Ok(Fleet { name, root, directory, path, membership, created, rings });
        }
        Err(FleetFileError::Unlinked(path).into())
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}
