//! What a message to all holds in the sending process: nothing, as soon as it is queued to
//! everybody who has room, whoever else has none.
//!
//! All is in one test, because it counts what its whole process holds.

use nix::sys::signal::Signal;
use shm_tests::{Place, WAIT, counts, eventually, pattern, peer, process::Peer};
use shm_transport::{Deadline, Host, Link, LinkKey, LinkSet, Missed, SlowGuest};

const SEALED: usize = 20_000;

fn attach(host: &mut Host, links: &mut LinkSet) -> (LinkKey, Peer) {
    let mut guest = peer!("guest", host.path());
    let link = host.accept(WAIT).unwrap();
    assert_eq!(guest.answer(), format!("attached {}", link.peer()));
    (links.insert(link).unwrap(), guest)
}

#[test]
fn nothing_is_held_for_slow_guests_and_nothing_is_left_of_fast_ones() {
    // The death watch is made once and kept.
    drop(Link::pair(&shm_tests::small()).unwrap());
    let place = Place::new();
    let mut host = place.small_host();
    let empty = counts::holdings();
    let mut links = LinkSet::new().unwrap();
    let mut guests: Vec<(LinkKey, Peer)> = (0..3).map(|_| attach(&mut host, &mut links)).collect();
    let before = counts::holdings();
    for (_, guest) in &mut guests {
        guest.tell("gather");
    }
    guests[0].1.signal(Signal::SIGSTOP);
    let policies = [SlowGuest::Drop, SlowGuest::Wait(Deadline::NOW)];
    for (number, slow) in (0..300).zip(policies.into_iter().cycle()) {
        let mut message = u64::to_le_bytes(number).to_vec();
        message.extend(pattern::message(number, SEALED));
        let all = links.send_to_all(&message, slow).unwrap();
        assert_eq!(all.sent + all.missed.len(), 3);
        for (key, missed) in all.missed {
            if matches!(missed, Missed::TimedOut) {
                links.get_mut(key).unwrap().sender.count_dropped();
            }
        }
        assert_eq!(counts::holdings(), before, "after message {number}");
    }
    let stopped = &mut links.get_mut(guests[0].0).unwrap().sender;
    assert_eq!(stopped.slots_in_flight(), 4, "as many as its link carries");
    guests[0].1.signal(Signal::SIGCONT);
    for (key, guest) in &guests {
        let sender = &mut links.get_mut(*key).unwrap().sender;
        eventually(|| (sender.slots_in_flight() == 0).then_some(()));
        let pid = guest.pid().to_string();
        eventually(|| counts::payloads_mapped_by(&pid).is_empty().then_some(()));
    }
    assert_eq!(counts::holdings(), before);
    let dropped = |key| links.get_mut(key).unwrap().sender.dropped();
    let missed: Vec<u64> = guests.iter().map(|(key, _)| *key).map(dropped).collect();
    drop(links);
    for ((_, guest), missed) in guests.iter_mut().zip(missed) {
        assert_eq!(guest.answer(), format!("{} {missed} Ended(Departed)", 300 - missed));
    }
    drop(guests);
    eventually(|| (counts::holdings() == empty).then_some(()));
}
