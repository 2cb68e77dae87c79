//! Guests that break the protocol for as long as they are let.

use std::{path::Path, thread, time::Duration};

use rustix::{
    fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate},
    io::{Errno, pwrite},
};
use shm_tests::{
    pattern::Random,
    raw::{RawGuest, RawMemory, RawSocket, at},
};

use crate::say;

pub(crate) fn run(path: &str, kind: &str) {
    let socket = RawSocket::connect(Path::new(path));
    let mut random = Random::new(kind.len() as u64);
    if kind == "resizes" {
        resizes(socket);
        say("all refused");
        thread::sleep(shm_tests::WAIT);
        return;
    }
    let mut guest = socket.welcomed().claimed();
    say("attached");
    let step: fn(&mut RawGuest, &mut Random) = match kind {
        "headers" => |guest, random| {
            let words = guest.geometry.capacity / 8;
            let word = plausible(random);
            guest.memory.store64(guest.geometry.ring + 8 * random.below(words), word);
        },
        "tails" => |guest, random| {
            let tail = [random.next(), random.below(4096), 0, u64::MAX][random.below(4) as usize];
            guest.memory.store64(at::TAIL, tail);
        },
        "acks" => |guest, random| {
            let ack = at::ACKS + 4 * random.below(guest.geometry.acks.into());
            guest.memory.store32(ack, random.below(5) as u32);
        },
        "sleeps" => |guest, random| {
            guest.memory.store64(at::DATA_SLEEP, random.next());
            guest.memory.store64(at::SPACE_SLEEP, random.next());
        },
        "bells" => |guest, random| {
            guest.memory.store32(at::DATA_BELL, random.next() as u32);
            guest.memory.store32(at::SPACE_BELL, random.next() as u32);
            guest.memory.wake(at::DATA_BELL);
            guest.memory.wake(at::SPACE_BELL);
        },
        "bell-messages" => |guest, _| {
            // Full is as good.
            let _ = guest.socket.send(&[1], &[]);
        },
        "goodbyes" => |guest, random| {
            guest.memory.store32(at::GOODBYE, random.below(4) as u32);
        },
        "heartbeats" => |guest, random| guest.memory.store64(at::HEARTBEAT, random.next()),
        "everything" => |guest, random| {
            let words = guest.memory.size() / 8;
            guest.memory.store64(8 * random.below(words), plausible(random));
        },
        // An endless stream of well-formed messages, whether there is room or not.
        "messages" => |guest, random| guest.send_word(random.next()),
        _ => panic!("unknown kind {kind}"),
    };
    loop {
        for _ in 0..50 {
            step(&mut guest, &mut random);
        }
        thread::sleep(Duration::from_micros(20));
    }
}

/// Words that look like frames more often than chance has it.
fn plausible(random: &mut Random) -> u64 {
    let word = random.next();
    match random.below(8) {
        0 => 0,
        1 => word,
        2 => 1 | (word % 300) << 32,
        3 => 1 | word << 32,
        4 => 2 | (word % 3) << 8 | ((word >> 8) % 6) << 16 | ((word >> 20) % 9000) << 32,
        5 => 3 | (word % 6) << 16,
        6 => 4,
        _ => 2 | word << 8,
    }
}

/// Tries to resize, punch, write and map what it was given. Each must be refused.
fn resizes(socket: RawSocket) {
    let guest = socket.welcomed().claimed();
    let refused = |what: &str, result: Result<(), Errno>| {
        assert!(result.is_err(), "{what} was let through");
    };
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for (name, fd) in [("hub", &guest.hub), ("outbox", &guest.outbox), ("own", &guest.own)] {
        refused(&format!("shrinking {name}"), ftruncate(fd, 0));
        refused(&format!("growing {name}"), ftruncate(fd, 1 << 20));
        refused(&format!("punching {name}"), fallocate(fd, punch, 0, 4096));
        refused(&format!("writing {name}"), pwrite(fd, b"x", 0).map(drop));
        refused(&format!("sealing {name}"), fcntl_add_seals(fd, SealFlags::WRITE));
        refused(&format!("mapping {name}"), RawMemory::map(fd_of(fd), 4096, true).map(drop));
        if let Ok(readable) = RawMemory::map(fd_of(fd), 4096, false) {
            refused(&format!("unprotecting {name}"), readable.make_writable());
        }
    }
    refused("unprotecting the host's outbox", guest.host.make_writable());
    // Opened anew through proc(5), it is the same memory with the same seals.
    use std::os::fd::AsRawFd;
    for fd in [&guest.hub, &guest.outbox] {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        if let Ok(file) = std::fs::OpenOptions::new().write(true).read(true).open(path) {
            refused("writing a reopened segment", pwrite(&file, b"x", 0).map(drop));
            refused("truncating a reopened segment", ftruncate(&file, 0));
        }
    }
}

fn fd_of(fd: &std::os::fd::OwnedFd) -> std::os::fd::BorrowedFd<'_> {
    use std::os::fd::AsFd;
    fd.as_fd()
}
