//! The tasks of one side of a link that wait over one socket: no wake-up is lost, whoever reads
//! it. See *Tasks* in the design document.
//!
//! What the models of the doorbell show is taken as given: to announce and look is one step
//! here, and so is to publish and look for a sleep. What is left are the socket, the runtime and
//! the wakers, which the halves share. A lost wake-up leaves a thread asleep for ever; loom
//! reports that as a deadlock.

use std::sync::Arc;

use loom::sync::{
    Condvar, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    explore::{Paths, explore_bounded},
    thread,
};

/// Each half takes a dozen locks to fall asleep.
const BOUND: usize = 3;

const PATHS: [&str; 5] = [
    "slept and woken",
    "seen at the last look",
    "the other half read the ring",
    "the runtime came too late",
    "announced anew",
];

/// What is left out, to see that the model notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// Nothing.
    Nothing,
    /// The waker is left after the announcement.
    EarlyWaker,
    /// Who reads the socket wakes nobody.
    WakesByReaders,
    /// An announcement is good until something is found.
    NewAnnouncements,
}

const RECEIVER: usize = 0;
const SENDER: usize = 1;

/// What a half waits for, and what the peer knows of its sleep.
#[derive(Default)]
struct Door {
    published: u32,
    asleep: bool,
}

/// The socket as the runtime knows it.
#[derive(Default)]
struct Runtime {
    readable: bool,
    tick: u32,
    waker: bool,
}

#[derive(Default)]
struct Task {
    woken: Mutex<bool>,
    wakes: Condvar,
}

struct Side {
    without: Without,
    doors: [Mutex<Door>; 2],
    /// Rings in the socket, by whom they are for.
    socket: Mutex<Vec<usize>>,
    runtime: Mutex<Runtime>,
    wakers: Mutex<[bool; 2]>,
    reads: AtomicUsize,
    tasks: [Task; 2],
    paths: Arc<Paths>,
}

fn with<T, R>(what: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    work(&mut what.lock().expect("no thread panics with the lock"))
}

impl Side {
    fn new(without: Without, paths: &Arc<Paths>) -> Self {
        Self {
            without,
            doors: Default::default(),
            socket: Mutex::default(),
            runtime: Mutex::default(),
            wakers: Mutex::default(),
            reads: AtomicUsize::new(0),
            tasks: Default::default(),
            paths: Arc::clone(paths),
        }
    }

    /// The peer: publishes something for a half and rings once if it sleeps. What it sends is in
    /// the socket before the runtime looks there.
    fn publish(&self, half: usize) {
        let rings = with(&self.doors[half], |door| {
            door.published += 1;
            std::mem::take(&mut door.asleep)
        });
        if !rings {
            return;
        }
        with(&self.socket, |socket| socket.push(half));
        // An edge whose cause is gone is not reported.
        if with(&self.socket, |socket| socket.is_empty()) {
            self.paths.take("the runtime came too late");
            return;
        }
        let waker = with(&self.runtime, |runtime| {
            runtime.readable = true;
            runtime.tick += 1;
            std::mem::take(&mut runtime.waker)
        });
        if waker {
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        let wakers = with(&self.wakers, std::mem::take);
        for (task, waker) in self.tasks.iter().zip(wakers) {
            if waker {
                with(&task.woken, |woken| *woken = true);
                task.wakes.notify_all();
            }
        }
    }

    fn read_socket(&self, half: usize) {
        let rings = with(&self.socket, std::mem::take);
        let others = rings.iter().any(|&ring| ring != half);
        self.paths.take_if(others, "the other half read the ring");
        self.reads.fetch_add(1, Ordering::Release);
        if self.without != Without::WakesByReaders {
            self.wake_all();
        }
    }

    /// Reads the socket if it is readable; the runtime wakes all later if it is not.
    fn poll_drain(&self, half: usize) -> bool {
        let tick = with(&self.runtime, |runtime| {
            runtime.waker |= !runtime.readable;
            runtime.readable.then_some(runtime.tick)
        });
        let Some(tick) = tick else { return false };
        self.read_socket(half);
        with(&self.runtime, |runtime| runtime.readable &= runtime.tick != tick);
        true
    }

    fn leave_waker(&self, half: usize) {
        with(&self.wakers, |wakers| wakers[half] = true);
    }

    /// One poll of a half that waits until so much was published for it.
    fn poll(&self, half: usize, enough: u32, announced: &mut Option<usize>) -> bool {
        with(&self.wakers, |wakers| wakers[half] = false);
        let found = |door: &mut Door| door.published >= enough;
        loop {
            if with(&self.doors[half], found) {
                return true;
            }
            self.poll_drain(half);
            if self.without != Without::EarlyWaker {
                self.leave_waker(half);
            }
            let reads = self.reads.load(Ordering::Acquire);
            let again = announced.is_some_and(|seen| seen != reads);
            let is_needed = match self.without {
                Without::NewAnnouncements => announced.is_none(),
                _ => announced.is_none() || again,
            };
            if is_needed {
                self.paths.take_if(again, "announced anew");
                *announced = Some(reads);
                let seen = with(&self.doors[half], |door| {
                    door.asleep = true;
                    found(door)
                });
                if seen {
                    self.paths.take("seen at the last look");
                    return true;
                }
            }
            if self.without == Without::EarlyWaker {
                self.leave_waker(half);
            }
            if !self.poll_drain(half) {
                return false;
            }
        }
    }

    /// The task of a half: waits, and goes on.
    fn run(&self, half: usize, enough: u32) {
        let mut announced = None;
        while !self.poll(half, enough, &mut announced) {
            let task = &self.tasks[half];
            let mut woken = task.woken.lock().expect("no thread panics with the lock");
            while !*woken {
                woken = task.wakes.wait(woken).expect("no thread panics with the lock");
            }
            *woken = false;
            self.paths.take("slept and woken");
        }
        with(&self.doors[half], |door| door.asleep = false);
        if half == RECEIVER {
            // What it found refers to a descriptor, for which it reads the socket.
            self.read_socket(half);
        }
    }
}

/// The receiving half waits for a message, the sending half for room, of which the first that is
/// given back is not enough.
pub fn halves() {
    halves_without(Without::Nothing);
}

/// [`halves`] with something left out.
///
/// # Panics
///
/// If that is missed.
pub fn halves_without(without: Without) {
    explore_bounded("tasks::halves", BOUND, &PATHS, move |paths| {
        let side = Arc::new(Side::new(without, paths));
        let halves = [(RECEIVER, 1), (SENDER, 2)].map(|(half, enough)| {
            let side = Arc::clone(&side);
            thread::spawn(move || side.run(half, enough))
        });
        side.publish(SENDER);
        side.publish(RECEIVER);
        side.publish(SENDER);
        for half in halves {
            half.join().expect("a half ends");
        }
    });
}
