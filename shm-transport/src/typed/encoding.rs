use std::{error::Error, fmt};

use super::declaration::{Declaration, Identity, MAX_NAME};
use crate::{broadcast::Value, link::Message};

/// A type with a name that both sides know it by.
///
/// ```
/// use shm_transport::typed::Declared;
///
/// struct Order;
/// impl Declared for Order {
///     // With a version: whoever changes what the fields mean changes it.
///     const NAME: &'static str = "shop.Order/2";
/// }
/// ```
pub trait Declared {
    /// The name, at most [`MAX_NAME`] bytes: a longer one does not compile.
    const NAME: &'static str;
}

/// How values of `T` become bytes and values again.
///
/// [`Plain`] and `Postcard` are all there are.
pub trait Encoding<T>: Sealed {
    /// What must be the same on both sides beside the name of the type.
    fn identity() -> Identity;

    /// The bytes of a value: its own, or in `buffer`, which may hold anything before.
    ///
    /// # Errors
    ///
    /// [`ValueError`] if the type refuses to be encoded.
    fn encode<'a>(value: &'a T, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ValueError>;

    /// The value that a message holds.
    ///
    /// # Errors
    ///
    /// [`ValueError`] if it holds none, or more than one.
    fn decode(message: &Message<'_>) -> Result<T, ValueError>;
}

pub(crate) use sealed::Sealed;

mod sealed {
    /// This module's own.
    pub trait Sealed {}
    impl Sealed for super::Plain {}
}

/// What a type says about itself.
pub(crate) fn declaration<T: Declared, E: Encoding<T>>() -> Declaration {
    const { assert!(T::NAME.len() <= MAX_NAME, "the name of the type is too long") }
    Declaration { name: T::NAME.to_owned(), identity: E::identity() }
}

/// The [`Encoding`] of plain old data: a value's own bytes.
#[derive(Clone, Copy, Debug)]
pub enum Plain {}

impl<T: Value> Encoding<T> for Plain {
    fn identity() -> Identity {
        Identity::Plain { size: size_of::<T>() as u64 }
    }

    #[inline]
    fn encode<'a>(value: &'a T, _: &'a mut Vec<u8>) -> Result<&'a [u8], ValueError> {
        Ok(value.as_bytes())
    }

    #[inline]
    fn decode(message: &Message<'_>) -> Result<T, ValueError> {
        let mut value = T::new_zeroed();
        let bytes = value.as_mut_bytes();
        if message.len() != bytes.len() {
            return Err(ValueError::Size { found: message.len(), expected: bytes.len() });
        }
        message.copy_to(0, bytes);
        Ok(value)
    }
}

/// Why a message is no value, or a value no message.
#[derive(Debug)]
#[non_exhaustive]
pub enum ValueError {
    /// The message has another size than the plain type.
    Size {
        /// Bytes in the message.
        found: usize,
        /// Bytes in the type.
        expected: usize,
    },
    /// The value could not be encoded or decoded; the encoding says why.
    Encoding(Box<dyn Error + Send + Sync>),
    /// After the value there are more bytes in the message.
    Rest {
        /// How many.
        len: usize,
    },
    /// Values lie in each other in more levels than are read of a peer.
    TooDeep {
        /// How many are read.
        limit: u32,
    },
    /// There are more values than are read in a message of that length: most take no bytes.
    TooMany {
        /// How many are read.
        limit: u64,
    },
}

#[cfg(feature = "serde")]
impl ValueError {
    pub(super) fn encoding(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Encoding(Box::new(error))
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { found, expected } => write!(
                f,
                "the peer sent a value of {found} bytes, the type has {expected}: it does not send \
                 what it declared"
            ),
            Self::Encoding(error) => write!(f, "the value and its encoding disagree: {error}"),
            Self::Rest { len } => write!(
                f,
                "the peer sent {len} bytes after a value: it does not send what it declared"
            ),
            Self::TooDeep { limit } => write!(
                f,
                "the peer sent values inside each other in more than {limit} levels: send them as \
                 a list, in which they know each other by their index"
            ),
            Self::TooMany { limit } => write!(
                f,
                "the peer sent more than {limit} values in a message that is too short for them: \
                 send the number of things that take no bytes, not a list"
            ),
        }
    }
}

impl Error for ValueError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Encoding(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}
