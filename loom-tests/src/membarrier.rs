//! An asymmetric fence in the model checker: the light half is nothing, the heavy half
//! makes every thread of the other process fence wherever it is.
//!
//! That is what Linux's `membarrier` does, and what makes a waker without a fence of its
//! own right.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

use loom::{
    sync::atomic::fence,
    thread::{self, ThreadId},
};
use shm_primitives::{Memory, Offset, Order};

use crate::{
    memory::{LoomMem, Shadow, ordering},
    swap,
};

/// A process whose threads fence when somebody outside it asks for it.
#[derive(Debug)]
pub struct Process {
    /// Lets loom try the request before and after each operation of each thread. All
    /// else here stands for the kernel: it is outside of the model and orders nothing.
    requested: Shadow,
    requests: AtomicU64,
    /// The last request that each running thread has fenced for.
    fenced: RefCell<HashMap<ThreadId, u64>>,
}

/// A thread of a process, while it runs.
#[derive(Debug)]
pub struct Running(Rc<Process>);

impl Process {
    /// A process without threads. To be made before they start.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            requested: Shadow::new(),
            requests: AtomicU64::new(0),
            fenced: RefCell::default(),
        })
    }

    /// Makes the calling thread one of the process, until what it returns is dropped.
    #[must_use]
    pub fn enter(self: &Rc<Self>) -> Running {
        self.requested.touch();
        let requests = self.requests.load(Ordering::Relaxed);
        self.fenced.borrow_mut().insert(thread::current().id(), requests);
        // What switches threads fences.
        fence(Ordering::SeqCst);
        Running(Rc::clone(self))
    }

    /// A memory that the threads of the process, and one that makes them fence, share.
    #[must_use]
    pub fn memory(self: &Rc<Self>, memory: &LoomMem) -> ProcessMem {
        ProcessMem { memory: memory.clone(), process: Rc::clone(self) }
    }

    /// A place between two operations of a thread; returns whether it is one of the
    /// process.
    fn between(&self) -> bool {
        let current = thread::current().id();
        if !self.fenced.borrow().contains_key(&current) {
            return false;
        }
        self.requested.touch();
        let requests = self.requests.load(Ordering::Relaxed);
        if self.fenced.borrow_mut().insert(current, requests) != Some(requests) {
            fence(Ordering::SeqCst);
        }
        true
    }

    fn fence_all(&self) {
        swap::settle();
        fence(Ordering::SeqCst);
        self.requested.touch();
        let request = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        while self.fenced.borrow().values().any(|fenced| *fenced < request) {
            thread::yield_now();
        }
        fence(Ordering::SeqCst);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            fence(Ordering::SeqCst);
            self.0.fenced.borrow_mut().remove(&thread::current().id());
        }
    }
}

/// A [`LoomMem`] with an asymmetric fence.
#[derive(Clone, Debug)]
pub struct ProcessMem {
    memory: LoomMem,
    process: Rc<Process>,
}

impl ProcessMem {
    fn memory(&self) -> &LoomMem {
        self.process.between();
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
        assert!(self.process.between(), "nobody would make this thread fence");
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
