//! Durable, ordered streams of entries that any number of processes open at once.
#![deny(unsafe_code)]

mod error;
mod fs;
mod layout;
mod log;
mod offset;
mod operation;
mod options;

pub use error::{Damage, OpenError, ReadError, WriteError};
pub use offset::{Offset, ParseOffsetError};
pub use operation::{
    Append, Entry, From, Head, Lsn, Page, Producer, StreamConfig, StreamId, Written,
};
pub use options::{Durability, Options};
