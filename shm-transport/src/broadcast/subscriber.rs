use std::{
    cell::Cell,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, atomic::AtomicU32},
    thread,
    time::Duration,
};

use shm_primitives::{
    Mapped,
    broadcast::{BroadcastReader, ReadNewestError, Start, Step},
    hub::Topic,
};

use super::{
    subscriptions::{MAX_ANSWERS, PAUSE, Subscriptions, Wake, tell},
    topic::Sleep,
};
use crate::{
    deadline::Deadline,
    error::{SubscriberError, TopicError},
    link::core::LinkCore,
    os::{futex, socket},
    patience::Patience,
};

/// Times that a reader is lapped before it goes on with the newest value instead of the
/// oldest that is left.
const MAX_LAPS: u32 = 3;
/// How long [`Subscriber::arm`] waits for a host that is stopped: others answer at once.
const PATIENCE: Duration = Duration::from_secs(1);

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
    /// Opened when this first sleeps.
    wake: Wake,
    /// What the bell showed when the host was last told that this sleeps on it: until it
    /// shows something else, the host knows.
    told_at: Option<u32>,
    /// The host was told that this sleeps on its socket, and has not woken it.
    armed: bool,
}

/// The part of a subscriber that reads.
#[derive(Debug)]
struct Cursor {
    reader: BroadcastReader<Mapped>,
    value: Vec<u8>,
    /// The position and size of the value in there, if it was the newest when it was copied.
    held: Option<(u64, usize)>,
    /// Lost since the last value.
    lost_before: u64,
    lost: u64,
}

impl Cursor {
    /// The position and size of the next value, copied; or that there will be none.
    #[inline]
    fn step(&mut self, core: &LinkCore) -> Option<Result<(u64, usize), SubscriberError>> {
        let mut end = None;
        let mut laps = 0;
        self.held = None;
        loop {
            match self.reader.next(&mut self.value) {
                Ok(Step::Value { position, len }) => return Some(Ok((position, len))),
                Ok(Step::Lost(count)) => self.lose(count),
                Ok(Step::Nothing) => match end {
                    Some(end) => return Some(Err(SubscriberError::Ended(end))),
                    None => {
                        // What was published before the end comes first: look once more.
                        end = Some(core.look_for_end()?);
                        continue;
                    }
                },
                Err(bad) => return Some(Err(bad.into())),
            }
            laps += 1;
            if laps == MAX_LAPS {
                let passed_over = self.reader.catch_up();
                self.lose(passed_over);
            } else if laps > 2 * MAX_LAPS {
                // A host that is as fast as this is heard of later; one that publishes after
                // its end is not.
                return end.map(|end| Err(end.into()));
            }
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

/// Copies the newest value; returns its position and size.
type CopyNewest =
    fn(&mut BroadcastReader<Mapped>, &mut [u8]) -> Result<Option<(u64, usize)>, ReadNewestError>;

impl Cursor {
    /// The newest value. Only `copy` copies it, and it is called if there is a newer one than
    /// the one that is held: who looks again and again pays for a look at one word.
    #[inline(always)]
    fn newest(&mut self, copy: CopyNewest) -> Result<Option<Published<'_>>, SubscriberError> {
        if self.held.is_none() || self.reader.has_newer() {
            self.hold_newest(copy)?;
        }
        let Some((position, len)) = self.held else { return Ok(None) };
        let payload = self.value.get(..len);
        Ok(payload.map(|payload| Published { position, lost: 0, payload }))
    }

    #[inline(never)]
    fn hold_newest(&mut self, copy: CopyNewest) -> Result<(), SubscriberError> {
        // An attempt that fails leaves anything in the buffer.
        self.held = None;
        self.held = copy(&mut self.reader, &mut self.value)?;
        Ok(())
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
                held: None,
                lost_before: 0,
                lost: 0,
            },
            patience: Patience::new(subscriptions.core.geometry.spin),
            wake: Wake::Closed,
            told_at: None,
            armed: false,
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
    /// It is copied out of the shared memory once. As long as no newer one is published, calls
    /// that follow return that copy; [`next`](Self::next) and its like make it be forgotten.
    ///
    /// # Errors
    ///
    /// [`SubscriberError::Busy`] if each value was overwritten while it was copied, which takes
    /// a topic of few slots and a host that does nothing but publish, or one of a single slot
    /// and a host that stopped or died while it published;
    /// [`SubscriberError::Corrupt`] if the host broke the protocol. An ended link is no error:
    /// the last value stays.
    #[inline]
    pub fn newest(&mut self) -> Result<Option<Published<'_>>, SubscriberError> {
        self.cursor.newest(BroadcastReader::newest)
    }

    /// Like [`newest`](Self::newest), in one attempt to copy it, which takes a bounded time.
    ///
    /// # Errors
    ///
    /// As [`newest`](Self::newest); [`SubscriberError::Busy`] if the value was overwritten
    /// while it was copied: try again.
    #[inline]
    pub fn try_newest(&mut self) -> Result<Option<Published<'_>>, SubscriberError> {
        self.cursor.newest(BroadcastReader::try_newest)
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
    /// As [`descriptor`](Self::descriptor), and [`SubscriberError::Ended`].
    pub fn arm(&mut self) -> Result<bool, SubscriberError> {
        self.open()?;
        let position = self.cursor.reader.position();
        if let Wake::Open(socket) = &self.wake {
            // Wakes of before.
            for _ in 0..MAX_ANSWERS {
                match socket::receive(socket.as_fd(), &mut [0; 1]) {
                    Ok(Some(_)) => self.armed = false,
                    _ => break,
                }
            }
            if !self.armed {
                tell(socket, position, Sleep::OnSocket)
                    .map_err(|errno| self.subscriptions.failed(errno))?;
                self.armed = true;
            }
        }
        Ok(self.cursor.reader.is_ready() || self.subscriptions.core.look_for_end().is_some())
    }

    /// A descriptor for poll and epoll: readable after [`arm`](Self::arm) when there is
    /// something to read, or when the link has ended. Never read from it.
    ///
    /// # Errors
    ///
    /// [`SubscriberError::Refused`] if the host serves no more subscribers of this guest,
    /// [`SubscriberError::TimedOut`] if it is stopped: it is asked when this subscriber is
    /// first armed or sleeps.
    pub fn descriptor(&mut self) -> Result<BorrowedFd<'_>, SubscriberError> {
        self.open()?;
        match &self.wake {
            Wake::Open(socket) => Ok(socket.as_fd()),
            _ => Err(SubscriberError::TimedOut),
        }
    }

    /// Opens the way to tell the host of sleeps.
    fn open(&mut self) -> Result<(), SubscriberError> {
        let deadline = Deadline::from(PATIENCE).fixed();
        loop {
            self.subscriptions.advance(&mut self.wake, self.index)?;
            if matches!(self.wake, Wake::Open(_)) {
                return Ok(());
            }
            if deadline.has_passed() {
                return Err(SubscriberError::TimedOut);
            }
            self.subscriptions.pause(deadline);
        }
    }

    #[inline]
    fn wait(&mut self, deadline: Deadline) -> Result<(u64, usize), SubscriberError> {
        let Self { cursor, patience, wake, told_at, subscriptions, index, .. } = self;
        let core = &subscriptions.core;
        let bell = cursor.reader.clone();
        let position = Cell::new(cursor.reader.position());
        let attempt = || {
            let found = cursor.step(core);
            position.set(cursor.reader.position());
            found
        };
        // Any guest can wake who sleeps on the bell.
        let nap = |nap| futex::wait_private(core.end_word(), nap);
        let found = patience.wait(
            deadline,
            attempt,
            |attempt, deadline| {
                if let Err(error) = subscriptions.advance(wake, *index) {
                    // What was published meanwhile comes first.
                    return attempt().or(Some(Err(error)));
                }
                let Wake::Open(socket) = wake else {
                    subscriptions.pause(deadline);
                    return attempt();
                };
                let seen = bell.bell_seen();
                if *told_at != Some(seen) && tell(socket, position.get(), Sleep::OnBell).is_ok() {
                    *told_at = Some(seen);
                }
                let found = attempt();
                if found.is_none() && !deadline.has_passed() {
                    let word = subscriptions.segment.mapped();
                    let word: (&AtomicU32, u32) = (word.word32(bell.bell()), seen);
                    if *told_at == Some(seen) {
                        futex::wait_either(word, core.end_word(), deadline.remaining());
                    } else {
                        // The host is gone, which the link will say.
                        thread::sleep(deadline.remaining_at_most(Some(PAUSE)).unwrap_or(PAUSE));
                    }
                }
                found.or_else(attempt)
            },
            nap,
        );
        found.unwrap_or(Err(SubscriberError::TimedOut))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        match &self.wake {
            // In a forked child it is its parent's.
            Wake::Open(_) if !self.subscriptions.core.is_own() => {}
            // It is closed later, on another thread; the host learns of it now.
            Wake::Open(socket) => socket::hang_up(socket.as_fd()),
            Wake::Asked(number) => self.subscriptions.give_up(*number),
            Wake::Closed => {}
        }
    }
}
