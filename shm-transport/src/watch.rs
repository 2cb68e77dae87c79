//! The watch: one thread of this process that waits for what other processes do without
//! being asked: die, hang up, or ask to be woken when a value is published.
//!
//! It sleeps in the kernel until one of them does.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rustix::event::epoll::EventFlags;

use crate::{error::OsError, link::core::LinkCore, os::poll::Epoll};

/// What the watch tells about its descriptors.
pub(crate) trait Watched: Send + Sync {
    /// The main descriptor is ready.
    fn notice(self: Arc<Self>);
    /// The process at the other end is gone for certain.
    fn notice_death(self: Arc<Self>) {}
}

type All = HashMap<u64, Weak<dyn Watched>>;

struct Watch {
    epoll: Epoll,
    all: Mutex<All>,
}

/// A token is an id and, in the lowest bit, which of its descriptors it is.
const PIDFD: u64 = 1;

/// A name for something that can be watched, among all of this process, for ever.
pub(crate) fn new_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Watch {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut ready = Vec::new();
        loop {
            ready.clear();
            if self.epoll.wait(&mut ready, None).is_err() {
                // Nothing but a lack of kernel memory, which passes.
                thread::sleep(std::time::Duration::from_millis(10));
            }
            for &(token, _) in &ready {
                let watched = self.all().get(&(token >> 1)).and_then(Weak::upgrade);
                match watched {
                    Some(watched) if token & PIDFD != 0 => watched.notice_death(),
                    Some(watched) => watched.notice(),
                    None => {}
                }
            }
        }
    }

    fn insert(&self, id: u64, watched: Weak<dyn Watched>) {
        self.all().insert(id, watched);
    }

    fn remove(&self, id: u64) -> bool {
        self.all().remove(&id).is_some()
    }
}

fn the_watch() -> Result<&'static Watch, OsError> {
    static WATCH: OnceLock<Watch> = OnceLock::new();
    static STARTED: Mutex<bool> = Mutex::new(false);
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    let watch = match WATCH.get() {
        Some(watch) => watch,
        None => {
            let watch = Watch { epoll: Epoll::new()?, all: Mutex::default() };
            WATCH.get_or_init(|| watch)
        }
    };
    if !*started {
        thread::Builder::new()
            .name("shm-watch".into())
            .spawn(move || watch.run())
            .map_err(|error| OsError::new("start the death watch", error))?;
        *started = true;
    }
    Ok(watch)
}

/// Watches for the end of a link until it is forgotten.
pub(crate) fn watch_link(link: &Arc<LinkCore>) -> Result<(), OsError> {
    let watch = the_watch()?;
    let watched: Weak<LinkCore> = Arc::downgrade(link);
    watch.insert(link.id, watched);
    let token = link.id << 1;
    let once = EventFlags::ONESHOT;
    watch.epoll.add(link.socket.as_fd(), token, EventFlags::RDHUP | once)?;
    if let Some(pidfd) = &link.process.pidfd {
        watch.epoll.add(pidfd.as_fd(), token | PIDFD, EventFlags::IN | once)?;
    }
    Ok(())
}

/// Ends the watch over a link.
pub(crate) fn forget_link(link: &LinkCore) {
    let Ok(watch) = the_watch() else { return };
    if watch.remove(link.id) {
        watch.epoll.remove(link.socket.as_fd());
        if let Some(pidfd) = &link.process.pidfd {
            watch.epoll.remove(pidfd.as_fd());
        }
    }
}

/// Watches for messages from a socket until it is forgotten.
pub(crate) fn watch_socket(
    id: u64,
    socket: BorrowedFd<'_>,
    watched: Weak<dyn Watched>,
) -> Result<(), OsError> {
    let watch = the_watch()?;
    watch.insert(id, watched);
    watch.epoll.add(socket, id << 1, EventFlags::IN)
}

/// Ends the watch over a socket.
pub(crate) fn forget_socket(id: u64, socket: BorrowedFd<'_>) {
    let Ok(watch) = the_watch() else { return };
    if watch.remove(id) {
        watch.epoll.remove(socket);
    }
}
