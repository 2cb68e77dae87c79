//! A host that publishes, and a guest that follows.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shm_tests::{
    WAIT, counts,
    pattern::{self, Random},
};
use shm_transport::{
    Deadline, Guest, Host, Hub, Link, LinkConfig, Publisher, Sender, Start, Subscriber,
    SubscriberError, TopicConfig,
};

use crate::{command, limits::Scarcity, say};

/// The topic of most tests.
const VALUES: &str = "values";

type Links = Arc<Mutex<Vec<Link>>>;

fn links(links: &Links) -> std::sync::MutexGuard<'_, Vec<Link>> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets guests in for as long as the process lives, or until it is to leave.
fn accept_all(mut host: Host, accepted: Links, leave: Arc<AtomicBool>) {
    while !leave.load(Ordering::Relaxed) {
        if let Ok(link) = host.accept(Duration::from_millis(5)) {
            links(&accepted).push(link);
        }
    }
}

/// A host with a topic of `slots` values of up to `max` bytes, and a small one.
pub(crate) fn publish(path: &str, slots: u64, max: u64) {
    let topic = TopicConfig { slots, max_payload: max };
    let config = LinkConfig { spin: Duration::ZERO, ..shm_tests::small() };
    let builder = Host::builder().link(config).topic(VALUES, topic);
    let host = match builder.topic("other", TopicConfig::default()).create(path) {
        Ok(host) => host,
        Err(error) => return say(&format!("error {error:?}: {error}")),
    };
    let hub: Hub = host.hub().clone();
    let (accepted, leave) = (Links::default(), Arc::new(AtomicBool::new(false)));
    let accepting = thread::spawn({
        let (accepted, leave) = (Arc::clone(&accepted), Arc::clone(&leave));
        move || accept_all(host, accepted, leave)
    });
    let mut publisher = Some(hub.publisher(VALUES).expect("the topic is there"));
    let mut scarcity = None;
    say("host");
    while let Some(line) = command() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).map_or(0, |word| crate::number(word));
        let answer = match (words[0], publisher.as_mut()) {
            // publish COUNT: numbered values. No system call but for what publishing does.
            ("publish", Some(publisher)) => {
                (0..number(1)).for_each(|_| publish_next(publisher));
                publisher.published().to_string()
            }
            // flood PAUSE: until it is told to stop, with a pause of up to PAUSE µs after each value.
            ("flood", Some(_)) => {
                let Some(publisher) = publisher.take() else { continue };
                flood(publisher, number(1)).to_string()
            }
            ("publisher-dropped", _) => {
                publisher = None;
                "dropped".into()
            }
            ("goodbye", _) => {
                hub.say_goodbye();
                "said".into()
            }
            ("evict", _) => {
                let peers = hub.peers();
                peers.iter().filter(|peer| hub.evict(peer.id)).count().to_string()
            }
            ("close", _) => {
                links(&accepted).clear();
                "closed".into()
            }
            ("links", _) => {
                let mut links = links(&accepted);
                links.retain(|link| link.end().is_none());
                links.len().to_string()
            }
            ("scarce", _) => {
                scarcity = Some(Scarcity::but_for(number(1) as usize));
                "scarce".into()
            }
            ("plenty", _) => {
                scarcity = None;
                "plenty".into()
            }
            _ => format!("unknown command {line}"),
        };
        say(&answer);
    }
    drop(scarcity);
    leave.store(true, Ordering::Relaxed);
    let _ = accepting.join();
}

fn publish_next(publisher: &mut Publisher) {
    let max = publisher.max_payload() as usize;
    let position = publisher.published();
    let mut value = std::mem::take(&mut *BUFFER.lock().unwrap_or_else(PoisonError::into_inner));
    value.resize(pattern::value_length(position, max), 0);
    pattern::fill_value(position, &mut value);
    assert_eq!(publisher.publish(&value), Ok(position));
    *BUFFER.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

/// Values are made here, so that publishing allocates nothing.
static BUFFER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Publishes until the next command; returns how many values.
fn flood(mut publisher: Publisher, pause: u64) -> u64 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let max = publisher.max_payload() as usize;
            let (mut value, mut random) = (vec![0; max], Random::new(pause));
            while !stop.load(Ordering::Relaxed) {
                let position = publisher.published();
                let value = &mut value[..pattern::value_length(position, max)];
                pattern::fill_value(position, value);
                assert_eq!(publisher.publish(value), Ok(position));
                if pause > 0 {
                    thread::sleep(Duration::from_micros(random.below(pause)));
                }
            }
            publisher.published()
        });
        say("flooding");
        let _ = command();
        stop.store(true, Ordering::Relaxed);
        flooding.join().expect("it publishes")
    })
}

/// A guest that follows topics as it is told.
pub(crate) fn subscribe(path: &str) {
    let mut guest = match Guest::attach(path, WAIT) {
        Ok(guest) => guest,
        Err(error) => return say(&format!("error {error:?}: {error}")),
    };
    let mut subscribers: Vec<Subscriber> = Vec::new();
    say(&format!("attached {}", guest.link.peer()));
    while let Some(line) = command() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).map_or(0, |word| crate::number(word));
        let answer = match (words[0], subscribers.last_mut()) {
            ("subscribe", _) => {
                subscribers.push(guest.subscribe(words[1], Start::Oldest).expect("the topic"));
                "subscribed".into()
            }
            ("drop", _) => {
                subscribers.clear();
                "dropped".into()
            }
            // Attaches anew, and follows.
            ("again", _) => {
                subscribers.clear();
                drop(guest);
                guest = Guest::attach(path, WAIT).expect("attached");
                subscribers.push(guest.subscribe(VALUES, Start::Oldest).expect("the topic"));
                "again".into()
            }
            ("next", Some(subscriber)) => {
                said(&subscriber.next(Duration::from_millis(number(1))).map(|v| v.position))
            }
            ("next-for-ever", Some(subscriber)) => {
                said(&subscriber.next(Deadline::NEVER).map(|value| value.position))
            }
            ("arm", Some(subscriber)) => said(&subscriber.arm()),
            ("wait", Some(subscriber)) => is_readable(subscriber, WAIT).to_string(),
            // Reads without sleeping until the link ends.
            ("follow", Some(subscriber)) => {
                say("following");
                follow(subscriber, thread::yield_now)
            }
            ("follow-closely", Some(subscriber)) => {
                say("following");
                follow(subscriber, || {})
            }
            // sleep THREADS VALUES, poll THREADS VALUES: each thread of them reports each
            // value over the link.
            ("sleep" | "poll", _) => {
                let sender = Mutex::new(&mut guest.link.sender);
                let (threads, values) = (number(1) as usize, number(2));
                let ready = subscribers.split_off(subscribers.len() - threads);
                let polls = words[0] == "poll";
                thread::scope(|scope| {
                    for subscriber in ready {
                        scope.spawn(|| report(subscriber, values, polls, &sender));
                    }
                });
                "reported".into()
            }
            ("descriptors", _) => counts::holdings().descriptors.to_string(),
            ("end", _) => format!("{:?}", guest.link.end()),
            _ => format!("unknown command {line}"),
        };
        say(&answer);
    }
}

fn said<T: std::fmt::Debug>(result: &Result<T, SubscriberError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{error:?}"),
    }
}

fn is_readable(subscriber: &mut Subscriber, wait: Duration) -> bool {
    let timeout = Timespec::try_from(wait).ok();
    let Ok(descriptor) = subscriber.descriptor() else { return true };
    let mut fds = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    poll(&mut fds, timeout.as_ref()) == Ok(1)
}

/// Sends the position of each value as it comes.
fn report(mut subscriber: Subscriber, values: u64, polls: bool, to: &Mutex<&mut Sender>) {
    let max = subscriber.max_payload() as usize;
    let mut random = Random::new(subscriber.position());
    for _ in 0..values {
        if polls {
            while subscriber.position() == subscriber.published_so_far() {
                if !subscriber.arm().expect("armed") {
                    assert!(is_readable(&mut subscriber, WAIT), "nobody woke it");
                }
            }
        }
        let value = subscriber.next(WAIT).expect("a value");
        let position = value.position;
        assert_eq!(value.lost, 0);
        assert!(pattern::is_value(position, max, value.payload), "value {position} is another");
        let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
        to.send(&position.to_le_bytes(), WAIT).expect("reported");
        drop(to);
        // Late to sleep, now and then.
        (0..random.below(3000)).for_each(|_| std::hint::spin_loop());
    }
}

/// What it received and lost, and where it is in the end: `received lost position published`.
fn follow(subscriber: &mut Subscriber, idle: impl Fn()) -> String {
    let (mut received, mut lost, mut after) = (0, 0, 0);
    let max = subscriber.max_payload() as usize;
    let mut ended = None;
    // After the end there is nothing more: that is checked, too.
    while after < 3 {
        match subscriber.try_next() {
            Ok(None) => idle(),
            Ok(Some(value)) if after == 0 => {
                if !pattern::is_value(value.position, max, value.payload) {
                    return format!("value {} is torn", value.position);
                }
                received += 1;
                lost += value.lost;
            }
            Ok(Some(value)) => return format!("value {} after the end", value.position),
            Err(SubscriberError::Ended(end)) => {
                after += 1;
                ended = Some(end);
            }
            Err(error) => return format!("{error:?}"),
        }
    }
    let (total, position) = (subscriber.lost(), subscriber.position());
    let published = subscriber.published_so_far();
    assert!(lost <= total);
    format!("{ended:?} {received} {total} {position} {published}")
}
