//! How many slots a stream of large messages uses: as few as the receiver lets it, and all
//! of them where it holds on to messages.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use shm_tests::{WAIT, counts, pattern};
use shm_transport::{Link, LinkConfig, SendError, Sender, SizeClass};

/// Extents are counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn extents() -> usize {
    counts::extents_mapped().len()
}

/// A message of one link that needs the largest slots of its smallest class.
const LEN: usize = 64 << 10;

/// Classes of which the smallest that takes [`LEN`] bytes is the one that counts.
fn config() -> LinkConfig {
    let class =
        |slot_size, extent_slots, max_extents| SizeClass { slot_size, extent_slots, max_extents };
    LinkConfig {
        size_classes: vec![class(LEN as u32, 4, 4), class(2 * LEN as u32, 2, 2)],
        ..LinkConfig::default()
    }
}

/// Sends 1,000 messages to a receiver that drops each; returns how many extents there are
/// in the end. For slots of this size a sender waits 8 ms, which is longer than a receiver
/// that shares its processor is mostly kept from it.
fn extents_of_a_stream() -> usize {
    const SLOT: usize = 16 << 20;
    const COUNT: u64 = 1_000;
    let class = SizeClass { slot_size: SLOT as u32, extent_slots: 2, max_extents: 4 };
    let config = LinkConfig { size_classes: vec![class], ..LinkConfig::default() };
    let (mut left, mut right) = Link::pair(&config).unwrap();
    let receiving = thread::spawn(move || {
        right.send(b"ready", WAIT).unwrap();
        for number in 0..COUNT {
            let message = right.recv(WAIT).unwrap();
            assert_eq!(message.len(), SLOT);
            assert_eq!(message.read_u64(0), Some(number));
        }
        right
    });
    left.recv(WAIT).unwrap();
    for number in 0..COUNT {
        let mut grant = left.sender.grant(SLOT, WAIT).unwrap();
        grant[..8].copy_from_slice(&number.to_le_bytes());
        grant.commit().unwrap();
    }
    let right = receiving.join().unwrap();
    let extents = extents();
    drop((left, right));
    extents
}

/// A sender that waits a little for a slot needs no second extent. It does if the receiver
/// is off its processor for longer, so not each attempt counts.
#[test]
fn a_pool_does_not_grow_while_the_receiver_gives_slots_back_at_once() {
    let _alone = alone();
    let mut seen = Vec::new();
    while !seen.contains(&1) {
        seen.push(extents_of_a_stream());
        assert!(seen.len() < 20, "extents: {seen:?}");
    }
    println!("extents: {seen:?}");
}

/// Without any wait: a receiver that takes as many messages as an extent has slots.
#[test]
fn a_pool_does_not_grow_beyond_what_the_receiver_holds() {
    let _alone = alone();
    let (mut left, mut right) = Link::pair(&config()).unwrap();
    for round in 0..250 {
        for number in 0..4 {
            left.try_send(&pattern::message(4 * round + number, LEN)).unwrap();
        }
        for number in 0..4 {
            let message = right.recv(WAIT).unwrap();
            assert!(pattern::matches(4 * round + number, &message.to_bytes()));
        }
    }
    assert_eq!(extents(), 1);
}

type Send = fn(&mut Sender, &[u8]) -> Result<(), SendError>;

#[test]
fn all_slots_of_all_extents_can_be_had_by_every_way_of_sending() {
    let _alone = alone();
    let ways: [(&str, Send); 5] = [
        ("send", |sender, message| sender.send(message, WAIT)),
        ("try_send", |sender, message| sender.try_send(message)),
        ("send_batch", |sender, message| {
            sender.send_batch(&[message], WAIT).map_err(|error| error.error)
        }),
        ("try_send_batch", |sender, message| match sender.try_send_batch(&[message]) {
            Ok(1) => Ok(()),
            Ok(_) => Err(SendError::Full),
            Err(error) => Err(error.error),
        }),
        ("grant", |sender, message| {
            let mut grant = sender.grant(message.len(), WAIT)?;
            grant.copy_from_slice(message);
            grant.commit()
        }),
    ];
    for (way, send) in ways {
        let (mut left, mut right) = Link::pair(&config()).unwrap();
        let mut held = Vec::new();
        // 4 × 4 slots, and 2 × 2 of the larger class.
        for number in 0..20 {
            send(&mut left.sender, &pattern::message(number, LEN)).unwrap();
            held.push(right.recv(WAIT).unwrap().into_owned());
        }
        assert_eq!(extents(), 4 + 2, "{way}");
        assert!(matches!(left.try_send(&[1; LEN]), Err(SendError::Full)), "{way}");
        let soon = left.send(&[1; LEN], Duration::from_millis(5));
        assert!(matches!(soon, Err(SendError::TimedOut)), "{way}: {soon:?}");
        for (number, message) in (0..).zip(&held) {
            assert!(pattern::matches(number, &message.to_bytes()), "message {number} by {way}");
        }
    }
}

/// A sender waits for a warm slot for about as long as a receiver takes to read one: 2 ms
/// here. It does not for each message to a receiver that holds on to more than an extent.
#[test]
fn a_sender_does_not_wait_for_each_message_that_the_receiver_holds() {
    const SLOT: usize = 4 << 20;
    const SLOTS: u32 = 16;
    const ROUNDS: u32 = 100;
    let _alone = alone();
    let class = SizeClass { slot_size: SLOT as u32, extent_slots: 1, max_extents: SLOTS };
    let config = LinkConfig { size_classes: vec![class], ..LinkConfig::default() };
    let (mut left, mut right) = Link::pair(&config).unwrap();
    let mut hold_all = || {
        let held: Vec<_> = (0..SLOTS)
            .map(|_| {
                left.sender.grant(SLOT, WAIT).unwrap().commit().unwrap();
                right.recv(WAIT).unwrap().into_owned()
            })
            .collect();
        drop(held);
    };
    // The extents are made.
    hold_all();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        hold_all();
    }
    let for_each = Duration::from_millis(2) * (SLOTS - 1) * ROUNDS;
    let took = start.elapsed();
    assert!(took < for_each / 2, "{took:?}; with a wait for each it takes {for_each:?}");
}
