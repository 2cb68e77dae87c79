//! Two processes stream numbered messages through a ring of 256 bytes, which wraps every
//! few messages and is full or empty all the time: none is lost, repeated, reordered or
//! torn. The contents of each message follow from its number.
//!
//! `SHM_TEST_MESSAGES=50000000` is the whole form.

use shm_tests::{Place, WAIT, amount, pattern, peer};
use shm_transport::{Host, Link, LinkConfig, LinkEnd, RecvError, SendError, Sender};

fn messages(share: u64) -> u64 {
    amount("SHM_TEST_MESSAGES", 500_000) / share
}

/// The largest inline messages are 120 bytes: half the ring less a header.
fn config() -> LinkConfig {
    LinkConfig { ring_capacity: 256, inline_limit: Some(u32::MAX), ..LinkConfig::default() }
}

fn host(place: &Place) -> Host {
    place.host(Host::builder().link(config()))
}

fn receive_all(link: &mut Link, count: u64) {
    for number in 0..count {
        let message = link.recv(WAIT).unwrap();
        assert_eq!(message.len(), pattern::length(number, 120), "length of message {number}");
        let mut buffer = [0; 120];
        let len = message.copy_to(0, &mut buffer);
        assert!(pattern::matches(number, &buffer[..len]), "message {number} is another");
    }
}

fn send_all(sender: &mut Sender, count: u64) -> Result<(), SendError> {
    let mut buffer = [0; 120];
    for number in 0..count {
        let message = &mut buffer[..pattern::length(number, 120)];
        pattern::fill(number, message);
        sender.send(message, WAIT)?;
    }
    Ok(())
}

fn from_a_guest(count: u64, batch: u64) {
    let place = Place::new();
    let mut host = host(&place);
    let mut guest = peer!("send", place.hub(), count.to_string(), batch.to_string());
    let mut link = host.accept(WAIT).unwrap();
    receive_all(&mut link, count);
    assert!(matches!(link.recv(WAIT), Err(RecvError::Ended(LinkEnd::Departed))));
    assert_eq!(guest.answer(), "sent");
    guest.succeeds();
}

#[test]
fn a_guest_streams_and_nothing_is_lost_repeated_reordered_or_torn() {
    from_a_guest(messages(1), 1);
}

#[test]
fn a_guest_streams_in_batches_larger_than_the_ring() {
    from_a_guest(messages(2), 7);
    from_a_guest(messages(20), 1000);
}

#[test]
fn a_host_streams_and_nothing_is_lost_repeated_reordered_or_torn() {
    let place = Place::new();
    let mut host = host(&place);
    let count = messages(2);
    let mut guest = peer!("receive", place.hub(), count.to_string());
    let mut link = host.accept(WAIT).unwrap();
    send_all(&mut link.sender, count).unwrap();
    assert_eq!(guest.answer(), "received");
    guest.succeeds();
}

#[test]
fn split_halves_stream_both_ways_at_once() {
    let place = Place::new();
    let mut host = host(&place);
    let count = messages(4);
    let mut guest = peer!("both", place.hub(), count.to_string());
    let (mut sender, mut receiver) = host.accept(WAIT).unwrap().split();
    let sending = std::thread::spawn(move || send_all(&mut sender, count).map(|()| sender));
    let mut buffer = [0; 120];
    for number in 0..count {
        let len = receiver.recv_into(&mut buffer, WAIT).unwrap();
        assert!(pattern::matches(number, &buffer[..len]), "message {number} is another");
    }
    let sender = sending.join().unwrap().unwrap();
    assert_eq!(guest.answer(), "done");
    drop((sender, receiver));
    guest.succeeds();
}

/// The same in one process, where both sides run at memory speed.
#[test]
fn two_threads_stream_and_nothing_is_lost_repeated_reordered_or_torn() {
    let (mut left, mut right) = Link::pair(&config()).unwrap();
    let count = messages(2);
    let sending = std::thread::spawn(move || send_all(&mut left.sender, count).map(|()| left));
    receive_all(&mut right, count);
    sending.join().unwrap().unwrap();
}
