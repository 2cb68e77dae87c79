//! What links count: by kind and direction, when there is no room, in sums, and for a recorder.

use std::{collections::BTreeMap, sync::Mutex, thread, time::Duration};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};
use shm_tests::{Place, WAIT, eventually, small};
use shm_transport::{
    Guest, Host, Link, LinkSet, SendError, SharedPayload, SlowGuest, Traffic,
    inspect::{Process, Role},
};

fn traffic(messages: u64, bytes: u64) -> Traffic {
    Traffic { messages, bytes }
}

fn attach(place: &Place, host: &mut Host) -> (Link, Guest) {
    let path = place.hub();
    let guest = thread::spawn(move || Guest::attach(path, WAIT).unwrap());
    (host.accept(WAIT).unwrap(), guest.join().unwrap())
}

#[test]
fn messages_and_bytes_are_counted_by_kind_whichever_call_sends_and_receives_them() {
    let (mut left, mut right) = Link::pair(&small()).unwrap();
    let mut buffer = [0; 64 << 10];
    let mut receive = |count: usize| {
        for _ in 0..count {
            right.recv_into(&mut buffer, WAIT).unwrap();
        }
    };
    left.send(&[1; 10], WAIT).unwrap();
    left.try_send(&[1; 20]).unwrap();
    left.sender.send_batch(&[[1; 5]; 4], WAIT).unwrap();
    receive(6);
    for len in [30, 500, 20_000] {
        let mut grant = left.sender.grant(len, WAIT).unwrap();
        grant.fill(1);
        grant.commit_prefix(len - 1).unwrap();
    }
    receive(3);
    // Aborted: not sent, and not counted.
    drop(left.sender.grant(40, WAIT).unwrap());
    left.send(&[1; 600], WAIT).unwrap();
    left.send(&[1; 30_000], WAIT).unwrap();
    let shared = SharedPayload::new(&[1; 9_000]).unwrap();
    left.sender.send_shared(&shared, WAIT).unwrap();
    receive(3);

    let sent = left.statistics().sent;
    assert_eq!(sent.inline, traffic(7, 10 + 20 + 4 * 5 + 29));
    assert_eq!(sent.slot, traffic(2, 499 + 600));
    assert_eq!(sent.sealed, traffic(2, 19_999 + 30_000));
    assert_eq!(sent.shared, traffic(1, 9_000));
    assert_eq!(sent, left.sender.statistics());
    assert!(sent.slots >= 2 && sent.most_in_use >= 1, "{sent:?}");
    let received = right.statistics().received;
    assert_eq!((received.inline, received.slot), (sent.inline, sent.slot));
    // A receiver cannot tell what is shared.
    assert_eq!(received.sealed, sent.sealed.plus(sent.shared));
    assert_eq!(received.total(), sent.total());
    assert_eq!(right.statistics().sent.total(), traffic(0, 0));
}

#[test]
fn a_message_without_room_is_counted_once_however_long_it_waits() {
    let (mut left, mut right) = Link::pair(&small()).unwrap();
    while left.try_send(&[7; 100]).is_ok() {}
    assert_eq!(left.statistics().sent.full, 1);
    let late = left.send(&[7; 100], Duration::from_millis(50));
    assert!(matches!(late, Err(SendError::TimedOut)));
    let sent = left.statistics().sent;
    assert_eq!(sent.full, 2);
    assert!(sent.sleeps >= 1 && sent.asleep > 0 && sent.asleep_since == 0, "{sent:?}");

    let (mut sender, receiver) = left.split();
    let blocked = thread::spawn(move || {
        sender.send(&[7; 100], WAIT).unwrap();
        sender
    });
    let asleep = || Process::look(std::process::id()).unwrap().unwrap();
    // From outside one sees that it sleeps.
    eventually(|| {
        let links: Vec<_> = asleep().links().collect();
        links.iter().any(|link| link.statistics.sent.asleep_since != 0).then_some(())
    });
    // Space is given back in pieces: more than one message.
    for _ in 0..4 {
        right.recv(WAIT).unwrap();
    }
    let sender = blocked.join().unwrap();
    assert_eq!(sender.statistics().asleep_since, 0);
    eventually(|| (right.statistics().received.wakes >= 1).then_some(()));
    drop(receiver);
}

#[test]
fn dropped_messages_and_sums_are_counted() {
    let mut links = LinkSet::new().unwrap();
    let (link, mut quick) = Link::pair(&small()).unwrap();
    links.insert(link).unwrap();
    let (link, slow) = Link::pair(&small()).unwrap();
    links.insert(link).unwrap();
    let mut dropped = 0;
    for _ in 0..30 {
        dropped += links.send_to_all(&[7; 100], SlowGuest::Drop).unwrap().missed.len() as u64;
        quick.recv(WAIT).unwrap();
    }
    assert!(dropped > 0);
    let sum = links.statistics();
    assert_eq!(sum.sent.inline, traffic(60 - dropped, 100 * (60 - dropped)));
    assert_eq!((sum.sent.dropped, sum.sent.full), (dropped, dropped));
    drop(slow);
}

#[test]
fn a_hub_counts_its_links_and_keeps_what_is_over() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut first, first_guest) = attach(&place, &mut host);
    let (mut second, mut second_guest) = attach(&place, &mut host);
    first.send(&[1; 10], WAIT).unwrap();
    second.send(&[1; 20], WAIT).unwrap();
    second_guest.link.send(&[1; 30], WAIT).unwrap();
    second.recv(WAIT).unwrap();
    let each = host.hub().link_statistics();
    let of = |link: &Link| each.iter().find(|(peer, _)| *peer == link.peer()).unwrap().1;
    assert_eq!(of(&first).sent.total(), traffic(1, 10));
    assert_eq!(of(&second).received.total(), traffic(1, 30));
    drop((first, first_guest));
    eventually(|| (host.hub().link_statistics().len() == 1).then_some(()));
    let total = host.hub().total_statistics();
    assert_eq!((total.sent.total(), total.received.total()), (traffic(2, 30), traffic(1, 30)));
}

#[test]
fn each_process_shows_its_ends_from_outside() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut link, mut guest) = attach(&place, &mut host);
    link.send(b"hello", WAIT).unwrap();
    guest.link.recv(WAIT).unwrap();
    let look = || Process::look(std::process::id()).unwrap().unwrap();
    let process = look();
    let hub = process.hub_at(&place.hub()).unwrap();
    let incarnation = hub.about.incarnation;
    let view = hub.view.unwrap();
    assert_eq!((view.statistics().unwrap().attached, view.peers().count()), (1, 1));
    let end = |role| process.link(role, incarnation, link.peer()).unwrap();
    assert_eq!(end(Role::Host).statistics, link.statistics());
    assert_eq!(end(Role::Guest).statistics, guest.link.statistics());
    assert_eq!(end(Role::Host).about.path, place.hub().to_str().unwrap());
    // What is over is not shown.
    let peer = link.peer();
    drop((link, guest));
    assert!(look().link(Role::Host, incarnation, peer).is_none());
    drop(host);
    assert!(look_for_hub(&place).is_none());
}

fn look_for_hub(place: &Place) -> Option<()> {
    let process = Process::look(std::process::id()).unwrap()?;
    process.hub_at(&place.hub()).map(|_| ())
}

/// Remembers what was recorded, by name and labels.
struct Memory {
    values: &'static Values,
}

#[derive(Default)]
struct Values(Mutex<BTreeMap<String, f64>>);

struct One(&'static Values, String);

impl CounterFn for One {
    fn increment(&self, _: u64) {
        panic!("counts are absolute");
    }

    fn absolute(&self, value: u64) {
        self.0.0.lock().unwrap().insert(self.1.clone(), value as f64);
    }
}

impl GaugeFn for One {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        self.0.0.lock().unwrap().insert(self.1.clone(), value);
    }
}

impl Memory {
    fn one(&self, key: &Key) -> std::sync::Arc<One> {
        let mut labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        std::sync::Arc::new(One(self.values, format!("{} {}", key.name(), labels.join(" "))))
    }
}

impl Recorder for Memory {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, text: SharedString) {
        assert!(!text.is_empty());
        self.values.0.lock().unwrap().insert(format!("described {}", key.as_str()), 1.0);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe_counter(key, unit, text);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn a_recorder_gets_what_a_hub_counts_and_each_metric_is_described() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut link, guest) = attach(&place, &mut host);
    link.send(&[1; 10], WAIT).unwrap();
    link.send(&[1; 500], WAIT).unwrap();
    let memory = Memory { values: Box::leak(Box::default()) };
    metrics::with_local_recorder(&memory, || {
        shm_transport::metrics::describe();
        shm_transport::metrics::record_hub(host.hub(), "test");
        shm_transport::metrics::record_link(&link.statistics(), &[("link", "one".into())]);
    });
    let values = memory.values.0.lock().unwrap();
    let value = |name: &str| *values.get(name).unwrap_or_else(|| panic!("{name}: {values:?}"));
    assert_eq!(value("shm_messages_total direction=sent hub=test kind=inline"), 1.0);
    assert_eq!(value("shm_bytes_total direction=sent hub=test kind=slot"), 500.0);
    assert_eq!(value("shm_bytes_total direction=sent kind=slot link=one"), 500.0);
    assert_eq!(value("shm_guests hub=test"), 1.0);
    assert_eq!(value("shm_guests_total event=attached hub=test"), 1.0);
    let recorded = values.keys().filter_map(|key| key.split(' ').next());
    for name in recorded.filter(|name| *name != "described") {
        assert!(values.contains_key(&format!("described {name}")), "{name}");
    }
    drop(guest);
}
