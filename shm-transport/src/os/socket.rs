//! Unix sockets that keep message boundaries and carry descriptors: unix(7).

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
        recv, recvmsg, sendmsg, shutdown, socket_with, socketpair,
    },
};

use super::foreign::{self, Foreign};
use crate::error::OsError;

/// The most descriptors that one message of ours carries.
const MAX_DESCRIPTORS: usize = 3;
/// The most descriptors that any message can carry (`SCM_MAX_FD` of unix(7)).
const MOST_DESCRIPTORS: usize = 253;

/// A message taken from a socket.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) len: usize,
    pub(crate) descriptors: Vec<Foreign>,
}

/// A new socket that is not connected.
pub(crate) fn new() -> Result<OwnedFd, OsError> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|errno| OsError::new("create a socket", errno))
}

/// Two connected sockets.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), OsError> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|errno| OsError::new("create a socket pair", errno))
}

/// Sends a message with descriptors, without waiting and without a signal.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        // The space is for as many as anybody here ever sends.
        let pushed = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(pushed, "more descriptors than MAX_DESCRIPTORS");
    }
    loop {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Takes the next message without waiting; `None` if the other side has hung up.
///
/// It fails with `EMFILE`, and leaves the message there, if this process has no number
/// free for a descriptor of it. A message that is longer than `buffer` or brings more
/// descriptors than ours do counts as empty, which nobody honest sends.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<Option<Datagram>, Errno> {
    // The kernel closes a descriptor that it finds no number or no room for, which may take
    // long. So first look, which takes all of them over, and remove the message only then.
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    loop {
        let Some(Seen { len, descriptors }) = look(socket, buffer)? else { return Ok(None) };
        match recv(socket, &mut [0u8; 1][..], flags) {
            Ok(_) => {}
            // It is still there, and would be taken twice.
            Err(errno) => {
                foreign::close(descriptors);
                match errno {
                    Errno::INTR | Errno::AGAIN => continue,
                    errno => return Err(errno),
                }
            }
        }
        if len > buffer.len() || descriptors.len() > MAX_DESCRIPTORS {
            foreign::close(descriptors);
            return Ok(Some(Datagram { len: 0, descriptors: Vec::new() }));
        }
        let descriptors = descriptors.into_iter().map(Foreign::new).collect();
        return Ok(Some(Datagram { len, descriptors }));
    }
}

/// A message that is still in the socket, and its descriptors, which are not.
struct Seen {
    len: usize,
    descriptors: Vec<OwnedFd>,
}

/// Looks at the next message; `None` if the other side has hung up.
fn look(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<Seen>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC | RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags) {
            // A peer that closed without reading all is reported once, before what it
            // sent can still be taken.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(errno) => return Err(errno),
            Ok(received) => break received,
        }
    };
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        foreign::close(descriptors);
        return Err(Errno::MFILE);
    }
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    Ok(Some(Seen { len: received.bytes, descriptors }))
}

/// Whether an error says that the connection is over. All others pass.
pub(crate) fn is_over(errno: Errno) -> bool {
    matches!(errno, Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN)
}

/// Ends the connection in both directions, whoever else holds a descriptor of it.
pub(crate) fn hang_up(socket: BorrowedFd<'_>) {
    let _ = shutdown(socket.as_fd(), Shutdown::Both);
}
