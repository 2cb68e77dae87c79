//! The death watch: one thread of this process that waits for the ends of all its links,
//! so that a thread that polls or sleeps on shared memory learns of them at once.
//!
//! It sleeps in the kernel unless a peer dies or hangs up.

use std::{
    collections::HashMap,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    thread,
};

use rustix::event::epoll::EventFlags;

use crate::{error::OsError, link::core::LinkCore, os::poll::Epoll};

struct Watch {
    epoll: Epoll,
    links: Mutex<HashMap<u64, Weak<LinkCore>>>,
}

/// A token is a link's id and, in the lowest bit, which of its descriptors it is.
const PIDFD: u64 = 1;

impl Watch {
    fn links(&self) -> MutexGuard<'_, HashMap<u64, Weak<LinkCore>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
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
                let link = self.links().get(&(token >> 1)).and_then(Weak::upgrade);
                match link {
                    Some(link) if token & PIDFD != 0 => link.notice_death(),
                    Some(link) => link.notice_hang_up(),
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
            let watch = Watch { epoll: Epoll::new()?, links: Mutex::default() };
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
pub(crate) fn watch(link: &Arc<LinkCore>) -> Result<(), OsError> {
    let watch = the_watch()?;
    watch.links().insert(link.id, Arc::downgrade(link));
    let token = link.id << 1;
    let once = EventFlags::ONESHOT;
    watch.epoll.add(link.socket.as_fd(), token, EventFlags::RDHUP | once)?;
    if let Some(pidfd) = &link.process.pidfd {
        watch.epoll.add(pidfd.as_fd(), token | PIDFD, EventFlags::IN | once)?;
    }
    Ok(())
}

/// Ends the watch over a link.
pub(crate) fn forget(link: &LinkCore) {
    let Ok(watch) = the_watch() else { return };
    if watch.links().remove(&link.id).is_some() {
        watch.epoll.remove(link.socket.as_fd());
        if let Some(pidfd) = &link.process.pidfd {
            watch.epoll.remove(pidfd.as_fd());
        }
    }
}
