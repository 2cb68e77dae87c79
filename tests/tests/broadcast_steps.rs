//! What a process does between two instructions of another one. A tracer stops one thread at
//! any of its instructions, for as long as it likes, while all others go on; see ptrace(2).

use std::{thread, time::Duration};

use nix::{
    sys::{
        ptrace,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use shm_tests::{
    Place, WAIT, eventually,
    pattern::{self, Random},
    peer,
    process::Peer,
    small,
};
use shm_transport::{Guest, Host, LinkEnd, Start, SubscriberError, TopicConfig};

const VALUES: &str = "values";
const MAX: usize = 24;

/// Stops the main thread of a helper where it is. Other threads go on.
fn stop(helper: &Peer) -> Pid {
    let thread = Pid::from_raw(helper.pid() as i32);
    ptrace::attach(thread).unwrap();
    assert!(matches!(waitpid(thread, None), Ok(WaitStatus::Stopped(..))));
    thread
}

fn step(thread: Pid) {
    ptrace::step(thread, None).unwrap();
    assert!(matches!(waitpid(thread, None), Ok(WaitStatus::Stopped(..))));
}

fn publisher(place: &Place, slots: u64) -> Peer {
    let mut host = peer!("publisher", place.hub(), slots.to_string(), MAX.to_string());
    assert_eq!(host.answer(), "host");
    host
}

/// Lets a helper, which is stopped in the system call with which it takes commands, carry one
/// out. Returns the numbers of its other system calls, each once as it begins and once as it
/// ends.
#[cfg_attr(feature = "audit", allow(dead_code))]
fn carry_out(thread: Pid, helper: &mut Peer, command: &str) -> (Vec<String>, String) {
    helper.tell(command);
    let (mut calls, mut answer) = (Vec::new(), None);
    eventually(|| {
        answer = answer.take().or_else(|| helper.answer_within(Duration::ZERO));
        match waitpid(thread, Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive => answer.take().map(|answer| {
                // A command can take several reads. It sleeps in the last.
                let read = calls.pop();
                calls.retain(|call| Some(call) != read.as_ref());
                (calls.split_off(0), answer)
            }),
            _ => {
                let call = std::fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap();
                calls.extend(call.split_whitespace().next().map(String::from));
                ptrace::syscall(thread, None).unwrap();
                None
            }
        }
    })
}

/// The auditor keeps its books by system calls.
#[cfg(not(feature = "audit"))]
#[test]
fn publishing_needs_no_system_call_unless_somebody_sleeps() {
    let place = Place::new();
    let mut host = publisher(&place, 4);
    let guest = Guest::attach(place.hub(), WAIT).unwrap();
    let mut values = guest.subscribe(VALUES, Start::Next).unwrap();
    assert_eq!(host.ask("publish 3"), "3");
    let thread = stop(&host);
    ptrace::syscall(thread, None).unwrap();
    // What the command itself costs.
    carry_out(thread, &mut host, "publish 2");
    let (idle, answer) = carry_out(thread, &mut host, "publish 0");
    assert_eq!(answer, "5");
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut last = 0;
            while last < 100_004 {
                if let Some(value) = values.try_next().unwrap() {
                    last = value.position;
                    assert!(pattern::is_value(last, MAX, value.payload));
                }
            }
        });
        let (busy, answer) = carry_out(thread, &mut host, "publish 100000");
        assert_eq!(answer, "100005");
        assert_eq!(busy, idle, "system calls for 100,000 values and for none");
        reading.join().unwrap();
    });
    // The same method finds the one that wakes a sleeper.
    thread::scope(|scope| {
        let sleeping = scope.spawn(|| values.next(WAIT).unwrap().position);
        thread::sleep(Duration::from_millis(50));
        let (woke, _) = carry_out(thread, &mut host, "publish 1");
        assert_eq!(sleeping.join().unwrap(), 100_005);
        assert!(woke.len() >= idle.len(), "{woke:?}, {idle:?} when nobody sleeps");
    });
}

/// A writer is stopped at each instruction of several values in turn. Wherever it is, readers
/// that came early or late, read often or seldom, find whole values or nothing.
#[test]
fn a_writer_stopped_at_any_instruction_leaves_whole_values_or_none() {
    for slots in [1, 2, 4] {
        let place = Place::new();
        let mut host = publisher(&place, slots);
        let guest = Guest::attach(place.hub(), WAIT).unwrap();
        let begin = |start| guest.subscribe(VALUES, start).unwrap();
        let (mut prompt, mut late) = (begin(Start::Next), begin(Start::Next));
        let (mut newest, mut largest, mut prompt_lost) = (None, 0, 0);
        let (mut received, mut steps, mut busy) = (0, 0u64, 0u64);
        let thread = stop(&host);
        host.tell("publish 9");
        while prompt.position() < 9 {
            step(thread);
            steps += 1;
            assert!(steps < 1_000_000, "it publishes");
            let published = prompt.published_so_far();
            assert!(published >= largest, "{published} after {largest}");
            largest = published;
            match prompt.newest() {
                Ok(found) => {
                    let found = found.map(|value| {
                        assert!(pattern::is_value(value.position, MAX, value.payload));
                        value.position
                    });
                    // One that is there stays, or a newer one is there.
                    assert!(found >= newest, "{found:?} after {newest:?}");
                    newest = found;
                }
                // Only where there is no other slot.
                Err(SubscriberError::Busy) if slots == 1 => busy += 1,
                Err(error) => panic!("{error:?}"),
            }
            while let Some(value) = prompt.try_next().unwrap() {
                assert!(pattern::is_value(value.position, MAX, value.payload));
                prompt_lost += value.lost;
                received += 1;
                assert_eq!(received + prompt_lost, value.position + 1);
            }
            if steps % 701 == 0
                && let Some(value) = late.try_next().unwrap()
            {
                assert!(pattern::is_value(value.position, MAX, value.payload));
            }
            for start in [Start::Newest, Start::Oldest] {
                let mut fresh = begin(start);
                while let Some(value) = fresh.try_next().unwrap() {
                    assert!(pattern::is_value(value.position, MAX, value.payload));
                }
                assert!(fresh.position() >= largest);
            }
        }
        // Who looks after every instruction misses none.
        assert_eq!((received, prompt_lost, newest), (9, 0, Some(8)));
        assert_eq!(slots == 1, busy > 0, "a single slot is seen half written");
    }
}

#[test]
fn a_writer_killed_at_any_instruction_leaves_whole_values_that_all_are_counted() {
    let place = Place::new();
    let mut random = Random::new(3);
    for round in 0..60 {
        let slots = [1, 2, 4][round % 3];
        let mut host = publisher(&place, slots);
        let guest = Guest::attach(place.hub(), WAIT).unwrap();
        let mut values = guest.subscribe(VALUES, Start::Next).unwrap();
        assert_eq!(host.ask("publish 7"), "7");
        let thread = stop(&host);
        host.tell("publish 5");
        while values.published_so_far() < 8 + random.below(3) {
            step(thread);
        }
        (0..random.below(400)).for_each(|_| step(thread));
        host.kill();
        let (mut received, mut lost) = (0, 0);
        let end = loop {
            match values.next(WAIT) {
                Ok(value) => {
                    assert!(pattern::is_value(value.position, MAX, value.payload));
                    received += 1;
                    lost += value.lost;
                    assert_eq!(received + lost, value.position + 1);
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(end, SubscriberError::Ended(LinkEnd::PeerDead)), "{end:?}");
        assert_eq!(received + values.lost(), values.published_so_far());
    }
}

/// A reader is stopped anywhere between finding nothing and looking whether its link has
/// ended. Meanwhile more is published than the topic retains, and the link ends. It reads
/// what is retained, counts the rest, and is told of the end after that, for good.
#[test]
fn what_was_published_before_the_end_is_read_or_counted_wherever_the_reader_is() {
    let place = Place::new();
    let topic = TopicConfig { slots: 2, max_payload: MAX as u64 };
    let mut host = place.host(Host::builder().link(small()).topic(VALUES, topic));
    let mut publisher = host.hub().publisher(VALUES).unwrap();
    let mut random = Random::new(11);
    let mut reader = peer!("subscriber", place.hub());
    let mut link = host.accept(WAIT).unwrap();
    assert!(reader.answer().starts_with("attached"));
    reader.ask("subscribe values");
    for _ in 0..100 {
        let start = publisher.published().saturating_sub(2);
        assert_eq!(reader.ask("follow-closely"), "following");
        let thread = stop(&reader);
        (0..random.below(20)).for_each(|_| step(thread));
        for _ in 0..random.below(4) + 2 {
            let position = publisher.published();
            publisher.publish(&pattern::value(position, MAX)).unwrap();
        }
        drop(link);
        // Its other thread notices.
        thread::sleep(Duration::from_millis(3));
        ptrace::detach(thread, None).unwrap();
        let said = reader.answer();
        let words: Vec<&str> = said.split(' ').collect();
        assert_eq!((words[0], words.len()), ("Some(Departed)", 5), "{said}");
        let [received, lost, position, published] =
            [1, 2, 3, 4].map(|at| words[at].parse::<u64>().unwrap());
        assert_eq!(published, publisher.published());
        assert_eq!((position, start + received + lost), (published, published), "{said}");
        reader.tell("again");
        link = host.accept(WAIT).unwrap();
        assert_eq!(reader.answer(), "again");
    }
}
