use std::{
    cell::Cell,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU32},
    thread,
    time::Duration,
};

use rustix::{event::PollFlags, io::Errno};
use shm_primitives::{
    Mapped,
    broadcast::{BroadcastReader, Start, Step},
    hub::{HubGeometry, Topic},
};

use super::{attendant::encode_sleep, topic::Sleep};
use crate::{
    deadline::Deadline,
    error::{LinkEnd, OsError, SubscriberError, TopicError},
    link::core::LinkCore,
    os::{foreign::Foreign, futex, memory::Segment, poll, socket},
    patience::Patience,
};

/// Times that a reader is lapped before it goes on with the newest value instead of the
/// oldest that is left.
const MAX_LAPS: u32 = 3;
/// How long the host has to answer a subscription: it does so at once, unless it is stopped.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a subscriber pauses that cannot tell its host that it sleeps.
const PAUSE: Duration = Duration::from_millis(1);

/// A guest's side of all topics of its hub.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    pub(crate) segment: Segment,
    pub(crate) geometry: HubGeometry,
    core: Arc<LinkCore>,
    /// Where subscriptions are made; none if the hub has no topics.
    control: Mutex<Option<Foreign>>,
}

impl Subscriptions {
    pub(crate) fn new(
        segment: Segment,
        geometry: HubGeometry,
        core: Arc<LinkCore>,
        control: Option<Foreign>,
    ) -> Self {
        Self { segment, geometry, core, control: Mutex::new(control) }
    }

    /// The host's end of a subscription, by which it wakes.
    fn open(&self, topic: u32) -> Result<Foreign, SubscriberError> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(socket) = control.as_ref() else { return Err(SubscriberError::Refused) };
        let result = self.ask(socket, topic);
        if matches!(result, Err(SubscriberError::TimedOut)) {
            // A late answer would be taken for that to the next question.
            *control = None;
        }
        result
    }

    fn ask(&self, socket: &Foreign, topic: u32) -> Result<Foreign, SubscriberError> {
        let closed = || SubscriberError::Ended(self.core.end_so_far().unwrap_or(LinkEnd::PeerDead));
        let os = |errno| SubscriberError::Os(OsError::new("subscribe", errno));
        let deadline = Deadline::from(PATIENCE).fixed();
        match socket::send(socket.as_fd(), &topic.to_le_bytes(), &[]) {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(closed()),
            Err(errno) => return Err(os(errno)),
        }
        loop {
            match socket::receive(socket.as_fd(), &mut [0; 4]) {
                Ok(Some(mut answer)) => {
                    return answer.descriptors.pop().ok_or(SubscriberError::Refused);
                }
                Ok(None) => return Err(closed()),
                Err(Errno::AGAIN) if deadline.has_passed() => {
                    return Err(SubscriberError::TimedOut);
                }
                Err(Errno::AGAIN) => {
                    poll::poll(socket.as_fd(), PollFlags::IN, deadline.remaining());
                }
                Err(errno) => return Err(os(errno)),
            }
        }
    }
}

/// A value that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published<'a> {
    /// Its position: how many were published before it.
    pub position: u64,
    /// How many values, directly before this one, were overwritten before this subscriber
    /// read them.
    pub lost: u64,
    /// Its bytes, copied out of the shared memory.
    pub payload: &'a [u8],
}

/// Follows a topic with a cursor of its own. It reads memory that only the host writes, and
/// never holds it up: a subscriber that falls behind by more than the topic retains learns
/// how many values it has lost, and goes on.
///
/// Every value is copied whole or not at all. It ends with the guest's link, after what was
/// published before that.
///
/// See [`Publisher`](crate::Publisher) for an example.
#[derive(Debug)]
pub struct Subscriber {
    subscriptions: Arc<Subscriptions>,
    topic: Topic,
    index: u32,
    cursor: Cursor,
    patience: Patience,
    /// How the host is told that this sleeps, when it first does.
    wake: Option<Foreign>,
}

/// The part of a subscriber that reads.
#[derive(Debug)]
struct Cursor {
    reader: BroadcastReader<Mapped>,
    value: Vec<u8>,
    /// Lost since the last value.
    lost_before: u64,
    lost: u64,
}

impl Cursor {
    /// The position and size of the next value, copied; or that there will be none.
    #[inline]
    fn step(&mut self, core: &LinkCore) -> Option<Result<(u64, usize), SubscriberError>> {
        for lap in 0.. {
            match self.reader.next(&mut self.value) {
                Ok(Step::Value { position, len }) => return Some(Ok((position, len))),
                Ok(Step::Nothing) => break,
                Ok(Step::Lost(count)) => self.lose(count),
                Err(bad) => return Some(Err(bad.into())),
            }
            if lap == MAX_LAPS {
                let passed_over = self.reader.catch_up();
                self.lose(passed_over);
            } else if lap > MAX_LAPS {
                break;
            }
        }
        let end = core.look_for_end()?;
        // What was published before the end comes first.
        let left = self.reader.is_ready().then(|| self.reader.next(&mut self.value));
        match left {
            Some(Ok(Step::Value { position, len })) => Some(Ok((position, len))),
            _ => Some(Err(end.into())),
        }
    }

    fn lose(&mut self, count: u64) {
        self.lost_before = self.lost_before.saturating_add(count);
        self.lost = self.lost.saturating_add(count);
    }

    #[inline]
    fn published(&mut self, (position, len): (u64, usize)) -> Published<'_> {
        let lost = std::mem::take(&mut self.lost_before);
        Published { position, lost, payload: self.value.get(..len).unwrap_or_default() }
    }
}

impl Subscriber {
    pub(crate) fn new(
        subscriptions: &Arc<Subscriptions>,
        name: &str,
        start: Start,
    ) -> Result<Self, TopicError> {
        let mut topics = (0u32..).zip(subscriptions.geometry.topics());
        let found = topics.find(|(_, topic)| topic.name == name);
        let (index, topic) = found.ok_or_else(|| TopicError::Unknown(name.into()))?;
        let memory = subscriptions.segment.mapped();
        Ok(Self {
            topic: topic.clone(),
            index,
            cursor: Cursor {
                reader: BroadcastReader::new(memory, topic.at, topic.ring, start),
                value: vec![0; topic.ring.max_payload() as usize],
                lost_before: 0,
                lost: 0,
            },
            patience: Patience::new(subscriptions.core.geometry.spin),
            wake: None,
            subscriptions: Arc::clone(subscriptions),
        })
    }

    /// The next value, waiting for it until `deadline`.
    ///
    /// # Errors
    ///
    /// [`SubscriberError::TimedOut`]; [`SubscriberError::Ended`] when the link has ended and
    /// everything was read; [`SubscriberError::Refused`] if it would have to sleep and the
    /// host does not wake it; [`SubscriberError::Corrupt`] if the host broke the protocol.
    #[inline]
    pub fn next(
        &mut self,
        deadline: impl Into<Deadline>,
    ) -> Result<Published<'_>, SubscriberError> {
        let found = self.wait(deadline.into())?;
        Ok(self.cursor.published(found))
    }

    /// The next value, if there is one.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<Published<'_>>, SubscriberError> {
        match self.cursor.step(&self.subscriptions.core) {
            Some(found) => {
                let found = found?;
                Ok(Some(self.cursor.published(found)))
            }
            None => Ok(None),
        }
    }

    /// The newest value, or `None` if there never was one. The cursor stays where it is.
    ///
    /// # Errors
    ///
    /// [`SubscriberError::Busy`] if each value was overwritten while it was copied, which takes
    /// a topic of few slots and a host that does nothing but publish;
    /// [`SubscriberError::Corrupt`] if the host broke the protocol. An ended link is no error:
    /// the last value stays.
    #[inline]
    pub fn newest(&mut self) -> Result<Option<Published<'_>>, SubscriberError> {
        let Cursor { reader, value, .. } = &mut self.cursor;
        let Some((position, len)) = reader.newest(value)? else { return Ok(None) };
        let payload = value.get(..len).unwrap_or_default();
        Ok(Some(Published { position, lost: 0, payload }))
    }

    /// Moves the cursor. What is passed over does not count as lost.
    pub fn seek(&mut self, start: Start) {
        self.cursor.reader.seek(start);
        self.cursor.lost_before = 0;
    }

    /// The position of the next value to be read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.cursor.reader.position()
    }

    /// How many values were published so far.
    #[must_use]
    pub fn published_so_far(&self) -> u64 {
        self.cursor.reader.published()
    }

    /// How many values this subscriber has lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.cursor.lost
    }

    /// The largest value, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> u64 {
        self.topic.ring.max_payload()
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic.name
    }

    /// Has [`descriptor`](Self::descriptor) become readable when there is something to read,
    /// once. Returns whether there is something already.
    ///
    /// For an event loop: read until there is nothing, call this, and wait only if it returns
    /// `false`.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn arm(&mut self) -> Result<bool, SubscriberError> {
        let position = self.cursor.reader.position();
        let socket = self.waking_socket()?;
        // Wakes of before.
        while let Ok(Some(_)) = socket::receive(socket.as_fd(), &mut [0; 1]) {}
        match tell(socket, position, Sleep::OnSocket) {
            // With its queue full, the host has been told often enough.
            Ok(()) | Err(Errno::AGAIN) => {}
            // Then the descriptor says so by being readable.
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Ok(true),
            Err(errno) => return Err(OsError::new("tell the host of a sleep", errno).into()),
        }
        Ok(self.cursor.reader.is_ready() || self.subscriptions.core.look_for_end().is_some())
    }

    /// A descriptor for poll and epoll: readable after [`arm`](Self::arm) when there is
    /// something to read, or when the link has ended. Never read from it.
    ///
    /// # Errors
    ///
    /// [`SubscriberError::Refused`] if the host serves no more subscribers of this guest.
    pub fn descriptor(&mut self) -> Result<BorrowedFd<'_>, SubscriberError> {
        self.waking_socket().map(AsFd::as_fd)
    }

    fn waking_socket(&mut self) -> Result<&Foreign, SubscriberError> {
        match &mut self.wake {
            Some(socket) => Ok(socket),
            none => Ok(none.insert(self.subscriptions.open(self.index)?)),
        }
    }

    #[inline]
    fn wait(&mut self, deadline: Deadline) -> Result<(u64, usize), SubscriberError> {
        let Self { cursor, patience, wake, subscriptions, index, .. } = self;
        let core = &subscriptions.core;
        let bell = cursor.reader.clone();
        let position = Cell::new(cursor.reader.position());
        let attempt = || {
            let found = cursor.step(core);
            position.set(cursor.reader.position());
            found
        };
        let found = patience.wait(deadline, attempt, |attempt, deadline| {
            if wake.is_none() {
                match subscriptions.open(*index) {
                    Ok(socket) => *wake = Some(socket),
                    // What was published meanwhile comes first.
                    Err(error) => return attempt().or(Some(Err(error))),
                }
            }
            let seen = bell.bell_seen();
            let told = wake.as_ref().map(|socket| tell(socket, position.get(), Sleep::OnBell));
            let found = attempt();
            if found.is_none() && !deadline.has_passed() {
                let word = subscriptions.segment.mapped();
                let word: (&AtomicU32, u32) = (word.word32(bell.bell()), seen);
                match told {
                    Some(Ok(())) => {
                        futex::wait_either(word, core.end_word(), deadline.remaining());
                    }
                    // The host is slow to listen, or is gone, which the link will say.
                    _ => thread::sleep(deadline.remaining_at_most(Some(PAUSE)).unwrap_or(PAUSE)),
                }
            }
            found.or_else(attempt)
        });
        found.unwrap_or(Err(SubscriberError::TimedOut))
    }
}

fn tell(socket: &Foreign, position: u64, sleep: Sleep) -> Result<(), Errno> {
    socket::send(socket.as_fd(), &encode_sleep(position, sleep), &[])
}
