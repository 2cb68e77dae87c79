use serde::{Serialize, de::DeserializeOwned};

use super::{
    budget,
    declaration::Identity,
    encoding::{Encoding, Sealed, ValueError},
    fingerprint::fingerprint,
};
use crate::link::Message;

/// The [`Encoding`] of any type that `serde` knows: the format of the crate `postcard`, version 1.
///
/// The [fingerprint](Identity::Postcard) by which two sides know that they mean the same type is
/// made from what the type asks `serde` for when it is read: names and order of fields and
/// variants, and the types of fields down to a depth of 32. A type whose `Deserialize` is written
/// by hand and depends on the values that it reads is known as far as it can be read from zeros.
///
/// # Hostile peers
///
/// What a message claims to hold is not believed before it was read, so that memory and time are
/// bounded by the length of the message, and the stack by the type:
///
/// - Values lie in each other in up to 128 levels, or are refused as [`ValueError::TooDeep`]. Each
///   structure, tuple, list, map, enumeration and option is a level. So of a chain whose links are
///   structures with an `Option<Box<_>>` of the next one, 64 are received.
/// - A message holds up to 65,536 values and 8 more for each of its bytes, or is refused as
///   [`ValueError::TooMany`]. Only lists of things that take no bytes (`Vec<()>`) have more.
///
/// It is the receiver that refuses them: a sender does not count, and sends such values.
///
/// ```
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use shm_transport::{
///     Link, LinkConfig,
///     typed::{Declared, Postcard, TypedReceiver, TypedSender},
/// };
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum Command {
///     Open { name: String, retries: Option<u32> },
///     Close,
/// }
///
/// impl Declared for Command {
///     const NAME: &'static str = "Command/1";
/// }
///
/// let (left, right) = Link::pair(&LinkConfig::default())?;
/// let wait = Duration::from_secs(1);
/// let mut sender = TypedSender::<Command, Postcard>::new(left.sender);
/// let mut receiver = TypedReceiver::<Command, Postcard>::new(right.receiver);
/// let open = Command::Open { name: "valve".into(), retries: None };
/// sender.send(&open, wait)?;
/// sender.send(&Command::Close, wait)?;
/// assert_eq!(receiver.recv(wait)?, open);
/// assert_eq!(receiver.recv(wait)?, Command::Close);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Postcard {}

impl Sealed for Postcard {}

impl<T: Serialize + DeserializeOwned> Encoding<T> for Postcard {
    fn identity() -> Identity {
        Identity::Postcard { fingerprint: fingerprint::<T>() }
    }

    fn encode<'a>(value: &'a T, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ValueError> {
        buffer.clear();
        postcard::to_io(value, &mut *buffer).map_err(ValueError::encoding)?;
        Ok(buffer)
    }

    fn decode(message: &Message<'_>) -> Result<T, ValueError> {
        budget::read(&message.to_bytes())
    }
}
