//! loom's threads, which make the store that they hold back (see [`swap`](crate::swap)) before
//! they wait, start another thread or end: nothing of another thread comes between.

use std::any::Any;

use loom::thread;

use crate::swap::settle;

/// A thread of a model.
#[derive(Debug)]
pub struct JoinHandle<T>(thread::JoinHandle<T>);

/// Starts a thread.
pub fn spawn<T: 'static>(work: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    settle();
    JoinHandle(thread::spawn(move || {
        let result = work();
        settle();
        result
    }))
}

/// Lets other threads go on.
pub fn yield_now() {
    settle();
    thread::yield_now();
}

impl<T> JoinHandle<T> {
    /// Waits until the thread has ended.
    ///
    /// # Errors
    ///
    /// If it panicked.
    pub fn join(self) -> Result<T, Box<dyn Any + Send>> {
        settle();
        self.0.join()
    }
}
