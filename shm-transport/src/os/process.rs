//! Processes: who they are, and whether they live.
//!
//! Source: pidfd_open(2), unix(7) on `SO_PEERCRED` and `SO_PEERPIDFD`, proc(5).
#![allow(unsafe_code)]

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
    time::Duration,
};

use rustix::{
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    time::{ClockId, clock_gettime},
};

use crate::error::OsError;

/// `SO_PEERPIDFD` of <asm-generic/socket.h>, since Linux 6.5.
const SO_PEERPIDFD: libc::c_int = 77;

/// The process at the other end of a socket, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// Its process id; 0 if it is not visible in this pid namespace.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// How long the calling thread has worked on a processor.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

/// Who was at the other end when the socket was connected or made.
pub(crate) fn credentials_of(socket: BorrowedFd<'_>) -> Result<PeerCredentials, OsError> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    // SAFETY: the option fills a `ucred`. (Not rustix's: its pid cannot be 0, which it is
    // for a process outside of this pid namespace.)
    unsafe { socket_option(socket, libc::SO_PEERCRED, &mut credentials) }
        .map_err(|error| OsError::new("ask for a peer's credentials", error))?;
    let libc::ucred { pid, uid, gid } = credentials;
    Ok(PeerCredentials { pid: pid as u32, uid, gid })
}

/// Asks for a socket option.
///
/// # Safety
///
/// The option fills a value of type `T`.
unsafe fn socket_option<T>(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: &mut T,
) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` and `len` are live, `len` is the value's size, and the caller says
    // that the option is of that type.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            ptr::from_mut(value).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor that names the process at the other end for ever, if there can be one.
pub(crate) fn pidfd_of(socket: BorrowedFd<'_>, pid: u32) -> Option<OwnedFd> {
    let mut fd: libc::c_int = -1;
    // SAFETY: the option fills an `int`.
    let result = unsafe { socket_option(socket, SO_PEERPIDFD, &mut fd) };
    if result.is_ok() && fd >= 0 {
        // SAFETY: the kernel just made this descriptor for us.
        return Some(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    // Before 6.5 by number: right unless the peer died and its number came round
    // between its connecting and now; then the socket's hang-up still tells.
    pidfd_of_child(pid)
}

/// A descriptor for a process that cannot have been reaped: a child of ours.
pub(crate) fn pidfd_of_child(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(pid.try_into().ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Kills the process.
pub(crate) fn kill(pidfd: BorrowedFd<'_>) {
    // It fails only if the process is gone, or another user's.
    let _ = pidfd_send_signal(pidfd.as_fd(), Signal::KILL);
}

/// When a process started, in clock ticks since boot; 0 if that is not visible.
pub(crate) fn start_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the name in brackets, which may hold anything.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_start_time_and_no_process_has_none() {
        assert_ne!(start_time(std::process::id()), 0);
        assert_eq!(start_time(u32::MAX), 0);
    }
}
