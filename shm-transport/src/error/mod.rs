//! What can go wrong: one small enum for each operation.

mod attach;
mod fleet;
mod host;
mod lease;
mod link;
mod os;
mod topic;

pub use attach::AttachError;
pub use fleet::{ClaimError, FleetFileError, FleetPublishError, JoinError, RingError};
pub use host::{AcceptError, CreateError, PathError, SpawnError};
pub use lease::{
    BeatError, DataFileError, LeaseError, LeaseFileError, LeaseHeaderError, ReaderError,
};
pub(crate) use lease::{DataFailure, PageFailure};
pub use link::{BatchError, Corruption, DetachError, FanOutError, LinkEnd, RecvError, SendError};
pub use os::{BadDescriptor, OsError};
pub use topic::{PublishError, SubscriberError, TopicError};
