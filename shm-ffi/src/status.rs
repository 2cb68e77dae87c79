use std::ffi::{CStr, c_char};

use shm_transport::{AttachError, DetachError, LinkEnd, OsError, RecvError, SendError};

/// What a call came to. The numbers stay.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is done.
    Ok = 0,
    /// There is something to receive now: do not wait for the descriptor.
    Ready = 1,
    /// Nothing to receive now.
    Empty = 2,
    /// No room to send now.
    Full = 3,
    /// The time is over. Nothing was sent, received or attached.
    TimedOut = 4,
    /// The next message is larger than the buffer. It is still there, and its size is reported.
    BufferTooSmall = 5,
    /// The message is larger than the link's largest.
    TooLarge = 6,
    /// Another thread is in such a call with the same handle, or died in one.
    Busy = 7,
    /// This handle was detached: all that is left is to free it.
    Detached = 8,
    /// The handle was made by the process that this one was forked from, and only that one can
    /// use it. Free it or leave it.
    Forked = 9,
    /// A null pointer, a path that is not one, a length that cannot be.
    InvalidArgument = 10,
    /// A defect of this library. The handle stays busy; free it.
    Panicked = 11,
    /// Something newer than this interface; the message says what.
    Other = 12,

    /// The host said goodbye, and all that it had sent was received.
    Departed = 20,
    /// The host is dead, and all that it had sent was received.
    PeerDead = 21,
    /// The host threw this guest out.
    Evicted = 22,
    /// The host broke the protocol.
    Corrupt = 23,

    /// Nothing stands at the path.
    NoHost = 30,
    /// A socket stands there and nobody listens: its host is dead.
    HostDead = 31,
    /// Whatever stands there is not a hub.
    NotAHub = 32,
    /// The path cannot be used.
    BadPath = 33,
    /// Host and guest run as different users.
    NotPermitted = 34,
    /// The host speaks another version of the protocol.
    Version = 35,
    /// All the host's places for guests are taken.
    HubFull = 36,
    /// The place that was kept for this guest is not any more.
    StaleTicket = 37,
    /// The host is leaving or died during the attach.
    HostGone = 38,
    /// This process was not started by a host, or has attached already.
    NotSpawned = 39,
    /// What the host handed over is not what it said.
    BadHost = 40,

    /// No memory is left.
    OutOfMemory = 50,
    /// The file system in memory is full.
    OutOfSpace = 51,
    /// No descriptor is left.
    OutOfDescriptors = 52,
    /// The operating system refused something else.
    Os = 53,
}

impl Status {
    const ALL: [(Self, &'static CStr); 32] = [
        (Self::Ok, c"ok"),
        (Self::Ready, c"ready"),
        (Self::Empty, c"empty"),
        (Self::Full, c"full"),
        (Self::TimedOut, c"timed out"),
        (Self::BufferTooSmall, c"buffer too small"),
        (Self::TooLarge, c"too large"),
        (Self::Busy, c"busy"),
        (Self::Detached, c"detached"),
        (Self::Forked, c"forked"),
        (Self::InvalidArgument, c"invalid argument"),
        (Self::Panicked, c"panicked"),
        (Self::Other, c"other"),
        (Self::Departed, c"departed"),
        (Self::PeerDead, c"peer dead"),
        (Self::Evicted, c"evicted"),
        (Self::Corrupt, c"corrupt"),
        (Self::NoHost, c"no host"),
        (Self::HostDead, c"host dead"),
        (Self::NotAHub, c"not a hub"),
        (Self::BadPath, c"bad path"),
        (Self::NotPermitted, c"not permitted"),
        (Self::Version, c"version"),
        (Self::HubFull, c"hub full"),
        (Self::StaleTicket, c"stale ticket"),
        (Self::HostGone, c"host gone"),
        (Self::NotSpawned, c"not spawned"),
        (Self::BadHost, c"bad host"),
        (Self::OutOfMemory, c"out of memory"),
        (Self::OutOfSpace, c"out of space"),
        (Self::OutOfDescriptors, c"out of descriptors"),
        (Self::Os, c"os"),
    ];
}

/// The name of a status in words, for logs; never null, and valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn shm_status_name(status: i32) -> *const c_char {
    let found = Status::ALL.iter().find(|(known, _)| *known as i32 == status);
    found.map_or(c"unknown", |(_, name)| name).as_ptr()
}

/// The version of this library, such as "0.1.0"; valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn shm_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

impl From<&LinkEnd> for Status {
    fn from(end: &LinkEnd) -> Self {
        match end {
            LinkEnd::Departed => Self::Departed,
            LinkEnd::PeerDead => Self::PeerDead,
            LinkEnd::Evicted => Self::Evicted,
            LinkEnd::Corrupt(_) => Self::Corrupt,
            _ => Self::Other,
        }
    }
}

impl From<&OsError> for Status {
    fn from(error: &OsError) -> Self {
        match error {
            OsError::OutOfMemory { .. } => Self::OutOfMemory,
            OsError::OutOfSpace { .. } => Self::OutOfSpace,
            OsError::OutOfDescriptors { .. } => Self::OutOfDescriptors,
            _ => Self::Os,
        }
    }
}

impl From<&SendError> for Status {
    fn from(error: &SendError) -> Self {
        match error {
            SendError::Full => Self::Full,
            SendError::TimedOut => Self::TimedOut,
            SendError::TooLarge { .. } => Self::TooLarge,
            SendError::Ended(end) => end.into(),
            SendError::Os(error) => error.into(),
            _ => Self::Other,
        }
    }
}

impl From<&RecvError> for Status {
    fn from(error: &RecvError) -> Self {
        match error {
            RecvError::TimedOut => Self::TimedOut,
            RecvError::BufferTooSmall { .. } => Self::BufferTooSmall,
            RecvError::Ended(end) => end.into(),
            RecvError::Os(error) => error.into(),
            _ => Self::Other,
        }
    }
}

impl From<&DetachError> for Status {
    fn from(error: &DetachError) -> Self {
        match error {
            DetachError::TimedOut => Self::TimedOut,
            DetachError::Ended(end) => end.into(),
            _ => Self::Other,
        }
    }
}

impl From<&AttachError> for Status {
    fn from(error: &AttachError) -> Self {
        match error {
            AttachError::NoHost(_) => Self::NoHost,
            AttachError::HostDead(_) => Self::HostDead,
            AttachError::NotAHub(_) => Self::NotAHub,
            AttachError::Path(_) => Self::BadPath,
            AttachError::NotPermitted => Self::NotPermitted,
            AttachError::Version { .. } => Self::Version,
            AttachError::HubFull { .. } => Self::HubFull,
            AttachError::StaleTicket(_) => Self::StaleTicket,
            AttachError::HostGone => Self::HostGone,
            AttachError::TimedOut => Self::TimedOut,
            AttachError::NotSpawned => Self::NotSpawned,
            AttachError::Segment(_) | AttachError::Descriptor(_) | AttachError::Geometry(_) => {
                Self::BadHost
            }
            AttachError::Os(error) => error.into(),
            _ => Self::Other,
        }
    }
}
