use std::sync::Arc;

use shm_primitives::{
    Mapped,
    broadcast::{BroadcastWriter, TooLarge},
};

use super::topic::TopicCore;
use crate::{error::TopicError, hub::HubCore};

/// The one that publishes in a topic. Any thread of the host may have it.
///
/// Publishing costs a copy, and a system call only when subscribers sleep. It never waits:
/// the oldest value makes room for the newest, and who has not read it learns so.
///
/// ```
/// use std::time::Duration;
/// use shm_transport::{Guest, Host, Start, TopicConfig};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("hub");
/// let wait = Duration::from_secs(5);
///
/// let mut host = Host::builder().topic("news", TopicConfig::default()).create(&path)?;
/// let mut news = host.hub().publisher("news")?;
/// news.publish(b"early")?;
///
/// // In another process:
/// let guest = std::thread::spawn(move || {
///     let guest = Guest::attach(&path, wait).unwrap();
///     let mut news = guest.subscribe("news", Start::Oldest).unwrap();
///     assert_eq!(news.next(wait).unwrap().payload, b"early");
///     guest.detach(wait).unwrap();
/// });
/// let _link = host.accept(wait)?;
/// guest.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Publisher {
    writer: BroadcastWriter<Mapped>,
    topic: Arc<TopicCore>,
    _hub: Arc<HubCore>,
}

impl Publisher {
    pub(crate) fn new(hub: &Arc<HubCore>, name: &str) -> Result<Self, TopicError> {
        let topic = hub.topics.iter().find(|topic| topic.name() == name);
        let topic = Arc::clone(topic.ok_or_else(|| TopicError::Unknown(name.into()))?);
        let writer = topic.take()?;
        Ok(Self { writer, topic, _hub: Arc::clone(hub) })
    }

    /// Publishes a value; returns its position, counted from 0.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if it is larger than the topic's largest. Nothing was published then.
    #[inline]
    pub fn publish(&mut self, value: &[u8]) -> Result<u64, TooLarge> {
        let position = self.writer.publish(value)?;
        if self.writer.is_awaited() {
            self.topic.wake_all();
        }
        Ok(position)
    }

    /// How many values were published.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.writer.published()
    }

    /// The largest value, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> u64 {
        self.topic.max_payload()
    }

    pub(crate) fn topic(&self) -> &str {
        self.topic.name()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.topic.give_back();
    }
}
