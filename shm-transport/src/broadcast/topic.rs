use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use shm_primitives::{
    Mapped,
    broadcast::{Alarm, BroadcastGeometry, BroadcastWriter},
    header::{GeometryError, goodbye_of},
    hub::Topic,
};

use super::{attendant::Subscription, typed::Value};
use crate::{error::TopicError, os::futex};

/// The topic of [`Host::publish`](crate::Host::publish).
pub const BROADCAST: &str = "broadcast";

/// The size of a topic's ring. It lies in the hub's memory, once for all guests.
///
/// ```
/// use shm_transport::TopicConfig;
///
/// let config = TopicConfig { slots: 1024, max_payload: 200 };
/// assert_eq!(TopicConfig::of::<[f64; 3]>().max_payload, 24);
/// # let _ = config;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// How many values are retained, for readers that fall behind or come later: a power of
    /// two from 1 to 1,048,576. With one, a reader finds nothing while the next value is
    /// being written. Default 256.
    pub slots: u64,
    /// The largest value, in bytes, up to 1 GiB. Default 256.
    pub max_payload: u64,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self { slots: 256, max_payload: 256 }
    }
}

impl TopicConfig {
    /// A topic of values of one type, of which mostly the newest is wanted: 4 slots.
    #[must_use]
    pub const fn of<T: Value>() -> Self {
        Self { slots: 4, max_payload: size_of::<T>() as u64 }
    }

    pub(crate) fn geometry(&self) -> Result<BroadcastGeometry, GeometryError> {
        BroadcastGeometry::new(self.slots, self.max_payload)
    }
}

/// A topic, as its host has it.
#[derive(Debug)]
pub(crate) struct TopicCore {
    topic: Topic,
    memory: Mapped,
    /// Whether a publisher is in use.
    taken: AtomicBool,
    sleepers: Mutex<Sleepers>,
}

/// Subscribers that are to be woken by the next value.
#[derive(Debug)]
struct Sleepers {
    alarm: Alarm<Mapped>,
    on_bell: bool,
    on_socket: Vec<Weak<Subscription>>,
}

/// How a subscriber sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// It waits on the topic's bell as a futex.
    OnBell,
    /// It waits until its socket is readable.
    OnSocket,
}

impl TopicCore {
    /// A topic in memory that the hub keeps mapped.
    pub(crate) fn new(topic: &Topic, memory: Mapped) -> Self {
        let alarm = Alarm::new(memory, topic.at, topic.ring);
        let sleepers = Mutex::new(Sleepers { alarm, on_bell: false, on_socket: Vec::new() });
        Self { topic: topic.clone(), memory, taken: AtomicBool::new(false), sleepers }
    }

    pub(crate) fn name(&self) -> &str {
        &self.topic.name
    }

    pub(crate) fn max_payload(&self) -> u64 {
        self.topic.ring.max_payload()
    }

    /// Takes the one place of a publisher.
    pub(crate) fn take(&self) -> Result<BroadcastWriter<Mapped>, TopicError> {
        // Acquire: with the Release of `give_back`; the last publisher is done.
        if self.taken.swap(true, Ordering::Acquire) {
            return Err(TopicError::Taken(self.name().into()));
        }
        Ok(BroadcastWriter::new(self.memory, self.topic.at, self.topic.ring))
    }

    pub(crate) fn give_back(&self) {
        self.taken.store(false, Ordering::Release);
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a subscriber woken when there is a value at `position` or after it, or when the host
    /// says goodbye.
    pub(crate) fn wake_at(&self, subscription: &Arc<Subscription>, position: u64, sleep: Sleep) {
        let is_there = {
            let mut sleepers = self.sleepers();
            match sleep {
                Sleep::OnBell => sleepers.on_bell = true,
                Sleep::OnSocket => {
                    let this = Arc::downgrade(subscription);
                    if !sleepers.on_socket.iter().any(|there| there.ptr_eq(&this)) {
                        sleepers.on_socket.push(this);
                    }
                }
            }
            // Who says goodbye wakes all under the same lock afterwards.
            sleepers.alarm.set(position) || goodbye_of(&self.memory).is_some()
        };
        if is_there {
            self.wake_all();
        }
    }

    /// Wakes all who sleep: one system call for those on the bell, one for each other.
    #[cold]
    pub(crate) fn wake_all(&self) {
        let (on_bell, on_socket, bell) = {
            let mut sleepers = self.sleepers();
            sleepers.alarm.ring();
            let on_bell = std::mem::take(&mut sleepers.on_bell);
            (on_bell, std::mem::take(&mut sleepers.on_socket), sleepers.alarm.bell())
        };
        if on_bell {
            futex::wake_shared(self.memory.word32(bell));
        }
        for subscription in on_socket.iter().filter_map(Weak::upgrade) {
            subscription.wake();
        }
    }
}
