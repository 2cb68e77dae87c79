//! The system call that the doorbell leaves to its caller.

use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
use shm_primitives::{Memory, Offset, doorbell::BellSeen, order::HINT};

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
        let guard = self.0.lock.lock().expect("no thread panics with the lock");
        if memory.load32(bell, HINT) != seen.0 {
            return false;
        }
        drop(self.0.woken.wait(guard));
        true
    }

    /// Wakes whoever waits.
    pub fn wake(&self) {
        let _guard = self.0.lock.lock().expect("no thread panics with the lock");
        self.0.woken.notify_all();
    }
}
