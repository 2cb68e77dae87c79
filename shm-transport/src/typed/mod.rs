//! Values of a type instead of bytes: sent and received over the halves of a link.
//!
//! A [`TypedSender`] and the [`TypedReceiver`] at the other end carry values of one type. How a
//! value becomes bytes is a type parameter, an [`Encoding`]:
//!
//! - [`Plain`]: the value's own bytes, of a type that is [plain old data](crate::Value). Nothing
//!   is encoded: it is sent from where it lies, and received by one copy.
//! - `Postcard` (feature `serde`): any type that `serde` knows, in the compact format of the
//!   crate `postcard`.
//!
//! # Both sides must mean the same type
//!
//! A type has a [declared](Declared) name. Before its first value a sender says what it sends: the
//! name, the encoding, and the size of a plain type or a fingerprint of the structure of another
//! one. The receiver refuses a sender that says anything else than its own type does, with both
//! shown; and one that says nothing, because it is not typed.
//!
//! The declaration is an ordinary message, the first one of its direction. If there is room for
//! it and none for the value, it is sent, and the value still to be sent. Who receives bytes from
//! a typed sender finds it first: it begins with `shm-type`.
//!
//! # Trust
//!
//! Whatever the peer sends, the outcome is a value or an error. A plain type accepts any bytes of
//! its size. For the other ones, `serde` and the type decide, within bounds of depth and number:
//! see `Postcard`.

#[cfg(feature = "serde")]
mod budget;
mod declaration;
mod encoding;
mod error;
#[cfg(feature = "serde")]
mod fingerprint;
#[cfg(feature = "serde")]
mod postcard;
mod receiver;
mod sender;

#[cfg(feature = "serde")]
pub use self::postcard::Postcard;
pub use self::{
    declaration::{Declaration, Identity, MAX_NAME},
    encoding::{Declared, Encoding, Plain, ValueError},
    error::{TypedRecvError, TypedSendError},
    receiver::TypedReceiver,
    sender::TypedSender,
};
