//! The calls of a guest.

use std::ffi::{c_char, c_int, c_void};

use shm_transport::{AttachError, RecvError, SendError};

use crate::{
    arguments::{self, put},
    failure::{Failure, call},
    handle::{Guest, Peer},
    status::Status,
};

const EMPTY: Failure = Failure::plain(
    Status::Empty,
    c"nothing to receive now: arm the handle and wait for its descriptor, or receive with a wait",
);
const FULL: Failure = Failure::plain(
    Status::Full,
    c"no room now: try again when the peer has read some, or send with a wait",
);
const READY: Failure = Failure::plain(
    Status::Ready,
    c"there is something to receive now: do not wait for the descriptor",
);

/// Attaches to the host at `path`, waiting for its answer, and puts the new handle into `guest`.
///
/// A host of another user is refused, unless it is root's.
///
/// # Safety
///
/// `path` points to a string that ends with a zero byte, `guest` to memory for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_attach(
    path: *const c_char,
    timeout_ms: i64,
    guest: *mut *mut Guest,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { arguments::path(path)? };
        let deadline = arguments::deadline(timeout_ms);
        // SAFETY: the caller's promise.
        unsafe { attach(guest, || shm_transport::Guest::attach(path, deadline)) }
    })
}

/// Attaches to the host that started this process and gave it a socket, and puts the new handle
/// into `guest`. This works once.
///
/// # Safety
///
/// `guest` points to memory for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_attach_inherited(
    timeout_ms: i64,
    guest: *mut *mut Guest,
) -> Status {
    let deadline = arguments::deadline(timeout_ms);
    // SAFETY: the caller's promise.
    call(|| unsafe { attach(guest, || shm_transport::Guest::attach_inherited(deadline)) })
}

/// # Safety
///
/// `result` is null or points to memory for a pointer.
unsafe fn attach(
    result: *mut *mut Guest,
    attach: impl FnOnce() -> Result<shm_transport::Guest, AttachError>,
) -> Result<(), Failure> {
    // Before an inherited socket is used up.
    // SAFETY: the caller's promise.
    unsafe { put(result, std::ptr::null_mut())? };
    let guest = Box::new(Guest::new(attach()?));
    // SAFETY: the caller's promise.
    unsafe { put(result, Box::into_raw(guest)) }
}

/// Sends a message of `length` bytes, waiting for room. When it returns `SHM_STATUS_OK`, the
/// host receives the message, whatever happens to this process next; otherwise nothing was
/// sent.
///
/// # Safety
///
/// `guest` is a handle that was not freed. `message` points to `length` bytes; it may be null if
/// there are none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_send(
    guest: *const Guest,
    message: *const c_void,
    length: usize,
    timeout_ms: i64,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let guest = unsafe { Guest::from_handle(guest)? };
        // SAFETY: the caller's promise.
        let message = unsafe { arguments::message(message, length)? };
        Ok(guest.sender()?.send(message, arguments::deadline(timeout_ms))?)
    })
}

/// Sends a message if there is room now, else returns `SHM_STATUS_FULL`.
///
/// The descriptor does not tell when there is room.
///
/// # Safety
///
/// As for `shm_guest_send`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_try_send(
    guest: *const Guest,
    message: *const c_void,
    length: usize,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let guest = unsafe { Guest::from_handle(guest)? };
        // SAFETY: the caller's promise.
        let message = unsafe { arguments::message(message, length)? };
        match guest.sender()?.try_send(message) {
            Err(SendError::Full) => Err(FULL),
            result => Ok(result?),
        }
    })
}

/// Copies the next message into `buffer` and its size in bytes into `length`, waiting for one.
///
/// If it is larger than `capacity`, the call returns `SHM_STATUS_BUFFER_TOO_SMALL`, `length` has
/// the size that is needed, and the message is still there. Only a message without bytes fits a
/// buffer without bytes. With any other status `length` stays as it is.
///
/// # Safety
///
/// `guest` is a handle that was not freed. `buffer` points to `capacity` bytes that nobody else
/// uses meanwhile; it may be null if there are none. `length` points to memory for a size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_receive(
    guest: *const Guest,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    timeout_ms: i64,
) -> Status {
    // SAFETY: the caller's promise.
    call(|| unsafe {
        receive(guest, buffer, capacity, length, |receiver, buffer| {
            receiver.recv_into(buffer, arguments::deadline(timeout_ms)).map(Some)
        })
    })
}

/// Copies the next message into `buffer` if one is there, else returns `SHM_STATUS_EMPTY`.
/// Otherwise as `shm_guest_receive`.
///
/// # Safety
///
/// As for `shm_guest_receive`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_try_receive(
    guest: *const Guest,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    call(|| unsafe {
        receive(guest, buffer, capacity, length, |receiver, buffer| receiver.try_recv_into(buffer))
    })
}

/// # Safety
///
/// As for `shm_guest_receive`.
unsafe fn receive(
    guest: *const Guest,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    receive: impl FnOnce(&mut shm_transport::Receiver, &mut [u8]) -> Result<Option<usize>, RecvError>,
) -> Result<(), Failure> {
    if length.is_null() {
        // Before a message is taken whose size could not be told.
        return Err(Failure::invalid("a pointer to a result is null"));
    }
    // SAFETY: the caller's promise.
    let guest = unsafe { Guest::from_handle(guest)? };
    // SAFETY: the caller's promise.
    let buffer = unsafe { arguments::buffer(buffer, capacity)? };
    let received = receive(&mut *guest.receiver()?, buffer);
    let size = match &received {
        Ok(received) => *received,
        Err(RecvError::BufferTooSmall { len, .. }) => Some(*len),
        Err(_) => None,
    };
    if let Some(size) = size {
        // SAFETY: the caller's promise.
        unsafe { put(length, size)? };
    }
    received?.map(drop).ok_or(EMPTY)
}

/// Puts the descriptor for poll(2), select(2) and epoll(7) into `descriptor`. It is the
/// library's: do not read, write or close it. It is valid until the handle is detached or freed.
///
/// It says nothing by itself; see `shm_guest_arm`.
///
/// # Safety
///
/// `guest` is a handle that was not freed, `descriptor` points to memory for an `int`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_descriptor(
    guest: *const Guest,
    descriptor: *mut c_int,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        unsafe { put(descriptor, Guest::from_handle(guest)?.descriptor()?) }
    })
}

/// Prepares for waiting with poll(2): `SHM_STATUS_OK` says that there is nothing to receive now
/// and that the descriptor becomes readable (`POLLIN`) when there is, or when the link ends.
/// `SHM_STATUS_READY` says that there is something to receive already, which the descriptor may
/// never tell: receive it.
///
/// A loop receives until `SHM_STATUS_EMPTY`, arms, polls if that returned `SHM_STATUS_OK`,
/// disarms, and begins again. The descriptor may become readable for nothing. Between an arm and
/// its disarm, receive nothing.
///
/// # Safety
///
/// `guest` is a handle that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_arm(guest: *const Guest) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let guest = unsafe { Guest::from_handle(guest)? };
        if guest.receiver()?.arm() { Ok(()) } else { Err(READY) }
    })
}

/// Ends the waiting that `shm_guest_arm` prepared for, and makes the descriptor quiet again.
///
/// # Safety
///
/// `guest` is a handle that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_disarm(guest: *const Guest) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let guest = unsafe { Guest::from_handle(guest)? };
        guest.receiver()?.disarm();
        Ok(())
    })
}

/// Says who is at the other end, and what the link carries.
///
/// # Safety
///
/// `guest` is a handle that was not freed, `peer` points to memory for a `shm_peer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_peer(guest: *const Guest, peer: *mut Peer) -> Status {
    // SAFETY: the caller's promise.
    call(|| unsafe { put(peer, Guest::from_handle(guest)?.peer()) })
}

/// Says how many messages the host has dropped for want of room instead of sending them here.
/// After a message was received, all that were dropped before it are counted.
///
/// # Safety
///
/// `guest` is a handle that was not freed, `count` points to memory for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_missed(guest: *const Guest, count: *mut u64) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        unsafe { put(count, Guest::from_handle(guest)?.receiver()?.missed()) }
    })
}

/// Says goodbye, waits until the host has read everything that was sent, and closes the link.
/// The link is closed with any status but `SHM_STATUS_BUSY`, `SHM_STATUS_FORKED` and
/// `SHM_STATUS_INVALID_ARGUMENT`; the handle is still to be freed.
///
/// # Safety
///
/// `guest` is a handle that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_detach(guest: *const Guest, timeout_ms: i64) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let guest = unsafe { Guest::from_handle(guest)? };
        guest.detach(arguments::deadline(timeout_ms))
    })
}

/// Frees a handle; null is left alone. A link that was not detached is closed: the host still
/// receives what was sent, and learns of the end.
///
/// # Safety
///
/// `guest` is null or a handle that was not freed, no other call with it is under way, and none
/// follows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shm_guest_free(guest: *mut Guest) {
    if !guest.is_null() {
        call(|| {
            // SAFETY: it came from `Box::into_raw` in `attach`, and the caller has it no more.
            drop(unsafe { Box::from_raw(guest) });
            Ok(())
        });
    }
}
