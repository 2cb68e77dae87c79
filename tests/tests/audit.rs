//! The auditor of single fetches audited: each seeded double fetch ends the process that does it,
//! and what is none does not. Built with the feature `audit` only; see `tests/audit.sh`.
#![cfg(feature = "audit")]

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, Output},
};

use shm_primitives::{
    Mapped, Memory, Offset,
    audit::{anew, decision, second_look},
    order::OWN,
    outbox::OutboxGeometry,
    ring::{Consumer, Producer},
};
use shm_transport::{Link, LinkConfig};

const SEED: &str = "SHM_TEST_AUDIT_SEED";
const AT: Offset = Offset::new(64);

/// Runs the test of this name in a process of its own, which performs the seed.
fn seeded(test: &str, seed: &str) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(SEED, seed)
        .output()
        .unwrap()
}

fn perform(seed: &str) {
    let memory = Mapped::leaked(4096);
    let mut bytes = [0; 16];
    let decision = decision();
    match seed {
        "a word" => {
            memory.load64(AT, OWN);
            memory.load64(AT, OWN);
        }
        "a word, nested" => {
            memory.load32(AT, OWN);
            let _inner = shm_primitives::audit::decision();
            memory.load32(AT, OWN);
        }
        "payload" => {
            memory.read(AT, &mut bytes);
            memory.read(AT.plus(15), &mut bytes);
        }
        "payload after its word" => {
            memory.load64(AT, OWN);
            memory.read(AT, &mut bytes);
        }
        "words" => {
            memory.load_words(AT, &mut bytes, OWN);
            memory.load64(AT.plus(8), OWN);
        }
        "a second look at other bytes" => {
            memory.load64(AT, OWN);
            second_look();
            memory.read(AT, &mut bytes);
        }
        "operations in one decision" => {
            let geometry = OutboxGeometry::new(64, 0).unwrap();
            let consumer = Consumer::new(memory, Mapped::leaked(4096), &geometry);
            // Both look at the same header.
            assert!(!consumer.is_ready());
            assert!(!consumer.is_ready());
        }
        "nothing" => {
            memory.load64(AT, OWN);
            memory.load64(AT.plus(8), OWN);
            second_look();
            memory.load64(AT, OWN);
            anew();
            memory.load64(AT, OWN);
            drop(decision);
            memory.load64(AT, OWN);
            memory.load64(AT, OWN);
            return;
        }
        _ => panic!("no such seed: {seed}"),
    }
    drop(decision);
}

#[test]
fn a_seeded_double_fetch_ends_the_process_and_names_both_places() {
    if let Ok(seed) = env::var(SEED) {
        return perform(&seed);
    }
    let seeds = [
        "a word",
        "a word, nested",
        "payload",
        "payload after its word",
        "words",
        "a second look at other bytes",
        "operations in one decision",
    ];
    for seed in seeds {
        let output = seeded("a_seeded_double_fetch_ends_the_process_and_names_both_places", seed);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(6), "{seed}: {said}");
        assert!(said.contains("a second fetch within one decision"), "{seed}: {said}");
        let places = said.lines().filter(|line| line.contains(".rs:")).count();
        assert_eq!(places, 2, "{seed}: {said}");
    }
    let output = seeded("a_seeded_double_fetch_ends_the_process_and_names_both_places", "nothing");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_was_loaded_is_counted() {
    if env::var(SEED).is_ok() {
        let geometry = OutboxGeometry::new(1024, 0).unwrap();
        let [own, peer] = [0; 2].map(|_| Mapped::leaked(geometry.total_size()));
        let mut producer = Producer::new(own, peer, &geometry);
        let mut consumer = Consumer::new(peer, own, &geometry);
        for _ in 0..100 {
            producer.push(b"hello").unwrap();
            let entry = consumer.next().unwrap().unwrap();
            consumer.read(&entry, 0, &mut [0; 5]);
            consumer.release();
        }
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "what_was_loaded_is_counted"])
        .env(SEED, "counts")
        .env("SHM_AUDIT", file.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let books = std::fs::read_to_string(file.path()).unwrap();
    let numbers: Vec<u64> =
        books.split_whitespace().map(|number| number.parse().unwrap()).collect();
    // The producer looks at the tail each time that it has gone round, and now and then the
    // consumer looks for another frame before it gives space back.
    let [decisions, loads, second_looks, most] = numbers[..] else { panic!("{books}") };
    assert!((200..=700).contains(&decisions) && (200..=400).contains(&loads), "{books}");
    assert_eq!((second_looks, most), (0, 1));
}

#[test]
fn a_link_loads_nothing_outside_of_a_decision() {
    // The auditor ends the process if it does.
    let (mut left, mut right) = Link::pair(&LinkConfig::default()).unwrap();
    for len in [0, 8, 1000, 100_000, 2_000_000] {
        left.try_send(&vec![1; len]).unwrap();
        assert_eq!(right.try_recv().unwrap().unwrap().to_bytes().len(), len);
    }
}
