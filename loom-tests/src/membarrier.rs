//! An asymmetric fence in the model checker: the light half is nothing, the heavy half
//! makes every thread of the other process fence wherever it is.
//!
//! That is what Linux's `membarrier` does, and what makes a waker without a fence of its
//! own right.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use loom::{sync::atomic::fence, thread};
use shm_primitives::{Memory, Offset, Order};

use crate::memory::{LoomMem, Shadow, ordering};

/// A process whose threads fence when somebody outside it asks for it.
#[derive(Debug)]
pub struct Process {
    /// Lets loom try the request before and after each operation of each thread. All
    /// else here stands for the kernel: it is outside of the model and orders nothing.
    requested: Shadow,
    requests: AtomicU64,
    threads: Vec<Thread>,
}

#[derive(Debug, Default)]
struct Thread {
    fenced: AtomicU64,
    ended: AtomicBool,
}

impl Process {
    /// A process of `threads` threads. To be made before they start.
    #[must_use]
    pub fn new(threads: usize) -> Arc<Self> {
        let threads = (0..threads).map(|_| Thread::default()).collect();
        Arc::new(Self { requested: Shadow::new(), requests: AtomicU64::new(0), threads })
    }

    /// The memory as thread `number` of the process sees it.
    ///
    /// # Panics
    ///
    /// If there is no such thread.
    #[must_use]
    pub fn inside(self: &Arc<Self>, memory: &LoomMem, number: usize) -> ProcessMem {
        assert!(number < self.threads.len(), "no thread {number}");
        ProcessMem { memory: memory.clone(), process: Arc::clone(self), inside: Some(number) }
    }

    /// The memory as one sees it whose heavy fence goes to this process.
    #[must_use]
    pub fn outside(self: &Arc<Self>, memory: &LoomMem) -> ProcessMem {
        ProcessMem { memory: memory.clone(), process: Arc::clone(self), inside: None }
    }

    /// To be called by thread `number` when it ends: nobody waits for it any more.
    ///
    /// # Panics
    ///
    /// If there is no such thread.
    pub fn end(&self, number: usize) {
        fence(Ordering::SeqCst);
        self.threads[number].ended.store(true, Ordering::Relaxed);
    }

    /// A place between two operations of a thread.
    fn between(&self, number: usize) {
        self.requested.touch();
        let requests = self.requests.load(Ordering::Relaxed);
        if self.threads[number].fenced.swap(requests, Ordering::Relaxed) < requests {
            fence(Ordering::SeqCst);
        }
    }

    fn fence_all(&self) {
        fence(Ordering::SeqCst);
        self.requested.touch();
        let request = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let waits = |thread: &Thread| {
            thread.fenced.load(Ordering::Relaxed) < request && !thread.ended.load(Ordering::Relaxed)
        };
        while self.threads.iter().any(waits) {
            thread::yield_now();
        }
        fence(Ordering::SeqCst);
    }
}

/// A [`LoomMem`] with an asymmetric fence.
#[derive(Clone, Debug)]
pub struct ProcessMem {
    memory: LoomMem,
    process: Arc<Process>,
    inside: Option<usize>,
}

impl ProcessMem {
    fn memory(&self) -> &LoomMem {
        if let Some(number) = self.inside {
            self.process.between(number);
        }
        &self.memory
    }
}

impl Memory for ProcessMem {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    fn load32(&self, at: Offset, order: Order) -> u32 {
        self.memory().load32(at, order)
    }

    fn store32(&self, at: Offset, value: u32, order: Order) {
        self.memory().store32(at, value, order);
    }

    fn add32(&self, at: Offset, value: u32, order: Order) -> u32 {
        self.memory().add32(at, value, order)
    }

    fn load64(&self, at: Offset, order: Order) -> u64 {
        self.memory().load64(at, order)
    }

    fn store64(&self, at: Offset, value: u64, order: Order) {
        self.memory().store64(at, value, order);
    }

    fn exchange64(&self, at: Offset, current: u64, new: u64, order: Order) -> bool {
        self.memory().exchange64(at, current, new, order)
    }

    fn read(&self, at: Offset, to: &mut [u8]) {
        self.memory().read(at, to);
    }

    fn write(&self, at: Offset, from: &[u8]) {
        self.memory().write(at, from);
    }

    fn fence(&self, order: Order) {
        self.memory().fence(order);
    }

    fn fence_light(&self, _order: Order) {
        assert!(self.inside.is_some(), "nobody would make this thread fence");
    }

    fn fence_heavy(&self, order: Order) {
        if ordering(order) == Ordering::SeqCst {
            self.process.fence_all();
        }
    }

    fn relax(&self) {
        self.memory().relax();
    }
}
