#![allow(unsafe_code)]

use std::{
    env, io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use rustix::{
    io::{FdFlags, fcntl_getfd, fcntl_setfd},
    net::{SocketType, sockopt::socket_type},
};
use shm_primitives::peer::PeerId;

use crate::{
    error::{AttachError, OsError, SpawnError},
    hub::Hub,
    link::core::PeerProcess,
    os::{process, socket},
};

/// No descriptor.
const NONE: RawFd = -1;
/// The environment variable that tells a guest which descriptor it inherited.
const VARIABLE: &str = "SHM_TRANSPORT_SOCKET";

/// A guest process that a host started.
#[derive(Debug)]
pub struct SpawnedGuest {
    /// The process.
    pub child: Child,
    /// The entry that is kept for it; its link's [`peer`](crate::Link::peer) is the same.
    pub peer: PeerId,
}

/// Starting guests.
///
/// ```no_run
/// use std::{process::Command, time::Duration};
/// use shm_transport::{CommandExt, Host};
///
/// let mut host = Host::create("/run/user/1000/my-hub")?;
/// // The worker calls `Guest::attach_inherited`.
/// let worker = Command::new("my-worker").spawn_guest(host.hub())?;
/// let link = host.accept(Duration::from_secs(10))?;
/// assert_eq!(link.peer(), worker.peer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CommandExt {
    /// Starts the process as a guest of `hub`. It inherits one socket, over which
    /// [`Guest::attach_inherited`](crate::Guest::attach_inherited) attaches; the host
    /// receives its link from [`Host::accept`](crate::Host::accept).
    ///
    /// # Errors
    ///
    /// [`SpawnError::Peer`] if all entries are taken, [`SpawnError::HostLeaving`] after the
    /// host's goodbye, [`SpawnError::Os`] if the process does not start.
    fn spawn_guest(&mut self, hub: &Hub) -> Result<SpawnedGuest, SpawnError>;
}

impl CommandExt for Command {
    fn spawn_guest(&mut self, hub: &Hub) -> Result<SpawnedGuest, SpawnError> {
        let reservation = hub.reserve()?;
        let (ours, theirs) = socket::pair()?;
        self.env(VARIABLE, theirs.as_raw_fd().to_string());
        // The closure stays with the command, but its descriptor is there for this child
        // only.
        let inherited = Arc::new(AtomicI32::new(theirs.as_raw_fd()));
        let for_child = Arc::clone(&inherited);
        // Both ends are close-on-exec, so that no other child of this process gets them;
        // only in this child the mark is taken from its end.
        // SAFETY: between fork and exec this makes one system call and allocates
        // nothing; the descriptor is open there, as `theirs` outlives the spawn here.
        let started = unsafe {
            self.pre_exec(move || match for_child.load(Ordering::Relaxed) {
                NONE => Ok(()),
                theirs => fcntl_setfd(BorrowedFd::borrow_raw(theirs), FdFlags::empty())
                    .map_err(io::Error::from),
            })
            .spawn()
        };
        inherited.store(NONE, Ordering::Relaxed);
        self.env_remove(VARIABLE);
        let mut child = started.map_err(|error| OsError::new("start a guest", error))?;
        drop(theirs);
        let process = PeerProcess { pid: child.id(), pidfd: process::pidfd_of_child(child.id()) };
        let peer = reservation.ticket();
        let expected = match hub.0.door.expect_child(ours, process, peer) {
            Ok(true) => {
                // From here on the entry belongs to the connection.
                reservation.leave();
                return Ok(SpawnedGuest { child, peer });
            }
            Ok(false) => SpawnError::HostLeaving,
            Err(error) => error.into(),
        };
        // It is useless without its connection.
        let _ = child.kill();
        let _ = child.wait();
        Err(expected)
    }
}

/// The socket that this process inherited from the host that started it; once.
pub(crate) fn take_inherited_socket() -> Result<OwnedFd, AttachError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = env::var(VARIABLE).ok().and_then(|number| number.parse::<RawFd>().ok());
    let number = number.filter(|number| *number > 2).ok_or(AttachError::NotSpawned)?;
    // SAFETY: borrowed only to ask what it is; a number that is not open is refused by
    // the kernel.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let is_ours = socket_type(borrowed).is_ok_and(|kind| kind == SocketType::SEQPACKET)
        && fcntl_getfd(borrowed).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC));
    if !is_ours || TAKEN.swap(true, Ordering::AcqRel) {
        return Err(AttachError::NotSpawned);
    }
    // SAFETY: the host made this descriptor for this process, whose only owner is the one
    // caller that gets past `TAKEN`. Nothing in this process opened it: it is open across
    // exec, which no descriptor that Rust opens is.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&socket, FdFlags::CLOEXEC)
        .map_err(|errno| OsError::new("keep the socket from other processes", errno))?;
    Ok(socket)
}
