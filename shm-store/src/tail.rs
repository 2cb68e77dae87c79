//! Following a stream: what became durable comes through the owner's topic, and what was
//! missed there is read.
//!
//! ```text
//!            subscribed, then read up to the end
//! reading ───────────────────────────────────────▶ following
//!    ▲                                                │
//!    └── lapped, told of too large an event, a gap ───┤
//!    ▲                                                │
//!    └── attach and subscribe anew ◀── the link ended ┘
//! ```
//!
//! The subscription begins before the reading, so that nothing is missed between the two, and
//! each entry is taken by its offset, so that nothing comes twice.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use shm_transport::{Guest, Start, Subscriber, SubscriberError, lease::Reader};

use crate::{
    Entry, From, Offset, Page, ReadError, Store, StreamId, protocol, protocol::Event,
    store::deadline,
};

/// An owner is looked for for so long at least: a wait that is too short for that would never
/// come to anything.
const ATTACHING: Duration = Duration::from_millis(200);

/// Follows a stream.
///
/// What it gives is what [`Store::pages`] gives, without an end: each entry once, in order,
/// whoever owns the store meanwhile.
///
/// ```
/// use std::time::Duration;
/// use shm_store::{Followed, From, Store};
///
/// let store = Store::in_memory()?;
/// store.create("news", Default::default())?;
/// let mut news = store.tail("news", From::Start)?;
/// let appender = store.clone();
/// let thread = std::thread::spawn(move || appender.append("news", "it works").unwrap());
/// let next = news.next(Duration::from_secs(30))?;
/// let Some(Followed::Entry(entry)) = next else { panic!("{next:?}") };
/// assert_eq!(entry.data, "it works");
/// # thread.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tail {
    store: Store,
    name: String,
    stream: StreamId,
    /// Entries that were read and not given out.
    waiting: VecDeque<Entry>,
    /// Behind those.
    next: Offset,
    end: Option<Followed>,
    following: Option<Following>,
    /// Everything up to a moment after the subscription began was read.
    is_up_to_date: bool,
    /// While it has more than a page to read: keeps the log.
    pin: Option<Reader>,
    reads: u64,
}

struct Following {
    subscriber: Subscriber,
    /// Its link is what the subscription lasts as long as.
    _guest: Guest,
}

/// What comes next in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// An entry.
    Entry(Entry),
    /// The stream was closed behind the last entry: there will be no more.
    Closed,
    /// The stream was deleted, or has expired.
    Deleted,
}

impl Tail {
    pub(crate) fn new(store: Store, name: String, from: From) -> Result<Self, ReadError> {
        let Page { entries, next, closed, stream, .. } = store.read_of(&name, None, from)?;
        Ok(Self {
            store,
            name,
            stream,
            waiting: entries.into(),
            next,
            end: closed.then_some(Followed::Closed),
            following: None,
            is_up_to_date: false,
            pin: None,
            reads: 1,
        })
    }

    /// What comes next, waiting for it up to so long; `None` if nothing came. While an owner has
    /// to be looked for, it waits for 200 ms at least. After an end, the end again.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; [`ReadError::TimedOut`] if no owner could be reached. It can be called
    /// again after each.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Followed>, ReadError> {
        let deadline = deadline(wait);
        loop {
            if let Some(entry) = self.waiting.pop_front() {
                return Ok(Some(Followed::Entry(entry)));
            }
            if let Some(end) = &self.end {
                return Ok(Some(end.clone()));
            }
            if !self.advance(deadline)? {
                return Ok(None);
            }
        }
    }

    /// The offset behind what was given out last: where to begin another time.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.waiting.front().map_or(self.next, |entry| entry.offset)
    }

    /// How often the store was read, because an entry did not come through the topic.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// Goes a step; returns whether there may be something before the deadline.
    fn advance(&mut self, deadline: Instant) -> Result<bool, ReadError> {
        let Some(following) = &mut self.following else {
            let deadline = deadline.max(Instant::now() + ATTACHING);
            let guest = self.store.client().attach_for_tail(deadline)?;
            let subscriber =
                guest.subscribe(protocol::DURABLE, Start::Newest).map_err(std::io::Error::other)?;
            self.following = Some(Following { subscriber, _guest: guest });
            self.is_up_to_date = false;
            return Ok(true);
        };
        if !self.is_up_to_date {
            // What was published until now is durable, and so is in what is read next. Events
            // that are left behind cannot be overwritten one after the other on the way.
            following.subscriber.seek(Start::Newest);
            return self.read().map(|()| true);
        }
        let published = match following.subscriber.next(deadline) {
            Ok(published) => published,
            Err(SubscriberError::TimedOut) => return Ok(false),
            Err(_) => {
                self.following = None;
                return Ok(true);
            }
        };
        if published.lost > 0 {
            self.is_up_to_date = false;
        }
        if Event::stream_of(published.payload) != Ok(self.stream) {
            return Ok(true);
        }
        match Event::decode(published.payload) {
            Ok(event) => self.take(event),
            // Not of an honest owner: what the store says counts.
            Err(_) => self.is_up_to_date = false,
        }
        Ok(true)
    }

    fn take(&mut self, event: Event) {
        let has_all =
            event.start == self.next && (event.end == event.start || !event.entries.is_empty());
        if has_all {
            self.waiting.extend(event.entries);
            self.next = event.end;
        } else if event.end > self.next {
            self.is_up_to_date = false;
            return;
        }
        // What is behind a loss is read first: the end is found there again.
        if self.is_up_to_date {
            if event.deleted {
                self.end = Some(Followed::Deleted);
            } else if event.closed && event.end == self.next {
                self.end = Some(Followed::Closed);
            }
        }
    }

    /// Reads a page.
    fn read(&mut self) -> Result<(), ReadError> {
        self.reads += 1;
        let from = From::Offset(self.next);
        match self.store.read_of(&self.name, Some(self.stream), from) {
            Ok(page) => {
                self.waiting.extend(page.entries);
                self.next = page.next;
                self.is_up_to_date = page.up_to_date;
                self.pin = self.store.pin_if(!page.up_to_date && !page.closed, self.pin.take());
                if page.closed {
                    self.end = Some(Followed::Closed);
                }
                Ok(())
            }
            Err(ReadError::NotFound | ReadError::Tombstone) => {
                self.end = Some(Followed::Deleted);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail")
            .field("name", &self.name)
            .field("stream", &self.stream)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
