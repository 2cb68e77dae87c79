//! Shared-memory IPC: a host process creates the memory, guest processes attach, and
//! messages of any size flow both ways without a system call per message.
//!
//! A process may be killed at any instruction, and a guest may write anything into what
//! it shares: the others lose, repeat, reorder and tear nothing, and wait for nobody.
//!
//! - [`Host`] makes a hub at a path and [accepts](Host::accept) a [`Link`] for each guest.
//! - [`Guest`] attaches by that path, or over a socket inherited from the host that
//!   [started](CommandExt::spawn_guest) it.
//! - A [`Link`] sends and receives; it splits into a [`Sender`] and a [`Receiver`] for two
//!   threads. Calls block until a [`Deadline`], or do not wait (`try_`).
//! - A [`LinkSet`] waits on many links at once, and sends to all of them.
//! - Tasks of a tokio runtime use the same links by the module `asynchronous` (feature
//!   `tokio`). Loops of other kinds wait on a link's descriptor, for messages
//!   ([`Receiver::arm`]) and for room ([`Sender::arm`]).
//! - A host [publishes](Publisher) values in topics, for all guests at once; a guest
//!   [follows](Subscriber) them with a cursor of its own, or looks at the newest.
//! - A [`Lease`] says which process owns a data file, and who reads it.
//! - A [`Fleet`] is something else: equal processes of one user that trust each other and
//!   share named rings, without a host.
//!
//! How a message travels depends on its size and is nobody's concern: inline in the ring,
//! through a slot of the sender's pool, or in sealed memory of its own.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use shm_transport::{Guest, Host, RecvError, LinkEnd};
//!
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("hub");
//! let wait = Duration::from_secs(5);
//!
//! let mut host = Host::create(&path)?;
//! // In another process:
//! let guest = std::thread::spawn(move || {
//!     let mut guest = Guest::attach(&path, wait).unwrap();
//!     let question = guest.link.recv(wait).unwrap().to_bytes();
//!     guest.link.send(&question.to_ascii_uppercase(), wait).unwrap();
//!     guest.detach(wait).unwrap();
//! });
//!
//! let mut link = host.accept(wait)?;
//! link.send(b"are you there?", wait)?;
//! assert_eq!(link.recv(wait)?.to_bytes(), "ARE YOU THERE?");
//! // What was sent is received before the end is reported.
//! assert!(matches!(link.recv(wait), Err(RecvError::Ended(LinkEnd::Departed))));
//! guest.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Trust
//!
//! Host and guest need not trust each other with anything but their own link. Each writes
//! only its own memory and maps the other's read-only; sizes are sealed; all that the other
//! side writes is checked before it is used. A peer that breaks the protocol ends its own
//! link ([`LinkEnd::Corrupt`]) and nothing else. The kernel tells who the peer is.
//!
//! # What it needs
//!
//! Linux 5.4 or later on x86-64 or aarch64. The first link of a process starts one thread,
//! `shm-watch`, which sleeps in the kernel until a peer dies. Linux 6.5 names the process
//! at the other end of a socket race-free, 5.16 lets a sleeping call notice a death at
//! once; older kernels are served within milliseconds.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

#[cfg(not(target_os = "linux"))]
compile_error!("shm-transport supports Linux only: it is built on memfd, futex and pidfd");

#[cfg(feature = "tokio")]
pub mod asynchronous;
mod broadcast;
#[cfg(feature = "call")]
pub mod call;
mod config;
mod credentials;
mod deadline;
mod door;
mod error;
mod fan_out;
pub mod fleet;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod guest;
mod host;
mod hub;
pub mod lease;
mod link;
mod link_set;
mod os;
mod patience;
mod rendezvous;
mod spawn;
pub mod typed;
mod vain;
mod watch;
mod wire;

pub use broadcast::{
    BROADCAST, Published, Publisher, Subscriber, TopicConfig, TypedPublisher, TypedSubscriber,
    Value,
};
pub use config::LinkConfig;
pub use credentials::{CredentialsPolicy, PeerCredentials};
pub use deadline::Deadline;
pub use error::{
    AcceptError, AttachError, BadDescriptor, BatchError, Corruption, CreateError, DetachError,
    FanOutError, LinkEnd, OsError, PathError, PublishError, RecvError, SendError, SpawnError,
    SubscriberError, TopicError,
};
pub use fan_out::{FanOut, Missed, SlowGuest};
pub use fleet::Fleet;
pub use guest::{Guest, GuestBuilder, GuestHub};
pub use host::{Host, HostBuilder};
pub use hub::{Hub, PeerEntry, Reservation};
pub use lease::{Lease, LeaseError, LeasePolicy};
pub use link::{
    Armed, CHUNK, Heartbeat, Link, Message, Receiver, SealedPayload, SendGrant, Sender,
    SharedPayload, Vitality,
};
pub use link_set::{LinkEvent, LinkKey, LinkSet};
pub use spawn::{CommandExt, SpawnedGuest};

pub use shm_primitives::{
    broadcast::{BadSlot, Start, TooLarge},
    header::{GeometryError, HeaderError},
    hub::HubStatistics,
    peer::{PeerDetails, PeerError, PeerId, PeerState},
    pool::SizeClass,
};
