//! The host's side of a guest's subscribers that sleep.
//!
//! Readers only read, so they cannot tell the writer that they sleep. They tell the watch of
//! its process, over a socket of their own, and only when they are about to sleep; the watch
//! tells the writer. A writer that nobody sleeps for sees that in one word of its own.
//!
//! ```text
//! guest                             host's watch
//!   subscribe: topic       ─────▶     makes a pair of sockets
//!                          ◀─────   one of them; none if it serves too many
//! over the pair:
//!   sleep: position, how   ─────▶     sets the topic's alarm
//!                          ◀─────   one byte, when there is a value and it sleeps on this
//! ```

use std::{
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use rustix::io::Errno;

use super::topic::Sleep;
use crate::{
    error::OsError,
    hub::HubCore,
    os::{connection::Connection, socket},
    watch::{self, Watched},
};

/// Subscribers of one guest that the host wakes, at most. Each costs it a descriptor.
const MAX_SUBSCRIPTIONS: usize = 256;
/// What a subscriber says when it is about to sleep: a position and how.
const SLEEP: usize = 9;

pub(crate) fn encode_sleep(position: u64, sleep: Sleep) -> [u8; SLEEP] {
    let how = match sleep {
        Sleep::OnBell => 0,
        Sleep::OnSocket => 1,
    };
    let mut message = [how; SLEEP];
    message.iter_mut().zip(position.to_le_bytes()).for_each(|(to, from)| *to = from);
    message
}

fn decode_sleep(message: &[u8]) -> Option<(u64, Sleep)> {
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
}

impl Attendant {
    pub(crate) fn new(hub: &Arc<HubCore>, socket: Connection) -> Result<Arc<Self>, OsError> {
        let attendant = Arc::new(Self {
            id: watch::new_id(),
            hub: Arc::downgrade(hub),
            socket,
            subscriptions: Mutex::new(Some(Vec::new())),
        });
        let watched: Weak<Self> = Arc::downgrade(&attendant);
        watch::watch_socket(attendant.id, attendant.socket.as_fd(), watched)?;
        Ok(attendant)
    }

    fn subscriptions(&self) -> MutexGuard<'_, Option<Vec<Arc<Subscription>>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the guest no longer: its subscribers are not woken any more.
    pub(crate) fn dismiss(&self) {
        let subscriptions = self.subscriptions().take();
        watch::forget_socket(self.id, self.socket.as_fd());
        socket::hang_up(self.socket.as_fd());
        drop(subscriptions);
    }

    fn forget(&self, id: u64) {
        let place = |all: &Vec<Arc<Subscription>>| all.iter().position(|one| one.id == id);
        let subscription = self.subscriptions().as_mut().and_then(|all| {
            let place = place(all)?;
            Some(all.swap_remove(place))
        });
        drop(subscription);
    }

    fn subscribe(self: &Arc<Self>, topic: u32) {
        let answer = topic.to_le_bytes();
        let Ok(Some(theirs)) = self.make_pair(topic) else {
            // One that hears nothing, because its queue is full, waits in vain; it asked too much.
            let _ = socket::send(self.socket.as_fd(), &answer, &[]);
            return;
        };
        let _ = socket::send(self.socket.as_fd(), &answer, &[theirs.as_fd()]);
    }

    /// The guest's end of a new subscription, if it may have one more.
    fn make_pair(self: &Arc<Self>, topic: u32) -> Result<Option<std::os::fd::OwnedFd>, OsError> {
        let known = self.hub.upgrade().is_some_and(|hub| hub.topics.get(topic as usize).is_some());
        let mut all = self.subscriptions();
        let Some(all) = all.as_mut().filter(|all| known && all.len() < MAX_SUBSCRIPTIONS) else {
            return Ok(None);
        };
        let (ours, theirs) = socket::pair()?;
        let subscription = Arc::new(Subscription {
            id: watch::new_id(),
            topic,
            attendant: Arc::downgrade(self),
            socket: Connection::new(ours),
        });
        let watched: Weak<Subscription> = Arc::downgrade(&subscription);
        watch::watch_socket(subscription.id, subscription.socket.as_fd(), watched)?;
        all.push(subscription);
        Ok(Some(theirs))
    }
}

impl Watched for Attendant {
    fn notice(self: Arc<Self>) {
        let mut message = [0; 4];
        match socket::receive(self.socket.as_fd(), &mut message) {
            Ok(Some(datagram)) if datagram.len == 4 => self.subscribe(u32::from_le_bytes(message)),
            Err(Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {}
            _ => self.dismiss(),
        }
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.dismiss();
    }
}

/// One subscriber of a guest.
#[derive(Debug)]
pub(crate) struct Subscription {
    id: u64,
    topic: u32,
    attendant: Weak<Attendant>,
    socket: Connection,
}

impl Subscription {
    /// Wakes the subscriber that sleeps on its socket.
    pub(crate) fn wake(&self) {
        // A full socket is readable, and so wakes as well.
        let _ = socket::send(self.socket.as_fd(), &[0], &[]);
    }
}

impl Watched for Subscription {
    fn notice(self: Arc<Self>) {
        let Some(attendant) = self.attendant.upgrade() else { return };
        let mut message = [0; SLEEP];
        let said = match socket::receive(self.socket.as_fd(), &mut message) {
            Err(Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                return;
            }
            Ok(Some(datagram)) => message.get(..datagram.len).and_then(decode_sleep),
            _ => None,
        };
        let hub = attendant.hub.upgrade();
        let topic = hub.as_ref().and_then(|hub| hub.topics.get(self.topic as usize));
        match (said, topic) {
            (Some((position, sleep)), Some(topic)) => topic.wake_at(&self, position, sleep),
            // It hung up, or speaks another language.
            _ => attendant.forget(self.id),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        watch::forget_socket(self.id, self.socket.as_fd());
    }
}
