//! The calls of an open link.

use std::{thread, time::Duration};

use shm_tests::{
    Place, WAIT, eventually, peer,
    process::Peer,
    raw::{RawGuest, at},
    typed::Reading,
};
use shm_transport::{
    BatchError, Deadline, DetachError, Guest, Host, Link, LinkEnd, LinkEvent, LinkSet, Missed,
    Receiver, RecvError, SendError, Sender, SharedPayload, SlowGuest,
    typed::{TypedReceiver, TypedRecvError, TypedSendError, TypedSender},
};

use super::matrix::{Answer, EVENT, Matrix, SHORT, State, rounds};

pub const BLOCKING: &[&str] = &[
    "Link::send",
    "Link::recv",
    "Link::recv_into",
    "Link::detach",
    "Sender::send",
    "Sender::send_batch",
    "Sender::grant",
    "Sender::send_shared",
    "Receiver::recv",
    "Receiver::recv_into",
    "LinkSet::wait",
    "Guest::detach",
    "TypedSender::send",
    "TypedReceiver::recv",
];

/// A call: its name, the size of the messages that fill what it needs, and itself. It uses
/// up the link.
type Call = (&'static str, usize, fn(Link, Deadline) -> Answer);

const INLINE: usize = 100;
const SLOT: usize = 1000;
const SEALED: usize = 20_000;

const CALLS: &[Call] = &[
    ("Link::send", INLINE, |mut link, by| sent(link.send(&[0; INLINE], by))),
    ("Sender::send", INLINE, |mut link, by| sent(link.sender.send(&[0; INLINE], by))),
    ("Sender::send", SLOT, |mut link, by| sent(link.sender.send(&[0; SLOT], by))),
    ("Sender::send", SEALED, |mut link, by| sent(link.sender.send(&[0; SEALED], by))),
    ("Sender::send_batch", INLINE, |link, by| batch(link, INLINE, by)),
    ("Sender::send_batch", SLOT, |link, by| batch(link, SLOT, by)),
    ("Sender::send_batch", SEALED, |link, by| batch(link, SEALED, by)),
    ("Sender::grant", INLINE, |link, by| grant(link, INLINE, by)),
    ("Sender::grant", SLOT, |link, by| grant(link, SLOT, by)),
    ("Sender::grant", SEALED, |link, by| grant(link, SEALED, by)),
    ("Sender::send_shared", SEALED, |mut link, by| {
        let payload = SharedPayload::new(&[0; SEALED]).expect("memory");
        sent(link.sender.send_shared(&payload, by))
    }),
    ("Link::recv", INLINE, |mut link, by| received(link.recv(by))),
    ("Receiver::recv", INLINE, |mut link, by| received(link.receiver.recv(by))),
    ("Link::recv_into", INLINE, |mut link, by| received(link.recv_into(&mut [0; 200], by))),
    ("Receiver::recv_into", INLINE, |mut link, by| {
        received(link.receiver.recv_into(&mut [0; 200], by))
    }),
    ("Link::detach", INLINE, |link, by| detached(link.detach(by))),
    ("Link::detach", SEALED, |link, by| detached(link.detach(by))),
    ("LinkSet::wait", INLINE, wait_in_a_set),
    ("TypedSender::send", INLINE, |link, by| typed_sent(link.split().0, by)),
    ("TypedReceiver::recv", INLINE, |link, by| typed_received(link.split().1, by)),
    ("send_to_all, Wait", INLINE, |link, by| to_all(link, INLINE, SlowGuest::Wait(by))),
    ("send_to_all, Wait", SLOT, |link, by| to_all(link, SLOT, SlowGuest::Wait(by))),
    ("send_to_all, Wait", SEALED, |link, by| to_all(link, SEALED, SlowGuest::Wait(by))),
];

fn sent(result: Result<(), SendError>) -> Answer {
    match result {
        Err(SendError::TimedOut) => Answer::TimedOut,
        Err(SendError::Ended(end)) => Answer::Ended(end),
        other => Answer::other(other),
    }
}

fn received(result: Result<impl std::fmt::Debug, RecvError>) -> Answer {
    match result {
        Err(RecvError::TimedOut) => Answer::TimedOut,
        Err(RecvError::Ended(end)) => Answer::Ended(end),
        other => Answer::other(other),
    }
}

fn typed_sent(mut sender: Sender, by: Deadline) -> Answer {
    // No room is left for a smaller message either.
    while sender.try_send(&[1]).is_ok() {}
    match TypedSender::<Reading>::new(sender).send(&Reading { number: 1, value: 1.0 }, by) {
        Err(TypedSendError::Send(error)) => sent(Err(error)),
        result => Answer::other(result),
    }
}

fn typed_received(receiver: Receiver, by: Deadline) -> Answer {
    match TypedReceiver::<Reading>::new(receiver).recv(by) {
        Err(TypedRecvError::Recv(error)) => received(Err::<Reading, _>(error)),
        result => Answer::other(result),
    }
}

fn detached(result: Result<(), DetachError>) -> Answer {
    match result {
        Err(DetachError::TimedOut) => Answer::TimedOut,
        Err(DetachError::Ended(end)) => Answer::Ended(end),
        other => Answer::other(other),
    }
}

fn batch(mut link: Link, len: usize, by: Deadline) -> Answer {
    match link.sender.send_batch(&vec![vec![0; len]; 100], by) {
        Err(BatchError { error, .. }) => sent(Err(error)),
        Ok(()) => Answer::other(()),
    }
}

fn grant(mut link: Link, len: usize, by: Deadline) -> Answer {
    sent(link.sender.grant(len, by).map(drop))
}

fn wait_in_a_set(link: Link, by: Deadline) -> Answer {
    let (mut set, mut events) = (LinkSet::new().expect("a set"), Vec::new());
    let key = set.insert(link).expect("inserted");
    set.wait(&mut events, by).expect("it waits");
    match *events {
        [] => Answer::TimedOut,
        [LinkEvent::Ready(ready)] if ready == key => {
            received(set.get_mut(key).expect("its link").try_recv())
        }
        _ => Answer::other(events),
    }
}

fn to_all(link: Link, len: usize, slow: SlowGuest) -> Answer {
    let mut set = LinkSet::new().expect("a set");
    set.insert(link).expect("inserted");
    let all = set.send_to_all(&vec![0; len], slow).expect("it is sent");
    match *all.missed {
        [(_, Missed::TimedOut)] => Answer::TimedOut,
        [(_, Missed::Ended(end))] => Answer::Ended(end),
        _ => Answer::other(all.missed),
    }
}

/// The other side of a link.
enum Other {
    Guest(Host, Peer),
    Host(Peer),
    Raw(RawGuest),
}

impl Other {
    fn process(&mut self) -> &mut Peer {
        match self {
            Self::Guest(_, peer) | Self::Host(peer) => peer,
            Self::Raw(..) => panic!("it is no process of its own"),
        }
    }

    fn meets(&mut self, state: State) {
        match (state, self) {
            (State::Closes, Self::Guest(_, guest)) => guest.tell("drop"),
            (State::Closes, Self::Host(host)) => host.tell("say-goodbye"),
            (State::Evicted, Self::Guest(host, _)) => {
                let peer = host.hub().peers()[0].id;
                assert!(host.hub().evict(peer));
            }
            (State::Corrupt, Self::Raw(guest)) => {
                guest.memory.store64(at::TAIL, u64::MAX / 2);
                guest.memory.store32(at::SPACE_BELL, 1);
                guest.memory.wake(at::SPACE_BELL);
                guest.publish(0xff, 8);
            }
            (State::Dies, other) => other.process().kill(),
            (state, _) => panic!("{state:?} is not for this side"),
        }
    }
}

/// A call of this side with the other in this state; the ways that the call needs are full.
fn meet(matrix: &mut Matrix, call: &Call, state: State, (mut link, mut other): (Link, Other)) {
    let (name, len, run) = *call;
    let for_slot = state == State::Corrupt && len != INLINE && name != "Link::detach";
    if state == State::Stopped {
        other.process().stop();
    }
    while link.try_send(&vec![1; len]).is_ok() {}
    if state == State::Dead {
        other.process().kill();
        eventually(|| link.end());
    }
    let answer = match state {
        State::Full | State::Stopped => {
            matrix.call(name, state, (SHORT, SHORT), move || run(link, SHORT.into()))
        }
        State::Dead => {
            let due = (Duration::ZERO, Duration::ZERO);
            matrix.call(name, state, due, move || run(link, Deadline::NEVER))
        }
        _ => thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(EVENT);
                other.meets(state);
            });
            // Who waits for a slot does not look at the ring, and has only its deadline.
            let by = if for_slot { (EVENT + SHORT).into() } else { Deadline::NEVER };
            let due = (Duration::ZERO, if for_slot { EVENT + SHORT } else { EVENT });
            matrix.call(name, state, due, move || run(link, by))
        }),
    };
    let is_right = match state {
        State::Corrupt if for_slot => answer == Answer::TimedOut,
        State::Full | State::Stopped => answer == Answer::TimedOut,
        State::Dead | State::Dies => answer == Answer::Ended(LinkEnd::PeerDead),
        State::Closes => answer == Answer::Ended(LinkEnd::Departed),
        State::Evicted => answer == Answer::Ended(LinkEnd::Evicted),
        State::Corrupt => matches!(answer, Answer::Ended(LinkEnd::Corrupt(_))),
    };
    assert!(is_right, "{name} of {len} bytes with a peer {state:?}: {answer:?}");
}

fn guest_of(place: &Place) -> (Link, Other) {
    let mut host = place.small_host();
    let mut guest = peer!("guest", place.hub());
    let link = host.accept(WAIT).expect("a guest");
    assert!(guest.answer().starts_with("attached"));
    (link, Other::Guest(host, guest))
}

fn raw_guest_of(place: &Place) -> (Link, Other) {
    let mut host = place.small_host();
    let path = place.hub();
    let attaching = thread::spawn(move || RawGuest::attach(&path));
    let link = host.accept(WAIT).expect("a guest");
    (link, Other::Raw(attaching.join().expect("attached")))
}

fn host_of(place: &Place) -> (Guest, Peer) {
    let mut host = peer!("host", place.hub());
    assert_eq!(host.answer(), "host");
    host.tell("accept");
    let guest = Guest::attach(place.hub(), WAIT).expect("attached");
    assert_eq!(host.answer(), "accepted 1");
    (guest, host)
}

#[test]
fn calls_of_a_host_return() {
    let mut matrix = Matrix::default();
    (0..rounds()).for_each(|_| host_calls(&mut matrix));
    let guests_own = |call: &&str| call.starts_with("Guest");
    let calls: Vec<&str> = BLOCKING.iter().copied().filter(|call| !guests_own(call)).collect();
    matrix.finish("A host's link", &calls);
}

fn host_calls(matrix: &mut Matrix) {
    use State::{Closes, Corrupt, Dead, Dies, Evicted, Full, Stopped};
    for call in CALLS {
        for state in [Full, Stopped, Dead, Dies, Closes, Evicted] {
            meet(matrix, call, state, guest_of(&Place::new()));
        }
        meet(matrix, call, Corrupt, raw_guest_of(&Place::new()));
    }
    // These wait for nobody.
    for (name, slow, expected) in [
        ("send_to_all, Drop", SlowGuest::Drop, Missed::Dropped),
        ("send_to_all, Evict", SlowGuest::Evict, Missed::Evicted),
    ] {
        for (len, state) in [(INLINE, Full), (SLOT, Full), (SEALED, Full), (INLINE, Stopped)] {
            let place = Place::new();
            let (mut link, mut other) = guest_of(&place);
            if state == Stopped {
                other.process().stop();
            }
            while link.try_send(&vec![1; len]).is_ok() {}
            let due = (Duration::ZERO, Duration::ZERO);
            let answer = matrix.call(name, state, due, move || to_all(link, len, slow));
            let expected = format!("{expected:?}");
            assert!(matches!(&answer, Answer::Other(all) if all.contains(&expected)), "{answer:?}");
        }
    }
}

#[test]
fn calls_of_a_guest_return() {
    let mut matrix = Matrix::default();
    (0..rounds()).for_each(|_| guest_calls(&mut matrix));
    matrix.finish("A guest's link", BLOCKING);
}

fn guest_calls(matrix: &mut Matrix) {
    use State::{Closes, Dead, Dies, Full, Stopped};
    let states = [Full, Stopped, Dead, Dies, Closes];
    for call in CALLS.iter().filter(|(name, ..)| !name.starts_with("send_to_all")) {
        for state in states {
            let place = Place::new();
            let (guest, host) = host_of(&place);
            meet(matrix, call, state, (guest.link, Other::Host(host)));
        }
    }
    for state in states {
        let place = Place::new();
        let (mut guest, host) = host_of(&place);
        let mut other = Other::Host(host);
        guest.link.send(b"unread", WAIT).expect("sent");
        if state == Stopped {
            other.process().stop();
        }
        if state == Dead {
            other.process().kill();
            eventually(|| guest.link.end());
        }
        let waits = matches!(state, Full | Stopped);
        let (by, due) = if waits { (SHORT.into(), SHORT) } else { (Deadline::NEVER, EVENT) };
        let answer = thread::scope(|scope| {
            if matches!(state, Dies | Closes) {
                scope.spawn(|| {
                    thread::sleep(EVENT);
                    other.meets(state);
                });
            }
            let not_before = if waits { SHORT } else { Duration::ZERO };
            let detach = move || detached(guest.detach(by));
            matrix.call("Guest::detach", state, (not_before, due), detach)
        });
        let expected = match state {
            Full | Stopped => Answer::TimedOut,
            Closes => Answer::Ended(LinkEnd::Departed),
            _ => Answer::Ended(LinkEnd::PeerDead),
        };
        assert_eq!(answer, expected, "{state:?}");
    }
}
