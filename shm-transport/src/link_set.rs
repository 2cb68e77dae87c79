use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::epoll::EventFlags;
use shm_primitives::ledger::LinkStatistics;

use crate::{
    deadline::Deadline,
    error::{AcceptError, OsError},
    host::Host,
    link::Link,
    os::{
        fence,
        poll::{Epoll, Timer},
    },
    vain::VainWakeUps,
};

/// Names a link in a [`LinkSet`] for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkKey(u64);

/// What a wait on a [`LinkSet`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// A guest attached; its link is in the set.
    Attached(LinkKey),
    /// The link has something to receive: a message, or its end.
    Ready(LinkKey),
}

/// Many links, served by one thread.
///
/// ```
/// use std::time::Duration;
/// use shm_transport::{Guest, Host, LinkEvent, LinkSet, RecvError};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("hub");
/// let wait = Duration::from_secs(5);
/// let mut host = Host::create(&path)?;
/// let guest = std::thread::spawn(move || {
///     let mut guest = Guest::attach(&path, wait).unwrap();
///     guest.link.send(b"hello", wait).unwrap();
///     guest.detach(wait).unwrap();
/// });
///
/// let mut links = LinkSet::new()?;
/// let mut events = Vec::new();
/// let mut messages = 0;
/// 'serve: loop {
///     links.wait_with(&mut host, &mut events, wait)?;
///     for event in &events {
///         let LinkEvent::Ready(key) = *event else { continue };
///         let link = links.get_mut(key).unwrap();
///         let ended = loop {
///             match link.try_recv() {
///                 Ok(Some(_message)) => messages += 1,
///                 Ok(None) => break false,
///                 Err(RecvError::Ended(_)) => break true,
///                 Err(error) => return Err(error.into()),
///             }
///         };
///         if ended {
///             links.remove(key);
///             break 'serve;
///         }
///     }
/// }
/// assert_eq!(messages, 1);
/// guest.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LinkSet {
    epoll: Epoll,
    links: Vec<Entry>,
    next_key: u64,
    /// The host's descriptor is watched, if one ever was waited with.
    with_host: bool,
    /// Waits since the host was last looked at.
    host_unseen: u32,
    ready: Vec<(u64, EventFlags)>,
    /// Ends the nap of links whose sockets are not listened to, while there are any.
    nap: Option<Timer>,
}

#[derive(Debug)]
struct Entry {
    key: u64,
    link: Link,
    vain: VainWakeUps,
    /// Its socket is not listened to until the timer has gone off.
    naps: bool,
}

const HOST: u64 = 0;
const TIMER: u64 = u64::MAX;
/// What a link's socket is watched for, and what during a nap.
const LISTENING: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);
const NAPPING: EventFlags = EventFlags::RDHUP;
/// Looks at all links before the set sleeps.
const SPINS: u32 = 200;
/// Waits that find busy links between two looks at the host.
const HOST_EVERY: u32 = 32;

impl LinkSet {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// [`OsError`] if no descriptor is left.
    pub fn new() -> Result<Self, OsError> {
        Ok(Self {
            epoll: Epoll::new()?,
            links: Vec::new(),
            next_key: HOST + 1,
            with_host: false,
            host_unseen: 0,
            ready: Vec::new(),
            nap: None,
        })
    }

    /// Adds a link.
    ///
    /// # Errors
    ///
    /// [`OsError`] if the kernel has no memory left to watch it; the link is closed.
    pub fn insert(&mut self, link: Link) -> Result<LinkKey, OsError> {
        let key = self.next_key;
        self.epoll.add(link.as_fd(), key, LISTENING)?;
        self.next_key += 1;
        self.links.push(Entry { key, link, vain: VainWakeUps::default(), naps: false });
        Ok(LinkKey(key))
    }

    /// Takes a link out.
    pub fn remove(&mut self, key: LinkKey) -> Option<Link> {
        let index = self.index(key)?;
        let mut entry = self.links.swap_remove(index);
        self.epoll.remove(entry.link.as_fd());
        entry.link.receiver.disarm();
        Some(entry.link)
    }

    /// A link of the set.
    pub fn get_mut(&mut self, key: LinkKey) -> Option<&mut Link> {
        let index = self.index(key)?;
        self.links.get_mut(index).map(|entry| &mut entry.link)
    }

    /// All links of the set.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (LinkKey, &mut Link)> {
        self.links.iter_mut().map(|entry| (LinkKey(entry.key), &mut entry.link))
    }

    /// The counts of all links in the set, added up: see [`Link::statistics`]. Those of a link
    /// that was removed are not in it any more; [`Hub::total_statistics`](crate::Hub) keeps them.
    #[must_use]
    pub fn statistics(&self) -> LinkStatistics {
        let mut total = LinkStatistics::default();
        self.links.iter().for_each(|entry| total.add(&entry.link.statistics()));
        total
    }

    /// How many links there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Waits until links have something to receive, or until `deadline`, and puts one
    /// event for each into `events`, which it empties first.
    ///
    /// A link that is not drained is reported again by the next call. A set that was
    /// waited with together with a host also returns, without an event, when that host has
    /// something to do.
    ///
    /// # Errors
    ///
    /// [`OsError`] if the kernel ran out of memory.
    pub fn wait(
        &mut self,
        events: &mut Vec<LinkEvent>,
        deadline: impl Into<Deadline>,
    ) -> Result<(), OsError> {
        events.clear();
        let deadline = deadline.into().fixed();
        loop {
            let host_is_ready = self.wait_for_any(events, deadline)?;
            if !events.is_empty() || host_is_ready || deadline.has_passed() {
                return Ok(());
            }
        }
    }

    /// Puts one event for each link that has something to receive now into `events`, which it
    /// empties first. It makes no system call; the set's descriptor may stay quiet.
    pub fn poll(&self, events: &mut Vec<LinkEvent>) {
        events.clear();
        self.collect(events);
    }

    /// Like [`wait`](Self::wait), and also lets in the guests of `host`: their links join
    /// the set. A set is used with one host.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Os`] if memory or descriptors ran out. A deadline that passes is no
    /// error: `events` is then empty.
    pub fn wait_with(
        &mut self,
        host: &mut Host,
        events: &mut Vec<LinkEvent>,
        deadline: impl Into<Deadline>,
    ) -> Result<(), AcceptError> {
        events.clear();
        let deadline = deadline.into().fixed();
        if !self.with_host {
            self.epoll.add(host.as_fd(), HOST, EventFlags::IN)?;
            self.with_host = true;
        }
        loop {
            // Half-finished attaches have deadlines of their own.
            let left = deadline.remaining_at_most(host.hub().0.door.next_expiry());
            let until = left.map_or(Deadline::NEVER, Deadline::from);
            self.wait_for_any(events, until)?;
            // While links are busy, new guests can wait a little: asking costs a system
            // call.
            self.host_unseen += 1;
            if events.is_empty() || self.host_unseen >= HOST_EVERY {
                self.host_unseen = 0;
                while let Some(link) = host.try_accept()? {
                    events.push(LinkEvent::Attached(self.insert(link)?));
                }
            }
            if !events.is_empty() || deadline.has_passed() {
                return Ok(());
            }
        }
    }

    /// Waits once; returns whether the host has something to do.
    fn wait_for_any(
        &mut self,
        events: &mut Vec<LinkEvent>,
        deadline: Deadline,
    ) -> Result<bool, OsError> {
        for _ in 0..SPINS {
            self.collect(events);
            if !events.is_empty() {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
        for entry in &mut self.links {
            // Anew each time: the ring for an earlier announcement may have been read
            // from the socket by somebody who looked for something else.
            entry.link.receiver.waiter.announce_on_socket();
        }
        // SYNC SLEEP_FENCE: one for all of them.
        let mut cores = self.links.iter().map(|entry| &entry.link.receiver.half.core);
        fence::before_sleep(cores.any(|core| core.has_asymmetric_fence()));
        self.collect(events);
        self.ready.clear();
        let timeout =
            if events.is_empty() { deadline.remaining() } else { Some(Default::default()) };
        self.epoll.wait(&mut self.ready, timeout)?;
        let ready = std::mem::take(&mut self.ready);
        let host_is_ready = ready.iter().any(|&(key, _)| key == HOST);
        for &(key, _) in &ready {
            if key == TIMER {
                self.end_naps()?;
            } else if let Some(index) = self.index(LinkKey(key)) {
                self.wake_up(index)?;
            }
        }
        self.ready = ready;
        if events.is_empty() {
            self.collect(events);
        }
        Ok(host_is_ready)
    }

    /// Something came over a link's socket. A link that is woken for nothing too often is not
    /// listened to for a while: what it sends meanwhile is found when all are looked at.
    fn wake_up(&mut self, index: usize) -> Result<(), OsError> {
        let Some(entry) = self.links.get_mut(index) else { return Ok(()) };
        entry.link.receiver.disarm();
        if entry.link.receiver.is_ready() {
            entry.vain.forget();
        } else if let Some(nap) = entry.vain.count() {
            if self.nap.is_none() {
                let timer = Timer::new()?;
                timer.set(nap)?;
                self.epoll.add(timer.as_fd(), TIMER, EventFlags::IN)?;
                self.nap = Some(timer);
            }
            self.epoll.change(entry.link.as_fd(), entry.key, NAPPING)?;
            entry.naps = true;
        }
        Ok(())
    }

    fn end_naps(&mut self) -> Result<(), OsError> {
        if let Some(timer) = self.nap.take() {
            // A child that was forked just now may hold it open.
            self.epoll.remove(timer.as_fd());
        }
        for entry in self.links.iter_mut().filter(|entry| entry.naps) {
            self.epoll.change(entry.link.as_fd(), entry.key, LISTENING)?;
            entry.naps = false;
        }
        Ok(())
    }

    fn collect(&self, events: &mut Vec<LinkEvent>) {
        let ready = self.links.iter().filter(|entry| entry.link.receiver.is_ready());
        events.extend(ready.map(|entry| LinkEvent::Ready(LinkKey(entry.key))));
    }

    fn index(&self, key: LinkKey) -> Option<usize> {
        self.links.iter().position(|entry| entry.key == key.0)
    }
}

/// The descriptor that becomes readable when a link, or the host waited with, is ready,
/// after a [`LinkSet::wait`] found nothing.
impl AsFd for LinkSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
