//! Waiting on descriptors: poll(2) and epoll(7).

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        PollFd, PollFlags, Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create,
        timerfd_settime,
    },
};

use crate::error::OsError;

/// Waits until `fd` is ready for `events` or `timeout` is over.
pub(crate) fn poll(fd: BorrowedFd<'_>, events: PollFlags, timeout: Option<Duration>) {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    // Ready, interrupted, timed out: the caller checks again.
    let _ = rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, events)], timeout.as_ref());
}

/// Whether the other end of a socket has hung up.
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)];
    let polled = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok()
        && fds.iter().any(|fd| fd.revents().intersects(PollFlags::RDHUP | PollFlags::HUP))
}

/// A set of descriptors that are waited for together.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    pub(crate) fn new() -> Result<Self, OsError> {
        let fd = epoll::create(CreateFlags::CLOEXEC)
            .map_err(|errno| OsError::new("create an epoll descriptor", errno))?;
        Ok(Self { fd })
    }

    pub(crate) fn add(
        &self,
        fd: BorrowedFd<'_>,
        token: u64,
        events: EventFlags,
    ) -> Result<(), OsError> {
        epoll::add(&self.fd, fd, EventData::new_u64(token), events)
            .map_err(|errno| OsError::new("watch a descriptor", errno))
    }

    /// Waits for other events of a descriptor that was added.
    pub(crate) fn change(
        &self,
        fd: BorrowedFd<'_>,
        token: u64,
        events: EventFlags,
    ) -> Result<(), OsError> {
        epoll::modify(&self.fd, fd, EventData::new_u64(token), events)
            .map_err(|errno| OsError::new("watch a descriptor for something else", errno))
    }

    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        // It is not there any more if the kernel dropped it with its last descriptor.
        let _ = epoll::delete(&self.fd, fd);
    }

    /// Waits and appends what is ready to `tokens`.
    pub(crate) fn wait(
        &self,
        tokens: &mut Vec<(u64, EventFlags)>,
        timeout: Option<Duration>,
    ) -> Result<(), OsError> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut events: Vec<Event> = Vec::with_capacity(64);
        match epoll::wait(&self.fd, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(OsError::new("wait for descriptors", errno)),
        }
        tokens.extend(events.iter().map(|event| {
            let Event { data, flags, .. } = *event;
            (data.u64(), flags)
        }));
        Ok(())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A descriptor that becomes readable after a time.
#[derive(Debug)]
pub(crate) struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// One that is not set.
    pub(crate) fn new() -> Result<Self, OsError> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(|errno| OsError::new("create a timer", errno))?;
        Ok(Self { fd })
    }

    /// Has it become readable after `time`.
    pub(crate) fn set(&self, time: Duration) -> Result<(), OsError> {
        // Nobody waits for centuries.
        let tv_sec = time.as_secs().try_into().unwrap_or(i64::MAX);
        let it_value = Timespec { tv_sec, tv_nsec: time.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)
            .map(drop)
            .map_err(|errno| OsError::new("set a timer", errno))
    }

    /// It is not readable any more. Returns whether it was.
    pub(crate) fn clear(&self) -> bool {
        rustix::io::read(&self.fd, &mut [0u8; 8]).is_ok()
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
