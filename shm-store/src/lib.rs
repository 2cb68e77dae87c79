//! Durable, ordered streams of entries that any number of processes open at once.
//!
//! A store is a directory. Each process opens it with the same call; the first one owns it and
//! serves the others over shared memory, and when it leaves or dies, another one takes over by
//! itself. A [`Store`] stays usable through that.
//!
//! ```
//! use shm_store::{From, Store};
//!
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path().join("store");
//! let store = Store::open(&directory)?; // the same in every process
//! store.create("greetings", Default::default())?;
//! store.append("greetings", "hello")?; // on the disk when this returns
//! let page = store.read("greetings", From::Start)?;
//! assert_eq!(page.entries[0].data, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What happened to a write
//!
//! | result | the write |
//! |---|---|
//! | an [`Ack`] | was done, once |
//! | [`WriteError::Indeterminate`] | was done once or not at all; nobody knows |
//! | [`WriteError::AlreadyDone`] | was done by an earlier call, once |
//! | any other error | was not done by this call, and will not be |
//!
//! `Indeterminate` comes when the owner died, could not sync, or did not answer before the
//! deadline. An append by a [`Producer`] is **exactly once**: it is repeated by itself when the
//! owner dies, and the caller may repeat it after any error, also after a restart; the first
//! result is the answer. A create, close or delete may be repeated too: it finds what it would
//! have done. Reads are always repeated.
//!
//! # Durability
//!
//! It is fixed when a store is made ([`Durability`]), and each [`Ack`] says which it is.
//! `Durable`, the default: what is acknowledged, and what anybody can read, is synced to the
//! disk; appends of all processes that come at the same time share one sync. `Relaxed`: it is
//! written, and synced 10 ms later; the death of a process loses nothing, a loss of power the
//! last moments. If a sync fails, the store takes no writes any more ([`WriteError::Poisoned`])
//! and can be read; a disk that is full ([`WriteError::NoSpace`]) changes nothing.
//!
//! # Reading and following
//!
//! [`Store::read`] gives a page of one snapshot, [`Store::pages`] all of them, and
//! [`Store::tail`] goes on with what is appended, each entry once and in order, whoever owns
//! the store. An [`Offset`] can be kept as text, sorts as it, and is valid as long as its
//! stream lives.
//!
//! # Limits
//!
//! - One machine, one user, a local file system; not across `fork` without `exec`.
//! - Names, content types, sequences and producers' names: 255 bytes. An operation:
//!   [`Options::max_operation_bytes`], 64 MiB at the most. Ancestors of a fork: 64.
//! - A process has 128 writes and 6 reads under way; further threads wait for their turn.
//! - A producer's last 5 results are remembered for each stream; an older append is known to be
//!   done ([`WriteError::AlreadyDone`]), but not where.
//! - An owner that is stopped (`SIGSTOP`) is not replaced: calls end at their deadlines.
//!
//! `docs/store.md` of the repository is the design: files, formats, protocol and proofs.
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
mod place;
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
