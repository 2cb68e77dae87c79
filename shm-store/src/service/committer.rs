//! The thread that has writes done.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use shm_transport::{
    Deadline, Host, Lease, Link, LinkEvent, LinkKey, LinkSet, Publisher, RecvError, TypedPublisher,
};

use super::{gathering::Gathering, pair, reader::Reader, system};
use crate::{
    Durability, Lsn, OpenError,
    engine::Engine,
    protocol::{self, Answer, Event, FAREWELL, Request, copied},
    stat::Done,
};

/// Writes that are done together, at the most; and bytes of entries, if the first has not more.
const MAX_BATCH: usize = 1024;
const MAX_BATCH_BYTES: usize = 4 << 20;
/// How often it is looked for what expired, and for pins.
const TICK: Duration = Duration::from_millis(250);
/// For so long the links alone are looked at, before the system is asked who wants to be let in,
/// and who has died. To ask has each client ring a bell once.
const LOOK: Duration = Duration::from_millis(5);
/// Streams that one tick looks at.
const SWEPT: usize = 1000;

/// Does writes, until it is told to end. Fields are dropped in this order: the lease goes
/// when nothing of the store is in use any more.
pub(super) struct Committer {
    links: LinkSet,
    host: Host,
    publisher: Publisher,
    durable: Durable,
    _reader: Thread,
    engine: Engine,
    done: Arc<Done>,
    durability: Durability,
    gathering: Gathering,
    batch: Batch,
    /// Whose ends tell to end: the owner's handle, and the reader.
    companions: [LinkKey; 2],
    next_tick: Instant,
    /// When the system is asked, if the links alone are looked at until then.
    next_look: Instant,
    lease: Option<Lease>,
}

/// Whom to answer when what the engine was given is done, and how much that is.
#[derive(Debug, Default)]
struct Batch {
    askers: Vec<(LinkKey, u64)>,
    bytes: usize,
}

/// Where everybody can see up to where everything is durable.
struct Durable {
    publisher: TypedPublisher<u64>,
    published: Lsn,
}

impl Durable {
    fn new(mut publisher: TypedPublisher<u64>, durable: Lsn) -> Self {
        publisher.set(&durable.0);
        Self { publisher, published: durable }
    }

    fn show(&mut self, durable: Lsn) {
        if durable > self.published {
            self.publisher.set(&durable.0);
            self.published = durable;
        }
    }
}

/// A thread that has ended when this is gone.
struct Thread(Option<JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // If it ended by a panic, that was reported.
            let _ = thread.join();
        }
    }
}

impl Committer {
    pub(super) fn new(
        engine: Engine,
        durability: Durability,
        host: Host,
        reads: Host,
        control: Link,
        lease: Option<Lease>,
    ) -> Result<Self, OpenError> {
        let publisher = reads.hub().publisher(protocol::DURABLE).map_err(system)?;
        let durable = reads.hub().typed_publisher(protocol::DURABLE_LSN).map_err(system)?;
        let durable = Durable::new(durable, engine.durable());
        let (mine, readers) = pair()?;
        let done = Arc::<Done>::default();
        let reader = Reader::new(reads, engine.view(), Arc::clone(&done), readers)?;
        let mut links = LinkSet::new().map_err(system)?;
        let companions = [links.insert(control), links.insert(mine)];
        let [Ok(control), Ok(mine)] = companions else {
            return Err(OpenError::Io(Arc::new(std::io::ErrorKind::OutOfMemory.into())));
        };
        let reader =
            thread::Builder::new().name("shm-store-read".into()).spawn(move || reader.run())?;
        Ok(Self {
            links,
            host,
            publisher,
            durable,
            _reader: Thread(Some(reader)),
            engine,
            done,
            durability,
            gathering: Gathering::default(),
            batch: Batch::default(),
            companions: [control, mine],
            next_tick: Instant::now(),
            next_look: Instant::now(),
            lease,
        })
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::new();
        let mut goes_on = true;
        while goes_on {
            goes_on = self.gather(&mut events, self.gathering.lull());
            if goes_on && self.batch.is_empty() {
                let due = self.engine.flush_due();
                let due = due.map_or(self.next_tick, |at| at.min(self.next_tick));
                self.wait(&mut events, due.into());
                goes_on = self.take(&events);
            }
            if goes_on && !self.batch.is_empty() {
                goes_on = self.gather(&mut events, self.gathering.patience());
            }
            self.commit();
            self.tick();
            goes_on &= !self.engine.is_broken();
        }
        self.leave();
    }

    /// Takes what is there, and what those of the last batch ask for within so long, if they are
    /// expected back. Returns whether to go on.
    fn gather(&mut self, events: &mut Vec<LinkEvent>, patience: Duration) -> bool {
        let began = Instant::now();
        let mut now = began;
        loop {
            if !self.look(events, now) {
                return false;
            }
            now = Instant::now();
            let expects_more = self.batch.has_room() && self.gathering.expects_more();
            if !expects_more || now - began >= patience {
                return true;
            }
            // Those that are waited for need a processor.
            thread::yield_now();
        }
    }

    /// Takes what is there, without a word to the system if that can be: who is about to sleep
    /// has to be woken, and nobody is. Returns whether to go on.
    fn look(&mut self, events: &mut Vec<LinkEvent>, now: Instant) -> bool {
        if now >= self.next_look {
            self.wait(events, Deadline::NOW);
        } else {
            self.links.poll(events);
        }
        self.take(events)
    }

    fn wait(&mut self, events: &mut Vec<LinkEvent>, deadline: Deadline) {
        if let Err(error) = self.links.wait_with(&mut self.host, events, deadline) {
            // Who could not be let in tries again.
            tracing::warn!(%error, "a guest was not let in");
        }
        self.next_look = Instant::now() + LOOK;
    }

    /// Takes what clients ask for into the batch. Returns whether to go on.
    fn take(&mut self, events: &[LinkEvent]) -> bool {
        let mut goes_on = true;
        for event in events {
            let LinkEvent::Ready(key) = *event else { continue };
            if self.companions.contains(&key) {
                let companion = self.links.get_mut(key).map(Link::try_recv);
                goes_on &= matches!(companion, Some(Ok(None) | Err(RecvError::Os(_))));
            } else if !self.take_from(key) {
                self.dismiss(key);
            }
        }
        goes_on
    }

    /// Returns whether the client stays.
    fn take_from(&mut self, key: LinkKey) -> bool {
        let Some(link) = self.links.get_mut(key) else { return true };
        while self.batch.has_room() {
            let message = match link.try_recv() {
                Ok(Some(message)) => copied(&message),
                Ok(None) | Err(RecvError::Os(_)) => return true,
                Err(_) => return false,
            };
            let Ok((number, Request::Write(write))) = Request::decode(&message) else {
                tracing::warn!(pid = link.peer_pid(), "a client sent nonsense");
                return false;
            };
            self.gathering.asked(key, Instant::now());
            self.batch.bytes += message.len();
            self.engine.add(write);
            self.batch.askers.push((key, number));
        }
        true
    }

    fn dismiss(&mut self, key: LinkKey) {
        self.links.remove(key);
        self.gathering.left(key);
    }

    /// Has the batch done, answers, and tells the tails.
    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let Batch { askers, .. } = std::mem::take(&mut self.batch);
        // Relaxed: counts, and nothing else.
        self.done.writes.fetch_add(askers.len() as u64, Ordering::Relaxed);
        self.done.batches.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let results = self.engine.commit();
        let ended = Instant::now();
        // Whoever has an answer finds that it is durable.
        self.durable.show(self.engine.durable());
        for ((key, number), result) in askers.into_iter().zip(results) {
            let answer = Answer::Written(self.durability, result).encode(number);
            let sent = self.links.get_mut(key).map(|link| link.try_send(&answer));
            if let Some(Err(error)) = sent {
                tracing::debug!(%error, "a client was not answered");
                self.dismiss(key);
            }
        }
        self.gathering.answered(ended - began, ended);
        self.tell();
    }

    /// Tells the tails what became durable.
    fn tell(&mut self) {
        for event in self.engine.take_events() {
            let value = Event::encode(&event);
            if let Err(error) = self.publisher.publish(&value) {
                tracing::error!(%error, "an event is larger than it can be");
            }
        }
    }

    /// What has to be done now and then.
    fn tick(&mut self) {
        if self.engine.flush_due().is_some_and(|due| due <= Instant::now()) {
            self.engine.flush();
            self.durable.show(self.engine.durable());
        }
        if self.next_tick > Instant::now() {
            return;
        }
        self.next_tick = Instant::now() + TICK;
        let expired = self.engine.sweep(SWEPT);
        if !expired.is_empty() {
            expired.into_iter().for_each(|write| self.engine.add(write));
            self.engine.commit();
            self.durable.show(self.engine.durable());
            self.tell();
        }
        if let Some(lease) = &mut self.lease {
            match lease.oldest_pin() {
                Ok(pin) => self.engine.set_pin(pin.map(Lsn)),
                Err(error) => tracing::warn!(%error, "it is not known what readers have pinned"),
            }
            // For people and tools.
            let _ = lease.beat();
        }
    }

    /// Does what was asked for until now, and says that this was all.
    fn leave(&mut self) {
        while let Ok(Some(link)) = self.host.try_accept() {
            let _ = self.links.insert(link);
        }
        let keys: Vec<LinkKey> = self.links.iter_mut().map(|(key, _)| key).collect();
        for key in keys {
            if !self.companions.contains(&key) && !self.take_from(key) {
                self.dismiss(key);
            }
        }
        self.commit();
        self.engine.flush();
        // From here on nothing is received: what is not answered is not done.
        for (_, link) in self.links.iter_mut() {
            let _ = link.try_send(&FAREWELL);
        }
        self.host.hub().say_goodbye();
        // If nobody waits to take over, the next one shall have nothing to recover.
        if self.links.len() == self.companions.len()
            && let Err(error) = self.engine.checkpoint()
        {
            tracing::warn!(?error, "the log is left as it is");
        }
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.askers.is_empty()
    }

    fn has_room(&self) -> bool {
        self.askers.len() < MAX_BATCH && self.bytes < MAX_BATCH_BYTES
    }
}
