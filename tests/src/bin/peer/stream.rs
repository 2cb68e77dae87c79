//! Guests that send and check numbered messages.

use shm_tests::{WAIT, pattern};
use shm_transport::{Guest, Receiver, Sender};

use crate::say;

pub(crate) fn send(path: &str, count: u64, batch: u64) {
    let mut guest = Guest::attach(path, WAIT).expect("attached");
    send_numbered(&mut guest.link.sender, count, batch);
    guest.detach(WAIT).expect("detached");
    say("sent");
}

pub(crate) fn receive(path: &str, count: u64) {
    let mut guest = Guest::attach(path, WAIT).expect("attached");
    receive_numbered(&mut guest.link.receiver, count);
    say("received");
}

pub(crate) fn both(path: &str, count: u64) {
    let guest = Guest::attach(path, WAIT).expect("attached");
    let (mut sender, mut receiver) = guest.link.split();
    let thread = std::thread::spawn(move || {
        send_numbered(&mut sender, count, 1);
        sender
    });
    receive_numbered(&mut receiver, count);
    let _sender = thread.join().expect("all sent");
    say("done");
    // The host closes when it has everything.
    assert!(receiver.recv(WAIT).is_err(), "more than was sent");
}

fn send_numbered(sender: &mut Sender, count: u64, batch: u64) {
    let max = sender.inline_max();
    let mut messages = vec![Vec::new(); batch as usize];
    let mut number = 0;
    while number < count {
        let now = batch.min(count - number) as usize;
        for (message, number) in messages[..now].iter_mut().zip(number..) {
            message.resize(pattern::length(number, max), 0);
            pattern::fill(number, message);
        }
        if batch == 1 {
            sender.send(&messages[0], WAIT).expect("sent");
        } else {
            sender.send_batch(&messages[..now], WAIT).expect("sent");
        }
        number += now as u64;
    }
}

fn receive_numbered(receiver: &mut Receiver, count: u64) {
    let mut buffer = vec![0; 1 << 16];
    for number in 0..count {
        let len = receiver.recv_into(&mut buffer, WAIT).expect("received");
        assert!(pattern::matches(number, &buffer[..len]), "message {number} is another");
    }
}
