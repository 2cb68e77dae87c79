//! Guests that stop, vanish, or never listen.

use std::{os::fd::AsFd, thread, time::Duration};

use nix::{
    sys::signal::{Signal, raise},
    unistd::{ForkResult, fork},
};
use shm_tests::{
    pattern::Random,
    raw::{RawGuest, RawMemory, RawSocket, at, inline, topic},
};

use super::{Attached, idle};

/// Stops after it has written a message and before it publishes it, while it says that it
/// sleeps.
pub(super) fn stops_in_mid_send(attached: &mut Attached) {
    let memory = &attached.guest.memory;
    memory.store64(at::DATA_SLEEP, 4 | 1);
    memory.store64(at::SPACE_SLEEP, 4 | 2);
    memory.store64(attached.guest.frame_at() + 8, 7);
    raise(Signal::SIGSTOP).expect("stopped");
    memory.store64(attached.guest.frame_at(), inline(8));
    idle();
}

/// Leaves a child that holds everything it had, and ends.
pub(super) fn forks_and_exits(_: &mut Attached) {
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            // It ends with the test at the latest.
            thread::sleep(Duration::from_secs(5));
            std::process::exit(0);
        }
        Ok(ForkResult::Parent { .. }) => std::process::exit(0),
        Err(error) => panic!("{error}"),
    }
}

/// Reads nothing, gives nothing back, and rings for room that there is not.
pub(super) fn never_reads(attached: &mut Attached) {
    let memory = &attached.guest.memory;
    for bell in 0.. {
        memory.store32(at::SPACE_BELL, bell);
        memory.wake(at::SPACE_BELL);
    }
}

/// Hangs up and goes on writing messages.
pub(super) fn writes_on(attached: &mut Attached) {
    let guest = &mut attached.guest;
    guest.send_word(0);
    rustix::net::shutdown(&guest.socket, rustix::net::Shutdown::Both).expect("hung up");
    for number in 1.. {
        if guest.has_room() {
            guest.send_word(number);
        }
    }
}

fn request(number: u32) -> [u8; 8] {
    (u64::from(number % 2) | u64::from(number) << 32).to_le_bytes()
}

/// Asks for subscriptions without end, and drops what it gets.
pub(super) fn subscription_flood(attached: &mut Attached) {
    let control = attached.guest.control.as_ref().expect("the hub has topics");
    for number in 0.. {
        // Full is as good.
        let _ = control.send(&request(number), &[]);
        drop(control.receive(Duration::ZERO));
    }
}

/// Says on a subscription that it sleeps, without end.
pub(super) fn sleep_flood(attached: &mut Attached) {
    let control = attached.guest.control.as_ref().expect("the hub has topics");
    control.send(&request(0), &[]).expect("the host listens");
    let answer = control.receive(shm_tests::WAIT).expect("an answer");
    let socket = answer.descriptors.into_iter().next().map(RawSocket::from).expect("a socket");
    for round in 0u64.. {
        let mut message = [(round % 2) as u8; 9];
        message[..8].copy_from_slice(&[0, u64::MAX, round][(round % 3) as usize].to_le_bytes());
        let _ = socket.send(&message, &[]);
        drop(socket.receive(Duration::ZERO));
    }
}

/// Wakes the subscribers of all guests, which sleep on a word that all can read.
pub(super) fn wakes_other_guests(guest: &mut RawGuest, _: &mut Random) {
    let size = rustix::fs::fstat(&guest.hub).expect("its size").st_size as usize;
    let hub = RawMemory::map(guest.hub.as_fd(), size, false).expect("it may be read");
    let bells: Vec<u64> = (0..topic::count(&hub)).map(|n| topic::ring(&hub, n) + 136).collect();
    loop {
        for bell in &bells {
            hub.wake(*bell);
        }
    }
}
