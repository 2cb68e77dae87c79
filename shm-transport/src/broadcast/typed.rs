use std::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    publisher::Publisher,
    subscriber::{Published, Subscriber},
};
use crate::{
    Deadline,
    error::{SubscriberError, TopicError},
};

/// Plain old data: any type that is its bytes, without padding. `zerocopy`'s derives say so
/// of a type.
pub trait Value: FromBytes + IntoBytes + Immutable {}

impl<T: FromBytes + IntoBytes + Immutable> Value for T {}

/// Publishes values of one type. It is the writing side of a latest-value cell, and of a
/// stream of values.
///
/// ```
/// use std::time::Duration;
/// use shm_transport::{Guest, Host, Start, TopicConfig};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("hub");
/// let wait = Duration::from_secs(5);
///
/// let mut host = Host::builder().topic("position", TopicConfig::of::<[f64; 3]>()).create(&path)?;
/// let mut position = host.hub().typed_publisher::<[f64; 3]>("position")?;
/// position.set(&[1.0, 2.0, 3.0]);
///
/// // In another process:
/// let guest = std::thread::spawn(move || {
///     let guest = Guest::attach(&path, wait).unwrap();
///     let mut position = guest.subscribe_typed::<[f64; 3]>("position", Start::Next).unwrap();
///     assert_eq!(position.get().unwrap(), Some([1.0, 2.0, 3.0]));
///     guest.detach(wait).unwrap();
/// });
/// let _link = host.accept(wait)?;
/// guest.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TypedPublisher<T> {
    publisher: Publisher,
    of: PhantomData<fn(&T)>,
}

impl<T: Value> TypedPublisher<T> {
    pub(crate) fn new(publisher: Publisher) -> Result<Self, TopicError> {
        check::<T>(publisher.topic(), publisher.max_payload())?;
        Ok(Self { publisher, of: PhantomData })
    }

    /// Publishes a value; returns its position, counted from 0.
    #[inline]
    pub fn set(&mut self, value: &T) -> u64 {
        // It is as large as the topic's largest: that was checked.
        self.publisher.publish(value.as_bytes()).unwrap_or_default()
    }

    /// How many values were published.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.publisher.published()
    }
}

/// Follows the values of one type, or looks at the newest. See [`TypedPublisher`].
#[derive(Debug)]
pub struct TypedSubscriber<T> {
    subscriber: Subscriber,
    of: PhantomData<fn() -> T>,
}

impl<T: Value> TypedSubscriber<T> {
    pub(crate) fn new(subscriber: Subscriber) -> Result<Self, TopicError> {
        check::<T>(subscriber.topic(), subscriber.max_payload())?;
        Ok(Self { subscriber, of: PhantomData })
    }

    /// The newest value, never torn; `None` if there never was one. What
    /// [`next`](Self::next) returns does not change.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::newest`].
    #[inline]
    pub fn get(&mut self) -> Result<Option<T>, SubscriberError> {
        self.subscriber.newest()?.map(|published| value(&published)).transpose()
    }

    /// The next value, waiting for it until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::next`].
    #[inline]
    pub fn next(&mut self, deadline: impl Into<Deadline>) -> Result<T, SubscriberError> {
        value(&self.subscriber.next(deadline)?)
    }

    /// The next value, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::try_next`].
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<T>, SubscriberError> {
        self.subscriber.try_next()?.map(|published| value(&published)).transpose()
    }

    /// The subscriber of the bytes: for its cursor, its losses and its descriptor.
    pub fn as_subscriber(&mut self) -> &mut Subscriber {
        &mut self.subscriber
    }
}

#[inline]
fn value<T: Value>(published: &Published<'_>) -> Result<T, SubscriberError> {
    // The host's other publishers may have published something shorter.
    T::read_from_bytes(published.payload).map_err(|_| SubscriberError::ValueSize {
        found: published.payload.len(),
        expected: size_of::<T>(),
    })
}

fn check<T>(topic: &str, found: u64) -> Result<(), TopicError> {
    let expected = size_of::<T>() as u64;
    if found == expected {
        return Ok(());
    }
    Err(TopicError::ValueSize { topic: topic.into(), found, expected })
}
