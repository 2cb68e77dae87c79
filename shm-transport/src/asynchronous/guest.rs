use std::{future::poll_fn, ops::Deref, os::fd::OwnedFd, path::Path};

use super::{AsyncLink, nap::Nap};
use crate::{
    error::{AttachError, DetachError, OsError},
    guest::{Attaching, Guest, GuestBuilder, GuestHub},
    os::registered::Registered,
    rendezvous::{CONNECT_PAUSE, Connecting},
    spawn,
};

/// A [`Guest`] for tasks.
///
/// ```no_run
/// use std::time::Duration;
/// use shm_transport::asynchronous::AsyncGuest;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut guest = AsyncGuest::attach("/run/user/1000/my-hub").await?;
/// guest.link.send(b"hello").await?;
/// let answer = guest.link.recv().await?.to_bytes();
/// guest.detach().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncGuest {
    /// The link to the host.
    pub link: AsyncLink,
    hub: GuestHub,
}

/// The hub that it is attached to.
impl Deref for AsyncGuest {
    type Target = GuestHub;

    fn deref(&self) -> &GuestHub {
        &self.hub
    }
}

impl AsyncGuest {
    /// Registers an attached guest with the runtime of the calling thread.
    ///
    /// # Panics
    ///
    /// As [`AsyncLink::new`].
    ///
    /// # Errors
    ///
    /// [`OsError`] if the runtime could not take one more descriptor; the guest is detached.
    #[track_caller]
    pub fn new(guest: Guest) -> Result<Self, OsError> {
        let Guest { link, hub } = guest;
        Ok(Self { link: AsyncLink::new(link)?, hub })
    }

    /// Attaches to the host at `path`. To claim a reservation, or to choose which hosts to
    /// trust, there is [`GuestBuilder::attach_async`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives the attach up. The host, if it had let this guest in already,
    /// sees it leave.
    ///
    /// # Errors
    ///
    /// As [`Guest::attach`], but for `TimedOut`.
    pub async fn attach(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        GuestBuilder::default().attach_async(path).await
    }

    /// Attaches to the host that started this process: see [`Guest::attach_inherited`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives the attach up, and there is no other.
    ///
    /// # Errors
    ///
    /// As [`Guest::attach_inherited`], but for `TimedOut`.
    pub async fn attach_inherited() -> Result<Self, AttachError> {
        let socket = spawn::take_inherited_socket()?;
        Ok(Self::new(attach(GuestBuilder::default().begin(socket, None)?).await?)?)
    }

    /// Says goodbye, waits until the host has read everything that was sent, and closes the
    /// link: [`AsyncLink::detach`], cancellation-safe as there.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn detach(self) -> Result<(), DetachError> {
        self.link.detach().await
    }
}

impl GuestBuilder {
    /// [`attach`](Self::attach) in a task.
    ///
    /// # Cancellation
    ///
    /// As [`AsyncGuest::attach`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn attach_async(self, path: impl AsRef<Path>) -> Result<AsyncGuest, AttachError> {
        Ok(AsyncGuest::new(self.attach_in_task(path.as_ref()).await?)?)
    }

    /// [`attach_async`](Self::attach_async) of a guest that is not registered with the runtime.
    pub(crate) async fn attach_in_task(self, path: &Path) -> Result<Guest, AttachError> {
        let mut connecting = Connecting::new(path)?;
        let mut nap = Nap::default();
        let socket = loop {
            match connecting.attempt()? {
                Ok(socket) => break socket,
                Err(later) => connecting = later,
            }
            nap.begin(CONNECT_PAUSE)?;
            poll_fn(|cx| nap.poll(cx)).await?;
        };
        attach(self.begin(socket, Some(path.to_owned()))?).await
    }
}

/// Goes on with an attach whenever the host has answered.
async fn attach(mut attaching: Attaching) -> Result<Guest, AttachError> {
    loop {
        attaching = match attaching.advance()? {
            Ok(guest) => return Ok(guest),
            Err(later) => later,
        };
        // Registered anew each time, which happens once or twice: an answer that has come
        // already makes it readable.
        let socket = attaching.socket().try_clone();
        let socket: OwnedFd = socket.map_err(|error| OsError::new("copy a descriptor", error))?;
        let socket = Registered::new(socket)?;
        poll_fn(|cx| {
            socket.poll_readable(cx).map(|ready| ready.map(|readable| readable.was_not_exhausted()))
        })
        .await?;
    }
}
