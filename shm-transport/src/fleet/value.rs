//! Values of Rust types in rings.

use std::{error::Error, fmt};

use shm_primitives::fleet::{FleetFrame, FleetId, ReadAtError};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Fleet, FleetRing, Published, RingConfig};
use crate::error::{FleetPublishError, RingError};

/// A type whose values publish and read themselves, bytes as they are.
///
/// Its kind and version stand in each frame, so that a value is never read as one of
/// another type or of an older shape. Change the version with the shape.
///
/// ```
/// use shm_transport::fleet::{Fleet, FleetValue};
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
/// #[repr(C)]
/// struct Reading {
///     sensor: u32,
///     value: f32,
/// }
///
/// impl FleetValue for Reading {
///     const KIND: u8 = 0x10;
///     const VERSION: u16 = 1;
/// }
///
/// # let directory = tempfile::tempdir()?;
/// # let builder = Fleet::builder().directory(directory.path());
/// let fleet = builder.join("sensors", 0)?;
/// let ring = Reading::ring(&fleet, 1024)?;
/// let published = Reading { sensor: 7, value: 21.5 }.publish(&ring)?;
/// assert_eq!(Reading::read(&ring, published.id)?, Some(Reading { sensor: 7, value: 21.5 }));
/// assert_eq!(Reading::read_newest(&ring)?, Some(Reading { sensor: 7, value: 21.5 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait FleetValue: FromBytes + IntoBytes + Immutable + Sized {
    /// What kind of frame it is; also the kind of its [ring](Self::ring), if it has one of
    /// its own. It stays what it is for ever.
    const KIND: u8;
    /// The version of its shape.
    const VERSION: u16;

    /// The ring of this type's kind, whose payloads are these values.
    ///
    /// # Errors
    ///
    /// As [`Fleet::ring`].
    fn ring(fleet: &Fleet, capacity: u64) -> Result<FleetRing, RingError> {
        let max_payload = u32::try_from(size_of::<Self>()).unwrap_or(u32::MAX);
        fleet.ring(Self::KIND, &RingConfig { capacity, max_payload })
    }

    /// Publishes the value.
    ///
    /// # Errors
    ///
    /// As [`FleetRing::publish`].
    fn publish(&self, ring: &FleetRing) -> Result<Published, FleetPublishError> {
        ring.publish(Self::KIND, Self::VERSION, self.as_bytes())
    }

    /// The value of this name, if it is still there.
    ///
    /// # Errors
    ///
    /// If the frame is of another type.
    fn read(ring: &FleetRing, id: FleetId) -> Result<Option<Self>, ValueError> {
        let frame = ring.read(id).map_err(ReadAtError::Corrupt)?;
        frame.as_ref().map(Self::of).transpose()
    }

    /// The newest value, if there is one.
    ///
    /// # Errors
    ///
    /// If the newest frame is of another type.
    fn read_newest(ring: &FleetRing) -> Result<Option<Self>, ValueError> {
        ring.read_newest()?.as_ref().map(Self::of).transpose()
    }

    /// The value in a frame.
    ///
    /// # Errors
    ///
    /// If the frame is of another type.
    fn of(frame: &FleetFrame) -> Result<Self, ValueError> {
        let found = (frame.kind(), frame.version());
        if found != (Self::KIND, Self::VERSION) {
            return Err(ValueError::Type { asked: (Self::KIND, Self::VERSION), found });
        }
        let (expected, found) = (size_of::<Self>(), frame.payload().len());
        Self::read_from_bytes(frame.payload()).map_err(|_| ValueError::Len { expected, found })
    }
}

/// Why a frame is no value of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// Another kind or version.
    Type {
        /// Kind and version of the type.
        asked: (u8, u16),
        /// Kind and version of the frame.
        found: (u8, u16),
    },
    /// Another size.
    Len {
        /// Bytes of the type.
        expected: usize,
        /// Bytes of the frame.
        found: usize,
    },
    /// No frame.
    Read(ReadAtError),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type { asked, found } => write!(
                f,
                "a frame of kind {:02x} version {} is no value of kind {:02x} version {}: read it \
                 as its own type",
                found.0, found.1, asked.0, asked.1
            ),
            Self::Len { expected, found } => write!(
                f,
                "a frame of {found} bytes is no value of {expected}: change the type's version \
                 with its shape"
            ),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl Error for ValueError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ReadAtError> for ValueError {
    fn from(error: ReadAtError) -> Self {
        Self::Read(error)
    }
}
