//! The watch: one thread of this process that waits for what other processes do without
//! being asked: die, hang up, or ask to be woken when a value is published.
//!
//! It sleeps in the kernel until one of them does.

use std::{
    collections::HashMap,
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rustix::event::epoll::EventFlags;

use crate::{error::OsError, os::poll::Epoll};

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

/// Watches a socket for `events`, and a process for its death, until they are forgotten.
pub(crate) fn watch(
    id: u64,
    watched: Weak<dyn Watched>,
    (socket, events): (BorrowedFd<'_>, EventFlags),
    pidfd: Option<BorrowedFd<'_>>,
) -> Result<(), OsError> {
    let watch = the_watch()?;
    watch.all().insert(id, watched);
    watch.epoll.add(socket, id << 1, events)?;
    if let Some(pidfd) = pidfd {
        let once = EventFlags::IN | EventFlags::ONESHOT;
        watch.epoll.add(pidfd, id << 1 | PIDFD, once)?;
    }
    Ok(())
}

/// Ends the watch over them.
pub(crate) fn forget(id: u64, socket: BorrowedFd<'_>, pidfd: Option<BorrowedFd<'_>>) {
    let Ok(watch) = the_watch() else { return };
    if watch.all().remove(&id).is_some() {
        watch.epoll.remove(socket);
        if let Some(pidfd) = pidfd {
            watch.epoll.remove(pidfd);
        }
    }
}
