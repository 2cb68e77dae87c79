//! A bounded cache of keys and values on a ring of a fleet.
//!
//! Each change is a frame. The content is a function of the frames that the ring keeps, and
//! of the clock: the newest change of a key wins, and what the ring no longer keeps is no
//! longer in the cache. So all members agree, whenever they joined and whatever they missed:
//! a change that a member missed is older than all that is kept, and so is every value that
//! it removed.

use std::{collections::BTreeMap, error::Error, fmt, time::Duration};

use shm_primitives::fleet::{CorruptFleet, FleetFrame, Position, ReadAtError, Start};

use super::{Fleet, FleetCursor, FleetRing, Published, RingConfig};
use crate::{
    error::{FleetPublishError, RingError},
    os::named::boot_nanoseconds,
};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const RESET: u8 = 3;
const VERSION: u16 = 1;
/// When it expires, and the length of the key.
const HEAD: usize = 8 + 4;
const NEVER: u64 = u64::MAX;

/// A member's view of a cache that all members of a fleet share.
///
/// It keeps as many of the newest changes as its ring keeps frames, and is for what can be
/// had again: nothing says that a value stays. Members read values from the shared memory;
/// of their own they keep the keys. Changes of one member are seen by all in one order.
///
/// ```
/// use shm_transport::fleet::{Cache, Fleet, RingConfig};
/// # let directory = tempfile::tempdir()?;
/// # let builder = Fleet::builder().directory(directory.path());
///
/// let fleet = builder.join("web", 0)?;
/// let mut cache = Cache::open(&fleet, 0x20, &RingConfig::default())?;
/// cache.put(b"user/1", b"Ada", None)?;
/// cache.put(b"user/2", b"Grace", None)?;
/// assert_eq!(cache.get(b"user/1")?.as_deref(), Some(&b"Ada"[..]));
/// cache.delete(b"user/1")?;
/// cache.reset_prefix(b"user/")?;
/// assert_eq!(cache.get(b"user/2")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cache {
    ring: FleetRing,
    cursor: FleetCursor,
    /// Where the newest value of a key is, if the ring still keeps it.
    newest: BTreeMap<Vec<u8>, Position>,
}

/// Why a cache does not do as it is told. It is as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum CacheError {
    /// Key and value are larger than the ring's largest payload.
    TooLarge {
        /// Bytes of key and value together.
        len: usize,
        /// The most that they can have.
        max: usize,
    },
    /// The change was not published.
    Publish(FleetPublishError),
    /// Something else wrote over the ring.
    Corrupt(CorruptFleet),
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max } => write!(
                f,
                "key and value of {len} bytes; this cache has room for {max}: shorten them or \
                 configure a larger max_payload"
            ),
            Self::Publish(error) => error.fmt(f),
            Self::Corrupt(error) => error.fmt(f),
        }
    }
}

impl Error for CacheError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TooLarge { .. } => None,
            Self::Publish(error) => Some(error),
            Self::Corrupt(error) => Some(error),
        }
    }
}

impl From<FleetPublishError> for CacheError {
    fn from(error: FleetPublishError) -> Self {
        Self::Publish(error)
    }
}

impl From<CorruptFleet> for CacheError {
    fn from(error: CorruptFleet) -> Self {
        Self::Corrupt(error)
    }
}

impl Cache {
    /// The cache on the ring of this kind, which is for it alone.
    ///
    /// # Errors
    ///
    /// As [`Fleet::ring`].
    pub fn open(fleet: &Fleet, kind: u8, config: &RingConfig) -> Result<Self, RingError> {
        let ring = fleet.ring(kind, config)?;
        let cursor = ring.cursor(Start::Oldest);
        Ok(Self { ring, cursor, newest: BTreeMap::new() })
    }

    /// Gives a key a value, for good or for a time.
    ///
    /// # Errors
    ///
    /// If key and value are too large, or are not published.
    pub fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<Published, CacheError> {
        let expires = ttl.map_or(NEVER, |ttl| {
            let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(NEVER);
            boot_nanoseconds().saturating_add(ttl)
        });
        self.change(PUT, expires, key, value)
    }

    /// Takes a key's value away.
    ///
    /// # Errors
    ///
    /// If the key is too large, or the change is not published.
    pub fn delete(&mut self, key: &[u8]) -> Result<Published, CacheError> {
        self.change(DELETE, NEVER, key, &[])
    }

    /// Takes away the values of all keys that start with `prefix`; all, if it is empty.
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete).
    pub fn reset_prefix(&mut self, prefix: &[u8]) -> Result<Published, CacheError> {
        self.change(RESET, NEVER, prefix, &[])
    }

    /// The value of a key now, if it has one.
    ///
    /// # Errors
    ///
    /// If something else wrote over the ring.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, CacheError> {
        self.follow()?;
        let Some(position) = self.newest.get(key) else { return Ok(None) };
        let frame = match self.ring.read_at(*position) {
            Ok(frame) => frame,
            Err(ReadAtError::Corrupt(corrupt)) => return Err(corrupt.into()),
            Err(_) => {
                self.newest.remove(key);
                return Ok(None);
            }
        };
        let value = Change::of(&frame)
            .filter(|change| change.key == key && boot_nanoseconds() < change.expires)
            .map(|change| change.value.to_vec());
        Ok(value)
    }

    /// The keys that start with `prefix` and have a value now, in order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn keys(&mut self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, CacheError> {
        self.follow()?;
        let keys: Vec<_> = self
            .newest
            .range(prefix.to_vec()..)
            .map(|(key, _)| key.clone())
            .take_while(|key| key.starts_with(prefix))
            .collect();
        let mut found = Vec::new();
        for key in keys {
            if self.get(&key)?.is_some() {
                found.push(key);
            }
        }
        Ok(found)
    }

    fn change(
        &mut self,
        what: u8,
        expires: u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<Published, CacheError> {
        let max = (self.ring.max_payload() as usize).saturating_sub(HEAD);
        let len = key.len().saturating_add(value.len());
        if len > max {
            return Err(CacheError::TooLarge { len, max });
        }
        let mut payload = Vec::with_capacity(HEAD.saturating_add(len));
        payload.extend_from_slice(&expires.to_le_bytes());
        payload.extend_from_slice(&(key.len() as u32).to_le_bytes());
        payload.extend_from_slice(key);
        payload.extend_from_slice(value);
        Ok(self.ring.publish(what, VERSION, &payload)?)
    }

    /// Takes notice of all changes up to now.
    fn follow(&mut self) -> Result<(), CorruptFleet> {
        let end = self.ring.end();
        while self.cursor.position() < end {
            let Some(next) = self.cursor.next()? else { break };
            self.apply(&next.frame);
        }
        // What the ring no longer keeps is not in the cache; it need not be forgotten at
        // once.
        if self.newest.len() as u64 > self.ring.capacity().saturating_mul(2) {
            let oldest = self.ring.oldest();
            self.newest.retain(|_, position| *position >= oldest);
        }
        Ok(())
    }

    fn apply(&mut self, frame: &FleetFrame) {
        let Some(Change { key, .. }) = Change::of(frame) else { return };
        match frame.kind() {
            PUT => {
                self.newest.insert(key.to_vec(), frame.position());
            }
            DELETE => {
                self.newest.remove(key);
            }
            RESET => self.newest.retain(|found, _| !found.starts_with(key)),
            _ => {}
        }
    }
}

struct Change<'a> {
    expires: u64,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Change<'a> {
    /// What a frame says; nothing if it is no frame of a cache.
    fn of(frame: &'a FleetFrame) -> Option<Self> {
        let (expires, rest) = frame.payload().split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (key, value) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let expires = u64::from_le_bytes(*expires);
        (frame.version() == VERSION).then_some(Self { expires, key, value })
    }
}
