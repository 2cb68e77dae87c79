//! The doorbell: no wake-up is lost, and each sleep is rung for at most once.
//!
//! A lost wake-up leaves a thread asleep for ever; loom reports that as a deadlock.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use shm_primitives::{
    Memory, Offset,
    doorbell::{SleepMode, Sleeper, Waker},
    outbox::{DATA_BELL, DATA_SLEEP, OutboxGeometry, SPACE_BELL, SPACE_SLEEP},
    pool::{PoolGeometry, SizeClass, SlotAllocator, SlotReceipts},
    ring::{Consumer, GrantError, Producer},
};

use super::Link;
use crate::{
    explore::{Paths, explore, explore_bounded},
    futex::Futex,
    membarrier::Process,
    memory::Area,
    thread,
};

/// With five preemptions these take up to minutes.
const DOORBELL_BOUND: usize = 3;

const PATHS: [&str; 4] =
    ["slept and woken", "seen at the last check", "rung before it slept", "nobody slept"];

/// A sleeper with the futex that it sleeps on.
struct Bed<M: Memory> {
    sleeper: Sleeper<M>,
    bell_of: M,
    futex: Futex,
    announced: u64,
}

impl<M: Memory> Bed<M> {
    /// Sleeps, unless `ready` at the last check; the caller looks again afterwards.
    fn sleep(&mut self, paths: &Paths, ready: impl FnOnce() -> bool) {
        let seen = self.sleeper.announce(SleepMode::Futex);
        self.announced += 1;
        assert!(self.sleeper.is_announced());
        if ready() {
            paths.take("seen at the last check");
        } else if self.futex.wait(&self.bell_of, self.sleeper.bell(), seen) {
            paths.take("slept and woken");
        } else {
            paths.take("rung before it slept");
        }
        self.sleeper.awake();
    }
}

/// A waker with the futex of its sleeper.
struct Alarm<M: Memory> {
    waker: Waker<M>,
    futex: Futex,
    rung: AtomicU64,
}

impl<M: Memory> Alarm<M> {
    fn ring(&self) {
        match self.waker.ring() {
            Some(SleepMode::Futex) => {
                self.rung.fetch_add(1, Ordering::Relaxed);
                self.futex.wake();
            }
            Some(SleepMode::Socket) => panic!("nobody waits on a socket"),
            None => {}
        }
    }
}

/// Both ends of a doorbell between the outboxes of a sleeper and a waker.
fn doorbell<M: Memory>(
    [sleeper, waker]: [&M; 2],
    word: Offset,
    bell: Offset,
) -> (Bed<M>, Rc<Alarm<M>>) {
    let futex = Futex::default();
    let bed = Bed {
        sleeper: Sleeper::new(sleeper.clone(), word, waker.clone(), bell),
        bell_of: waker.clone(),
        futex: futex.clone(),
        announced: 0,
    };
    let waker = Waker::new(waker.clone(), bell, sleeper.clone(), word);
    (bed, Rc::new(Alarm { waker, futex, rung: AtomicU64::new(0) }))
}

fn check_rings<M: Memory>(bed: &Bed<M>, alarm: &Alarm<M>, paths: &Paths) {
    let rung = alarm.rung.load(Ordering::Relaxed);
    assert!(rung <= bed.announced, "rung {rung} times for {} sleeps", bed.announced);
    paths.take_if(bed.announced == 0, "nobody slept");
}

/// The producer publishes two frames and rings after each; the consumer sleeps whenever
/// it finds none.
pub fn data() {
    explore_bounded("doorbell::data", DOORBELL_BOUND, &PATHS, |paths| {
        let link = Link::with_data_bell();
        send_two(&link.sender, &link.receiver, &link.geometry, paths, || ());
    });
}

/// The same where the producer's fence is nothing, and the consumer's makes the producer
/// fence wherever it is.
pub fn data_by_membarrier() {
    explore_bounded("doorbell::data_by_membarrier", DOORBELL_BOUND, &PATHS, |paths| {
        let link = Link::with_data_bell();
        let process = Process::new();
        let [sender, receiver] =
            [&link.sender, &link.receiver].map(|memory| process.memory(memory));
        send_two(&sender, &receiver, &link.geometry, paths, move || process.enter());
    });
}

fn send_two<M: Memory + 'static, R>(
    sender: &M,
    receiver: &M,
    geometry: &OutboxGeometry,
    paths: &Paths,
    enter: impl FnOnce() -> R + 'static,
) {
    let mut producer = Producer::new(sender.clone(), receiver.clone(), geometry);
    let mut consumer = Consumer::new(receiver.clone(), sender.clone(), geometry);
    let (mut bed, alarm) = doorbell([receiver, sender], DATA_SLEEP, DATA_BELL);
    let of_sender = Rc::clone(&alarm);
    let sender = thread::spawn(move || {
        let _running = enter();
        for message in [1, 2] {
            producer.push(&[message; 8]).expect("room");
            of_sender.ring();
        }
    });
    let mut received = 0;
    while received < 2 {
        if let Some(entry) = consumer.next().expect("an honest producer") {
            received += 1;
            let mut bytes = [0; 8];
            consumer.read(&entry, 0, &mut bytes);
            assert_eq!(bytes, [received; 8]);
        } else {
            bed.sleep(paths, || consumer.is_ready());
        }
    }
    sender.join().expect("the sender ends");
    check_rings(&bed, &alarm, paths);
}

/// The producer sleeps on a full ring; the consumer releases what it reads, frame by
/// frame, and rings.
pub fn space() {
    explore_bounded("doorbell::space", DOORBELL_BOUND, &PATHS, |paths| {
        let link = Link::with_space_bell(0);
        let (mut producer, mut consumer) = (link.producer(), link.consumer());
        let (mut bed, alarm) = doorbell([&link.sender, &link.receiver], SPACE_SLEEP, SPACE_BELL);
        for message in [1, 2] {
            producer.push(&[message; 16]).expect("room");
        }
        let of_receiver = Rc::clone(&alarm);
        let receiver = thread::spawn(move || {
            for message in [1, 2] {
                let entry = consumer.next().expect("an honest producer").expect("a frame");
                let mut bytes = [0; 16];
                consumer.read(&entry, 0, &mut bytes);
                assert_eq!(bytes, [message; 16]);
                consumer.release();
                of_receiver.ring();
            }
            consumer
        });
        let mut sent = false;
        while !sent {
            match producer.push(&[3; 16]) {
                Ok(()) => sent = true,
                Err(GrantError::Full) => bed.sleep(paths, || producer.grant(16).is_ok()),
                Err(error) => panic!("{error}"),
            }
        }
        let mut consumer = receiver.join().expect("the receiver ends");
        let entry = consumer.next().expect("an honest producer").expect("a frame");
        let mut bytes = [0; 16];
        consumer.read(&entry, 0, &mut bytes);
        assert_eq!(bytes, [3; 16]);
        check_rings(&bed, &alarm, paths);
        assert_eq!(alarm.waker.ring(), None, "it is awake");
    });
}

/// The producer sleeps for the space of all frames, while the consumer gives it back in
/// pieces and rings for each piece only: the last is smaller than a piece, and it rings for
/// that as well, as there is nothing behind it.
///
/// From position 120 of a ring of 256: frames of 8 bytes, which are less than an eighth of it
/// together. One of 128 does not fit behind them, and finds room at the ring's start when
/// all of them are released.
pub fn deferred_space() {
    const PATHS: [&str; 5] = [
        "slept and woken",
        "seen at the last check",
        "rung before it slept",
        "nobody slept",
        "deferred",
    ];
    explore_bounded("doorbell::deferred_space", DOORBELL_BOUND, &PATHS, |paths| {
        let link =
            Link::with_capacity(256, 0, &[Area::word64(SPACE_SLEEP)], &[Area::word32(SPACE_BELL)]);
        let (mut producer, mut consumer) = (link.producer(), link.consumer());
        for len in [56, 24, 16] {
            producer.push(&vec![0xff; len]).expect("an empty ring");
            consumer.next().expect("an honest producer").expect("a frame");
            consumer.release();
        }
        let (mut bed, alarm) = doorbell([&link.sender, &link.receiver], SPACE_SLEEP, SPACE_BELL);
        producer.push(&[]).expect("room");
        let (of_receiver, paths_of_receiver) = (Rc::clone(&alarm), Arc::clone(paths));
        let receiver = thread::spawn(move || {
            let mut taken = 0;
            while taken < 2 {
                if consumer.next().expect("an honest producer").is_none() {
                    thread::yield_now();
                    continue;
                }
                taken += 1;
                if consumer.release() {
                    of_receiver.ring();
                } else {
                    paths_of_receiver.take("deferred");
                }
            }
            consumer
        });
        // The first may be given back before this one is there, or after it.
        producer.push(&[]).expect("room");
        let large = [3; 120];
        let mut sent = false;
        while !sent {
            match producer.push(&large) {
                Ok(()) => sent = true,
                Err(GrantError::Full) => bed.sleep(paths, || producer.grant(120).is_ok()),
                Err(error) => panic!("{error}"),
            }
        }
        let mut consumer = receiver.join().expect("the receiver ends");
        let entry = consumer.next().expect("an honest producer").expect("a frame");
        let mut bytes = [0; 120];
        consumer.read(&entry, 0, &mut bytes);
        assert_eq!(bytes, large);
        check_rings(&bed, &alarm, paths);
        assert_eq!(alarm.waker.ring(), None, "it is awake");
    });
}

/// Two threads of the receiver give a slot back each and ring the same bell; the sender
/// sleeps until it has both.
pub fn two_wakers() {
    explore_bounded("doorbell::two_wakers", DOORBELL_BOUND, &PATHS, |paths| {
        let link = Link::with_space_bell(2);
        give_back_two(&link.sender, &link.receiver, &link.geometry, paths, || ());
    });
}

/// The same where the two do not fence, and the sender makes them fence wherever they
/// are.
pub fn two_wakers_by_membarrier() {
    explore_bounded("doorbell::two_wakers_by_membarrier", DOORBELL_BOUND, &PATHS, |paths| {
        let link = Link::with_space_bell(2);
        let process = Process::new();
        let [sender, receiver] =
            [&link.sender, &link.receiver].map(|memory| process.memory(memory));
        give_back_two(&sender, &receiver, &link.geometry, paths, move || process.enter());
    });
}

fn give_back_two<M: Memory + 'static, R>(
    sender: &M,
    receiver: &M,
    geometry: &OutboxGeometry,
    paths: &Paths,
    enter: impl Fn() -> R + Clone + 'static,
) {
    let class = SizeClass { slot_size: 64, extent_slots: 2, max_extents: 1 };
    let pool = PoolGeometry::new(&[class], 0).expect("one class");
    let mut allocator =
        SlotAllocator::new(&pool, receiver.clone(), geometry).expect("an ack for each slot");
    let mut receipts = SlotReceipts::new(&pool, geometry).expect("an ack for each slot");
    allocator.add_extent(0).expect("its only extent");
    let (mut bed, alarm) = doorbell([sender, receiver], SPACE_SLEEP, SPACE_BELL);
    let receivers = [0, 1].map(|number| {
        let slot = allocator.allocate(1).expect("a free slot");
        allocator.sent(slot);
        let receipt = receipts.receive(slot, 1).expect("a slot of the pool");
        let (own, alarm, enter) = (receiver.clone(), Rc::clone(&alarm), enter.clone());
        thread::spawn(move || {
            let _running = enter();
            receipt.ack(&own);
            alarm.ring();
            if number == 0 {
                // Once more, perhaps with a sleep of the sender in between.
                alarm.ring();
            }
        })
    });
    while allocator.in_flight() > 0 {
        bed.sleep(paths, || allocator.in_flight() == 0);
    }
    for receiver in receivers {
        receiver.join().expect("a receiver ends");
    }
    check_rings(&bed, &alarm, paths);
}

/// Whoever sees a new count of the bell sees what was published before that ring, even
/// where the light fence orders nothing and the heavy one was not run.
pub fn bell_carries() {
    explore("doorbell::bell_carries", &["old count", "new count"], |paths| {
        let link = Link::with_data_bell();
        let (mut producer, consumer) = (link.producer(), link.consumer());
        let own = link.sender.without_light_fences();
        let waker = Waker::new(own, DATA_BELL, link.receiver.clone(), DATA_SLEEP);
        let mut sleeper =
            Sleeper::new(link.receiver.clone(), DATA_SLEEP, link.sender.clone(), DATA_BELL);
        let before = sleeper.announce_unfenced(SleepMode::Futex);
        let sender = thread::spawn(move || {
            producer.push(&[1; 8]).expect("room");
            assert_eq!(waker.ring(), Some(SleepMode::Futex));
        });
        if sleeper.announce_unfenced(SleepMode::Futex) == before {
            paths.take("old count");
        } else {
            paths.take("new count");
            assert!(consumer.is_ready(), "rung, and nothing is there");
        }
        sender.join().expect("the sender ends");
    });
}
