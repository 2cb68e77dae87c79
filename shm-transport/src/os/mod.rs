//! What the operating system provides: one file for each of its means.

pub(crate) mod connection;
pub(crate) mod fence;
pub(crate) mod foreign;
pub(crate) mod forked;
pub(crate) mod futex;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod named;
pub(crate) mod poll;
pub(crate) mod process;
#[cfg(feature = "tokio")]
pub(crate) mod registered;
pub(crate) mod socket;
