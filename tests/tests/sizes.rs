//! Messages of every size at which something changes: empty, words, the inline limit, each
//! size class, beyond the largest slot, the largest message and one more. By every way of
//! sending and every way of receiving; the contents are checked each time.

use shm_tests::{Place, WAIT, eventually, pattern, peer, small};
use shm_transport::{
    CHUNK, Deadline, Link, LinkConfig, Message, RecvError, SealedPayload, SendError, Sender,
};

const INLINE: usize = 128;
const LARGEST_SLOT: usize = 8 << 10;
const LARGEST: usize = 64 << 10;

fn config() -> LinkConfig {
    let config = small();
    assert_eq!(config.inline_max() as usize, INLINE);
    assert_eq!(config.size_classes.last().map(|class| class.slot_size), Some(8 << 10));
    assert_eq!(config.max_message, LARGEST as u64);
    config
}

fn pair() -> (Link, Link) {
    Link::pair(&config()).unwrap()
}

fn sizes() -> Vec<usize> {
    let edges = [0, 8, INLINE, 1 << 10, 4096, LARGEST_SLOT, LARGEST];
    let around = |edge: usize| [edge.saturating_sub(1), edge, edge + 1];
    let mut sizes: Vec<usize> = edges.into_iter().flat_map(around).collect();
    sizes.retain(|size| *size <= LARGEST);
    sizes.dedup();
    sizes
}

type Send = fn(&mut Sender, &[u8]);

const WAYS: [(&str, Send); 7] = [
    ("send", |sender, message| sender.send(message, WAIT).unwrap()),
    ("try_send", |sender, message| sender.try_send(message).unwrap()),
    ("send_batch", |sender, message| sender.send_batch(&[message], WAIT).unwrap()),
    ("grant", |sender, message| {
        let mut grant = sender.grant(message.len(), WAIT).unwrap();
        grant.copy_from_slice(message);
        grant.commit().unwrap();
    }),
    ("try_grant", |sender, message| {
        let mut grant = sender.try_grant(message.len()).unwrap();
        grant.copy_from_slice(message);
        grant.commit_prefix(usize::MAX).unwrap();
    }),
    ("a prefix of a larger grant", |sender, message| {
        let mut grant = sender.grant((message.len() + 100).min(LARGEST), WAIT).unwrap();
        grant[..message.len()].copy_from_slice(message);
        grant.commit_prefix(message.len()).unwrap();
    }),
    ("a grant after a dropped one", |sender, message| {
        let mut dropped = sender.grant(LARGEST, WAIT).unwrap();
        dropped.fill(0xee);
        drop(dropped);
        let mut dropped = sender.grant(message.len(), WAIT).unwrap();
        dropped.fill(0xee);
        drop(dropped);
        sender.send(message, WAIT).unwrap();
    }),
];

fn check(message: &Message<'_>, expected: &[u8]) {
    assert_eq!(message.len(), expected.len());
    assert_eq!(message.is_empty(), expected.is_empty());
    assert_eq!(message.to_bytes(), expected);
    let mut chunks = Vec::new();
    message.chunks(|chunk| chunks.extend_from_slice(chunk));
    assert!(chunks == expected, "in chunks of {CHUNK} bytes");
    for offset in [0, 1, 7, 8, 100, expected.len() / 2, expected.len()] {
        let Some(rest) = expected.get(offset..) else { continue };
        let mut buffer = vec![0; 200];
        let count = message.copy_to(offset, &mut buffer);
        assert_eq!(count, rest.len().min(200));
        assert_eq!(buffer[..count], rest[..count]);
    }
    let last = expected.len().saturating_sub(8);
    let word =
        expected.get(last..last + 8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    assert_eq!(message.read_u64(last), word);
    let beyond = (last + 1).min(expected.len());
    assert_eq!(message.read_u64(beyond), None);
    assert_eq!(message.read_u8(expected.len()), None);
    assert_eq!(message.read_u8(0), expected.first().copied());
}

#[test]
fn every_size_arrives_by_every_way_of_sending_and_receiving() {
    let (mut left, mut right) = pair();
    let mut number = 0;
    for (way, send) in WAYS {
        for size in sizes() {
            let expected = pattern::message(number, size);
            number += 1;
            let case = format!("{size} bytes by {way}");
            send(&mut left.sender, &expected);
            let mut buffer = vec![0; size];
            assert_eq!(right.recv_into(&mut buffer, WAIT).unwrap(), size, "{case}");
            assert!(buffer == expected, "{case} into a buffer");

            send(&mut left.sender, &expected);
            check(&right.recv(WAIT).unwrap(), &expected);

            send(&mut left.sender, &expected);
            let owned = right.recv(WAIT).unwrap().into_owned();
            check(&owned, &expected);
            drop(owned);

            send(&mut left.sender, &expected);
            let message = right.try_recv().unwrap().unwrap();
            match message.into_sealed() {
                Ok(payload) => assert!(payload[..] == expected, "{case} as a sealed payload"),
                Err(message) => check(&message, &expected),
            }
            assert_eq!(left.sender.slots_in_flight(), 0, "{case}");
        }
    }
    assert!(right.try_recv().unwrap().is_none());
}

#[test]
fn every_size_arrives_in_another_process_and_back() {
    let place = Place::new();
    let mut host = place.host(shm_transport::Host::builder().link(config()));
    let mut guest = peer!("guest", place.hub());
    let mut link = host.accept(WAIT).unwrap();
    assert_eq!(guest.answer(), "attached 0.1");
    guest.tell("echo");
    for round in 0..20 {
        for size in sizes() {
            let expected = pattern::message(round, size);
            link.send(&expected, WAIT).unwrap();
            check(&link.recv(WAIT).unwrap(), &expected);
        }
    }
    drop(link);
    assert_eq!(guest.answer(), "Ended(Departed)");
}

#[test]
fn messages_beyond_the_largest_slot_come_sealed_and_others_do_not() {
    let (mut left, mut right) = pair();
    for size in sizes() {
        left.send(&pattern::message(1, size), WAIT).unwrap();
        let sealed = right.recv(WAIT).unwrap().into_sealed().is_ok();
        assert_eq!(sealed, size > LARGEST_SLOT, "{size} bytes");
    }
}

#[test]
fn a_message_that_is_too_large_says_both_sizes_and_sends_nothing() {
    let (mut left, mut right) = pair();
    let message = vec![0; LARGEST + 1];
    let is_refused = |error: SendError| {
        assert!(matches!(error, SendError::TooLarge { len: 65537, max: 65536 }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("65537") && text.contains("65536"), "{text}");
    };
    is_refused(left.send(&message, WAIT).unwrap_err());
    is_refused(left.try_send(&message).unwrap_err());
    is_refused(left.sender.grant(LARGEST + 1, WAIT).unwrap_err());
    is_refused(left.sender.try_grant(LARGEST + 1).unwrap_err());
    let error = left.sender.send_batch(&[&[1][..], &message, &[2]], WAIT).unwrap_err();
    assert_eq!(error.sent, 1);
    is_refused(error.error);
    assert_eq!(right.recv(WAIT).unwrap().to_bytes(), [1u8][..]);
    assert!(right.try_recv().unwrap().is_none());
    left.send(&message[..LARGEST], WAIT).unwrap();
    assert_eq!(right.recv(WAIT).unwrap().len(), LARGEST);
}

/// The limit holds for messages that would go inline, too.
#[test]
fn the_largest_message_may_be_smaller_than_the_inline_limit() {
    let config = LinkConfig { max_message: 10, ..config() };
    let (mut left, mut right) = Link::pair(&config).unwrap();
    left.send(&[1; 10], WAIT).unwrap();
    assert_eq!(right.recv(WAIT).unwrap().len(), 10);
    assert!(left.sender.try_grant(11).is_err());
    let refused = left.try_send(&[1; 11]);
    assert!(matches!(refused, Err(SendError::TooLarge { len: 11, max: 10 })), "{refused:?}");
    let refused = left.sender.try_send_batch(&[[1; 11]]);
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn grants_that_are_dropped_or_committed_in_part_cost_nothing() {
    let (mut left, mut right) = pair();
    for size in sizes() {
        for _ in 0..100 {
            drop(left.sender.grant(size, Deadline::NOW).unwrap());
        }
        assert_eq!(left.sender.slots_in_flight(), 0);
        let parts = [0, 1, size / 2, size].into_iter().filter(|used| *used <= size);
        for used in parts {
            let expected = pattern::message(used as u64, used);
            let mut grant = left.sender.grant(size, WAIT).unwrap();
            assert_eq!(grant.len(), size);
            grant[..used].copy_from_slice(&expected);
            grant.commit_prefix(used).unwrap();
            check(&right.recv(WAIT).unwrap(), &expected);
        }
        assert_eq!(left.sender.slots_in_flight(), 0);
    }
}

#[test]
fn a_buffer_that_is_too_small_keeps_the_message() {
    let (mut left, mut right) = pair();
    for size in sizes().into_iter().filter(|size| *size > 0) {
        let expected = pattern::message(3, size);
        left.send(&expected, WAIT).unwrap();
        let mut buffer = vec![0; size];
        for short in [0, size / 2, size - 1] {
            for _ in 0..2 {
                let error = right.recv_into(&mut buffer[..short], WAIT).unwrap_err();
                let RecvError::BufferTooSmall { len, buffer } = error else { panic!("{error:?}") };
                assert_eq!((len, buffer), (size, short));
                assert!(right.receiver.is_ready());
            }
            assert!(right.receiver.try_recv_into(&mut buffer[..short]).is_err());
        }
        assert_eq!(right.receiver.try_recv_into(&mut buffer).unwrap(), Some(size));
        assert!(buffer == expected);
        // And by view after a failed copy.
        left.send(&expected, WAIT).unwrap();
        assert!(right.recv_into(&mut [], WAIT).is_err());
        check(&right.recv(WAIT).unwrap(), &expected);
    }
    assert_eq!(left.sender.slots_in_flight(), 0);
}

/// Owned messages keep their contents while later ones come and go, and give their slots
/// back from any thread, in any order.
#[test]
fn owned_messages_outlive_later_ones_and_are_dropped_out_of_order_elsewhere() {
    let (mut left, mut right) = pair();
    let kinds = [50, 1000, 5000, 20_000];
    let (sender, receiver) = std::sync::mpsc::channel::<Vec<(u64, Message<'static>)>>();
    let dropper = std::thread::spawn(move || {
        let mut random = pattern::Random::new(1);
        for mut messages in receiver {
            while !messages.is_empty() {
                let at = random.below(messages.len() as u64) as usize;
                let (number, message) = messages.swap_remove(at);
                assert!(pattern::matches(number, &message.to_bytes()), "message {number}");
            }
        }
    });
    let mut number = 0;
    for _ in 0..300 {
        let mut held = Vec::new();
        for size in kinds {
            left.send(&pattern::message(number, size), WAIT).unwrap();
            held.push((number, right.recv(WAIT).unwrap().into_owned()));
            number += 1;
        }
        sender.send(held).unwrap();
        // What is held elsewhere meanwhile does not disturb what comes.
        left.send(&pattern::message(number, 100), WAIT).unwrap();
        check(&right.recv(WAIT).unwrap(), &pattern::message(number, 100));
        number += 1;
    }
    drop(sender);
    dropper.join().unwrap();
    assert_eq!(left.sender.slots_in_flight(), 0);
}

#[test]
fn messages_stay_readable_after_both_ends_of_the_link_are_gone() {
    let (mut left, mut right) = pair();
    let mut held = Vec::new();
    for (number, size) in (0..).zip([50, 1000, 5000, 20_000]) {
        left.send(&pattern::message(number, size), WAIT).unwrap();
        held.push(right.recv(WAIT).unwrap().into_owned());
    }
    drop((left, right));
    for (number, message) in (0..).zip(&held) {
        assert!(pattern::matches(number, &message.to_bytes()));
    }
}

#[test]
fn clones_of_a_sealed_payload_share_its_memory_and_give_it_back_together() {
    let (mut left, mut right) = pair();
    left.send(&pattern::message(9, 40_000), WAIT).unwrap();
    let payload: SealedPayload = right.recv(WAIT).unwrap().into_sealed().unwrap();
    let clones = vec![payload.clone(); 10];
    let bytes = right.try_recv().unwrap().is_none().then(|| payload.clone());
    drop(payload);
    assert_eq!(left.sender.slots_in_flight(), 1);
    for clone in &clones {
        assert!(pattern::matches(9, clone));
        assert_eq!(clone.as_ptr(), clones[0].as_ptr());
    }
    drop((clones, bytes));
    assert_eq!(left.sender.slots_in_flight(), 0);
    // Bytes that were made of a payload hold it, too.
    left.send(&pattern::message(10, 40_000), WAIT).unwrap();
    let bytes = right.recv(WAIT).unwrap().to_bytes();
    assert_eq!(left.sender.slots_in_flight(), 1);
    assert!(pattern::matches(10, &bytes));
    drop(bytes);
    assert_eq!(left.sender.slots_in_flight(), 0);
}

/// The receiver holds everything: the sender is told to wait, and goes on as soon as one
/// comes back.
#[test]
fn held_slots_and_payloads_push_back_and_come_back() {
    let (mut left, mut right) = pair();
    // 2 × 2 small slots, then 2 of the larger class; 2 larger; 4 sealed.
    for (size, limit) in [(1000, 6), (5000, 2), (20_000, 4)] {
        let mut held = Vec::new();
        for number in 0..limit {
            left.send(&pattern::message(number, size), WAIT).unwrap();
            held.push(right.recv(WAIT).unwrap().into_owned());
        }
        assert!(matches!(left.try_send(&vec![0; size]), Err(SendError::Full)));
        assert!(matches!(left.sender.try_grant(size), Err(SendError::Full)));
        let soon = std::time::Duration::from_millis(5);
        assert!(matches!(left.send(&vec![0; size], soon), Err(SendError::TimedOut)));
        // Small messages pass all the while.
        left.send(b"still", WAIT).unwrap();
        assert_eq!(right.recv(WAIT).unwrap().to_bytes(), "still");
        assert_eq!(left.sender.slots_in_flight() as u64, limit);

        let one = held.pop();
        let sending = std::thread::spawn(move || {
            left.send(&pattern::message(77, size), WAIT).unwrap();
            left
        });
        drop(one);
        check(&right.recv(WAIT).unwrap(), &pattern::message(77, size));
        left = sending.join().unwrap();
        for (number, message) in (0..).zip(&held) {
            assert!(pattern::matches(number, &message.to_bytes()));
        }
        drop(held);
        eventually(|| (left.sender.slots_in_flight() == 0).then_some(()));
    }
}

/// A position beyond the end is no position, however far it is.
#[test]
fn reads_far_beyond_the_end_of_a_message_find_nothing() {
    let (mut left, mut right) = pair();
    for size in sizes() {
        left.send(&pattern::message(4, size), WAIT).unwrap();
        let message = right.recv(WAIT).unwrap();
        for offset in [size, size + 1, 1 << 20, 1 << 40, usize::MAX - 7, usize::MAX] {
            assert_eq!(message.read_u8(offset), None, "at {offset} of {size} bytes");
            assert_eq!(message.read_u64(offset), None, "at {offset} of {size} bytes");
            assert_eq!(message.copy_to(offset, &mut [0; 4]), 0);
            assert_eq!(message.copy_to(offset, &mut []), 0);
        }
    }
}

/// A message for which there is no way at all is refused at once; it does not wait for
/// room that never comes.
#[test]
fn a_message_that_no_configured_way_can_carry_is_too_large() {
    let nothing_but_the_ring = LinkConfig { size_classes: vec![], sealed_limit: 0, ..config() };
    let no_sealed = LinkConfig { sealed_limit: 0, ..config() };
    let mut empty_class = config();
    empty_class.size_classes[1].max_extents = 0;
    empty_class.sealed_limit = 0;
    for (config, size) in
        [(nothing_but_the_ring, INLINE + 1), (no_sealed, LARGEST_SLOT + 1), (empty_class, 2000)]
    {
        // Refusing the configuration would do as well.
        let Ok((mut left, _right)) = Link::pair(&config) else { continue };
        let soon = std::time::Duration::from_millis(50);
        let error = left.send(&vec![0; size], soon).unwrap_err();
        assert!(matches!(error, SendError::TooLarge { .. }), "{size} bytes: {error:?}");
    }
}
