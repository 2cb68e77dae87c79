use std::{
    future::poll_fn,
    path::Path,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::task::coop;

use super::{AsyncLink, nap::Nap};
use crate::{
    error::{AcceptError, CreateError, OsError},
    host::Host,
    hub::HubCore,
    link::Link,
    os::registered::Registered,
};

/// Looks at the door in one go before other tasks get their turn: an attach takes several.
const ROUNDS: u32 = 16;

/// The shortest time that a timer runs.
const SHORTEST: Duration = Duration::from_millis(1);

/// A [`Host`] for tasks.
///
/// ```
/// use shm_transport::asynchronous::{AsyncGuest, AsyncHost};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("hub");
/// let mut host = AsyncHost::create(&path)?;
/// // In another process:
/// let guest = tokio::spawn(async move {
///     let mut guest = AsyncGuest::attach(&path).await.unwrap();
///     guest.link.send(b"hello").await.unwrap();
///     guest.detach().await.unwrap();
/// });
/// let mut link = host.accept().await?;
/// assert_eq!(link.recv().await?.to_bytes(), "hello");
/// drop(link);
/// guest.await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncHost {
    host: Host,
    door: Registered<Arc<HubCore>>,
    /// Until the next connection at the door has taken too long.
    expiry: Nap,
}

impl AsyncHost {
    /// A host at `path` with the default configuration, for tasks of the runtime of the calling
    /// thread. For another configuration there is [`Host::builder`] and [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// As [`Host::create`].
    #[track_caller]
    pub fn create(path: impl AsRef<Path>) -> Result<Self, CreateError> {
        Ok(Self::new(Host::create(path)?)?)
    }

    /// Registers a host with the runtime of the calling thread.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, and in one that was built without I/O (`enable_io`), as all of
    /// tokio's sockets do.
    ///
    /// # Errors
    ///
    /// [`OsError`] if the runtime could not take one more descriptor.
    #[track_caller]
    pub fn new(host: Host) -> Result<Self, OsError> {
        let door = Registered::new(Arc::clone(&host.hub().0))?;
        Ok(Self { host, door, expiry: Nap::default() })
    }

    /// The link of the next guest that attaches, registered with the runtime of the task.
    ///
    /// Guests are let in during this call only, so a host calls it again and again.
    ///
    /// # Cancellation
    ///
    /// Dropping the future turns nobody away: who was being let in is so by the next call, and
    /// the link of a guest that has attached is kept for it.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Os`] if a guest could not be let in for lack of memory or descriptors; the
    /// host goes on.
    pub async fn accept(&mut self) -> Result<AsyncLink, AcceptError> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// [`accept`](Self::accept) for those who write futures themselves: on `Pending`, `cx` is
    /// woken when there may be a guest. Each call replaces the waker of the one before.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<AsyncLink, AcceptError>> {
        let link = ready!(self.poll_accept_link(cx))?;
        Poll::Ready(Ok(AsyncLink::new(link)?))
    }

    /// [`poll_accept`](Self::poll_accept) of a link that is not registered with the runtime.
    pub(crate) fn poll_accept_link(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Link, AcceptError>> {
        let turn = ready!(coop::poll_proceed(cx));
        for _ in 0..ROUNDS {
            match self.host.look()? {
                Ok(link) => {
                    turn.made_progress();
                    return Poll::Ready(Ok(link));
                }
                Err(false) => continue,
                Err(true) => {}
            }
            match self.door.poll_readable(cx) {
                // It may have become so since: then this was not the last look.
                Poll::Ready(Ok(readable)) => readable.was_exhausted(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return self.poll_expiry(cx),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Connections that are half-way in have deadlines of their own.
    fn poll_expiry(&mut self, cx: &mut Context<'_>) -> Poll<Result<Link, AcceptError>> {
        if let Some(expiry) = self.host.hub().0.door.next_expiry() {
            self.expiry.begin(expiry.max(SHORTEST))?;
            if let Poll::Ready(over) = self.expiry.poll(cx) {
                over?;
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    /// The host itself: its hub, its path, and what it publishes.
    #[must_use]
    pub fn get(&self) -> &Host {
        &self.host
    }

    /// The host itself, to publish with.
    pub fn get_mut(&mut self) -> &mut Host {
        &mut self.host
    }
}
