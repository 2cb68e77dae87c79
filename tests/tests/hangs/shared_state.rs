//! The calls of what processes share beside messages: topics, leases, fleets. Those of fleets
//! wait for nobody, so they take no deadline; they are here because they must not wait.

use std::{thread, time::Duration};

use shm_tests::{
    Place, WAIT, eventually,
    fleet::{CLAIMS, CONFIG, NAME, NODES, RING},
    peer,
    process::Peer,
    raw::topic,
    raw_host::RawHost,
};
use shm_transport::{
    Deadline, Guest, Host, Lease, LeaseError, LinkEnd, Start, Subscriber, SubscriberError,
    TopicConfig, TypedSubscriber,
    fleet::{ClaimError, Claims, Fleet, JoinError},
};

use super::matrix::{Answer, EVENT, Matrix, SHORT, State, rounds};

pub const BLOCKING: &[&str] =
    &["Subscriber::next", "TypedSubscriber::next", "Lease::wait_for_ownership"];

/// How long a subscriber at most waits for the host to answer, in calls without a deadline.
const PATIENCE: Duration = Duration::from_secs(1);

fn read<T: std::fmt::Debug>(result: Result<T, SubscriberError>) -> Answer {
    match result {
        Err(SubscriberError::TimedOut) => Answer::TimedOut,
        Err(SubscriberError::Ended(end)) => Answer::Ended(end),
        other => Answer::other(other),
    }
}

type Next = (&'static str, fn(Subscriber, TypedSubscriber<u64>, Deadline) -> Answer);

const NEXT: [Next; 2] = [
    ("Subscriber::next", |mut all, _, by| read(all.next(by))),
    ("TypedSubscriber::next", |_, mut typed, by| read(typed.next(by))),
];

/// A host with a topic, and a guest that follows it; has asked for a wake-up before if told.
fn follow(place: &Place, has_slept: bool) -> (Peer, Guest, Subscriber, TypedSubscriber<u64>) {
    let mut host = peer!("publisher", place.hub(), "4", "8");
    assert_eq!(host.answer(), "host");
    let guest = Guest::attach(place.hub(), WAIT).expect("attached");
    let mut all = guest.subscribe("values", Start::Next).expect("the topic");
    let mut typed = guest.subscribe_typed("values", Start::Next).expect("the topic");
    if has_slept {
        all.descriptor().expect("the host answers");
        typed.as_subscriber().descriptor().expect("the host answers");
    }
    (host, guest, all, typed)
}

#[test]
fn calls_of_subscribers_and_publishers_return() {
    let mut matrix = Matrix::default();
    for _ in 0..rounds() {
        subscribers(&mut matrix);
        publishers(&mut matrix);
    }
    matrix.finish("Topics", &BLOCKING[..2]);
}

fn subscribers(matrix: &mut Matrix) {
    use State::{Closes, Corrupt, Dead, Dies, Evicted, Full, Stopped};
    for (name, next) in NEXT {
        for has_slept in [false, true] {
            for state in [Full, Stopped, Dead, Dies, Closes, Evicted] {
                let place = Place::new();
                let (mut host, guest, all, typed) = follow(&place, has_slept);
                match state {
                    Stopped => host.stop(),
                    Dead => {
                        host.kill();
                        eventually(|| guest.link.end());
                    }
                    _ => {}
                }
                let waits = matches!(state, Full | Stopped);
                let (by, due) = match state {
                    Full | Stopped => (SHORT.into(), (SHORT, SHORT)),
                    _ => (Deadline::NEVER, (Duration::ZERO, EVENT)),
                };
                let answer = thread::scope(|scope| {
                    scope.spawn(|| {
                        thread::sleep(EVENT);
                        match state {
                            Dies => host.kill(),
                            Closes => host.tell("goodbye"),
                            Evicted => host.tell("evict"),
                            _ => {}
                        }
                    });
                    matrix.call(name, state, due, move || next(all, typed, by))
                });
                let expected = match state {
                    _ if waits => Answer::TimedOut,
                    Closes => Answer::Ended(LinkEnd::Departed),
                    Evicted => Answer::Ended(LinkEnd::Evicted),
                    _ => Answer::Ended(LinkEnd::PeerDead),
                };
                assert_eq!(answer, expected, "{name} {state:?}");
            }
        }
        // A value longer than any of the topic.
        let place = Place::new();
        let mut host = RawHost::new(&[("values", 4, 8)]);
        let guest = host.let_in(&place.hub(), true).expect("attached");
        let all = guest.subscribe("values", Start::Next).expect("the topic");
        let typed = guest.subscribe_typed("values", Start::Next).expect("the topic");
        let slot = topic::slot(topic::ring(&host.hub, 0), 0, 8);
        let answer = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(EVENT);
                host.hub.store64(slot + 8, u64::MAX);
                host.hub.store64(slot, 2);
            });
            let due = (Duration::ZERO, EVENT);
            matrix.call(name, Corrupt, due, move || next(all, typed, WAIT.into()))
        });
        assert!(matches!(&answer, Answer::Other(said) if said.contains("Corrupt")), "{answer:?}");
    }
    // These take no deadline and have one of their own.
    for state in [Stopped, Dead] {
        let place = Place::new();
        let (mut host, guest, mut all, mut typed) = follow(&place, false);
        if state == Stopped {
            host.stop();
        } else {
            host.kill();
            eventually(|| guest.link.end());
        }
        let expected = match state {
            Stopped => Answer::TimedOut,
            _ => Answer::Ended(LinkEnd::PeerDead),
        };
        let due = (Duration::ZERO, PATIENCE);
        let arm = matrix.call("Subscriber::arm", state, due, move || read(all.arm()));
        let descriptor = matrix.call("Subscriber::descriptor", state, due, move || {
            read(typed.as_subscriber().descriptor().map(drop))
        });
        assert_eq!((&arm, &descriptor), (&expected, &expected), "{state:?}");
    }
}

/// A publisher waits for no subscriber, whether that sleeps, is stopped or dead.
fn publishers(matrix: &mut Matrix) {
    for state in [State::Full, State::Stopped, State::Dead] {
        let place = Place::new();
        let topic = TopicConfig { slots: 2, max_payload: 64 };
        let mut host = place.host(Host::builder().link(shm_tests::small()).topic("values", topic));
        let mut guest = peer!("subscriber", place.hub());
        let link = host.accept(WAIT).expect("a guest");
        assert!(guest.answer().starts_with("attached"));
        assert_eq!(guest.ask("subscribe values"), "subscribed");
        // It is about to be asleep: by descriptor, and by bell.
        assert_eq!(guest.ask("arm"), "false");
        guest.tell("next-for-ever");
        match state {
            State::Stopped => guest.stop(),
            State::Dead => guest.kill(),
            _ => {}
        }
        let mut publisher = host.hub().publisher("values").expect("the topic");
        let due = (Duration::ZERO, Duration::ZERO);
        let answer = matrix.call("Publisher::publish", state, due, move || {
            for _ in 0..1000 {
                publisher.publish(&[7; 64]).expect("published");
            }
            Answer::other(publisher.published())
        });
        assert_eq!(answer, Answer::other(1000));
        drop(link);
    }
}

#[test]
fn calls_that_wait_for_the_ownership_of_a_data_file_return() {
    let mut matrix = Matrix::default();
    (0..rounds()).for_each(|_| leases(&mut matrix));
    matrix.finish("Leases", &BLOCKING[2..]);
}

fn leases(matrix: &mut Matrix) {
    for state in [State::Full, State::Stopped, State::Dies, State::Closes] {
        let place = Place::new();
        let data = place.file("data");
        std::fs::write(&data, "data").expect("a data file");
        let mut owner = peer!("lease", &data);
        owner.ask("open-on");
        if state == State::Stopped {
            owner.stop();
        }
        // Opening waits for no owner.
        let due = (Duration::ZERO, Duration::ZERO);
        let (path, on) = (data.clone(), shm_transport::LeasePolicy::On);
        let opened = matrix.call("Lease::open", state, due, move || {
            let lease = Lease::builder().policy(on).open(path).expect("opened");
            Answer::other(lease.is_owner())
        });
        assert_eq!(opened, Answer::other(false));
        let mut lease = Lease::builder().policy(on).open(&data).expect("opened");
        let waits = matches!(state, State::Full | State::Stopped);
        let (by, due) = match waits {
            true => (SHORT.into(), (SHORT, SHORT)),
            false => (Deadline::NEVER, (Duration::ZERO, EVENT)),
        };
        let answer = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(EVENT);
                match state {
                    State::Dies => owner.kill(),
                    State::Closes => owner.tell("drop"),
                    _ => {}
                }
            });
            matrix.call("Lease::wait_for_ownership", state, due, move || {
                match lease.wait_for_ownership(by) {
                    Err(LeaseError::TimedOut) => Answer::TimedOut,
                    Ok(_) => Answer::other(lease.is_owner()),
                    Err(error) => Answer::other(error),
                }
            })
        });
        let expected = if waits { Answer::TimedOut } else { Answer::other(true) };
        assert_eq!(answer, expected, "{state:?}");
    }
}

#[test]
fn calls_of_a_member_of_a_fleet_return() {
    let mut matrix = Matrix::default();
    (0..rounds()).for_each(|_| fleets(&mut matrix));
    matrix.finish("Fleets", &["FleetRing::publish", "Claims::claim"]);
}

fn fleets(matrix: &mut Matrix) {
    let at_once = (Duration::ZERO, Duration::ZERO);
    for state in [State::Full, State::Stopped, State::Dead] {
        let place = Place::in_memory();
        let directory = place.file("fleet");
        let mut other = peer!("fleet", &directory, "1");
        assert_eq!(other.answer(), "joined");
        assert!(other.ask("claim x 60000").starts_with("held"));
        other.tell("spin");
        assert_eq!(other.answer(), "spinning");
        match state {
            State::Stopped => other.stop(),
            State::Dead => other.kill(),
            _ => {}
        }
        let is_dead = state == State::Dead;
        let join = move |node: u32| {
            Fleet::builder().directory(directory.clone()).nodes(NODES).join(NAME, node)
        };
        let joins = join.clone();
        let taken =
            matrix.call("FleetBuilder::join, its node", state, at_once, move || match joins(1) {
                Err(JoinError::NodeTaken { .. }) => Answer::other("taken"),
                joined => Answer::other(joined.is_ok()),
            });
        assert_eq!(taken, if is_dead { Answer::other(true) } else { Answer::other("taken") });
        let joins = join.clone();
        let joined = matrix
            .call("FleetBuilder::join", state, at_once, move || Answer::other(joins(2).is_ok()));
        assert_eq!(joined, Answer::other(true));
        let fleet = join(3).expect("joined");
        let (ring, claims) = (fleet.ring(RING, &CONFIG), Claims::open(&fleet, CLAIMS, &CONFIG));
        let (ring, claims) = (ring.expect("the ring"), claims.expect("the claims"));
        let published = matrix.call("FleetRing::publish", state, at_once, move || {
            let mut cursor = ring.cursor(shm_transport::fleet::Start::Oldest);
            for _ in 0..1000 {
                ring.publish(0, 1, b"frame").expect("published");
                // The other one may overwrite it meanwhile.
                let _ = ring.read_newest();
                cursor.next().expect("sound");
            }
            Answer::other("published, read, followed")
        });
        assert_eq!(published, Answer::other("published, read, followed"));
        let claimed =
            matrix.call("Claims::claim", state, at_once, move || match claims.claim(b"x", WAIT) {
                Err(ClaimError::Held { node, .. }) => Answer::other(node),
                claimed => Answer::other(claimed.is_ok()),
            });
        assert_eq!(claimed, if is_dead { Answer::other(true) } else { Answer::other(1) });
    }
}
