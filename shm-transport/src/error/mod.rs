//! What can go wrong: one small enum for each operation.

mod attach;
mod fleet;
mod host;
mod link;
mod os;

pub use attach::AttachError;
pub use fleet::{ClaimError, FleetFileError, FleetPublishError, JoinError, RingError};
pub use host::{AcceptError, CreateError, PathError, SpawnError};
pub use link::{BatchError, Corruption, DetachError, LinkEnd, RecvError, SendError};
pub use os::{BadDescriptor, OsError};
