//! Tests of tasks: on both kinds of runtime, and futures that are dropped on the way.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use shm_transport::{Link, LinkConfig, asynchronous::AsyncLink};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::WAIT;

/// A runtime of one thread.
///
/// # Panics
///
/// If it cannot be made.
#[must_use]
pub fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A runtime of several threads.
///
/// # Panics
///
/// If it cannot be made.
#[must_use]
pub fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(3).enable_all().build().expect("a runtime")
}

/// Runs a test on each kind of runtime.
///
/// # Panics
///
/// If it panics, or is not over within [`WAIT`].
pub fn on_both_runtimes<F: Future<Output = ()> + Send + 'static>(test: impl Fn() -> F) {
    for runtime in [current_thread(), multi_thread()] {
        run(&runtime, test());
    }
}

/// Runs a test, in a task of its own.
///
/// # Panics
///
/// If it panics, or is not over within [`WAIT`].
pub fn run(runtime: &Runtime, test: impl Future<Output = ()> + Send + 'static) {
    let task = runtime.spawn(test);
    runtime.block_on(async { timeout(WAIT, task).await }).expect("it hangs").expect("it panics");
}

/// Both ends of a link, for tasks.
///
/// # Panics
///
/// Outside a runtime, or if the link cannot be made.
#[must_use]
pub fn pair(config: &LinkConfig) -> (AsyncLink, AsyncLink) {
    let (left, right) = Link::pair(config).expect("a link");
    let into_async = |link| AsyncLink::new(link).expect("registered");
    (into_async(left), into_async(right))
}

/// Polls a future until it is ready, or until it has been pending `most` times, and drops it.
pub async fn dropped_after<F: Future>(most: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut pending = 0;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            pending += 1;
            if pending >= most { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}
