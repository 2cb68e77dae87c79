//! A ring of a fleet.

use std::{
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use shm_primitives::{
    Mapped,
    fleet::{
        CorruptFleet, Cursor, FleetFrame, FleetId, LaneWriter, Next, Position, ReadAtError, Ring,
        RingGeometry, Start,
    },
    header::{SegmentHeader, SegmentKind},
};

use super::{file, membership::Membership};
use crate::{
    error::{FleetPublishError, RingError},
    os::{
        memory::Segment,
        named::{self, Directory, NameError},
    },
};

/// Sizes of a ring. All members open it with the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// How many of the newest frames it keeps: a power of two from 2 to 524,288.
    pub capacity: u64,
    /// Bytes in the largest payload, up to 1 MiB.
    pub max_payload: u32,
}

impl Default for RingConfig {
    /// 1024 frames of up to 256 bytes.
    fn default() -> Self {
        Self { capacity: 1024, max_payload: 256 }
    }
}

/// A ring of a [`Fleet`](crate::fleet::Fleet). Clones are the same ring, for other threads.
///
/// All members read it; each publishes through its own lane. Nobody waits for anybody: a
/// member that is stopped or killed anywhere holds up neither publishers nor readers, and
/// what it published stays readable as long as that of others.
///
/// ```
/// use shm_transport::fleet::{Fleet, RingConfig, Start};
/// # let directory = tempfile::tempdir()?;
/// # let builder = Fleet::builder().directory(directory.path());
///
/// let fleet = builder.join("sensors", 0)?;
/// let ring = fleet.ring(0x10, &RingConfig::default())?;
/// let mut cursor = ring.cursor(Start::Oldest);
///
/// let published = ring.publish(1, 1, b"21.5")?;
/// assert_eq!(ring.read(published.id)?.expect("just published").payload(), b"21.5");
/// assert_eq!(ring.read_newest()?.expect("just published").id(), published.id);
///
/// let next = cursor.next()?.expect("just published");
/// assert_eq!((next.lost, next.frame.id()), (0, published.id));
/// assert!(cursor.next()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FleetRing(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: Ring<Mapped>,
    /// Once this process has published: what only it writes.
    lane: Mutex<Option<LaneWriter<Mapped>>>,
    segment: Segment,
    file: File,
    created: bool,
    /// The node is ours as long as its lanes are in use.
    membership: Arc<Membership>,
}

/// What was published, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The frame's name.
    pub id: FleetId,
    /// Its place in the order of the ring.
    pub position: Position,
}

/// The name of a ring's file.
pub(super) fn file_name(kind: u8) -> String {
    format!("{PREFIX}{kind:02x}")
}

/// The kind of the ring of this file name.
pub(crate) fn kind_of(name: &str) -> Option<u8> {
    let kind = u8::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()?;
    (file_name(kind) == name).then_some(kind)
}

const PREFIX: &str = "ring-";
/// How often a ring that others unlink meanwhile is looked for again.
const ATTEMPTS: u32 = 100;

impl FleetRing {
    pub(super) fn open(
        directory: &Directory,
        geometry: RingGeometry,
        membership: &Arc<Membership>,
        path: PathBuf,
    ) -> Result<Self, RingError> {
        let name = file_name(geometry.kind());
        let fleet = membership.fleet();
        let error = |why| file::error(&path, why);
        let mut created = false;
        for _ in 0..ATTEMPTS {
            match directory.open_file(&name) {
                Ok(file) => return Self::map(file, geometry, created, membership),
                Err(NameError::Missing) => {}
                Err(why) => return Err(error(why).into()),
            }
            let fill = |segment: &Segment| geometry.header(fleet).write(&segment.mapped());
            let (size, head) = (geometry.total_size(), geometry.head_size());
            match directory.create_file(&name, size, head, fill) {
                Ok(()) => created = true,
                Err(NameError::Exists) => {}
                Err(why) => return Err(error(why).into()),
            }
        }
        Err(error(NameError::Missing).into())
    }

    fn map(
        file: File,
        asked: RingGeometry,
        created: bool,
        membership: &Arc<Membership>,
    ) -> Result<Self, RingError> {
        let segment = file::map(&file).map_err(|refused| match refused {
            file::MapError::Header(header) => {
                RingError::Header(shm_primitives::fleet::RingHeaderError::Header(header))
            }
            file::MapError::Os(os) => os.into(),
        })?;
        let memory = segment.mapped();
        let found = RingGeometry::read(&memory)?;
        check(&asked, &found)?;
        let (of_ring, fleet) =
            (SegmentHeader::read(&memory, SegmentKind::FleetRing), membership.fleet());
        if let Ok(header) = of_ring
            && header.incarnation != fleet
        {
            return Err(RingError::OtherFleet { asked: fleet, found: header.incarnation });
        }
        Ok(Self(Arc::new(Shared {
            ring: Ring::new(memory, found),
            lane: Mutex::new(None),
            segment,
            file,
            created,
            membership: Arc::clone(membership),
        })))
    }

    pub(super) fn check(&self, asked: &RingGeometry) -> Result<(), RingError> {
        check(asked, self.0.ring.geometry())
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.0.membership
    }

    /// Which ring of its fleet it is.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.0.ring.geometry().kind()
    }

    /// How many of the newest frames it keeps.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.0.ring.geometry().capacity()
    }

    /// Bytes in the largest payload.
    #[must_use]
    pub fn max_payload(&self) -> u32 {
        self.0.ring.geometry().max_payload()
    }

    /// Whether this process made it, when it opened it.
    #[must_use]
    pub fn created(&self) -> bool {
        self.0.created
    }

    /// Publishes a frame: from now on all members can read it, whatever becomes of this
    /// one.
    ///
    /// The first call provides the memory of this node's lane. No call waits for another
    /// process; threads of this one take turns.
    ///
    /// # Errors
    ///
    /// If the payload is too large, if there is no memory for the lane, or if something
    /// wrote over the ring. Nothing is published then.
    pub fn publish(
        &self,
        kind: u8,
        version: u16,
        payload: &[u8],
    ) -> Result<Published, FleetPublishError> {
        let mut lane = self.0.lane.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = match lane.as_mut() {
            Some(writer) => writer,
            None => lane.insert(self.0.join_lane()?),
        };
        let (id, position) = writer.publish(kind, version, payload)?;
        Ok(Published { id, position })
    }

    /// The frame of this name, if it is committed and still there.
    ///
    /// # Errors
    ///
    /// [`CorruptFleet`] if something else wrote over the ring.
    pub fn read(&self, id: FleetId) -> Result<Option<FleetFrame>, CorruptFleet> {
        self.0.ring.read(id)
    }

    /// The newest frame; none if there is none yet, or since the last
    /// [reset](Self::reset).
    ///
    /// # Errors
    ///
    /// If something else wrote over the ring. In a ring of a few frames it can be
    /// [lost](ReadAtError::Lost) as well, if others publish all the time.
    pub fn read_newest(&self) -> Result<Option<FleetFrame>, ReadAtError> {
        self.0.ring.read_newest()
    }

    /// The frame at a position.
    ///
    /// # Errors
    ///
    /// [`ReadAtError`] says why there is none.
    pub fn read_at(&self, position: Position) -> Result<FleetFrame, ReadAtError> {
        self.0.ring.read_at(position)
    }

    /// The oldest position that can still be read. It may be overwritten at any time.
    #[must_use]
    pub fn oldest(&self) -> Position {
        self.0.ring.oldest()
    }

    /// The position that the next frame gets.
    #[must_use]
    pub fn end(&self) -> Position {
        self.0.ring.end()
    }

    /// A cursor of one's own that follows the ring and reports what it loses.
    #[must_use]
    pub fn cursor(&self, start: Start) -> FleetCursor {
        FleetCursor { cursor: Cursor::new(&self.0.ring, start), ring: self.clone() }
    }

    /// Lets all frames that are there be gone; returns the first position that stays.
    ///
    /// Ids and positions go on growing. A ring need not be quiescent for this: what others
    /// publish meanwhile comes before it or after it. It is one store, so a process that
    /// dies here has reset the ring or not.
    pub fn reset(&self) -> Position {
        self.0.ring.reset()
    }
}

impl Shared {
    fn join_lane(&self) -> Result<LaneWriter<Mapped>, FleetPublishError> {
        let (geometry, node) = (*self.ring.geometry(), self.membership.node());
        named::allocate(&self.file, geometry.lane(node).bytes(), geometry.lane_size())?;
        // The node's lock says that no other writer of the lane lives.
        Ok(LaneWriter::join(self.segment.mapped(), geometry, node)?)
    }
}

fn check(asked: &RingGeometry, found: &RingGeometry) -> Result<(), RingError> {
    if asked.kind() != found.kind() {
        return Err(RingError::Kind { asked: asked.kind(), found: found.kind() });
    }
    if asked.capacity() != found.capacity() {
        return Err(RingError::Capacity { asked: asked.capacity(), found: found.capacity() });
    }
    if asked.max_payload() != found.max_payload() {
        let (asked, found) = (asked.max_payload(), found.max_payload());
        return Err(RingError::MaxPayload { asked, found });
    }
    if asked.nodes() != found.nodes() {
        return Err(RingError::Nodes { asked: asked.nodes(), found: found.nodes() });
    }
    Ok(())
}

/// A reader's own place in a ring. Nobody else knows of it, and it holds up nobody.
#[derive(Clone, Debug)]
pub struct FleetCursor {
    ring: FleetRing,
    cursor: Cursor,
}

impl FleetCursor {
    /// The next frame, with how many were lost before it; none if there is none yet.
    ///
    /// # Errors
    ///
    /// [`CorruptFleet`] if something else wrote over the ring. The cursor stays.
    #[expect(clippy::should_implement_trait, reason = "it has errors, and goes on after its end")]
    pub fn next(&mut self) -> Result<Option<Next>, CorruptFleet> {
        self.cursor.next(&self.ring.0.ring)
    }

    /// The position that comes next.
    #[must_use]
    pub fn position(&self) -> Position {
        self.cursor.position()
    }

    /// How many frames it lost in all.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.cursor.lost()
    }
}
