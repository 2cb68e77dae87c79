//! Links, hosts and guests for the tasks of a tokio runtime (feature `tokio`).
//!
//! - An [`AsyncHost`] accepts a link from each guest; an [`AsyncGuest`] attaches to a host.
//! - An [`AsyncLink`] is a [`Link`](crate::Link) whose calls leave the thread to other tasks
//!   while they wait. It splits into an [`AsyncSender`], which is a
//!   [`Sink`](futures_sink::Sink), and an [`AsyncReceiver`], which is a
//!   [`Stream`](futures_core::Stream).
//! - There is a `poll_` form of each call, to build on.
//! - Every future can be dropped at any time: nothing is lost, repeated or torn. What exactly
//!   became of it then, each says.
//! - Deadlines are the caller's: `tokio::time::timeout`.
//!
//! A message costs no system call of its own while both sides are awake. A side falls asleep when
//! its task has polled for a [bounded time](AsyncLink::set_spin) in vain, and is then woken over
//! the link's socket, for which the runtime waits; the socket is registered once for both halves.
//!
//! Without a runtime, or with another one, the same is to be had on the raw descriptor: see
//! [`Receiver::arm`](crate::Receiver::arm) and [`Sender::arm`](crate::Sender::arm).

mod guest;
mod host;
mod link;
mod nap;
mod receiver;
pub(crate) mod sender;
pub(crate) mod source;
pub(crate) mod wait;

pub use self::{
    guest::AsyncGuest, host::AsyncHost, link::AsyncLink, receiver::AsyncReceiver,
    sender::AsyncSender, wait::DEFAULT_SPIN,
};
