//! Values that a host publishes for all its guests.

pub(crate) mod attendant;
mod publisher;
mod subscriber;
mod subscriptions;
pub(crate) mod topic;
mod typed;

pub use publisher::Publisher;
pub use subscriber::{Published, Subscriber};
pub use topic::{BROADCAST, TopicConfig};
pub use typed::{TypedPublisher, TypedSubscriber, Value};

pub(crate) use subscriptions::Subscriptions;
