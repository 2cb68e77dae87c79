use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use shm_primitives::{
    Mapped,
    broadcast::{Alarm, BroadcastGeometry, BroadcastReader, BroadcastWriter, Start},
    header::{GeometryError, goodbye_of},
    hub::Topic,
};

use super::{attendant::Subscription, typed::Value};
use crate::{
    error::TopicError,
    os::{futex, memory::Segment},
};

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
    /// A topic of values of one type, of which mostly the newest is wanted: 16 slots, so that
    /// a writer that does nothing else seldom overwrites a value while it is read.
    #[must_use]
    pub const fn of<T: Value>() -> Self {
        Self { slots: 16, max_payload: size_of::<T>() as u64 }
    }

    pub(crate) fn geometry(&self) -> Result<BroadcastGeometry, GeometryError> {
        BroadcastGeometry::new(self.slots, self.max_payload)
    }
}

/// A topic, as its host has it.
#[derive(Debug)]
pub(crate) struct TopicCore {
    topic: Topic,
    segment: Segment,
    /// Whether a publisher is in use.
    taken: AtomicBool,
    alarm: Alarm<Mapped>,
    /// The publisher takes this lock, so nothing that takes long is done under it: no fence.
    sleepers: Mutex<Sleepers>,
}

/// Subscribers that are to be woken by the next value.
#[derive(Debug, Default)]
struct Sleepers {
    on_bell: bool,
    /// By their ids: no more than there are subscriptions.
    on_socket: HashMap<u64, Weak<Subscription>>,
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
    /// A topic of a hub.
    pub(crate) fn new(topic: &Topic, segment: Segment) -> Self {
        let alarm = Alarm::new(segment.mapped(), topic.at, topic.ring);
        let taken = AtomicBool::new(false);
        Self { topic: topic.clone(), segment, taken, alarm, sleepers: Mutex::default() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.topic.name
    }

    pub(crate) fn max_payload(&self) -> u64 {
        self.topic.ring.max_payload()
    }

    /// How many values were published so far.
    pub(crate) fn published(&self) -> u64 {
        let (memory, Topic { at, ring, .. }) = (self.segment.mapped(), &self.topic);
        BroadcastReader::new(memory, *at, *ring, Start::Next).published()
    }

    /// Takes the one place of a publisher.
    pub(crate) fn take(&self) -> Result<BroadcastWriter<Mapped>, TopicError> {
        // Acquire: with the Release of `give_back`; the last publisher is done.
        if self.taken.swap(true, Ordering::Acquire) {
            return Err(TopicError::Taken(self.name().into()));
        }
        Ok(BroadcastWriter::new(self.segment.mapped(), self.topic.at, self.topic.ring))
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
        {
            let mut sleepers = self.sleepers();
            match sleep {
                Sleep::OnBell => sleepers.on_bell = true,
                Sleep::OnSocket => {
                    sleepers.on_socket.insert(subscription.id(), Arc::downgrade(subscription));
                }
            }
        }
        // Whoever rings between the two wakes this one as well. Who says goodbye wakes all under
        // the lock afterwards: those that are there by then, or it is seen here.
        if self.alarm.set(position) || goodbye_of(&self.segment.mapped()).is_some() {
            self.wake_all();
        }
    }

    /// Wakes a subscription no more: it is gone.
    pub(crate) fn forget(&self, subscription: u64) {
        self.sleepers().on_socket.remove(&subscription);
    }

    /// Wakes all who sleep: one system call for those on the bell, one for each other.
    #[cold]
    pub(crate) fn wake_all(&self) {
        let Sleepers { on_bell, on_socket } = {
            let mut sleepers = self.sleepers();
            self.alarm.ring();
            std::mem::take(&mut *sleepers)
        };
        if on_bell {
            futex::wake_shared(self.segment.mapped().word32(self.alarm.bell()));
        }
        for subscription in on_socket.values().filter_map(Weak::upgrade) {
            subscription.wake();
        }
    }
}
