//! What sleeps in the kernel: the system call that the doorbell leaves to its caller, and a
//! lock.

use std::sync::Arc;

use loom::sync::{
    Condvar, Mutex,
    atomic::{AtomicBool, Ordering},
};
use shm_primitives::{Memory, Offset, doorbell::BellSeen, order::HINT};

use crate::{
    memory::{Shadow, chosen},
    swap,
};

/// A futex on one bell: a thread waits while the bell is unchanged, until it is woken.
///
/// It never wakes by itself, so that a lost wake-up is a deadlock, which loom reports.
#[derive(Clone, Debug, Default)]
pub struct Futex(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    // The kernel compares the word and queues the waiter under one lock.
    lock: Mutex<()>,
    woken: Condvar,
}

impl Futex {
    /// Waits for a wake, unless the bell has changed since it was `seen`; returns whether
    /// it waited.
    pub fn wait<M: Memory>(&self, memory: &M, bell: Offset, seen: BellSeen) -> bool {
        swap::settle();
        let guard = self.0.lock.lock().expect("no thread panics with the lock");
        if memory.load32(bell, HINT) != seen.0 {
            return false;
        }
        drop(self.0.woken.wait(guard));
        true
    }

    /// Wakes whoever waits.
    pub fn wake(&self) {
        swap::settle();
        let _guard = self.0.lock.lock().expect("no thread panics with the lock");
        self.0.woken.notify_all();
    }
}

/// A lock whose waiting threads relax over a memory, and so fence when they are asked to.
///
/// One that waits in loom's mutex does nothing until it has it, as if the kernel could not
/// fence for a thread that sleeps.
#[derive(Debug)]
pub struct SpinLock {
    taken: AtomicBool,
    shadow: Shadow,
}

impl Default for SpinLock {
    fn default() -> Self {
        Self { taken: AtomicBool::new(false), shadow: Shadow::new() }
    }
}

impl SpinLock {
    /// Does `work` while no other thread does.
    pub fn with<R>(&self, memory: &impl Memory, work: impl FnOnce() -> R) -> R {
        swap::settle();
        while !self.take() {
            memory.relax();
        }
        let result = work();
        swap::settle();
        self.shadow.touch();
        chosen(|| self.taken.store(false, Ordering::Release));
        result
    }

    fn take(&self) -> bool {
        self.shadow.touch();
        let exchange =
            || self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        chosen(exchange).is_ok()
    }
}
