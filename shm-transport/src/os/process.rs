//! Processes: who they are, and whether they live.
//!
//! Source: pidfd_open(2), unix(7) on `SO_PEERCRED` and `SO_PEERPIDFD`, proc(5).
#![allow(unsafe_code)]

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use rustix::{
    net::sockopt::socket_peercred,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
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

/// Who was at the other end when the socket was connected or made.
pub(crate) fn credentials_of(socket: BorrowedFd<'_>) -> Result<PeerCredentials, OsError> {
    let credentials = socket_peercred(socket)
        .map_err(|errno| OsError::new("ask for a peer's credentials", errno))?;
    Ok(PeerCredentials {
        pid: credentials.pid.as_raw_pid() as u32,
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
    })
}

/// A descriptor that names the process at the other end for ever, if there can be one.
pub(crate) fn pidfd_of(socket: BorrowedFd<'_>, pid: u32) -> Option<OwnedFd> {
    let mut fd: libc::c_int = -1;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `fd` and `len` are live and of the sizes that the option has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut len,
        )
    };
    if result == 0 && fd >= 0 {
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
