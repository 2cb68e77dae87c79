use serde::{Serialize, de::DeserializeOwned};

use super::{
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
/// What a message claims to hold is not believed before it was read, so that memory is bounded by
/// the message. Of types that contain themselves (trees, lists), a message of a hostile peer can
/// nest so many into each other that reading them overflows the stack; of lists of nothing
/// (`Vec<()>`), it can claim so many that counting them does not end. Do not receive such types
/// from a peer that is not trusted.
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
        postcard::to_io(value, &mut *buffer).map_err(refused)?;
        Ok(buffer)
    }

    fn decode(message: &Message<'_>) -> Result<T, ValueError> {
        let bytes = message.to_bytes();
        let (value, rest) = postcard::take_from_bytes(&bytes).map_err(refused)?;
        match rest.len() {
            0 => Ok(value),
            len => Err(ValueError::Rest { len }),
        }
    }
}

fn refused(error: postcard::Error) -> ValueError {
    ValueError::Encoding(Box::new(error))
}
