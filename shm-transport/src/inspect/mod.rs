//! Looking at hubs and links from outside, without their processes' help.
//!
//! A process that has links keeps two kinds of memory open that it hands to no other process for
//! writing: the hub of each host, and its own [ledger](shm_primitives::ledger) of what it counts.
//! Linux shows a process's descriptors in `/proc` to its user, who may open them for reading. So
//! a tool of that user needs no privilege, asks nobody, and costs those it looks at nothing but
//! the cache lines that it reads. The memory of links themselves, with the messages, is not
//! reachable so: nobody keeps a descriptor of it.
//!
//! What is found is a claim by its process: checked before it is used, and wrong at worst.
//!
//! ```
//! use shm_transport::{Host, inspect};
//!
//! let directory = tempfile::tempdir()?;
//! let host = Host::create(directory.path().join("hub"))?;
//! let process = inspect::Process::look(std::process::id())?.expect("this process has a hub");
//! let hub = process.hub_at(host.path()).expect("this one");
//! assert_eq!(hub.about.pid, std::process::id());
//! assert_eq!(hub.view.as_ref().expect("its memory").statistics()?.attached, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod fleet;
mod hub;
mod process;
mod rendezvous;

pub use fleet::{FleetView, RingView};
pub use hub::{HubView, TopicView};
pub use process::{Found, LinkView, Process, processes};
pub use rendezvous::{Rendezvous, rendezvous};

pub use shm_primitives::ledger::{About, Role};
