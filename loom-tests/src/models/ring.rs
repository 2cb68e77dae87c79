//! The ring: order, wrap, full and empty, laps, batches, short grants, death.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use shm_primitives::{
    Memory, Offset,
    ring::{Consumer, GrantError, Producer},
};

use super::Link;
use crate::{
    crash::{CrashMem, until_death},
    explore::{Paths, explore, explore_bounded},
    memory::LoomMem,
    thread,
};

/// Message `number` of a model that sends `lens`: no two alike, and no byte 0.
fn message(lens: &[usize], number: usize) -> Vec<u8> {
    vec![number as u8 + 1; lens[number]]
}

/// What comes out of a ring, checked against what went in.
struct Reader<M: Memory> {
    consumer: Consumer<M>,
    lens: &'static [usize],
    taken: usize,
    last: Option<Offset>,
    wraps: usize,
}

impl<M: Memory> Reader<M> {
    fn new(consumer: Consumer<M>, lens: &'static [usize]) -> Self {
        Self { consumer, lens, taken: 0, last: None, wraps: 0 }
    }

    /// Takes one message without giving its space back.
    fn take(&mut self) -> bool {
        let Some(entry) = self.consumer.next().expect("an honest producer") else { return false };
        let expected = message(self.lens, self.taken);
        let mut bytes = vec![0; entry.len() as usize];
        self.consumer.read(&entry, 0, &mut bytes);
        assert_eq!(bytes, expected, "message {}", self.taken);
        if self.last.is_some_and(|last| entry.payload() < last) {
            self.wraps += 1;
        }
        self.last = Some(entry.payload());
        self.taken += 1;
        true
    }

    fn take_and_release(&mut self) -> bool {
        let taken = self.take();
        self.consumer.release();
        taken
    }
}

/// Advances an empty ring by one frame of `len` payload bytes, before there are threads.
fn advance<M: Memory>(producer: &mut Producer<M>, consumer: &mut Consumer<LoomMem>, len: usize) {
    producer.push(&vec![0xff; len]).expect("an empty ring");
    consumer.next().expect("an honest producer").expect("a frame");
    consumer.release();
}

/// Sends messages one by one, with `attempts` attempts in all; returns how many it sent.
fn send(
    producer: &mut Producer<LoomMem>,
    lens: &[usize],
    from: usize,
    attempts: usize,
    paths: &Paths,
) -> usize {
    let mut sent = from;
    for _ in 0..attempts {
        if sent == lens.len() {
            break;
        }
        match producer.push(&message(lens, sent)) {
            Ok(()) => sent += 1,
            Err(GrantError::Full) => {
                paths.take("full");
                thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

/// One thread sends, one takes and releases each; the rest is sent and taken when the
/// sender has made its attempts.
fn frames(
    name: &str,
    advanced: Option<usize>,
    lens: &'static [usize],
    attempts: usize,
    takes: usize,
    paths: &[&'static str],
) {
    explore(name, paths, move |paths| {
        let link = Link::new(0, &[], &[]);
        let (mut producer, mut consumer) = (link.producer(), link.consumer());
        if let Some(len) = advanced {
            advance(&mut producer, &mut consumer, len);
        }
        let of_sender = Arc::clone(paths);
        let sender = thread::spawn(move || {
            let sent = send(&mut producer, lens, 0, attempts, &of_sender);
            (producer, sent)
        });
        let mut reader = Reader::new(consumer, lens);
        for _ in 0..takes {
            if !reader.take_and_release() {
                paths.take("empty");
                thread::yield_now();
            }
        }
        paths.take_if(reader.wraps > 0, "wrapped");
        paths.take_if(reader.taken == lens.len(), "all while sent");
        let (mut producer, mut sent) = sender.join().expect("the sender ends");
        while reader.taken < lens.len() {
            sent = send(&mut producer, lens, sent, lens.len(), paths);
            while reader.take_and_release() {}
        }
        assert!(!reader.take());
        assert_eq!(producer.is_drained(), Ok(true));
    });
}

/// Frames of different sizes over the end of the ring.
///
/// From position 32: a frame of 16 bytes, padding of 16 with a frame of 24 behind it at
/// 0, which takes the last bytes of the empty ring, and a frame of 16 that waits for
/// space and puts its payload where the first one's header was.
pub fn frames_wrap() {
    frames(
        "ring::frames_wrap",
        Some(24),
        &[8, 16, 8],
        4,
        3,
        &["full", "empty", "wrapped", "all while sent"],
    );
}

/// Frames of half the capacity, through more than one lap: each waits until the one
/// before it was read, and the third stands where the first did.
pub fn frames_lap() {
    frames(
        "ring::frames_lap",
        None,
        &[24, 24, 24],
        4,
        4,
        &["full", "empty", "wrapped", "all while sent"],
    );
}

/// Frames that are published at once, where frames of the lap before stand: what stands behind
/// the last one is never taken for a frame.
pub fn frames_at_once() {
    const LENS: &[usize] = &[8, 0];
    let paths = ["empty", "all while sent"];
    explore("ring::frames_at_once", &paths, |paths| {
        let link = Link::new(0, &[], &[]);
        let (mut producer, mut consumer) = (link.producer(), link.consumer());
        for _ in 0..4 {
            advance(&mut producer, &mut consumer, 8);
        }
        // So that it knows of the room.
        assert_eq!(producer.is_drained(), Ok(true));
        let sender = thread::spawn(move || {
            for number in 0..LENS.len() {
                assert!(producer.push_at_once(&message(LENS, number)), "there is room");
            }
        });
        let mut reader = Reader::new(consumer, LENS);
        for _ in 0..3 {
            if !reader.take_and_release() {
                paths.take("empty");
                thread::yield_now();
            }
        }
        paths.take_if(reader.taken == LENS.len(), "all while sent");
        sender.join().expect("the sender ends");
        while reader.take_and_release() {}
        assert_eq!(reader.taken, LENS.len());
    });
}

/// A batch is seen as a whole or not at all, with padding in its middle, after another
/// batch was aborted that had written other headers in its place. Its space comes back
/// as a whole too, and the next frame waits for it.
pub fn batches() {
    const LENS: &[usize] = &[0, 8, 8, 8];
    const BATCH: usize = 3;
    let paths = ["nothing yet", "while sent", "wrapped", "full", "all while sent"];
    explore("ring::batches", &paths, |paths| {
        let link = Link::new(0, &[], &[]);
        let (mut producer, mut consumer) = (link.producer(), link.consumer());
        advance(&mut producer, &mut consumer, 24);
        let of_sender = Arc::clone(paths);
        let sender = thread::spawn(move || {
            producer.stage(&[0xee; 8]).expect("room");
            producer.stage(&[]).expect("room");
            assert!(producer.has_staged());
            producer.abort();
            for number in 0..BATCH {
                producer.stage(&message(LENS, number)).expect("room");
            }
            producer.publish();
            let sent = send(&mut producer, LENS, BATCH, 3, &of_sender);
            (producer, sent)
        });
        let mut reader = Reader::new(consumer, LENS);
        for _ in 0..3 {
            if !reader.take() {
                paths.take("nothing yet");
                thread::yield_now();
            } else if reader.taken == 1 {
                while reader.taken < BATCH {
                    assert!(reader.take(), "a part of a batch");
                }
                paths.take("while sent");
            }
            reader.consumer.release();
        }
        paths.take_if(reader.taken == LENS.len(), "all while sent");
        let (mut producer, sent) = sender.join().expect("the sender ends");
        while reader.take_and_release() {}
        assert_eq!(reader.taken, sent);
        send(&mut producer, LENS, sent, 1, paths);
        while reader.take_and_release() {}
        assert_eq!(reader.taken, LENS.len());
        paths.take_if(reader.wraps > 0, "wrapped");
    });
}

/// A grant may be committed short, with a length that is no multiple of a word; what was
/// written behind it is never seen, and the next frame stands there.
pub fn short_grants() {
    const LENS: &[usize] = &[3, 12, 1];
    explore(
        "ring::short_grants",
        &["aborted", "wrapped", "full", "empty", "while sent"],
        |paths| {
            let link = Link::new(0, &[], &[]);
            let (mut producer, mut consumer) = (link.producer(), link.consumer());
            advance(&mut producer, &mut consumer, 24);
            let memory = link.sender.clone();
            let of_sender = Arc::clone(paths);
            let sender = thread::spawn(move || {
                let mut sent = 0;
                for _ in 0..6 {
                    if sent == LENS.len() {
                        break;
                    }
                    match producer.grant(LENS[sent] as u32 + 9) {
                        Ok(grant) => {
                            memory.write(grant.payload(), &vec![0xee; LENS[sent] + 9]);
                            drop(grant);
                            of_sender.take("aborted");
                        }
                        Err(error) => {
                            assert_eq!(error, GrantError::Full);
                            of_sender.take("full");
                            thread::yield_now();
                            continue;
                        }
                    }
                    let grant = producer.grant(LENS[sent] as u32 + 9).expect("as before");
                    memory.write(grant.payload(), &message(LENS, sent));
                    grant.commit(LENS[sent] as u32);
                    producer.publish();
                    sent += 1;
                }
                sent
            });
            let mut reader = Reader::new(consumer, LENS);
            for _ in 0..4 {
                if !reader.take_and_release() {
                    paths.take("empty");
                    thread::yield_now();
                }
            }
            paths.take_if(reader.taken == LENS.len(), "while sent");
            let sent = sender.join().expect("the sender ends");
            while reader.take_and_release() {}
            assert_eq!(reader.taken, sent);
            paths.take_if(reader.wraps > 0, "wrapped");
        },
    );
}

/// A consumer that is behind gives space back in pieces of up to an eighth of the ring, 16
/// bytes here; one that has taken everything has given all of it back, so that the producer
/// sees so without another call of the consumer.
///
/// From position 88 of a ring of 128: frames of 8 and 8 bytes, of 16, padding of 8 with a
/// frame of 64 behind it; then, while they are taken, a frame of 16 that there is just room
/// for, and one of 16 and one of 8 that wait for pieces.
pub fn deferred_release() {
    const CAPACITY: u64 = 128;
    const LENS: &[usize] = &[0, 0, 8, 56, 8, 8, 0];
    const BEFORE: usize = 4;
    /// Where each frame ends.
    const ENDS: [u64; 7] = [96, 104, 120, 192, 208, 224, 232];
    let paths = ["deferred", "given back when drained", "full", "wrapped", "empty"];
    explore_bounded("ring::deferred_release", 3, &paths, |paths| {
        let link = Link::with_capacity(CAPACITY, 0, &[], &[]);
        let (mut producer, mut consumer) = (link.producer(), link.consumer());
        advance(&mut producer, &mut consumer, 56);
        advance(&mut producer, &mut consumer, 16);
        for number in 0..BEFORE {
            producer.push(&message(LENS, number)).expect("room");
        }
        // How many frames were read. Outside of the model: it orders nothing.
        let read = Arc::new(AtomicU64::new(0));
        let (of_sender, read_by) = (Arc::clone(paths), Arc::clone(&read));
        let sender = thread::spawn(move || {
            let mut sent = BEFORE;
            for _ in 0..4 {
                if sent == LENS.len() {
                    break;
                }
                let before = sent;
                sent = send(&mut producer, LENS, sent, 1, &of_sender);
                if sent > before {
                    let frames = read_by.load(Ordering::Relaxed) as usize;
                    let read_to = frames.checked_sub(1).map_or(88, |last| ENDS[last]);
                    let used = ENDS[before] + 8 - read_to;
                    assert!(used <= CAPACITY, "space that was not read: {used} bytes in use");
                }
            }
            (producer, sent)
        });
        let mut reader = Reader::new(consumer, LENS);
        let mut kept = 0;
        for _ in 0..LENS.len() {
            let from = reader.taken.checked_sub(1).map_or(88, |last| ENDS[last]);
            if !reader.take() {
                paths.take("empty");
                assert_eq!(kept, 0, "nothing more is there, and not all was given back");
                thread::yield_now();
                continue;
            }
            read.store(reader.taken as u64, Ordering::Relaxed);
            kept += ENDS[reader.taken - 1] - from;
            if !reader.consumer.release() {
                paths.take("deferred");
                assert!(kept < CAPACITY / 8, "{kept} bytes are kept");
                assert!(reader.consumer.is_ready(), "all was taken, and not all was given back");
            } else {
                kept = 0;
            }
        }
        let (mut producer, mut sent) = sender.join().expect("the sender ends");
        if reader.taken == sent {
            paths.take("given back when drained");
            assert_eq!(producer.is_drained(), Ok(true));
        }
        while reader.taken < LENS.len() {
            sent = send(&mut producer, LENS, sent, LENS.len(), paths);
            while reader.take_and_release() {}
        }
        paths.take_if(reader.wraps > 0, "wrapped");
        assert_eq!(producer.is_drained(), Ok(true));
    });
}

/// The producer dies in each of its operations. What was published is there, whole; a
/// batch is there as a whole or not at all.
///
/// One frame, then a batch of two with padding in its middle.
pub fn dying_producer() {
    const LENS: &[usize] = &[0, 8, 8];
    let mut found = Vec::new();
    for n in 0.. {
        let died = Arc::new(AtomicU64::new(0));
        // What was there in the end: the same in all executions.
        let outcome = Arc::new(AtomicU64::new(u64::MAX));
        let (of_model, outcome_of_model) = (Arc::clone(&died), Arc::clone(&outcome));
        let name = format!("ring::dying_producer in operation {n}");
        explore(&name, &["nothing yet"], move |paths| {
            let link = Link::new(0, &[], &[]);
            let [own, peer] = CrashMem::new([&link.sender, &link.receiver]);
            let mut producer = Producer::new(own.clone(), peer, &link.geometry);
            let mut consumer = link.consumer();
            advance(&mut producer, &mut consumer, 24);
            own.die_in(n);
            let died = Arc::clone(&of_model);
            let published = Arc::new(AtomicU64::new(0));
            let of_sender = Arc::clone(&published);
            let sender = thread::spawn(move || {
                let life = until_death(|| {
                    producer.push(&message(LENS, 0)).expect("room");
                    of_sender.store(1, Ordering::Relaxed);
                    producer.stage(&message(LENS, 1)).expect("room");
                    producer.stage(&message(LENS, 2)).expect("room");
                    producer.publish();
                    of_sender.store(3, Ordering::Relaxed);
                });
                if life.is_none() {
                    died.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut reader = Reader::new(consumer, LENS);
            for _ in 0..2 {
                if !reader.take() {
                    paths.take("nothing yet");
                }
            }
            if reader.taken == 2 {
                assert!(reader.take(), "a part of a batch");
            }
            sender.join().expect("the sender ends");
            while reader.take_and_release() {}
            let taken = reader.taken as u64;
            assert!([0, 1, 3].contains(&taken), "a part of a batch");
            assert!(taken >= published.load(Ordering::Relaxed), "a published frame is lost");
            let before = outcome_of_model.swap(taken, Ordering::Relaxed);
            assert!(before == u64::MAX || before == taken, "{before} and {taken} after one death");
        });
        found.push(outcome.load(Ordering::Relaxed));
        if died.load(Ordering::Relaxed) == 0 {
            break;
        }
    }
    println!("ring::dying_producer: found {found:?}");
    assert!(found.is_sorted());
    assert!([0, 1, 3].iter().all(|count| found.contains(count)));
}

/// The consumer dies in each of its operations. The producer never overwrites what was
/// not released, and finds the space of what was.
pub fn dying_consumer() {
    const LENS: &[usize] = &[24, 24];
    // It looks, reads, and releases.
    const RELEASE: u64 = 2;
    for n in 0..=RELEASE + 1 {
        let path = if n > RELEASE { "space while it read" } else { "full" };
        let name = format!("ring::dying_consumer in operation {n}");
        explore(&name, &[path], move |paths| {
            let link = Link::new(0, &[], &[]);
            let mut producer = link.producer();
            producer.push(&message(LENS, 0)).expect("an empty ring");
            let [own, peer] = CrashMem::new([&link.receiver, &link.sender]);
            own.die_in(n);
            let consumer = Consumer::new(own, peer, &link.geometry);
            let receiver = thread::spawn(move || {
                let mut reader = Reader::new(consumer, LENS);
                let life = until_death(|| assert!(reader.take_and_release()));
                assert_eq!(life.is_some(), n > RELEASE);
            });
            // The second frame fits, but the cleared header behind it stands where the
            // first frame does.
            let early = producer.push(&message(LENS, 1));
            receiver.join().expect("the receiver ends");
            if n > RELEASE {
                paths.take_if(early.is_ok(), "space while it read");
                assert!(early.is_ok() || producer.push(&message(LENS, 1)).is_ok());
                assert_eq!(producer.is_drained(), Ok(false));
            } else {
                paths.take("full");
                assert_eq!(early, Err(GrantError::Full));
                assert_eq!(producer.push(&message(LENS, 1)), Err(GrantError::Full));
            }
        });
    }
}
