//! Guests that do not attach, or do nothing else.

use std::{os::fd::AsFd, path::Path, thread, time::Duration};

use shm_tests::{
    WAIT,
    pattern::Random,
    raw::{NO_WRITER, ONE_WRITER, RawSocket, VERSION, memory, sealed_with, tag},
};
use shm_transport::Guest;

use super::idle;
use crate::say;

/// Connects, again and again: the listener's queue may be full, or the host gone.
fn connect(path: &Path) -> RawSocket {
    loop {
        if let Some(socket) = RawSocket::try_connect(path) {
            return socket;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Says what no guest says, of every length, with and without descriptors, for ever.
pub(super) fn garbage(path: &Path) {
    say("outside");
    let mut random = Random::new(4);
    let extra = memory(4096);
    for round in 0u64.. {
        let socket = connect(path);
        let mut message = vec![0; [0, 1, 8, 24, 25, 600][random.below(6) as usize]];
        for chunk in message.chunks_mut(8) {
            let word = random.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        if let (0, Some(start)) = (round % 3, message.first_chunk_mut()) {
            *start = tag(b"SHMHELLO").to_le_bytes();
        }
        let fds = vec![extra.as_fd(); [0, 0, 1, 3, 50][random.below(5) as usize]];
        let _ = socket.send(&message, &fds);
        // A host that is not accepting says nothing.
        drop(socket.receive(Duration::from_millis(20)));
    }
}

/// Several say hello and take entries, and claim nothing.
pub(super) fn half(path: &Path) {
    let halves: Vec<_> = (0..3)
        .filter_map(|_| {
            let socket = connect(path);
            socket.hello(VERSION, (0, 0)).ok().map(|()| socket)
        })
        .collect();
    say("outside");
    assert_eq!(halves.len(), 3);
    idle();
}

/// Connects and says nothing.
pub(super) fn silence(path: &Path) {
    let _silent: Vec<_> = (0..20).map(|_| connect(path)).collect();
    say("outside");
    idle();
}

/// Claims with memory that is not what an outbox must be, for ever.
pub(super) fn bad_outboxes(path: &Path) {
    say("outside");
    for round in 0.. {
        let Some(welcome) = connect(path).try_welcomed() else { continue };
        let size = welcome.geometry.total;
        let bad = match round % 5 {
            0 => memory(size),
            1 => sealed_with(memory(size - 8), ONE_WRITER),
            2 => sealed_with(memory(size + 4096), ONE_WRITER),
            3 => sealed_with(memory(size), NO_WRITER),
            _ => std::fs::File::open("/dev/null").expect("/dev/null").into(),
        };
        let _ = welcome.socket.send(&tag(b"SHMCLAIM").to_le_bytes(), &[bad.as_fd()]);
        drop(welcome.socket.receive(WAIT));
    }
}

/// Connects and hangs up as fast as it can.
pub(super) fn connect_storm(path: &Path) {
    say("outside");
    loop {
        drop(RawSocket::try_connect(path));
    }
}

/// Attaches and goes as fast as it can, several at a time.
pub(super) fn attach_storm(path: &Path) {
    say("outside");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    // The hub is full now and then.
                    drop(Guest::attach(path, WAIT));
                }
            });
        }
    });
}
