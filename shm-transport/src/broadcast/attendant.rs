//! The host's side of a guest's subscribers that sleep.
//!
//! Readers only read, so they cannot tell the writer that they sleep. They tell the watch of
//! its process, over a socket of their own, and only when they are about to sleep; the watch
//! tells the writer. A writer that nobody sleeps for sees that in one word of its own.
//!
//! ```text
//! guest                             host's watch
//!   subscribe: topic, number ───▶     makes a pair of sockets
//!                          ◀─────   the same, with one of them; without if it serves too many
//! over the pair:
//!   sleep: position, how   ─────▶     sets the topic's alarm
//!                          ◀─────   one byte, when there is a value and it sleeps on this
//! ```

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use rustix::{event::epoll::EventFlags, io::Errno};

use super::topic::{Sleep, TopicCore};
use crate::{
    debt::{Debt, WAKE_UP},
    error::OsError,
    hub::HubCore,
    os::{
        connection::Connection,
        poll, process,
        socket::{self, Datagram},
    },
    vain::VainWakeUps,
    watch::{self, Watched},
};

/// Subscribers of one guest that the host wakes, at most. Each costs it a descriptor.
const MAX_SUBSCRIPTIONS: usize = 256;
/// Processor time that a guest's requests may take at once: more than all of them take that are
/// served at a time.
const CREDIT: Duration = Duration::from_millis(20);
/// A request: a topic, and a number that the answer repeats.
const REQUEST: usize = 8;
/// What a subscriber says when it is about to sleep: a position and how.
const SLEEP: usize = 9;

/// What a guest asks for over its control socket, and what it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The topic's place in the hub's directory.
    pub(crate) topic: u32,
    /// Which of the guest's requests it is.
    pub(crate) number: u32,
}

impl Request {
    pub(crate) fn encode(self) -> [u8; REQUEST] {
        (u64::from(self.topic) | u64::from(self.number) << 32).to_le_bytes()
    }

    pub(crate) fn decode(message: [u8; REQUEST]) -> Self {
        let word = u64::from_le_bytes(message);
        Self { topic: word as u32, number: (word >> 32) as u32 }
    }
}

pub(crate) fn encode_sleep(position: u64, sleep: Sleep) -> [u8; SLEEP] {
    let how = match sleep {
        Sleep::OnBell => 0,
        Sleep::OnSocket => 1,
    };
    let mut message = [how; SLEEP];
    message.iter_mut().zip(position.to_le_bytes()).for_each(|(to, from)| *to = from);
    message
}

fn decode_sleep(message: &[u8; SLEEP]) -> Option<(u64, Sleep)> {
    let (position, how) = message.split_first_chunk()?;
    let sleep = match how {
        [0] => Sleep::OnBell,
        [1] => Sleep::OnSocket,
        _ => return None,
    };
    Some((u64::from_le_bytes(*position), sleep))
}

/// Serves the subscribers of one guest.
#[derive(Debug)]
pub(crate) struct Attendant {
    id: u64,
    hub: Weak<HubCore>,
    socket: Connection,
    /// `None` when the guest is not served any more.
    subscriptions: Mutex<Option<Vec<Arc<Subscription>>>>,
    /// What it cost to begin and to end them.
    debt: Mutex<Debt>,
}

impl Attendant {
    pub(crate) fn new(hub: &Arc<HubCore>, socket: Connection) -> Result<Arc<Self>, OsError> {
        let attendant = Arc::new(Self {
            id: watch::new_id(),
            hub: Arc::downgrade(hub),
            socket,
            subscriptions: Mutex::new(Some(Vec::new())),
            debt: Mutex::new(Debt::new(CREDIT)),
        });
        let watched: Weak<Self> = Arc::downgrade(&attendant);
        watch::watch(attendant.id, watched, (attendant.socket.as_fd(), EventFlags::IN), None)?;
        Ok(attendant)
    }

    fn subscriptions(&self) -> MutexGuard<'_, Option<Vec<Arc<Subscription>>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the guest no longer: its subscribers are not woken any more.
    pub(crate) fn dismiss(&self) {
        let subscriptions = self.subscriptions().take();
        watch::forget(self.id, self.socket.as_fd(), None);
        socket::hang_up(self.socket.as_fd());
        drop(subscriptions);
    }

    /// Adds the processor time that `work` takes to the guest's debt; returns for how long it
    /// is not to be listened to.
    fn count(&self, work: impl FnOnce()) -> Option<Duration> {
        let start = process::thread_time();
        work();
        let spent = process::thread_time().saturating_sub(start);
        self.debt.lock().unwrap_or_else(PoisonError::into_inner).add(spent + WAKE_UP)
    }

    fn forget(&self, id: u64) {
        let place = |all: &Vec<Arc<Subscription>>| all.iter().position(|one| one.id == id);
        let subscription = self.subscriptions().as_mut().and_then(|all| {
            let place = place(all)?;
            Some(all.swap_remove(place))
        });
        drop(subscription);
    }

    fn subscribe(self: &Arc<Self>, request: Request) {
        let answer = request.encode();
        let theirs = self.make_pair(request.topic).ok().flatten();
        let theirs = theirs.as_ref().map(AsFd::as_fd);
        // One that hears nothing, because its queue is full, asked too much.
        let _ = socket::send(self.socket.as_fd(), &answer, theirs.as_slice());
    }

    /// The guest's end of a new subscription, if it may have one more.
    fn make_pair(self: &Arc<Self>, topic: u32) -> Result<Option<OwnedFd>, OsError> {
        let hub = self.hub.upgrade();
        let topic = hub.and_then(|hub| hub.topics.get(topic as usize).cloned());
        let Some(topic) = topic else { return Ok(None) };
        self.forget_those_that_hung_up();
        let mut all = self.subscriptions();
        let Some(all) = all.as_mut().filter(|all| all.len() < MAX_SUBSCRIPTIONS) else {
            return Ok(None);
        };
        let (ours, theirs) = socket::pair()?;
        let subscription = Arc::new(Subscription {
            id: watch::new_id(),
            topic,
            attendant: Arc::downgrade(self),
            socket: Connection::new(ours),
            sleeps: Mutex::default(),
        });
        let watched: Weak<Subscription> = Arc::downgrade(&subscription);
        watch::watch(
            subscription.id,
            watched,
            (subscription.socket.as_fd(), EventFlags::IN),
            None,
        )?;
        all.push(subscription);
        Ok(Some(theirs))
    }

    /// When all places are taken: a hang-up that came before a request may be noticed after it.
    fn forget_those_that_hung_up(&self) {
        let gone: Vec<Arc<Subscription>> = match self.subscriptions().as_mut() {
            Some(all) if all.len() >= MAX_SUBSCRIPTIONS => {
                all.extract_if(.., |one| poll::is_hung_up(one.socket.as_fd())).collect()
            }
            _ => Vec::new(),
        };
        drop(gone);
    }
}

impl Watched for Attendant {
    fn notice(self: Arc<Self>) -> Option<Duration> {
        self.count(|| {
            let mut message = [0; REQUEST];
            match socket::receive(self.socket.as_fd(), &mut message) {
                Ok(Some(Datagram { len: REQUEST, descriptors })) if descriptors.is_empty() => {
                    self.subscribe(Request::decode(message));
                }
                Err(Errno::AGAIN | Errno::NOMEM | Errno::NOBUFS) => {}
                // It hung up, or sends what no honest guest does: descriptors for which this
                // process has no numbers, among others.
                _ => self.dismiss(),
            }
        })
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        // In a forked child the sockets and the watch over them are shared with its parent.
        if self.socket.is_own() {
            self.dismiss();
        }
    }
}

/// One subscriber of a guest.
#[derive(Debug)]
pub(crate) struct Subscription {
    id: u64,
    topic: Arc<TopicCore>,
    attendant: Weak<Attendant>,
    socket: Connection,
    sleeps: Mutex<Sleeps>,
}

/// The sleeps that a subscriber announced. An honest one sleeps again after a value was
/// published, or did not see that one was.
#[derive(Debug, Default)]
struct Sleeps {
    vain: VainWakeUps,
    /// How many values there were when the last one was announced.
    published: u64,
}

impl Subscription {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    fn count_sleep(&self) -> Option<Duration> {
        let published = self.topic.published();
        let mut sleeps = self.sleeps.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut sleeps.published, published) != published {
            sleeps.vain.forget();
        }
        sleeps.vain.count()
    }

    /// Wakes the subscriber that sleeps on its socket.
    pub(crate) fn wake(&self) {
        // A full socket is readable, and so wakes as well.
        let _ = socket::send(self.socket.as_fd(), &[0], &[]);
    }
}

impl Watched for Subscription {
    fn notice(self: Arc<Self>) -> Option<Duration> {
        let mut message = [0; SLEEP];
        let said = match socket::receive(self.socket.as_fd(), &mut message) {
            Err(Errno::AGAIN | Errno::NOMEM | Errno::NOBUFS) => return None,
            Ok(Some(Datagram { len: SLEEP, descriptors })) if descriptors.is_empty() => {
                decode_sleep(&message)
            }
            _ => None,
        };
        match (said, self.attendant.upgrade()) {
            (Some((position, sleep)), _) => {
                self.topic.wake_at(&self, position, sleep);
                return self.count_sleep();
            }
            // It hung up, or speaks another language.
            // What that took is paid for before the guest's next request is heard.
            (None, Some(attendant)) => drop(attendant.count(|| attendant.forget(self.id))),
            (None, None) => {}
        }
        None
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.socket.is_own() {
            watch::forget(self.id, self.socket.as_fd(), None);
            self.topic.forget(self.id);
        }
    }
}
