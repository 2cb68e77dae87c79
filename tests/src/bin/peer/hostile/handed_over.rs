//! Memory that a guest hands over, and that is not what it should be.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
    time::Duration,
};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, ftruncate, memfd_create};
use shm_tests::{
    pattern::Random,
    raw::{
        NO_WRITER, ONE_WRITER, RawGuest, RawMemory, holey_memory, memory,
        memory_with_blocks_beyond_its_end, sealed, sealed_with, slot,
    },
};

use super::{Attached, idle};

/// The first extent of class 0 in the links of the tests, and how it is announced.
const EXTENT_SIZE: u64 = 2048;
const EXTENT: [u8; 2] = [2, 0];
const PAYLOAD: [u8; 3] = [3, 0, 0];

/// Hands over a payload and refers to it.
fn payload(attached: &mut Attached, fd: &OwnedFd) {
    // Full is as good.
    let _ = attached.guest.socket.send(&PAYLOAD, &[fd.as_fd()]);
    attached.guest.publish(sealed(0), 8);
}

/// Hands over an extent and refers to one of its slots.
fn extent(attached: &mut Attached, fd: &OwnedFd) {
    let _ = attached.guest.socket.send(&EXTENT, &[fd.as_fd()]);
    attached.guest.publish(slot(0, 0, 1000), 8);
}

pub(super) fn unsealed(attached: &mut Attached) {
    payload(attached, &memory(8192));
    idle();
}

pub(super) fn half_sealed_extent(attached: &mut Attached) {
    extent(attached, &sealed_with(memory(EXTENT_SIZE), SealFlags::SHRINK | SealFlags::GROW));
    idle();
}

pub(super) fn short_extent(attached: &mut Attached) {
    extent(attached, &sealed_with(memory(EXTENT_SIZE - 64), ONE_WRITER));
    idle();
}

/// Slots that were handed over, referred to again and again, whether they were given back or
/// not, while their bytes change.
pub(super) fn stale_slots(attached: &mut Attached) {
    let fd = sealed_with_writable(EXTENT_SIZE);
    extent(attached, &fd.0);
    let Attached { guest, random } = attached;
    loop {
        for word in 0..guest.geometry.capacity / 8 {
            let stale = slot(0, random.below(2) as u16, 1000);
            guest.memory.store64(guest.geometry.ring + 8 * word, stale);
            fd.1.store64(8 * random.below(EXTENT_SIZE / 8), random.next());
        }
    }
}

/// Memory with one writer, and the writer's mapping.
pub(super) fn sealed_with_writable(size: u64) -> (OwnedFd, RawMemory) {
    let fd = memory(size);
    let mapping = RawMemory::map(fd.as_fd(), size as usize, true).expect("its own");
    (sealed_with(fd, ONE_WRITER), mapping)
}

pub(super) fn growing(attached: &mut Attached) {
    let all_but_grow = NO_WRITER - SealFlags::GROW - SealFlags::SEAL;
    let fd = sealed_with(memory(4096), all_but_grow);
    payload(attached, &fd);
    for size in (1..).map(|pages| 4096 * (pages % 64)) {
        let _ = ftruncate(&fd, size);
    }
}

/// Takes the pages away and gives them back, again and again.
pub(super) fn shrinking(attached: &mut Attached) {
    let fd = memory(8192);
    extent(attached, &fd);
    for round in 0.. {
        let _ = ftruncate(&fd, [0, EXTENT_SIZE][round % 2]);
    }
}

pub(super) fn in_a_file(attached: &mut Attached) {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(8192).expect("sized");
    payload(attached, &file.into());
    idle();
}

pub(super) fn in_dev_shm(attached: &mut Attached) {
    let file = tempfile::tempfile_in("/dev/shm").expect("a file");
    file.set_len(8192).expect("sized");
    payload(attached, &file.into());
    idle();
}

/// As large as a payload may be at most, and of pages that cannot be had where none are
/// reserved; a memfd of its own where the kernel makes none.
pub(super) fn of_huge_pages(attached: &mut Attached) {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("huge", flags | MemfdFlags::HUGETLB).expect("memory");
    ftruncate(&fd, 2 << 20).expect("sized");
    payload(attached, &sealed_with(fd, NO_WRITER));
    idle();
}

/// Payload and extent have holes, one of them where blocks beyond the end hide it.
pub(super) fn with_holes(attached: &mut Attached) {
    payload(attached, &sealed_with(holey_memory(64 << 10), NO_WRITER));
    extent(attached, &sealed_with(memory_with_blocks_beyond_its_end(EXTENT_SIZE), ONE_WRITER));
    idle();
}

/// Punches holes into what it handed over.
pub(super) fn punched(attached: &mut Attached) {
    let fd = sealed_with(memory(EXTENT_SIZE), ONE_WRITER);
    let payload_fd = sealed_with(memory(8192), NO_WRITER);
    extent(attached, &fd);
    payload(attached, &payload_fd);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        for fd in [&fd, &payload_fd] {
            assert!(fallocate(fd, punch, 0, 4096).is_err(), "it was punched");
        }
    }
}

/// Descriptors of all kinds, as many as the kernel carries, with and without a message that
/// means something.
pub(super) fn flood(guest: &mut RawGuest, random: &mut Random) {
    let (pipe, _other) = std::io::pipe().expect("a pipe");
    let null = File::open("/dev/null").expect("/dev/null");
    let extra = memory(4096);
    let fds = [pipe.as_fd(), null.as_fd(), extra.as_fd(), guest.hub.as_fd(), guest.own.as_fd()];
    let count = [1, 2, 3, 64][random.below(4) as usize];
    let fds: Vec<_> = fds.iter().copied().cycle().take(count).collect();
    let message: &[u8] = [&EXTENT[..], &PAYLOAD, &[1], &[9; 8]][random.below(4) as usize];
    // Full is as good.
    let _ = guest.socket.send(message, &fds);
}

/// Connections that take long to close, in messages that mean nothing.
pub(super) fn slow_to_close(attached: &mut Attached) {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut stream =
        TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (_other, _) = listener.accept().expect("accepted");
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::from_secs(5)))
        .expect("it lingers");
    stream.set_nonblocking(true).expect("not blocking");
    // Until it takes nothing more, also after what is under way has arrived.
    for _ in 0..10 {
        while stream.write(&[0; 1 << 16]).is_ok() {}
        thread::sleep(Duration::from_millis(2));
    }
    assert!(stream.as_raw_fd() > 0);
    let _ = attached.guest.socket.send(&[1], &[stream.as_fd()]);
    let _ = attached.guest.socket.send(&[9], &[stream.as_fd()]);
    // The host has the last descriptors.
    drop(stream);
    idle();
}
