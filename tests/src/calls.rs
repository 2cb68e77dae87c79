//! A service for tests of calls: what it does is in the request.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use shm_transport::{
    LinkConfig,
    asynchronous::AsyncLink,
    call::{self, BoxError, CallConfig, Caller},
};
use tower_service::Service;

use crate::tasks;

/// Counts of what became of handlers.
#[derive(Debug, Default)]
pub struct Handled {
    started: AtomicU64,
    dropped: AtomicU64,
}

impl Handled {
    /// How many futures of handlers there are.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.started() - self.dropped.load(Ordering::SeqCst)
    }

    /// How many there were.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }
}

/// Counts as long as it lives.
struct Running(Arc<Handled>);

impl Running {
    fn new(handled: &Arc<Handled>) -> Self {
        handled.started.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(handled))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Answers with the request. By its first word: `hang` never answers, `fail` fails, `panic`
/// panics, `huge` answers with 1 MiB, and `later N` answers after N milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Obedient {
    /// What became of its handlers.
    pub handled: Arc<Handled>,
}

impl Service<Bytes> for Obedient {
    type Response = Bytes;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Bytes, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Bytes) -> Self::Future {
        let running = Running::new(&self.handled);
        Box::pin(async move {
            let _running = running;
            let text = String::from_utf8_lossy(request.get(..16).unwrap_or(&request)).into_owned();
            let mut words = text.split(' ');
            match words.next() {
                Some("hang") => std::future::pending().await,
                Some("fail") => return Err("as it was told".into()),
                Some("panic") => panic!("as it was told"),
                Some("huge") => return Ok(vec![1; 1 << 20].into()),
                Some("later") => {
                    let wait = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                _ => {}
            }
            Ok(request)
        })
    }
}

/// One end of a link of calls, driven by a task.
#[derive(Debug)]
pub struct Side {
    /// Calls the other end.
    pub caller: Caller,
    /// What became of the handlers here.
    pub handled: Arc<Handled>,
    /// Its driver.
    pub driver: tokio::task::JoinHandle<Result<shm_transport::LinkEnd, shm_transport::OsError>>,
}

impl Side {
    /// Makes one.
    ///
    /// # Panics
    ///
    /// Outside a runtime.
    #[must_use]
    pub fn new(link: AsyncLink, config: &CallConfig) -> Self {
        let service = Obedient::default();
        let handled = Arc::clone(&service.handled);
        let (caller, driver) = call::connect(link, service, config);
        Self { caller, handled, driver: tokio::spawn(driver) }
    }
}

/// Both ends of a link of calls.
///
/// # Panics
///
/// Outside a runtime, or if the link cannot be made.
#[must_use]
pub fn pair(link: &LinkConfig, calls: &CallConfig) -> (Side, Side) {
    let (left, right) = tasks::pair(link);
    (Side::new(left, calls), Side::new(right, calls))
}

/// Waits in the task until something is so.
///
/// # Panics
///
/// If it is not within [`WAIT`](crate::WAIT).
pub async fn until(mut what: impl FnMut() -> bool) {
    tokio::time::timeout(crate::WAIT, async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it did not happen");
}
