//! A guest that breaks the protocol in every way it can harms its own link and nothing
//! else: each call of the host returns by its deadline, an honest guest of the same hub is
//! served all the time, and the entry is free for the next guest afterwards.
//!
//! Here it does one thing at a time, and what becomes of its link is known exactly. Guests that
//! do their worst for as long as they are let are in `hostile_programs.rs`.
//!
//! The hostile guests speak the protocol by hand: see `shm_tests::raw`.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::fs::SealFlags;
use shm_tests::{
    Place, WAIT, eventually, pattern, peer,
    process::Peer,
    raw::{
        NO_WRITER, ONE_WRITER, PADDING, RawGuest, RawSocket, RawWelcome, VERSION, at, holey_memory,
        inline, memory, memory_with_blocks_beyond_its_end, sealed, sealed_with, slot, tag,
    },
    small,
};
use shm_transport::{Corruption, Deadline, Guest, Host, Link, LinkEnd, RecvError, SendError};

/// How long each call of the host may take by its deadline.
const CALL: Duration = Duration::from_millis(2);
/// How long a call takes at most on a machine that is busy with other things.
const LATE: Duration = Duration::from_secs(20);

/// A hub with one honest guest and one entry for a hostile one.
struct Hub {
    place: Place,
    host: Host,
    honest: Peer,
    link: Link,
    round: u64,
}

impl Hub {
    fn new() -> Self {
        let place = Place::new();
        let mut host = place.host(Host::builder().link(small()).max_guests(2));
        let mut honest = peer!("guest", place.hub());
        let link = host.accept(WAIT).unwrap();
        assert_eq!(honest.answer(), "attached 0.1");
        honest.tell("echo");
        Self { place, host, honest, link, round: 0 }
    }

    /// The honest guest is served.
    fn check_honest(&mut self) {
        self.round += 1;
        for len in [20, 1000, 20_000] {
            let message = pattern::message(self.round, len);
            self.link.send(&message, WAIT).unwrap();
            assert!(self.link.recv(WAIT).unwrap().to_bytes() == message);
        }
    }

    /// Connects and attaches by hand while the host accepts.
    fn attach(&mut self) -> (RawGuest, Link) {
        let path = self.place.hub();
        let guest = thread::spawn(move || RawGuest::attach(&path));
        let link = self.host.accept(WAIT).unwrap();
        (guest.join().unwrap(), link)
    }

    /// Runs a guest by hand that does not attach, while the host accepts; what it returns
    /// is dropped first.
    fn not_attached<T: Send + 'static>(
        &mut self,
        guest: impl FnOnce(RawSocket) -> T + Send + 'static,
    ) {
        let path = self.place.hub();
        let guest: JoinHandle<T> = thread::spawn(move || guest(RawSocket::connect(&path)));
        let end = Instant::now() + WAIT;
        while !guest.is_finished() {
            assert!(self.host.try_accept().unwrap().is_none(), "it was let in");
            assert!(Instant::now() < end);
        }
        // The host reads what it said last.
        for _ in 0..50 {
            assert!(self.host.try_accept().unwrap().is_none(), "it was let in");
        }
        self.check_honest();
        drop(guest.join().unwrap());
        self.check_free();
    }

    /// The second entry is there for the next guest.
    fn check_free(&mut self) {
        eventually(|| {
            assert!(self.host.try_accept().unwrap().is_none());
            (self.host.hub().peers().len() == 1).then_some(())
        });
        let path = self.place.hub();
        let next = thread::spawn(move || {
            let mut guest = Guest::attach(path, WAIT).unwrap();
            guest.link.send(b"next", WAIT).unwrap();
            guest.detach(WAIT).unwrap();
        });
        let mut link = self.host.accept(WAIT).unwrap();
        assert_eq!(link.peer().index, 1);
        assert_eq!(link.recv(WAIT).unwrap().to_bytes(), "next");
        next.join().unwrap();
        drop(link);
        self.check_honest();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert!(self.honest.is_running());
        }
    }
}

fn timely<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = call();
    assert!(start.elapsed() < LATE, "{what} took {:?}", start.elapsed());
    result
}

#[test]
fn handshakes_that_stop_half_way_cost_nothing() {
    let mut hub = Hub::new();
    hub.not_attached(|socket| socket);
    hub.not_attached(|socket| socket.hello(VERSION, (0, 0)));
    hub.not_attached(|socket| drop(socket.welcomed()));
    hub.not_attached(RawSocket::welcomed);
    hub.not_attached(|socket| socket.welcomed().mapped());
    hub.not_attached(|socket| {
        let guest = socket.welcomed().mapped();
        guest.seal();
        guest
    });
}

/// A guest that holds an entry and says nothing more loses it after a while, without
/// anybody's doing but the host's accepting.
#[test]
fn a_guest_that_falls_silent_during_the_handshake_is_given_up() {
    let mut hub = Hub::new();
    let path = hub.place.hub();
    let silent = thread::spawn(move || RawSocket::connect(&path).welcomed());
    let end = Instant::now() + WAIT;
    while !silent.is_finished() {
        assert!(hub.host.try_accept().unwrap().is_none() && Instant::now() < end);
    }
    let silent: RawWelcome = silent.join().unwrap();
    assert_eq!(hub.host.hub().peers().len(), 2);
    hub.check_free();
    assert!(silent.socket.receive(WAIT).is_none(), "it was hung up on");
}

#[test]
fn handshakes_that_say_something_else_are_hung_up_on() {
    let mut hub = Hub::new();
    let hung_up = |socket: &RawSocket| assert!(socket.receive(WAIT).is_none());
    let hello = tag(b"SHMHELLO").to_le_bytes();
    let long = [&hello[..], &[0; 600]].concat();
    let claim = tag(b"SHMCLAIM").to_le_bytes();
    let garbage = [vec![0; 24], vec![1], hello.to_vec(), long, claim.to_vec()];
    for message in garbage {
        hub.not_attached(move |socket| {
            socket.send(&message, &[]).unwrap();
            hung_up(&socket);
            socket
        });
    }
    // Twice, or with descriptors that nobody asked for.
    hub.not_attached(move |socket| {
        let welcome = socket.welcomed();
        welcome.socket.hello(VERSION, (0, 0)).unwrap();
        hung_up(&welcome.socket);
        welcome
    });
    for count in [1, 3, 50] {
        hub.not_attached(move |socket| {
            let extra = memory(4096);
            socket.send(&[0; 24], &vec![extra.as_fd(); count]).unwrap();
            hung_up(&socket);
            socket
        });
        hub.not_attached(move |socket| {
            let guest = socket.welcomed().mapped();
            guest.seal();
            let extra = memory(4096);
            guest.socket.send(&claim, &vec![extra.as_fd(); count]).unwrap();
            hung_up(&guest.socket);
            guest
        });
    }
}

#[test]
fn an_outbox_that_is_not_sealed_exactly_as_it_must_be_is_refused() {
    let mut hub = Hub::new();
    let claims = [SealFlags::empty(), SealFlags::FUTURE_WRITE, SealFlags::SEAL];
    for seals in claims {
        hub.not_attached(move |socket| {
            let guest = socket.welcomed().mapped();
            if !seals.is_empty() {
                rustix::fs::fcntl_add_seals(&guest.own, seals).unwrap();
            }
            guest.claim();
            assert!(guest.socket.receive(WAIT).is_none(), "it was hung up on");
            guest
        });
    }
    // Of another size, sealed against everything, or something else altogether.
    let others = |size: u64| {
        [
            sealed_with(memory(size + 4096), ONE_WRITER),
            sealed_with(memory(size * 2), ONE_WRITER),
            sealed_with(memory(size), NO_WRITER),
            std::fs::File::open("/dev/null").unwrap().into(),
        ]
    };
    for which in 0..4 {
        hub.not_attached(move |socket| {
            let welcome = socket.welcomed();
            let other: OwnedFd =
                others(welcome.geometry.total).into_iter().nth(which).expect("four");
            let claim = tag(b"SHMCLAIM").to_le_bytes();
            welcome.socket.send(&claim, &[other.as_fd()]).unwrap();
            assert!(welcome.socket.receive(WAIT).is_none(), "it was hung up on");
            welcome
        });
    }
}

fn end_of(link: &mut Link) -> LinkEnd {
    eventually(|| match timely("recv", || link.recv(CALL).map(drop)) {
        Err(RecvError::Ended(end)) => Some(end),
        Err(RecvError::TimedOut) => None,
        Ok(()) => panic!("a message was received"),
        Err(error) => panic!("{error:?}"),
    })
}

/// A guest does something corrupt; the link ends with the corruption that `expected`
/// knows, for the guest as well as for the host, and for good.
fn corrupts(
    name: &str,
    hub: &mut Hub,
    act: impl FnOnce(&mut RawGuest),
    expected: impl Fn(Corruption) -> bool,
) {
    let (mut guest, mut link) = hub.attach();
    act(&mut guest);
    let end = end_of(&mut link);
    assert!(matches!(end, LinkEnd::Corrupt(found) if expected(found)), "{name}: {end:?}");
    assert!(matches!(link.try_send(b"x"), Err(SendError::Ended(again)) if again == end), "{name}");
    let again = link.recv(Deadline::NEVER).map(drop);
    assert!(matches!(&again, Err(RecvError::Ended(again)) if *again == end), "{name}: {again:?}");
    assert!(hub.host.hub().peers().len() == 1, "{name}: its entry is free at once");
    hub.check_honest();
    drop((guest, link));
    hub.check_free();
}

#[test]
fn frames_that_nobody_honest_writes_end_the_link() {
    let mut hub = Hub::new();
    let mut words =
        vec![5, 255, 1 << 63, 1 | 1 << 8, 1 | 1 << 16, 3 | 1 << 32, PADDING, PADDING | 1 << 40];
    words.extend([inline(505), inline(1016), inline(1 << 31), inline(u32::MAX)]);
    for word in words {
        let name = format!("word {word:#x}");
        corrupts(
            &name,
            &mut hub,
            |guest| guest.publish(word, 16),
            |found| matches!(found, Corruption::Ring(_)),
        );
    }
}

#[test]
fn references_to_slots_that_were_never_handed_over_end_the_link() {
    let mut hub = Hub::new();
    for word in [slot(0, 0, 10), slot(0, 3, 1024), slot(1, 1, 8192), sealed(0), sealed(3)] {
        let name = format!("word {word:#x}");
        corrupts(
            &name,
            &mut hub,
            |guest| guest.publish(word, 8),
            |found| found == Corruption::NotHandedOver,
        );
    }
}

#[test]
fn references_to_slots_that_do_not_exist_end_the_link() {
    let mut hub = Hub::new();
    let words = [
        slot(0, 4, 10),
        slot(0, u16::MAX, 10),
        slot(1, 2, 10),
        slot(2, 0, 10),
        slot(15, 0, 0),
        slot(16, 9, 0),
        slot(255, 0, 10),
        slot(0, 0, 1025),
        slot(1, 0, 8193),
        slot(0, 0, u32::MAX),
        sealed(4),
        sealed(u16::MAX),
    ];
    for word in words {
        let name = format!("word {word:#x}");
        corrupts(
            &name,
            &mut hub,
            |guest| guest.publish(word, 8),
            |found| matches!(found, Corruption::Slot(_)),
        );
    }
}

#[test]
fn a_tail_beyond_what_was_sent_or_going_back_ends_the_link() {
    let mut hub = Hub::new();
    for lie in [1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX] {
        let (guest, mut link) = hub.attach();
        guest.memory.store64(at::TAIL, lie);
        // The host looks when it needs room.
        let end = eventually(|| match link.send(&[0; 100], CALL) {
            Err(SendError::Ended(end)) => Some(end),
            Ok(()) | Err(SendError::TimedOut) => None,
            Err(error) => panic!("{error:?}"),
        });
        let is_tail = matches!(end, LinkEnd::Corrupt(Corruption::Tail(tail)) if tail == lie);
        assert!(is_tail, "{end:?}");
        drop((guest, link));
        hub.check_free();
    }
    let (guest, mut link) = hub.attach();
    while link.try_send(&[0; 100]).is_ok() {}
    // The host needs room, so it sees this, and later sees it go back.
    guest.memory.store64(at::TAIL, 4 * 112);
    link.send(&[0; 100], WAIT).unwrap();
    guest.memory.store64(at::TAIL, 0);
    let end = eventually(|| match link.send(&[0; 100], CALL) {
        Err(SendError::Ended(end)) => Some(end),
        Ok(()) | Err(SendError::TimedOut) => None,
        Err(error) => panic!("{error:?}"),
    });
    assert_eq!(end, LinkEnd::Corrupt(Corruption::Tail(0)));
    drop((guest, link));
    hub.check_free();
}

/// Acks that lie free nothing that is not free: at most the guest's own messages suffer.
#[test]
fn acks_for_what_was_not_sent_free_nothing() {
    let mut hub = Hub::new();
    let (guest, mut link) = hub.attach();
    for _ in 0..3 {
        link.send(&[1; 1000], WAIT).unwrap();
    }
    for value in [2, 3, 1 << 31, u32::MAX] {
        for ack in 0..guest.geometry.acks {
            guest.memory.store32(at::ACKS + 4 * u64::from(ack), value);
        }
        assert_eq!(link.sender.slots_in_flight(), 3, "after acks of {value}");
    }
    for ack in 0..guest.geometry.acks {
        guest.memory.store32(at::ACKS + 4 * u64::from(ack), 1);
    }
    assert_eq!(link.sender.slots_in_flight(), 0);
    drop((guest, link));
    hub.check_free();
}

fn other_descriptors(size: u64) -> Vec<(&'static str, OwnedFd)> {
    let null = std::fs::File::open("/dev/null").unwrap();
    let (pipe, _write) = std::io::pipe().unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    let shm = tempfile::tempfile_in("/dev/shm").ok();
    let mut others: Vec<(&'static str, OwnedFd)> = vec![
        ("/dev/null", null.into()),
        ("a pipe", pipe.into()),
        ("a file", file.into()),
        ("unsealed memory", memory(size)),
        ("half sealed", sealed_with(memory(size), SealFlags::SHRINK | SealFlags::GROW)),
    ];
    others.extend(shm.map(|file| {
        file.set_len(size).unwrap();
        ("a file in /dev/shm", file.into())
    }));
    let huge = rustix::fs::MemfdFlags::CLOEXEC
        | rustix::fs::MemfdFlags::ALLOW_SEALING
        | rustix::fs::MemfdFlags::HUGETLB;
    if let Ok(fd) = rustix::fs::memfd_create("huge", huge)
        && rustix::fs::ftruncate(&fd, 2 << 20).is_ok()
    {
        others.push(("huge pages", fd));
    }
    others
}

fn hand_over(guest: &RawGuest, message: &[u8], fd: BorrowedFd<'_>) {
    guest.socket.send(message, &[fd]).unwrap();
}

const EXTENT: [u8; 2] = [2, 0];
const EXTENT_SIZE: u64 = 2048;
const SEALED: [u8; 3] = [3, 0, 0];

#[test]
fn descriptors_that_are_not_an_extent_end_the_link() {
    let mut hub = Hub::new();
    let mut bad = other_descriptors(EXTENT_SIZE);
    bad.push(("sealed for ever", sealed_with(memory(EXTENT_SIZE), NO_WRITER)));
    bad.push(("too small", sealed_with(memory(EXTENT_SIZE - 64), ONE_WRITER)));
    bad.push(("too large", sealed_with(memory(EXTENT_SIZE * 2), ONE_WRITER)));
    bad.push(("empty", sealed_with(holey_memory(0), ONE_WRITER)));
    for (name, fd) in bad {
        corrupts(
            name,
            &mut hub,
            |guest| {
                hand_over(guest, &EXTENT, fd.as_fd());
                guest.publish(slot(0, 0, 10), 8);
            },
            |found| matches!(found, Corruption::Descriptor(_)),
        );
    }
}

#[test]
fn descriptors_that_are_not_a_sealed_payload_end_the_link() {
    let mut hub = Hub::new();
    let mut bad = other_descriptors(4096);
    bad.push(("one writer", sealed_with(memory(4096), ONE_WRITER)));
    bad.push(("empty", sealed_with(holey_memory(0), NO_WRITER)));
    bad.push(("beyond the largest message", sealed_with(memory((64 << 10) + 1), NO_WRITER)));
    let readable = sealed_with(memory(8192), NO_WRITER);
    let path = format!("/proc/self/fd/{}", readable.as_raw_fd());
    bad.push(("read-only", std::fs::File::open(path).unwrap().into()));
    for (name, fd) in bad {
        corrupts(
            name,
            &mut hub,
            |guest| {
                hand_over(guest, &SEALED, fd.as_fd());
                guest.publish(sealed(0), 8);
            },
            |found| matches!(found, Corruption::Descriptor(_)),
        );
    }
}

/// Touching a hole can fail with a signal, so holes are filled before they are read: also
/// those that pages beyond the end hide from the count of blocks.
#[test]
fn holes_are_filled_before_they_are_read() {
    let mut hub = Hub::new();
    let allocated = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_blocks;
    for make in [holey_memory, memory_with_blocks_beyond_its_end] {
        let extent = sealed_with(make(EXTENT_SIZE), ONE_WRITER);
        let payload = sealed_with(make(8192), NO_WRITER);
        let before = [&extent, &payload].map(allocated);
        let (mut guest, mut link) = hub.attach();
        hand_over(&guest, &EXTENT, extent.as_fd());
        hand_over(&guest, &SEALED, payload.as_fd());
        guest.publish(slot(0, 1, 1000), 8);
        guest.publish(sealed(0), 8);
        for len in [1000, 8192] {
            assert_eq!(link.recv(WAIT).unwrap().to_bytes(), vec![0; len]);
        }
        let after = [&extent, &payload].map(allocated);
        assert!(after[0] >= before[0] + 8 && after[1] >= before[1] + 16, "{before:?} {after:?}");
        drop((guest, link));
        hub.check_free();
    }
}

#[test]
fn messages_over_the_socket_that_mean_nothing_end_the_link() {
    let mut hub = Hub::new();
    let extent = sealed_with(memory(EXTENT_SIZE), ONE_WRITER);
    let messages: [(&[u8], usize); 12] = [
        (&[0], 0),
        (&[1, 1], 0),
        (&[1], 1),
        (&[9], 0),
        (&[2, 0], 0),
        (&[2, 0], 2),
        (&[2, 9], 1),
        (&[2, 255], 1),
        (&[3, 0, 0], 0),
        (&[3, 99, 0], 1),
        (&[7; 8], 3),
        (&[1; 100], 60),
    ];
    for (message, count) in messages {
        let (guest, mut link) = hub.attach();
        guest.socket.send(message, &vec![extent.as_fd(); count]).unwrap();
        let end = eventually(|| {
            if link.receiver.arm() {
                link.receiver.disarm();
            }
            link.end()
        });
        assert!(matches!(end, LinkEnd::Corrupt(_)), "{message:?} with {count}: {end:?}");
        drop((guest, link));
        hub.check_free();
    }
}

#[test]
fn more_extents_and_payloads_than_there_can_be_end_the_link() {
    let mut hub = Hub::new();
    for (message, most) in [(&EXTENT[..], 2), (&SEALED[..], 1)] {
        let (guest, mut link) = hub.attach();
        let fd = sealed_with(memory(EXTENT_SIZE), ONE_WRITER);
        for sent in 0..=most {
            assert_eq!(link.end(), None, "after {sent}");
            hand_over(&guest, message, fd.as_fd());
            if link.receiver.arm() {
                link.receiver.disarm();
            }
        }
        assert!(matches!(link.end(), Some(LinkEnd::Corrupt(_))), "{:?}", link.end());
        drop((guest, link));
        hub.check_free();
    }
}

/// What a guest sends once it has attached is for whoever has its link: who lets guests in is
/// not kept busy by it.
#[test]
fn messages_of_an_attached_guest_do_not_wake_who_accepts() {
    let mut hub = Hub::new();
    let (guest, link) = hub.attach();
    guest.ring_bell();
    let mut fds = [rustix::event::PollFd::new(&hub.host, rustix::event::PollFlags::IN)];
    let wait = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&wait)), Ok(0));
    drop((guest, link));
    hub.check_free();
}

/// A guest that broke the protocol and then mends its ring is not heard again.
#[test]
fn a_corrupt_link_stays_corrupt() {
    let mut hub = Hub::new();
    let (mut guest, mut link) = hub.attach();
    guest.publish(slot(9, 0, 10), 8);
    let end = end_of(&mut link);
    assert!(matches!(end, LinkEnd::Corrupt(_)));
    guest.send_word(1);
    assert_eq!(end_of(&mut link), end);
    let heard = link.recv(Deadline::NOW).map(|message| message.len());
    assert!(matches!(heard, Err(RecvError::Ended(_))), "{heard:?}");
    for _ in 0..10 {
        guest.send_word(2);
        let heard = link.recv(Deadline::NOW).map(|message| message.len());
        assert!(matches!(heard, Err(RecvError::Ended(_))), "{heard:?}");
    }
}

/// A guest that hangs up and goes on writing can be drained: the end is reached after at
/// most what the ring holds.
#[test]
fn a_guest_that_hangs_up_and_writes_on_is_drained_once() {
    let mut hub = Hub::new();
    let (mut guest, mut link) = hub.attach();
    guest.send_word(0);
    rustix::net::shutdown(&guest.socket, rustix::net::Shutdown::Both).unwrap();
    eventually(|| link.end());
    let mut received = 0;
    for number in 1..500 {
        if guest.has_room() {
            guest.send_word(number);
        }
        match link.recv(Deadline::NOW) {
            Ok(_) => received += 1,
            Err(_) => break,
        }
    }
    assert!(received <= 1024 / 16, "{received} messages of a guest that hung up");
}

/// Closing a descriptor can take as long as whoever made it likes: a lingering connection
/// for instance. A guest that sends one does not make the host wait for it.
#[test]
fn a_descriptor_that_is_slow_to_close_does_not_hold_the_host_up() {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };
    let linger = Duration::from_secs(25);
    let lingering = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(linger)).unwrap();
        stream.set_nonblocking(true).unwrap();
        // Until it takes nothing more, also after what is under way has arrived.
        for _ in 0..10 {
            while stream.write(&[0; 1 << 16]).is_ok() {}
            thread::sleep(Duration::from_millis(10));
        }
        (stream, other)
    };
    let mut hub = Hub::new();
    let harmless = memory(4096);
    // The last of several, too: more than any message of ours has.
    for before in [0, 1, 2, 9] {
        let (guest, mut link) = hub.attach();
        let (stream, _other) = lingering();
        let mut descriptors = vec![harmless.as_fd(); before];
        descriptors.push(stream.as_fd());
        guest.socket.send(&[9], &descriptors).unwrap();
        drop(descriptors);
        drop(stream);
        let start = Instant::now();
        if link.receiver.arm() {
            link.receiver.disarm();
        }
        assert!(start.elapsed() < LATE, "behind {before} it took {:?}", start.elapsed());
        assert!(matches!(link.end(), Some(LinkEnd::Corrupt(_))));
        drop((guest, link));
        hub.check_free();
        // And one that nobody reads before the link is dropped.
        let (guest, link) = hub.attach();
        let (stream, _other) = lingering();
        guest.socket.send(&[1], &[stream.as_fd()]).unwrap();
        drop(stream);
        let start = Instant::now();
        drop(link);
        assert!(start.elapsed() < LATE, "a drop took {:?}", start.elapsed());
        drop(guest);
        hub.check_free();
    }
}
