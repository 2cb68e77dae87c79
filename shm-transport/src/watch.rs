//! The watch: one thread of this process that waits for what other processes do without
//! being asked: die, hang up, or ask to be woken when a value is published.
//!
//! It sleeps in the kernel until one of them does.

use std::{
    collections::HashMap,
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::event::epoll::EventFlags;

use crate::{
    error::OsError,
    os::{
        background,
        forked::{Origin, none_forked},
        poll::Epoll,
    },
};

/// What the watch tells about its descriptors.
pub(crate) trait Watched: Send + Sync {
    /// The main descriptor is ready. Returns how long it is not to be listened to, if its owner
    /// asks for too much.
    fn notice(self: Arc<Self>) -> Option<Duration>;
    /// The main descriptor.
    fn socket(&self) -> BorrowedFd<'_>;
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
        let mut naps: Vec<(Instant, u64)> = Vec::new();
        loop {
            ready.clear();
            let next = naps.iter().map(|(end, _)| *end).min();
            let timeout = next.map(|end| end.saturating_duration_since(Instant::now()));
            if self.epoll.wait(&mut ready, timeout).is_err() {
                // Nothing but a lack of kernel memory, which passes.
                thread::sleep(Duration::from_millis(10));
            }
            for &(token, _) in &ready {
                match self.watched(token) {
                    Some(watched) if token & PIDFD != 0 => watched.notice_death(),
                    Some(watched) => {
                        if let Some(nap) = Arc::clone(&watched).notice() {
                            self.listen(&*watched, token, EventFlags::empty());
                            naps.push((Instant::now() + nap, token));
                        }
                    }
                    None => {}
                }
            }
            if !naps.is_empty() {
                let now = Instant::now();
                for (_, token) in naps.extract_if(.., |(end, _)| *end <= now) {
                    if let Some(watched) = self.watched(token) {
                        self.listen(&*watched, token, EventFlags::IN);
                    }
                }
            }
        }
    }

    fn watched(&self, token: u64) -> Option<Arc<dyn Watched>> {
        self.all().get(&(token >> 1)).and_then(Weak::upgrade)
    }

    /// A hang-up is always listened to.
    fn listen(&self, watched: &dyn Watched, token: u64, events: EventFlags) {
        // It fails for what was forgotten meanwhile.
        let _ = self.epoll.change(watched.socket(), token, events);
    }
}

/// The watch of this process, once it has one.
///
/// A child that was forked has none of its parent's threads, and makes a watch of its own: in
/// the parent's its links would be taken for links of the parent.
static WATCH: Mutex<Option<(Origin, Arc<Watch>)>> = Mutex::new(None);

fn with_the_watch<T>(then: impl FnOnce(&mut Option<(Origin, Arc<Watch>)>) -> T) -> T {
    // A child would find the lock held for ever.
    let _until_unlocked = none_forked();
    let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
    watch.take_if(|(origin, _)| !origin.is_here());
    then(&mut watch)
}

fn the_watch() -> Result<Arc<Watch>, OsError> {
    with_the_watch(|there| {
        if let Some((_, watch)) = there {
            return Ok(Arc::clone(watch));
        }
        let watch = Arc::new(Watch { epoll: Epoll::new()?, all: Mutex::default() });
        let running = Arc::clone(&watch);
        background::start("shm-watch", move || running.run())
            .map_err(|error| OsError::new("start the death watch", error))?;
        *there = Some((Origin::here(), Arc::clone(&watch)));
        Ok(watch)
    })
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
    let there = with_the_watch(|there| there.as_ref().map(|(_, watch)| Arc::clone(watch)));
    let Some(watch) = there else { return };
    if watch.all().remove(&id).is_some() {
        watch.epoll.remove(socket);
        if let Some(pidfd) = pidfd {
            watch.epoll.remove(pidfd);
        }
    }
}
