//! Durable, ordered streams of entries that any number of processes open at once.
#![deny(unsafe_code)]

mod client;
mod codec;
mod engine;
mod error;
mod fs;
mod layout;
mod log;
mod offset;
mod operation;
mod options;
mod pages;
mod protocol;
mod read;
mod record;
mod service;
mod shards;
mod stat;
mod state;
mod store;
mod tail;
mod view;

pub use error::{Damage, OpenError, ReadError, WriteError};
pub use offset::{Offset, ParseOffsetError};
pub use operation::{
    Append, Entry, From, Head, Lsn, Page, Producer, StreamConfig, StreamId, Written,
};
pub use options::{Durability, Options};
pub use pages::Pages;
pub use stat::{Stat, Verified};
pub use store::{Ack, Store};
pub use tail::{Followed, Tail};
