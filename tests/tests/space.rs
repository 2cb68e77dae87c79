//! A receiver that is behind gives the ring's space back in pieces; one that has taken
//! everything has given all of it back. So a sender always learns that its messages were
//! taken, and never waits for space for ever.

use std::thread;

use shm_tests::{WAIT, pattern};
use shm_transport::{Link, LinkConfig};

const SIZES: [usize; 6] = [0, 8, 56, 64, 1000, 4096];

/// The receiver makes no call after its last message.
fn all_was_given_back(config: &LinkConfig, size: usize, count: u64, burst: u64) {
    let (mut left, mut right) = Link::pair(config).unwrap();
    let mut buffer = vec![0; size];
    let mut received = 0;
    let mut sent = 0;
    while sent < count {
        for _ in 0..burst.min(count - sent) {
            left.try_send(&pattern::message(sent, size)).unwrap();
            sent += 1;
        }
        while received < sent {
            assert_eq!(right.recv_into(&mut buffer, WAIT).unwrap(), size);
            assert!(pattern::matches(received, &buffer), "message {received}");
            received += 1;
        }
    }
    let detached = left.detach(WAIT);
    assert!(detached.is_ok(), "{count} of {size} bytes by {burst}: {detached:?}");
}

#[test]
fn a_sender_learns_that_all_was_taken_without_another_call_of_the_receiver() {
    let large = LinkConfig { ring_capacity: 1 << 20, ..LinkConfig::default() };
    for size in SIZES {
        for count in 1..=200 {
            // Larger than an eighth of the ring, and smaller, and one by one.
            for burst in [200, 7, 1] {
                all_was_given_back(&large, size, count, burst);
            }
        }
    }
}

/// The sender waits for space, so a burst is as large as the receiver lets it be.
#[test]
fn a_sender_learns_so_after_it_waited_for_space() {
    let small = LinkConfig { ring_capacity: 1 << 10, ..LinkConfig::default() };
    for size in SIZES {
        for count in (1..=200).step_by(9) {
            let (mut left, mut right) = Link::pair(&small).unwrap();
            let receiving = thread::spawn(move || {
                let mut buffer = vec![0; size];
                for number in 0..count {
                    assert_eq!(right.recv_into(&mut buffer, WAIT).unwrap(), size);
                    assert!(pattern::matches(number, &buffer), "message {number}");
                }
                // The link stays as it is until the other side is gone.
                right
            });
            for number in 0..count {
                left.send(&pattern::message(number, size), WAIT).unwrap();
            }
            let detached = left.detach(WAIT);
            assert!(detached.is_ok(), "{count} of {size} bytes: {detached:?}");
            drop(receiving.join().unwrap());
        }
    }
}

#[test]
fn a_batch_of_more_than_the_ring_and_the_slots_hold_arrives_intact_and_in_order() {
    const LARGEST: usize = 1 << 20;
    let size = |number: u64| match number % 20 {
        0 => 0,
        1 => LARGEST,
        2 => pattern::length(number, LARGEST),
        3 | 4 => pattern::length(number, 64 << 10),
        5..10 => pattern::length(number, 4 << 10),
        _ => pattern::length(number, 200),
    };
    let batch: Vec<_> = (0..200).map(|number| pattern::message(number, size(number))).collect();
    // Small messages alone are more than the ring holds.
    let many: Vec<_> =
        (0..20_000).map(|number| pattern::message(number, pattern::length(number, 40))).collect();
    for (ring_capacity, batch) in [(1 << 10, &batch), (64 << 10, &batch), (64 << 10, &many)] {
        let config = LinkConfig { ring_capacity, ..LinkConfig::default() };
        let (mut left, mut right) = Link::pair(&config).unwrap();
        let sizes: Vec<_> = batch.iter().map(Vec::len).collect();
        let receiving = thread::spawn(move || {
            let mut buffer = vec![0; LARGEST];
            for (number, size) in (0..).zip(sizes) {
                let len = right.recv_into(&mut buffer, WAIT).unwrap();
                assert_eq!(len, size, "length of message {number}");
                assert!(pattern::matches(number, &buffer[..len]), "message {number}");
            }
            assert!(right.try_recv().unwrap().is_none());
        });
        left.sender.send_batch(batch, WAIT).unwrap();
        receiving.join().unwrap();
    }
}
