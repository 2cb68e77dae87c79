//! Death of a process at any of its memory operations, inside the model checker.

use std::{
    panic::{self, AssertUnwindSafe, Location},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use shm_primitives::{Memory, Offset, Order};

use crate::{memory::LoomMem, swap};

/// A [`LoomMem`] whose thread dies in the n-th operation after it was told so.
///
/// A store, an exchange or a fence at that place does not happen; of a payload write the
/// first half does. If that store is the second of two that are [swapped](crate::swap), it is
/// the first that does not happen.
#[derive(Clone, Debug)]
pub struct CrashMem {
    memory: LoomMem,
    left: Arc<AtomicU64>,
}

/// How a thread unwinds when it dies; not a panic, so that nothing is printed.
struct Died;

impl CrashMem {
    /// The memories of one process, which die together.
    #[must_use]
    pub fn new<const N: usize>(memories: [&LoomMem; N]) -> [Self; N] {
        let left = Arc::new(AtomicU64::new(u64::MAX));
        memories.map(|memory| Self { memory: memory.clone(), left: Arc::clone(&left) })
    }

    /// Lets the process die in operation `n` from now, counted from 0 through all its
    /// memories.
    pub fn die_in(&self, n: u64) {
        self.left.store(n, Ordering::Relaxed);
    }

    fn step(&self) -> bool {
        // Only one thread has these memories.
        match self.left.load(Ordering::Relaxed) {
            0 => false,
            left => {
                self.left.store(left - 1, Ordering::Relaxed);
                true
            }
        }
    }

    fn survive(&self) -> &LoomMem {
        if !self.step() {
            swap::settle();
            die();
        }
        &self.memory
    }

    /// At the store at `at`: dies, unless it is to be made all the same, and then to be died
    /// after.
    fn dies_after(&self, at: &'static Location<'static>) -> bool {
        let dies = !self.step();
        if dies && !swap::dies_at_second(at) {
            swap::settle();
            die();
        }
        dies
    }
}

fn die_if(dies: bool) {
    if dies {
        swap::settle();
        die();
    }
}

fn die() -> ! {
    panic::resume_unwind(Box::new(Died))
}

/// Runs what may die; `None` if it did.
pub fn until_death<R>(life: impl FnOnce() -> R) -> Option<R> {
    match panic::catch_unwind(AssertUnwindSafe(life)) {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Died>() => None,
        Err(payload) => panic::resume_unwind(payload),
    }
}

impl Memory for CrashMem {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    fn load32(&self, at: Offset, order: Order) -> u32 {
        self.survive().load32(at, order)
    }

    fn store32(&self, at: Offset, value: u32, order: Order) {
        let dies = self.dies_after(Location::caller());
        self.memory.store32(at, value, order);
        die_if(dies);
    }

    fn add32(&self, at: Offset, value: u32, order: Order) -> u32 {
        let dies = self.dies_after(Location::caller());
        let before = self.memory.add32(at, value, order);
        die_if(dies);
        before
    }

    fn load64(&self, at: Offset, order: Order) -> u64 {
        self.survive().load64(at, order)
    }

    fn store64(&self, at: Offset, value: u64, order: Order) {
        let dies = self.dies_after(Location::caller());
        self.memory.store64(at, value, order);
        die_if(dies);
    }

    fn exchange64(&self, at: Offset, current: u64, new: u64, order: Order) -> bool {
        let dies = self.dies_after(Location::caller());
        let exchanged = self.memory.exchange64(at, current, new, order);
        die_if(dies);
        exchanged
    }

    fn read(&self, at: Offset, to: &mut [u8]) {
        self.survive().read(at, to);
    }

    fn write(&self, at: Offset, from: &[u8]) {
        if self.step() {
            self.memory.write(at, from);
        } else {
            let _ = swap::dies_at_second(Location::caller());
            self.memory.write(at, &from[..from.len() / 2]);
            die_if(true);
        }
    }

    fn fence(&self, order: Order) {
        self.survive().fence(order);
    }

    fn fence_light(&self, order: Order) {
        self.survive().fence_light(order);
    }

    fn fence_heavy(&self, order: Order) {
        self.survive().fence_heavy(order);
    }

    fn relax(&self) {
        self.survive().relax();
    }
}
