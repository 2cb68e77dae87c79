//! The model checker itself: what [`LoomMem`] lets happen, and what it refuses.

use std::{
    collections::BTreeSet,
    panic,
    sync::{Arc, Mutex},
};

use loom::thread;
use loom_tests::{Area, LoomMem, explore};
use shm_primitives::{
    Memory, Offset, Order,
    order::{FRAME_PUBLISH, FRAME_SEEN, OWN, SLEEP_FENCE},
};

const BASE: u64 = 200;
const X: Offset = Offset::new(BASE);
const Y: Offset = Offset::new(BASE + 8);

type Steps<R> = fn(&LoomMem) -> R;

/// All pairs of results of two threads.
fn outcomes<A, B>(areas: fn() -> Vec<Area>, one: Steps<A>, other: Steps<B>) -> BTreeSet<(A, B)>
where
    A: Ord + Send + 'static,
    B: Ord + Send + 'static,
{
    let found = Arc::new(Mutex::new(BTreeSet::new()));
    let of_model = Arc::clone(&found);
    explore("two threads", &[], move |_| {
        let memory = LoomMem::new(BASE + 64, &areas());
        let of_other = memory.clone();
        let running = thread::spawn(move || other(&of_other));
        let result = one(&memory);
        let results = (result, running.join().unwrap());
        of_model.lock().unwrap().insert(results);
    });
    std::mem::take(&mut found.lock().unwrap())
}

fn words() -> Vec<Area> {
    vec![Area::Words64(BASE..BASE + 16)]
}

fn bytes() -> Vec<Area> {
    vec![Area::Bytes(BASE..BASE + 16)]
}

#[test]
fn two_threads_that_store_and_then_load_may_both_miss_the_other_unless_they_fence() {
    let unfenced = outcomes(
        words,
        |memory| {
            memory.store64(X, 1, OWN);
            memory.load64(Y, OWN)
        },
        |memory| {
            memory.store64(Y, 1, OWN);
            memory.load64(X, OWN)
        },
    );
    assert_eq!(unfenced, BTreeSet::from([(0, 0), (0, 1), (1, 0), (1, 1)]));
    let fenced = outcomes(
        words,
        |memory| {
            memory.store64(X, 1, OWN);
            memory.fence(SLEEP_FENCE);
            memory.load64(Y, OWN)
        },
        |memory| {
            memory.store64(Y, 1, OWN);
            memory.fence(SLEEP_FENCE);
            memory.load64(X, OWN)
        },
    );
    assert_eq!(fenced, BTreeSet::from([(0, 1), (1, 0), (1, 1)]));
}

#[test]
fn a_message_may_be_missed_behind_its_flag_unless_the_flag_is_released_and_acquired() {
    fn send(memory: &LoomMem, order: Order) {
        memory.store64(X, 1, OWN);
        memory.store64(Y, 1, order);
    }
    fn receive(memory: &LoomMem, order: Order) -> (u64, u64) {
        (memory.load64(Y, order), memory.load64(X, OWN))
    }
    let all = BTreeSet::from([(0, 0), (0, 1), (1, 0), (1, 1)]);
    type Case = (Steps<()>, Steps<(u64, u64)>, bool);
    let cases: [Case; 4] = [
        (|m| send(m, OWN), |m| receive(m, OWN), true),
        (|m| send(m, FRAME_PUBLISH), |m| receive(m, OWN), true),
        (|m| send(m, OWN), |m| receive(m, FRAME_SEEN), true),
        (|m| send(m, FRAME_PUBLISH), |m| receive(m, FRAME_SEEN), false),
    ];
    for (send, receive, missed) in cases {
        let received: BTreeSet<_> =
            outcomes(words, send, receive).into_iter().map(|((), received)| received).collect();
        assert_eq!(received.contains(&(1, 0)), missed);
        assert!(received.is_subset(&all) && received.len() == 3 + usize::from(missed));
    }
}

/// loom's blind spot: a thread's own load before its exchange hides the other's load.
#[test]
fn of_two_threads_that_load_and_exchange_either_may_be_the_one_that_loses() {
    fn increment(memory: &LoomMem) -> (u64, bool) {
        let seen = memory.load64(X, OWN);
        (seen, memory.exchange64(X, seen, seen + 1, OWN))
    }
    let found = outcomes(words, increment, increment);
    let both = [((0, true), (1, true)), ((1, true), (0, true))];
    let lost = [((0, true), (0, false)), ((0, false), (0, true))];
    assert_eq!(found, both.into_iter().chain(lost).collect());
}

#[test]
fn every_mix_that_is_a_data_race_fails_and_no_other() {
    let accesses: [(&str, Steps<()>); 4] = [
        ("payload write", |memory| memory.write(X, &[1; 3])),
        ("payload read", |memory| memory.read(X, &mut [0; 3])),
        ("atomic load", |memory| {
            memory.load64(X, FRAME_SEEN);
        }),
        ("atomic store", |memory| memory.store64(X, 1, FRAME_PUBLISH)),
    ];
    let races = |one: &str, other: &str| match (one, other) {
        ("payload write", _) | (_, "payload write") => true,
        ("payload read", "atomic store") | ("atomic store", "payload read") => true,
        // Two that store would be two writers.
        ("atomic store", "atomic store") => true,
        _ => false,
    };
    for (one, first) in accesses {
        for (other, second) in accesses {
            let result = panic::catch_unwind(|| outcomes(bytes, first, second));
            assert_eq!(result.is_err(), races(one, other), "{one} beside {other}");
        }
    }
}

#[test]
fn words_and_payload_are_two_views_of_the_same_bytes() {
    explore("two views", &[], |_| {
        let memory = LoomMem::new(BASE + 16, &bytes());
        memory.store64(X, u64::from_le_bytes(*b"abcdefgh"), OWN);
        memory.write(X.plus(6), b"GHIJ");
        assert_eq!(memory.load64(X, OWN).to_le_bytes(), *b"abcdefGH");
        assert_eq!(memory.load64(Y, OWN).to_le_bytes(), *b"IJ\0\0\0\0\0\0");
        let mut bytes = [0; 5];
        memory.read(X.plus(5), &mut bytes);
        assert_eq!(&bytes, b"fGHIJ");
    });
}

#[test]
fn a_word_at_two_sizes_fails_and_so_does_one_that_is_not_there() {
    let accesses: [Steps<()>; 4] = [
        |memory| {
            memory.load32(X, OWN);
        },
        |memory| {
            memory.load64(X.plus(4), OWN);
        },
        |memory| {
            memory.load64(X.plus(16), OWN);
        },
        // Payload where only words are.
        |memory| memory.write(X, b"x"),
    ];
    for access in accesses {
        assert!(panic::catch_unwind(|| outcomes(words, access, |_| ())).is_err());
    }
}
