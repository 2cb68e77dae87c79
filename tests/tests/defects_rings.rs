//! Defects of earlier systems in rings and frames, as schedules that ours survives. Each test has the
//! name of its row; `defects.rs` lists all rows.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use shm_primitives::{
    Mapped, Memory, Offset, Order,
    outbox::OutboxGeometry,
    ring::{Consumer, Producer},
};
use shm_tests::{
    Place, WAIT, peer,
    raw::{PADDING, at, attach_by_hand, inline, slot},
    small, within_wait,
};
use shm_transport::{
    Corruption, Deadline, Link, LinkConfig, LinkEnd, Receiver, RecvError, SendError, Sender,
};

/// Memory of a process that dies at its n-th store.
#[derive(Clone)]
struct Dying<'a> {
    memory: Mapped,
    left: &'a std::cell::Cell<u64>,
}

struct Died;

impl Dying<'_> {
    fn step(&self) {
        match self.left.get() {
            0 => panic::resume_unwind(Box::new(Died)),
            left => self.left.set(left - 1),
        }
    }
}

impl Memory for Dying<'_> {
    fn size(&self) -> u64 {
        self.memory.size()
    }
    fn load32(&self, at: Offset, order: Order) -> u32 {
        self.memory.load32(at, order)
    }
    fn store32(&self, at: Offset, value: u32, order: Order) {
        self.step();
        self.memory.store32(at, value, order);
    }
    fn add32(&self, at: Offset, value: u32, order: Order) -> u32 {
        self.step();
        self.memory.add32(at, value, order)
    }
    fn load64(&self, at: Offset, order: Order) -> u64 {
        self.memory.load64(at, order)
    }
    fn store64(&self, at: Offset, value: u64, order: Order) {
        self.step();
        self.memory.store64(at, value, order);
    }
    fn exchange64(&self, at: Offset, current: u64, new: u64, order: Order) -> bool {
        self.step();
        self.memory.exchange64(at, current, new, order)
    }
    fn read(&self, at: Offset, to: &mut [u8]) {
        self.memory.read(at, to);
    }
    fn write(&self, at: Offset, from: &[u8]) {
        self.step();
        self.memory.write(at, from);
    }
    fn fence(&self, order: Order) {
        self.memory.fence(order);
    }
    fn relax(&self) {}
}

/// Sends `before` messages of 8 bytes that are read, and then more of `lens` by a producer that
/// dies at its n-th store, for each n; returns what was there then, for each n.
fn at_each_death(before: u64, lens: &[usize]) -> Vec<Vec<Vec<u8>>> {
    let geometry = OutboxGeometry::new(256, 0).unwrap();
    let mut found = Vec::new();
    for n in 0.. {
        let [own, peer] = [0; 2].map(|_| Mapped::leaked(geometry.total_size()));
        let left = std::cell::Cell::new(u64::MAX);
        let dying = Dying { memory: own, left: &left };
        let mut producer = Producer::new(dying, Dying { memory: peer, left: &left }, &geometry);
        let mut consumer = Consumer::new(peer, own, &geometry);
        for _ in 0..before {
            producer.push(&[0xff; 8]).unwrap();
            consumer.next().unwrap().unwrap();
            consumer.release();
        }
        left.set(n);
        let life = panic::catch_unwind(AssertUnwindSafe(|| {
            for (number, len) in lens.iter().enumerate() {
                producer.push(&vec![number as u8 + 1; *len]).unwrap();
            }
        }));
        let lived = match life {
            Ok(()) => true,
            Err(payload) if payload.is::<Died>() => false,
            Err(payload) => panic::resume_unwind(payload),
        };
        let mut taken = Vec::new();
        while let Some(entry) = consumer.next().unwrap() {
            let mut bytes = vec![0; entry.len() as usize];
            consumer.read(&entry, 0, &mut bytes);
            taken.push(bytes);
            assert!(taken.len() <= lens.len(), "more than was ever sent: {taken:?}");
        }
        found.push(taken);
        if lived {
            break;
        }
    }
    found
}

/// The producer went round the end by two stores. Killed between them, it left a ring that the
/// consumer read once more as a whole. Here it dies at each store, at each distance from the end.
#[test]
fn messages_delivered_twice() {
    for before in 0..20 {
        let lens = [24, 40, 8];
        let found = at_each_death(before, &lens);
        let sent: Vec<Vec<u8>> =
            lens.iter().enumerate().map(|(number, len)| vec![number as u8 + 1; *len]).collect();
        for (n, taken) in found.iter().enumerate() {
            assert!(sent.starts_with(taken), "killed at store {n} after {before}: {taken:?}");
        }
        assert!(found.len() > 9 && found[0].is_empty());
        assert_eq!(found.last(), Some(&sent));
    }
}

/// Indices of 2³² − 1 and 2³¹ became slices of 4 GiB.
#[test]
fn slice_of_four_gigabytes() {
    let place = Place::new();
    let mut host = place.small_host();
    for index in [u64::from(u32::MAX), 1 << 31, 1 << 32, 1 << 63, u64::MAX] {
        let (guest, mut link) = attach_by_hand(&mut host);
        guest.memory.store64(at::TAIL, index);
        let result = loop {
            match link.try_send(&[1; 100]) {
                Ok(()) => {}
                other => break other,
            }
        };
        let corrupt = matches!(&result, Err(SendError::Ended(LinkEnd::Corrupt(_))));
        assert!(corrupt, "{index:#x}: {result:?}");
    }
    for len in [u32::MAX, 1 << 31, u32::MAX - 7] {
        let (mut guest, mut link) = attach_by_hand(&mut host);
        guest.publish(inline(len), 8);
        let result = link.recv(WAIT).map(drop);
        let corrupt = matches!(&result, Err(RecvError::Ended(LinkEnd::Corrupt(_))));
        assert!(corrupt, "{len:#x}: {result:?}");
    }
}

/// Assertions and indices on peer data. Here all that a guest can write is full of one word.
#[test]
fn host_panics() {
    let place = Place::new();
    let mut host = place.small_host();
    for word in [1, 2, 3, 4, 5, u64::MAX, 1 << 32, inline(8), slot(0, 1, 8), 0x8000_0001_0000_0001]
    {
        let (guest, mut link) = attach_by_hand(&mut host);
        for at in (0..guest.memory.size()).step_by(8) {
            guest.memory.store64(at, word);
        }
        for _ in 0..100 {
            let _ = link.try_recv().map(|message| message.map(|message| message.to_bytes()));
            let _ = link.try_send(&[1; 100]);
            let _ = link.try_send(&[1; 1000]);
            let _ = (link.sender.slots_in_flight(), link.peer_heartbeat(), link.missed());
        }
        let _ = link.detach(Duration::from_millis(1));
    }
    let (mut guest, mut link) = attach_by_hand(&mut host);
    guest.send_word(7);
    assert_eq!(link.recv(WAIT).unwrap().read_u64(0), Some(7), "the host lives");
}

/// A frame's length was checked, and then read again. Here the header changes all the
/// time, between words that are each valid.
#[test]
fn double_fetch_of_a_frame_header() {
    let place = Place::new();
    let mut host = place.small_host();
    for words in [[inline(8), inline(120)], [inline(100), slot(0, 0, 1024)], [inline(64), 0]] {
        let (mut guest, mut link) = attach_by_hand(&mut host);
        let stop = Arc::new(AtomicBool::new(false));
        let flipping = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let at = guest.frame_at();
                guest.publish(words[0], 128);
                while !stop.load(Ordering::Relaxed) {
                    guest.memory.store64(at, words[1]);
                    guest.memory.store64(at, words[0]);
                }
                guest
            }
        });
        // Whatever it was when it was looked at, it stays that.
        match link.recv(Duration::from_millis(200)) {
            Ok(message) => {
                for _ in 0..1000 {
                    let len = message.len();
                    assert!(len == 8 || len == 120 || len == 100 || len == 64, "{len}");
                    assert_eq!(message.to_bytes().len(), len);
                }
            }
            // It may never catch the frame: nobody rings for one that comes and goes.
            Err(RecvError::TimedOut | RecvError::Ended(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
        stop.store(true, Ordering::Relaxed);
        flipping.join().unwrap();
    }
}

/// A malformed frame read as "nothing there", so that the link waited for ever.
#[test]
fn link_stalls_for_ever() {
    let place = Place::new();
    let mut host = place.small_host();
    for word in [5, 255, 1 << 63, 1 | 1 << 8, PADDING, inline(1 << 20)] {
        let (mut guest, mut link) = attach_by_hand(&mut host);
        guest.publish(word, 16);
        let result = within_wait(move || link.recv(Deadline::NEVER).map(drop));
        let ended = matches!(&result, Err(RecvError::Ended(LinkEnd::Corrupt(Corruption::Ring(_)))));
        assert!(ended, "{word:#x}: {result:?}");
    }
}

/// An empty ring refused a frame for ever: more than half the capacity, at a position from
/// which it fits neither before the end nor behind it.
#[test]
fn empty_ring_refuses_a_frame_for_ever() {
    for capacity in [64, 128, 256, 1024] {
        let inline_limit = Some(u32::MAX);
        let config = LinkConfig { ring_capacity: capacity, inline_limit, ..small() };
        let largest = config.inline_max() as usize;
        assert_eq!(largest as u64, capacity / 2 - 8);
        for shift in 0..capacity / 8 {
            let (mut left, mut right) = Link::pair(&config).unwrap();
            // Each empty message takes one word.
            for _ in 0..shift {
                left.send(&[], WAIT).unwrap();
                assert!(right.recv(WAIT).unwrap().is_empty());
            }
            for len in [largest, largest - 1, 1, largest] {
                left.try_send(&vec![1; len]).unwrap();
                assert_eq!(right.recv(WAIT).unwrap().len(), len);
            }
            // What is larger goes another way.
            left.try_send(&vec![1; largest + 1]).unwrap();
            assert_eq!(right.recv(WAIT).unwrap().len(), largest + 1);
        }
    }
}

/// A sender waited for room in the ring of a peer that had died.
#[test]
fn sender_spins_for_ever() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut guest = peer!("guest", place.hub());
    let mut link = host.accept(WAIT).unwrap();
    assert!(guest.answer().starts_with("attached"));
    while link.try_send(&[1; 100]).is_ok() {}
    let waiting = thread::spawn(move || link.send(&[1; 100], Deadline::NEVER));
    thread::sleep(Duration::from_millis(20));
    guest.kill();
    let result = within_wait(move || waiting.join().unwrap());
    assert!(matches!(result, Err(SendError::Ended(LinkEnd::PeerDead))), "{result:?}");
}

/// Two writers of one ring: handles cannot be cloned, and each is used by one thread.
#[test]
fn two_writers_alias() {
    trait Otherwise {
        const CLONES: bool = false;
    }
    impl<T: ?Sized> Otherwise for T {}
    struct Probe<T>(std::marker::PhantomData<T>);
    impl<T: Clone> Probe<T> {
        const CLONES: bool = true;
    }
    let clones = [Probe::<Sender>::CLONES, Probe::<Receiver>::CLONES, Probe::<Link>::CLONES];
    assert_eq!(clones, [false; 3]);
    assert_eq!([Probe::<u8>::CLONES], [true], "the probe works");
    fn moves<T: Send>() {}
    moves::<Sender>();
    moves::<Receiver>();
    moves::<Link>();
}

/// Who repaired a dead producer's ring scanned back from index 0, below the first byte. Here nobody
/// repairs: a producer that dies at index 0 of the ring, new or gone round, left a frame or none.
#[test]
fn unblock_underflows() {
    for before in [0, 16] {
        let found = at_each_death(before, &[8]);
        assert!(found.len() > 3);
        for taken in &found {
            assert!(taken.is_empty() || *taken == [vec![1; 8]], "{taken:?}");
        }
        assert!(found[0].is_empty() && found.last().is_some_and(|taken| taken.len() == 1));
    }
}
