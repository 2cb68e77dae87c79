//! A host that serves honest guests, while others do to it what they like.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use shm_transport::{
    Host, LinkEnd, LinkEvent, LinkKey, LinkSet, Message, Publisher, RecvError, SlowGuest,
    TopicConfig,
};

use crate::{Place, WAIT, meter::Meter, pattern, process::Peer, small};

/// How long most calls of the host may wait.
pub const CALL: Duration = Duration::from_millis(2);
/// The largest value of the topic.
const MAX: usize = 40;
/// The largest message.
const LARGEST: usize = 20_000;
/// Messages that are taken from a stranger in one go.
const GULP: usize = 50;

/// A host, its honest guests in processes of their own, and all others: strangers.
#[derive(Debug)]
pub struct Service {
    /// Where it is.
    pub place: Place,
    /// The host.
    pub host: Host,
    /// All links but those that a test has taken out.
    pub links: LinkSet,
    /// All calls that the host makes.
    pub meter: Meter,
    /// What went wrong with honest guests.
    pub errors: Vec<String>,
    /// Guests that are not honest.
    pub strangers: Vec<LinkKey>,
    /// How links of strangers ended, and how often.
    pub ends: BTreeMap<String, u64>,
    /// Messages that came from strangers.
    pub heard: u64,
    honest: Vec<Honest>,
    publisher: Publisher,
    next: u64,
}

#[derive(Debug)]
struct Honest {
    process: Peer,
    key: LinkKey,
    /// Messages that it has sent back.
    answered: u64,
}

impl Service {
    /// A host with this many honest guests; `start` starts the helper in the role "honest".
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn new(guests: usize, start: impl Fn(&Path) -> Peer) -> Self {
        let place = Place::new();
        let topic = TopicConfig { slots: 64, max_payload: MAX as u64 };
        let builder = Host::builder().link(small()).max_guests(guests + 6);
        let builder = builder.topic("values", topic).topic("other", TopicConfig::default());
        let mut host = place.host(builder);
        let publisher = host.hub().publisher("values").expect("the topic");
        let mut links = LinkSet::new().expect("a set");
        let honest = (0..guests).map(|_| {
            let mut process = start(&place.hub());
            let link = host.accept(WAIT).expect("an honest guest");
            assert_eq!(process.answer(), "attached");
            Honest { process, key: links.insert(link).expect("watched"), answered: 0 }
        });
        let honest = honest.collect();
        Self {
            place,
            host,
            links,
            meter: Meter::default(),
            errors: Vec::new(),
            strangers: Vec::new(),
            ends: BTreeMap::new(),
            heard: 0,
            honest,
            publisher,
            next: 0,
        }
    }

    /// How many messages each honest guest was sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.next
    }

    /// A message to each honest guest, one to all guests, and a value; waits for the answers.
    pub fn round(&mut self) {
        let message = self.message();
        for at in 0..self.honest.len() {
            self.send(at, &message);
        }
        self.next += 1;
        let message = self.message();
        let wait = SlowGuest::Wait(CALL.into());
        let Self { meter, links, .. } = self;
        let all = meter.call("send_to_all", CALL, || links.send_to_all(&message, wait));
        let missed = match all {
            Ok(all) => all.missed.into_iter().map(|(key, _)| key).collect(),
            Err(error) => {
                self.errors.push(format!("send_to_all: {error}"));
                Vec::new()
            }
        };
        for at in 0..self.honest.len() {
            // It may be slow on a machine that is busy.
            if missed.contains(&self.honest[at].key) {
                self.send(at, &message);
            }
        }
        self.next += 1;
        let position = self.publisher.published();
        let value = pattern::value(position, MAX);
        let Self { meter, publisher, .. } = self;
        let published = meter.call("publish", Duration::ZERO, || publisher.publish(&value));
        if published != Ok(position) {
            self.errors.push(format!("publish: {published:?} instead of {position}"));
        }
        self.await_answers();
    }

    fn message(&self) -> Vec<u8> {
        let mut message = self.next.to_le_bytes().to_vec();
        message.extend(pattern::message(self.next, pattern::length(self.next, LARGEST)));
        message
    }

    fn send(&mut self, at: usize, message: &[u8]) {
        let Self { meter, links, honest, errors, .. } = self;
        let Some(link) = links.get_mut(honest[at].key) else { return };
        if let Err(error) = meter.call("send", WAIT, || link.send(message, WAIT)) {
            errors.push(format!("send: {error}"));
        }
    }

    fn await_answers(&mut self) {
        let end = Instant::now() + WAIT;
        while self.honest.iter().any(|honest| honest.answered < self.next) {
            if Instant::now() > end {
                self.errors.push(format!("no answer to message {}", self.next - 1));
                return;
            }
            self.serve(CALL);
            if !self.errors.is_empty() {
                return;
            }
        }
    }

    /// Waits for whatever comes, once, and takes it.
    pub fn serve(&mut self, wait: Duration) {
        let mut events = Vec::new();
        let Self { meter, links, host, .. } = self;
        let waited = meter.call("wait_with", wait, || links.wait_with(host, &mut events, wait));
        if let Err(error) = waited {
            self.errors.push(format!("wait_with: {error}"));
        }
        for event in events {
            match event {
                LinkEvent::Attached(key) => self.strangers.push(key),
                LinkEvent::Ready(key) => match self.honest.iter().position(|one| one.key == key) {
                    Some(at) => self.take_answers(at),
                    None => self.hear(key),
                },
                _ => {}
            }
        }
    }

    fn take_answers(&mut self, at: usize) {
        let Self { meter, links, honest, errors, .. } = self;
        let honest = &mut honest[at];
        let Some(link) = links.get_mut(honest.key) else { return };
        loop {
            let answer = meter.call("try_recv", Duration::ZERO, || {
                link.try_recv().map(|message| message.map(|message| message.to_bytes()))
            });
            match answer {
                Ok(None) => break,
                Ok(Some(answer)) => {
                    let number = honest.answered;
                    let whole = answer.split_first_chunk().is_some_and(|(first, rest)| {
                        let length = pattern::length(number, LARGEST);
                        u64::from_le_bytes(*first) == number
                            && rest.len() == length
                            && pattern::matches(number, rest)
                    });
                    if !whole {
                        errors.push(format!("answer {number} is another"));
                        break;
                    }
                    honest.answered += 1;
                }
                Err(error) => {
                    errors.push(format!("no answer: {error}"));
                    break;
                }
            }
        }
    }

    /// Takes some of what a stranger sent, and lets go of it if its link is over.
    fn hear(&mut self, key: LinkKey) {
        for _ in 0..GULP {
            let Self { meter, links, heard, .. } = self;
            let Some(link) = links.get_mut(key) else { return };
            let taken = meter.call("try_recv", Duration::ZERO, || {
                link.try_recv().map(|message| message.map(read_all).is_some())
            });
            match taken {
                Ok(true) => *heard += 1,
                Ok(false) | Err(RecvError::Os(_)) => return,
                Err(_) => return self.let_go(key),
            }
        }
    }

    /// Drops the link of a stranger.
    pub fn let_go(&mut self, key: LinkKey) {
        let end = self.links.get_mut(key).and_then(|link| link.end());
        self.let_go_of(key, end);
    }

    fn let_go_of(&mut self, key: LinkKey, end: Option<LinkEnd>) {
        self.strangers.retain(|stranger| *stranger != key);
        let Some(link) = self.links.remove(key) else { return };
        let end = end.map_or("open".into(), end_name);
        *self.ends.entry(end).or_default() += 1;
        self.meter.call("drop", Duration::ZERO, || drop(link));
    }

    /// Makes every call that there is, on the link of each stranger.
    pub fn exercise(&mut self) {
        for key in self.strangers.clone() {
            let Self { meter, links, heard, host, .. } = self;
            let Some(link) = links.get_mut(key) else { continue };
            let mut held = Vec::new();
            for _ in 0..4 {
                let taken = meter.call("recv", CALL, || {
                    let message = link.recv(CALL).ok()?;
                    let _ = (message.read_u64(0), message.read_u8(message.len()));
                    message.chunks(|chunk| assert!(!chunk.is_empty()));
                    Some(message.into_owned())
                });
                *heard += u64::from(taken.is_some());
                held.extend(taken);
            }
            meter.call("drop of messages", Duration::ZERO, || drop(held));
            let mut buffer = [0; 256];
            let _ = meter.call("recv_into", CALL, || link.recv_into(&mut buffer, CALL));
            for len in [0, 100, 1000, 8000, LARGEST] {
                let message = vec![1; len];
                let _ = meter.call("send", CALL, || link.send(&message, CALL));
                meter.call("try_grant", Duration::ZERO, || {
                    if let Ok(mut grant) = link.sender.try_grant(len) {
                        grant.fill(2);
                        let _ = grant.commit_prefix(len / 2);
                    }
                });
            }
            let batch = [[1; 50]; 8];
            let _ = meter.call("send_batch", CALL, || link.sender.send_batch(&batch, CALL));
            meter.call("arm, disarm", Duration::ZERO, || {
                if link.receiver.arm() {
                    link.receiver.disarm();
                }
            });
            meter.call("looks", Duration::ZERO, || {
                let hub = host.hub();
                let _ = (link.end(), link.peer_heartbeat(), link.receiver.missed());
                let _ = (link.sender.slots_in_flight(), hub.peers(), hub.statistics());
            });
        }
    }

    /// Evicts all strangers and drops their links; whoever attaches meanwhile as well.
    pub fn evict_strangers(&mut self) {
        for key in self.strangers.clone() {
            let Self { meter, links, host, .. } = self;
            let Some(link) = links.get_mut(key) else { continue };
            let (peer, end) = (link.peer(), link.end());
            meter.call("evict", Duration::ZERO, || host.hub().evict(peer));
            self.let_go_of(key, end);
        }
    }

    /// Says goodbye to the honest guests; returns how many errors there were on both sides, and
    /// puts those of the host on standard error.
    ///
    /// # Panics
    ///
    /// If one does not answer.
    pub fn end(self) -> u64 {
        let Self { links, mut honest, errors, next, host, publisher, place, .. } = self;
        drop((links, publisher, host));
        let mut count = errors.len() as u64;
        for error in errors {
            eprintln!("host: {error}");
        }
        for honest in &mut honest {
            let said = honest.process.answer();
            let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
            let [messages, _values, _lost, wrong] = numbers[..] else { panic!("{said}") };
            count += wrong + u64::from(messages != next);
            honest.process.succeeds();
        }
        drop(place);
        count
    }
}

fn read_all(message: Message<'_>) {
    let bytes = message.to_bytes();
    assert_eq!(bytes.len(), message.len());
}

fn end_name(end: LinkEnd) -> String {
    match end {
        LinkEnd::Corrupt(_) => "corrupt".into(),
        end => format!("{end:?}").to_lowercase(),
    }
}
