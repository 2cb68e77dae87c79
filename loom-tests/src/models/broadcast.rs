//! The broadcast ring: what a reader gets is whole and in order, what it lost is counted
//! exactly, and no wake-up is lost.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use loom::sync::mpsc;
use shm_primitives::{
    Memory, Offset,
    broadcast::{Alarm, BroadcastGeometry, BroadcastReader, BroadcastWriter, Start, Step},
    doorbell::BellSeen,
};

use crate::{
    crash::{CrashMem, until_death},
    explore::{Paths, explore, explore_bounded},
    futex::{Futex, SpinLock},
    membarrier::Process,
    memory::{Area, Loads, LoomMem},
    thread,
};

const AT: Offset = Offset::new(40);
const AWAITED: u64 = 128;
const BELL: u64 = 136;
const SLOTS: u64 = 256;
const STRIDE: u64 = 64;
/// Up to two words, the second one not whole.
const MAX_LEN: usize = 13;

fn geometry(slots: u64) -> BroadcastGeometry {
    BroadcastGeometry::new(slots, MAX_LEN as u64).expect("a small ring")
}

fn ring(slots: u64) -> LoomMem {
    let at = AT.bytes();
    let mut areas =
        vec![Area::word64(AT), Area::word64(AT.plus(AWAITED)), Area::word32(AT.plus(BELL))];
    areas.extend((0..slots).map(|slot| {
        let start = at + SLOTS + slot * STRIDE;
        Area::Words64(start..start + 16 + MAX_LEN.next_multiple_of(8) as u64)
    }));
    LoomMem::new(at + geometry(slots).size(), &areas)
}

fn writer<M: Memory>(memory: &M, slots: u64) -> BroadcastWriter<M> {
    BroadcastWriter::new(memory.clone(), AT, geometry(slots))
}

/// The value at a position, by the writer of this number: its length too says which it is.
fn value(position: u64, writer: u8) -> Vec<u8> {
    // One word, two, one, two, none of them whole.
    let len = [5, MAX_LEN, 3, 10][position as usize % 4];
    vec![0x10 * writer + position as u8 + 1; len]
}

fn publish<M: Memory>(writer: &mut BroadcastWriter<M>, number: u8) -> u64 {
    let position = writer.published();
    assert_eq!(writer.publish(&value(position, number)), Ok(position));
    position
}

/// Which writer a value is by; fails if it is of none.
fn written_by(position: u64, found: &[u8]) -> u8 {
    let by = found.first().map_or(0, |byte| byte >> 4);
    assert_eq!(found, value(position, by), "torn at {position}");
    by
}

/// Models of a dying writer have no paths: each of its deaths has others.
fn take_if(paths: Option<&Paths>, condition: bool, path: &str) {
    if let Some(paths) = paths {
        paths.take_if(condition, path);
    }
}

/// A reader that checks what it gets.
struct Follower<M: Memory> {
    reader: BroadcastReader<M>,
    slots: u64,
    /// What it has to find next.
    next: u64,
    lost: u64,
    /// By whom each value was that it got.
    got: Vec<(u64, u8)>,
    /// How many values there were when it last looked at the newest.
    known: u64,
    loads: Loads,
}

impl Follower<LoomMem> {
    fn new(memory: &LoomMem, slots: u64, start: Start) -> Self {
        let loads = Loads::default();
        let reader = BroadcastReader::new(memory.noting(&loads), AT, geometry(slots), start);
        let next = reader.position();
        Self { reader, slots, next, lost: 0, got: Vec::new(), known: 0, loads }
    }

    /// Takes one step; returns whether it found something.
    fn step(&mut self, paths: Option<&Paths>) -> bool {
        let mut buffer = [0xff; MAX_LEN];
        drop(self.loads.take());
        let step = self.reader.next(&mut buffer).expect("an honest writer");
        let loads = self.loads.take();
        match step {
            Step::Nothing => {
                let [first] = loads[..] else { panic!("copied for nothing: {loads:?}") };
                let path = if first == 2 * self.next + 1 { "being written" } else { "nothing" };
                take_if(paths, true, path);
            }
            Step::Value { position, len } => {
                assert_eq!(position, self.next, "out of order");
                self.got.push((position, written_by(position, &buffer[..len])));
                self.next += 1;
                take_if(paths, true, "in order");
            }
            Step::Lost(count) => {
                assert!(count > 0);
                self.lost += count;
                self.next += count;
                let [copied @ .., sequence, published, after] = &loads[..] else {
                    panic!("lost, and nothing was looked at: {loads:?}")
                };
                // Of those before the value in its slot, at least begun, and of those that
                // were published, all but a lap.
                let published = published + u64::from(*after == 2 * published + 2);
                let end = ((sequence - 1) / 2 + 1).max(published);
                assert_eq!(self.next + self.slots, end, "lost too many or too few");
                let path =
                    if !copied.is_empty() { "lapped during the copy" } else { "lapped before it" };
                take_if(paths, true, path);
            }
        }
        assert_eq!(self.reader.position(), self.next);
        step != Step::Nothing
    }

    /// Takes what is left, when nobody writes any more and `published` were.
    fn drain(&mut self, begin: u64, published: u64, paths: Option<&Paths>) {
        while self.reader.is_ready() {
            assert!(self.step(paths), "ready, and nothing is there");
        }
        assert!(!self.step(paths), "not ready, and something is there");
        assert_eq!(self.next, published);
        assert_eq!(self.got.len() as u64 + self.lost, published - begin);
    }

    /// Looks at the newest value, which is neither older than `seen` nor than what was got in
    /// order; returns its position.
    fn newest(&mut self, seen: Option<u64>, paths: Option<&Paths>) -> Option<u64> {
        let mut buffer = [0xff; MAX_LEN];
        // Who holds a copy of the newest need not copy it again: it is held to the same.
        if self.known > 0 && !self.reader.has_newer() {
            let position = self.known - 1;
            let got = self.got.last().map(|(position, _)| *position);
            assert!(Some(position) >= seen.max(got), "held {position}, and {seen:?} {got:?} seen");
            take_if(paths, true, "held");
        }
        drop(self.loads.take());
        let newest = self.reader.newest(&mut buffer).expect("a writer that pauses");
        let loads = self.loads.take();
        // The sequence behind what was the newest; if something is there, `published` and the
        // sequence behind that.
        let is_new = loads[0] >= 2 * self.known + 2;
        let found = if is_new { 3 } else { 1 };
        take_if(paths, is_new && loads[2] == 2 * loads[1] + 2, "one further than published");
        let seen = seen.max(self.got.last().map(|(position, _)| *position));
        assert_eq!(self.reader.position(), self.next, "the cursor moved");
        let Some((position, len)) = newest else {
            assert_eq!((seen, self.known), (None, 0), "gone");
            take_if(paths, true, "none");
            return None;
        };
        written_by(position, &buffer[..len]);
        assert!(Some(position) >= seen, "back from {seen:?} to {position}");
        take_if(paths, seen.is_some_and(|seen| seen < position), "newer than before");
        // The sequence, the length, the words, the sequence.
        let again = loads.len() > found + 3 + len.div_ceil(8);
        take_if(paths, again, "tried again");
        take_if(paths, !is_new && !again, "the same as before");
        self.known = position + 1;
        Some(position)
    }
}

const NEWEST: [&str; 6] = [
    "none",
    "held",
    "newer than before",
    "the same as before",
    "tried again",
    "one further than published",
];
const FOLLOWED: [&str; 5] =
    ["nothing", "being written", "in order", "lapped before it", "lapped during the copy"];

/// One publishes values while one takes steps.
fn follow(name: &str, bound: usize, slots: u64, [values, steps]: [u64; 2]) {
    explore_bounded(name, bound, &FOLLOWED, move |paths| {
        let memory = ring(slots);
        let mut writer = writer(&memory, slots);
        let mut follower = Follower::new(&memory, slots, Start::Next);
        let writing = thread::spawn(move || {
            for _ in 0..values {
                publish(&mut writer, 1);
            }
        });
        for _ in 0..steps {
            follower.step(Some(paths));
        }
        writing.join().expect("the writer ends");
        follower.drain(0, values, Some(paths));
    });
}

/// A ring of one slot: each value overwrites the one before.
pub fn follow_one_slot() {
    follow("broadcast::follow_one_slot", 3, 1, [3, 2]);
}

/// A ring of two slots, lapped once.
pub fn follow_two_slots() {
    follow("broadcast::follow_two_slots", 4, 2, [3, 3]);
}

/// One publishes values while one looks at the newest.
fn look(name: &str, bound: usize, slots: u64, [values, looks]: [u64; 2]) {
    explore_bounded(name, bound, &NEWEST, move |paths| {
        let memory = ring(slots);
        let mut writer = writer(&memory, slots);
        let mut follower = Follower::new(&memory, slots, Start::Next);
        let writing = thread::spawn(move || {
            for _ in 0..values {
                publish(&mut writer, 1);
            }
        });
        let mut seen = None;
        for _ in 0..looks {
            seen = follower.newest(seen, Some(paths));
        }
        writing.join().expect("the writer ends");
        assert_eq!(follower.newest(seen, Some(paths)), Some(values - 1));
    });
}

/// The newest value in a ring of one slot, where it is never there while the next is written.
pub fn newest_one_slot() {
    look("broadcast::newest_one_slot", 1, 1, [2, 2]);
}

/// The newest value in a ring of two slots.
pub fn newest_two_slots() {
    look("broadcast::newest_two_slots", 2, 2, [3, 1]);
}

/// The newest value after one that was read in order: `published` may be as old as that.
pub fn newest_after_next() {
    let paths = [&FOLLOWED[..], &NEWEST].concat();
    explore_bounded("broadcast::newest_after_next", 2, &paths, |paths| {
        let memory = ring(2);
        let mut writer = writer(&memory, 2);
        let mut follower = Follower::new(&memory, 2, Start::Next);
        let writing = thread::spawn(move || {
            for _ in 0..3 {
                publish(&mut writer, 1);
            }
        });
        follower.step(Some(paths));
        let seen = follower.newest(None, Some(paths));
        writing.join().expect("the writer ends");
        assert_eq!(follower.newest(seen, Some(paths)), Some(2));
    });
}

/// Runs `model` with a writer that dies in each of its operations, until it lives on; returns
/// what was found then, which each execution of the same death agrees on.
fn at_each_death(
    name: &str,
    bound: usize,
    model: impl Fn(&mut dyn FnMut(&LoomMem, u64) -> DyingWriter) -> u64 + Copy + Send + Sync + 'static,
) -> Vec<u64> {
    let mut found = Vec::new();
    for n in 0.. {
        let died = Arc::new(AtomicBool::new(false));
        let outcome = Arc::new(AtomicU64::new(u64::MAX));
        let (of_model, outcome_of_model) = (Arc::clone(&died), Arc::clone(&outcome));
        explore_bounded(&format!("{name} in operation {n}"), bound, &[], move |_| {
            let mut dying = |memory: &LoomMem, slots| {
                let [memory] = CrashMem::new([memory]);
                let writer = writer(&memory, slots);
                memory.die_in(n);
                DyingWriter { writer, died: Arc::clone(&of_model) }
            };
            let found = model(&mut dying);
            let before = outcome_of_model.swap(found, Ordering::Relaxed);
            assert!(before == u64::MAX || before == found, "{before} and {found}");
        });
        found.push(outcome.load(Ordering::Relaxed));
        if !died.load(Ordering::Relaxed) {
            break;
        }
    }
    println!("{name}: found {found:?}");
    found
}

struct DyingWriter {
    writer: BroadcastWriter<CrashMem>,
    died: Arc<AtomicBool>,
}

impl DyingWriter {
    fn publish(&mut self, number: u8) {
        if until_death(|| publish(&mut self.writer, number)).is_none() {
            self.died.store(true, Ordering::Relaxed);
        }
    }
}

/// The writer dies in each operation of a publication beside a reader. The value is there as
/// a whole or not at all, and so are those before it; the next writer goes on behind it.
pub fn dying_writer() {
    let found = at_each_death("broadcast::dying_writer", 4, |dying| {
        let memory = ring(2);
        let mut first = writer(&memory, 2);
        publish(&mut first, 1);
        publish(&mut first, 1);
        let mut follower = Follower::new(&memory, 2, Start::Oldest);
        let mut dying = dying(&memory, 2);
        let writing = thread::spawn(move || dying.publish(2));
        follower.step(None);
        follower.step(None);
        writing.join().expect("the writer ends");
        let mut last = writer(&memory, 2);
        let published = last.published();
        assert_eq!(follower.reader.published(), published);
        follower.drain(0, published, None);
        assert!(follower.got.contains(&(1, 1)), "lost, though nobody wrote over it");
        assert_eq!(follower.got.contains(&(2, 2)), published == 3, "a part of a value");
        assert_eq!(follower.newest(None, None), Some(published - 1));
        assert_eq!(publish(&mut last, 3), published);
        follower.drain(0, published + 1, None);
        assert_eq!(follower.got.last(), Some(&(published, 3)));
        assert_eq!(follower.newest(None, None), Some(published));
        published
    });
    // It is there from its even sequence on, which is the last store but one.
    assert!(found.is_sorted() && found.len() > 6);
    assert_eq!(found[found.len() - 3..], [2, 3, 3]);
}

/// The same with the next writer beside the reader.
pub fn writer_after_a_death() {
    for slots in [1, 2] {
        let name = format!("broadcast::writer_after_a_death, slots: {slots}");
        let found = at_each_death(&name, 2, move |dying| {
            let memory = ring(slots);
            publish(&mut writer(&memory, slots), 1);
            let mut follower = Follower::new(&memory, slots, Start::Next);
            let mut dying = dying(&memory, slots);
            let of_writers = memory.clone();
            let writing = thread::spawn(move || {
                dying.publish(2);
                publish(&mut writer(&of_writers, slots), 3)
            });
            for _ in 0..3 {
                follower.step(None);
            }
            // With one slot it tries again and again, which takes minutes.
            if slots > 1 {
                follower.newest(None, None);
            }
            let last = writing.join().expect("the writers end");
            follower.drain(1, last + 1, None);
            for (position, by) in &follower.got {
                assert_eq!(*by, if *position == last { 3 } else { 2 }, "of the dead at {position}");
            }
            last
        });
        assert!(found.is_sorted() && found.len() > 6);
        assert_eq!(found[found.len() - 3..], [1, 2, 2]);
    }
}

/// What is the host's: its alarm, and whether somebody waits for its bell.
struct Host<M: Memory> {
    memory: M,
    alarm: Alarm<M>,
    /// Who rings or uses `on_bell` has it.
    lock: SpinLock,
    on_bell: AtomicBool,
    futex: Futex,
}

impl<M: Memory> Host<M> {
    fn new(memory: &M) -> Rc<Self> {
        Rc::new(Self {
            memory: memory.clone(),
            alarm: Alarm::new(memory.clone(), AT, geometry(SLEPT)),
            lock: SpinLock::default(),
            on_bell: AtomicBool::new(false),
            futex: Futex::default(),
        })
    }

    /// Of the thread that hears of a reader about to sleep.
    fn wake_at(&self, position: u64, paths: &Paths) {
        self.lock.with(&self.memory, || self.on_bell.store(true, Ordering::Relaxed));
        if self.alarm.set(position) {
            paths.take("rung by the agent");
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        let on_bell = self.lock.with(&self.memory, || {
            self.alarm.ring();
            self.on_bell.swap(false, Ordering::Relaxed)
        });
        if on_bell {
            self.futex.wake();
        }
    }
}

/// Slots of the ring whose reader sleeps.
const SLEPT: u64 = 2;

fn sleep<M: Memory + 'static, R>(
    values: u64,
    memory: &M,
    paths: &Arc<Paths>,
    enter: impl FnOnce() -> R + 'static,
) {
    let mut writer = writer(memory, SLEPT);
    let host = Host::new(memory);
    let mut reader = BroadcastReader::new(memory.clone(), AT, geometry(SLEPT), Start::Next);
    let (tell, hear) = mpsc::channel();
    let (of_agent, of_paths) = (Rc::clone(&host), Arc::clone(paths));
    let agent = thread::spawn(move || {
        while let Some(position) = hear.recv().expect("the reader says when it ends") {
            of_agent.wake_at(position, &of_paths);
        }
    });
    let (of_publisher, of_paths) = (Rc::clone(&host), Arc::clone(paths));
    let publisher = thread::spawn(move || {
        let _running = enter();
        for _ in 0..values {
            publish(&mut writer, 1);
            if writer.is_awaited() {
                of_paths.take("rung by the publisher");
                of_publisher.wake_all();
            }
        }
    });
    let (mut buffer, mut slept) = ([0; MAX_LEN], false);
    while reader.position() < values {
        match reader.next(&mut buffer).expect("an honest writer") {
            Step::Value { position, len } => {
                written_by(position, &buffer[..len]);
                continue;
            }
            Step::Lost(_) => continue,
            Step::Nothing => {}
        }
        slept = true;
        let seen = BellSeen(reader.bell_seen());
        tell.send(Some(reader.position())).expect("the agent listens");
        if reader.is_ready() {
            paths.take("seen at the last check");
        } else if host.futex.wait(memory, reader.bell(), seen) {
            paths.take("slept and woken");
        } else {
            paths.take("rung before it slept");
        }
    }
    tell.send(None).expect("the agent listens");
    paths.take_if(!slept, "nobody slept");
    publisher.join().expect("the publisher ends");
    agent.join().expect("the agent ends");
}

const SLEEP: [&str; 6] = [
    "slept and woken",
    "seen at the last check",
    "rung before it slept",
    "rung by the agent",
    "rung by the publisher",
    "nobody slept",
];

/// The publisher publishes and rings if it is awaited. The reader sleeps whenever it has found
/// nothing, and told another thread of the publisher's process so, which sets the alarm.
pub fn alarm() {
    // With three preemptions two values take a minute.
    for (values, bound) in [(1, 3), (2, 2)] {
        let name = format!("broadcast::alarm, values: {values}");
        explore_bounded(&name, bound, &SLEEP, move |paths| {
            sleep(values, &ring(SLEPT), paths, || ());
        });
    }
}

/// The same where the publisher's fence is nothing, and the one that sets the alarm makes it
/// fence wherever it is.
pub fn alarm_by_membarrier() {
    explore_bounded("broadcast::alarm_by_membarrier", 2, &SLEEP, |paths| {
        let process = Process::new();
        let memory = process.memory(&ring(SLEPT));
        sleep(2, &memory, paths, move || process.enter());
    });
}

/// Whoever sees a new count of the bell sees what was published before the publisher rang,
/// even where the light fence orders nothing and the heavy one was not run.
pub fn bell_carries() {
    explore("broadcast::bell_carries", &["old count", "new count"], |paths| {
        let memory = ring(1).without_light_fences();
        let mut writer = writer(&memory, 1);
        let reader = BroadcastReader::new(memory.clone(), AT, geometry(1), Start::Next);
        let alarm = Alarm::new(memory, AT, geometry(1));
        let before = reader.bell_seen();
        assert!(!alarm.set(reader.position()));
        let publisher = thread::spawn(move || {
            publish(&mut writer, 1);
            assert!(writer.is_awaited());
            alarm.ring();
        });
        if reader.bell_seen() == before {
            paths.take("old count");
        } else {
            paths.take("new count");
            assert!(reader.is_ready(), "rung, and nothing is there");
        }
        publisher.join().expect("the publisher ends");
    });
}

/// The same where the one that sets the alarm rings, because it sees that the value is there.
pub fn bell_of_the_agent_carries() {
    explore("broadcast::bell_of_the_agent_carries", &["old count", "new count"], |paths| {
        let memory = ring(1);
        let mut writer = writer(&memory, 1);
        let reader = BroadcastReader::new(memory.clone(), AT, geometry(1), Start::Next);
        let alarm = Alarm::new(memory, AT, geometry(1));
        let before = reader.bell_seen();
        let publisher = thread::spawn(move || {
            publish(&mut writer, 1);
        });
        let agent = thread::spawn(move || {
            if alarm.set(0) {
                alarm.ring();
            }
        });
        if reader.bell_seen() == before {
            paths.take("old count");
        } else {
            paths.take("new count");
            assert!(reader.is_ready(), "rung, and nothing is there");
        }
        publisher.join().expect("the publisher ends");
        agent.join().expect("the agent ends");
    });
}
