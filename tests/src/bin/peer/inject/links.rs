//! Links between two ends in this process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use nix::unistd::gettid;
use shm_tests::{pattern, small};
use shm_transport::{Link, LinkConfig, LinkEvent, LinkSet, Missed, RecvError, SlowGuest};

use super::{Failure, Operation, Outcome, PATIENCE, Spot, marked, wait_for_sleep};

pub(super) const OPERATIONS: &[(&str, Operation)] = &[
    ("pair", pair),
    ("send inline, waking", |_| send_waking(100)),
    ("send slot, waking", |_| send_waking(1000)),
    ("send sealed, waking", |_| send_waking(20_000)),
    ("send slot, first extent", |_| send(1000, 0)),
    ("send slot, second extent", |_| send(1000, 2)),
    ("send sealed", |_| send(20_000, 0)),
    ("send batch", |_| send_batch()),
    ("grant slot", |_| grant(1000)),
    ("grant sealed", |_| grant(20_000)),
    ("send, asleep until there is room", |_| send_when_full()),
    ("receive slot, first of an extent", |_| receive(1000)),
    ("receive sealed and release", |_| receive(20_000)),
    ("receive, asleep", |_| receive_asleep()),
    ("detach", |_| detach()),
    ("drop link", |_| drop_link()),
    ("link set, insert", |_| insert()),
    ("link set, asleep", |_| link_set_asleep()),
    ("send to all", |_| send_to_all()),
];

/// Without spinning: who waits sleeps.
pub(super) fn config() -> LinkConfig {
    LinkConfig { spin: Duration::ZERO, ..small() }
}

pub(super) fn ends() -> (Link, Link) {
    Link::pair(&config()).expect("a pair")
}

fn pair(_: &Spot<'_>) -> Outcome {
    let made = marked(|| Link::pair(&config()));
    let outcome = match made {
        Ok((mut left, mut right)) => {
            works(&mut left, &mut right);
            works(&mut right, &mut left);
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    let (mut left, mut right) = ends();
    works(&mut left, &mut right);
    outcome
}

/// Messages of all kinds pass, and nothing else was under way.
pub(super) fn works(from: &mut Link, to: &mut Link) {
    for len in [10, 1000, 5000, 20_000] {
        from.send(&pattern::message(len as u64, len), PATIENCE).expect("sent");
        arrives(to, len as u64);
    }
    assert!(to.try_recv().expect("the link is open").is_none());
}

pub(super) fn arrives(link: &mut Link, number: u64) {
    let message = link.recv(PATIENCE).expect("received").to_bytes();
    assert!(pattern::matches(number, &message), "another message than {number}");
}

/// Sends to a receiver that sleeps. It gets what was sent, and what is sent next.
fn send_waking(len: usize) -> Outcome {
    let (mut left, mut right) = ends();
    let (tell, told) = mpsc::channel();
    let receiving = thread::spawn(move || {
        tell.send(gettid().as_raw()).expect("somebody listens");
        let mut numbers = Vec::new();
        while numbers.last() != Some(&2) {
            let message = right.recv(PATIENCE).expect("received").to_bytes();
            let number = if pattern::matches(1, &message) { 1 } else { 2 };
            assert!(pattern::matches(number, &message));
            numbers.push(number);
        }
        numbers
    });
    let thread = told.recv().expect("a thread");
    wait_for_sleep(thread, || receiving.is_finished());
    let sent = marked(|| left.send(&pattern::message(1, len), PATIENCE));
    left.send(&pattern::message(2, len), PATIENCE).expect("sent");
    let numbers = receiving.join().expect("received");
    assert_eq!(numbers.len(), 1 + usize::from(sent.is_ok()), "{sent:?}");
    Ok(sent?)
}

/// Sends while the receiver holds so many messages before.
fn send(len: usize, held: u64) -> Outcome {
    let (mut left, mut right) = ends();
    let mut kept = Vec::new();
    for number in 10..10 + held {
        left.send(&pattern::message(number, len), PATIENCE).expect("sent");
        kept.push(right.recv(PATIENCE).expect("received").into_owned());
    }
    let sent = marked(|| left.send(&pattern::message(1, len), PATIENCE));
    if sent.is_ok() {
        arrives(&mut right, 1);
    }
    works(&mut left, &mut right);
    drop(kept);
    assert_eq!(left.sender.slots_in_flight(), 0);
    Ok(sent?)
}

fn send_batch() -> Outcome {
    let (mut left, mut right) = ends();
    let lens = [10, 1000, 20_000, 5000, 100, 30_000];
    let batch: Vec<_> =
        (0u64..).zip(lens).map(|(number, len)| pattern::message(number, len)).collect();
    let sent = marked(|| left.sender.send_batch(&batch, PATIENCE));
    let count = sent.as_ref().map_or_else(|error| error.sent, |()| batch.len());
    for number in 0..count as u64 {
        arrives(&mut right, number);
    }
    works(&mut left, &mut right);
    assert_eq!(left.sender.slots_in_flight(), 0);
    sent.map_err(|error| error.error.into())
}

fn grant(len: usize) -> Outcome {
    let (mut left, mut right) = ends();
    let expected = pattern::message(1, len - 8);
    let sent = marked(|| {
        let mut grant = left.sender.grant(len, PATIENCE)?;
        grant[..len - 8].copy_from_slice(&expected);
        grant.commit_prefix(len - 8)
    });
    if sent.is_ok() {
        arrives(&mut right, 1);
    }
    works(&mut left, &mut right);
    assert_eq!(left.sender.slots_in_flight(), 0);
    Ok(sent?)
}

/// Sends into a full ring; the receiver makes room when the sender sleeps.
fn send_when_full() -> Outcome {
    let (mut left, mut right) = ends();
    let mut count = 0;
    while left.try_send(&pattern::message(count, 100)).is_ok() {
        count += 1;
    }
    let returned = Arc::new(AtomicBool::new(false));
    let has_returned = Arc::clone(&returned);
    let sleeper = gettid().as_raw();
    let receiving = thread::spawn(move || {
        wait_for_sleep(sleeper, || has_returned.load(Ordering::Relaxed));
        for number in 0..count {
            arrives(&mut right, number);
        }
        right
    });
    let sent = marked(|| left.send(&pattern::message(count, 100), PATIENCE));
    returned.store(true, Ordering::Relaxed);
    let mut right = receiving.join().expect("received");
    if sent.is_ok() {
        arrives(&mut right, count);
    }
    works(&mut left, &mut right);
    Ok(sent?)
}

fn receive(len: usize) -> Outcome {
    let (mut left, mut right) = ends();
    left.send(&pattern::message(1, len), PATIENCE).expect("sent");
    let received = marked(|| right.recv(PATIENCE).map(|message| message.to_bytes()));
    let outcome = match received {
        Ok(message) => {
            assert!(pattern::matches(1, &message));
            Ok(())
        }
        Err(error) => {
            arrives(&mut right, 1);
            Err(error.into())
        }
    };
    works(&mut left, &mut right);
    assert_eq!(left.sender.slots_in_flight(), 0);
    outcome
}

fn receive_asleep() -> Outcome {
    let (mut left, mut right) = ends();
    let returned = Arc::new(AtomicBool::new(false));
    let has_returned = Arc::clone(&returned);
    let sleeper = gettid().as_raw();
    let sending = thread::spawn(move || {
        wait_for_sleep(sleeper, || has_returned.load(Ordering::Relaxed));
        left.send(&pattern::message(1, 100), PATIENCE).expect("sent");
        left
    });
    let received = marked(|| right.recv(PATIENCE).map(|message| message.to_bytes()));
    returned.store(true, Ordering::Relaxed);
    let mut left = sending.join().expect("sent");
    let outcome = match received {
        Ok(message) => {
            assert!(pattern::matches(1, &message));
            Ok(())
        }
        Err(error) => {
            arrives(&mut right, 1);
            Err(error.into())
        }
    };
    works(&mut left, &mut right);
    outcome
}

/// What was sent is there for the other side, whatever fails afterwards, and then the end.
fn ends_after_one_message(mut right: Link) {
    arrives(&mut right, 1);
    let end = right.recv(PATIENCE).map(|message| message.len());
    assert!(matches!(end, Err(RecvError::Ended(_))), "{end:?}");
}

fn detach() -> Outcome {
    let (mut left, right) = ends();
    left.send(&pattern::message(1, 1000), PATIENCE).expect("sent");
    let receiving = thread::spawn(move || ends_after_one_message(right));
    let detached = marked(|| left.detach(PATIENCE));
    receiving.join().expect("received");
    Ok(detached?)
}

fn drop_link() -> Outcome {
    let (mut left, right) = ends();
    left.send(&pattern::message(1, 20_000), PATIENCE).expect("sent");
    marked(|| drop(left));
    ends_after_one_message(right);
    Ok(())
}

fn insert() -> Outcome {
    let (left, mut right) = ends();
    let inserted = marked(|| {
        let mut set = LinkSet::new()?;
        set.insert(left).map(|key| (set, key))
    });
    let outcome = match inserted {
        Ok((mut set, key)) => {
            works(set.get_mut(key).expect("the link"), &mut right);
            works(&mut right, set.get_mut(key).expect("the link"));
            Ok(())
        }
        Err(error) => {
            // The link went with the call.
            let end = right.recv(PATIENCE).map(|message| message.len());
            assert!(matches!(end, Err(RecvError::Ended(_))), "{end:?}");
            Err(error.into())
        }
    };
    let (left, mut right) = ends();
    let mut set = LinkSet::new().expect("a set");
    let key = set.insert(left).expect("inserted");
    works(set.get_mut(key).expect("the link"), &mut right);
    outcome
}

fn link_set_asleep() -> Outcome {
    let (left, mut right) = ends();
    let mut set = LinkSet::new().expect("a set");
    let key = set.insert(left).expect("inserted");
    let returned = Arc::new(AtomicBool::new(false));
    let has_returned = Arc::clone(&returned);
    let sleeper = gettid().as_raw();
    let sending = thread::spawn(move || {
        wait_for_sleep(sleeper, || has_returned.load(Ordering::Relaxed));
        right.send(&pattern::message(1, 100), PATIENCE).expect("sent");
        right
    });
    let mut events = Vec::new();
    let waited = marked(|| set.wait(&mut events, PATIENCE));
    assert!(waited.is_err() || events == [LinkEvent::Ready(key)], "{events:?}");
    returned.store(true, Ordering::Relaxed);
    let mut right = sending.join().expect("sent");
    arrives(set.get_mut(key).expect("the link"), 1);
    // And it is woken once more.
    right.send(&pattern::message(2, 100), PATIENCE).expect("sent");
    set.wait(&mut events, PATIENCE).expect("woken");
    assert_eq!(events, [LinkEvent::Ready(key)]);
    arrives(set.get_mut(key).expect("the link"), 2);
    Ok(waited?)
}

fn send_to_all() -> Outcome {
    let mut set = LinkSet::new().expect("a set");
    let mut ends = Vec::new();
    for _ in 0..3 {
        let (left, right) = self::ends();
        set.insert(left).expect("inserted");
        ends.push(right);
    }
    let message = pattern::message(1, 20_000);
    let sent = marked(|| set.send_to_all(&message, SlowGuest::Wait(PATIENCE.into())));
    let count = sent.as_ref().map_or(0, |all| all.sent);
    let failed = sent.as_ref().ok().and_then(|all| all.missed.first()).map(|(_, missed)| {
        let Missed::Os(error) = missed else { panic!("{missed:?}") };
        format!("{missed:?} | {error}")
    });
    let again = set.send_to_all(&pattern::message(2, 20_000), SlowGuest::Wait(PATIENCE.into()));
    assert_eq!(again.expect("sent").sent, 3);
    let mut got = 0;
    for end in &mut ends {
        let message = end.recv(PATIENCE).expect("received").to_bytes();
        if pattern::matches(1, &message) {
            got += 1;
            arrives(end, 2);
        } else {
            assert!(pattern::matches(2, &message));
        }
    }
    assert_eq!(got, count);
    failed.map_or(Ok(()), |failed| Err(Failure(failed)))?;
    Ok(sent.map(drop)?)
}
