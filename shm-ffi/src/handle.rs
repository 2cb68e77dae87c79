//! The opaque handle: a guest that threads of another language share.

use std::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::atomic::{AtomicU8, Ordering},
    thread,
};

use shm_transport::{Deadline, Receiver, Sender};

use crate::{failure::Failure, forks, status::Status};

/// A guest that is attached to a host: an opaque handle.
///
/// Any thread may use it. One thread may send while another one receives; what belongs to
/// receiving is `shm_guest_receive`, `shm_guest_try_receive`, `shm_guest_arm`,
/// `shm_guest_disarm` and `shm_guest_missed`. A call that meets another of its own kind, and a
/// detach that meets any, returns `SHM_STATUS_BUSY` at once and changes nothing.
/// `shm_guest_free` is the exception: the caller makes sure that no other call is under way and
/// none follows.
///
/// A child that was forked cannot use the handle of its parent (`SHM_STATUS_FORKED`).
#[derive(Debug)]
pub struct Guest {
    sending: Turn,
    receiving: Turn,
    descriptor: RawFd,
    peer: Peer,
    generation: u32,
    guest: UnsafeCell<ManuallyDrop<shm_transport::Guest>>,
}

/// Who is at the other end of a link, and what the link carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The host's process, 0 if it is not visible in this pid namespace.
    pub host_pid: u32,
    /// This guest's place in the hub, and how often it was given away: the host knows the guest
    /// by these two.
    pub index: u32,
    /// See `index`.
    pub epoch: u32,
    /// The largest message that goes the fastest way, in bytes.
    pub inline_max: u64,
    /// The largest message, in bytes.
    pub max_message: u64,
}

/// Whether one half of a link is in use. Each on lines of its own: two threads use the two.
#[repr(align(128))]
#[derive(Debug)]
struct Turn(AtomicU8);

const FREE: u8 = 0;
const TAKEN: u8 = 1;
const OVER: u8 = 2;

const BUSY: Failure = Failure::plain(
    Status::Busy,
    c"another thread is in such a call with this handle: one at a time, or a handle each",
);
const DETACHED: Failure =
    Failure::plain(Status::Detached, c"this handle was detached: free it, and attach anew");
const FORKED: Failure = Failure::plain(
    Status::Forked,
    c"this handle is of the process that forked this one: attach anew here",
);

impl Turn {
    fn take(&self) -> Result<(), Failure> {
        // Acquire: with the Release of whoever had it before.
        match self.0.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(OVER) => Err(DETACHED),
            Err(_) => Err(BUSY),
        }
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Release);
    }
}

/// A half of the link for the length of a call.
pub(crate) struct Claim<'a, T> {
    turn: &'a Turn,
    half: &'a mut T,
}

impl<T> Deref for Claim<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.half
    }
}

impl<T> DerefMut for Claim<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.half
    }
}

impl<T> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        // After a panic nobody knows what state it is in.
        if !thread::panicking() {
            self.turn.set(FREE);
        }
    }
}

/// The halves go to whichever threads call.
const fn is_send<T: Send>() {}
const _: () = (is_send::<Sender>(), is_send::<Receiver>(), is_send::<shm_transport::Guest>()).0;

impl Guest {
    pub(crate) fn new(guest: shm_transport::Guest) -> Self {
        let (link, id) = (&guest.link, guest.link.peer());
        Self {
            sending: Turn(AtomicU8::new(FREE)),
            receiving: Turn(AtomicU8::new(FREE)),
            descriptor: link.as_fd().as_raw_fd(),
            peer: Peer {
                host_pid: link.peer_pid(),
                index: id.index,
                epoch: id.epoch,
                inline_max: link.sender.inline_max() as u64,
                max_message: link.sender.max_message(),
            },
            generation: forks::generation(),
            guest: UnsafeCell::new(ManuallyDrop::new(guest)),
        }
    }

    /// # Safety
    ///
    /// `handle` is null, or came from an attach and was not freed.
    pub(crate) unsafe fn from_handle<'a>(handle: *const Self) -> Result<&'a Self, Failure> {
        // SAFETY: aligned and alive by what the caller says. Only shared references are ever
        // made of it; what threads change in it is atomic or behind a turn.
        let guest = unsafe { handle.as_ref() };
        let guest = guest.ok_or_else(|| Failure::invalid("the handle is null"))?;
        if guest.generation == forks::generation() { Ok(guest) } else { Err(FORKED) }
    }

    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// The link's descriptor, unless that is closed.
    pub(crate) fn descriptor(&self) -> Result<RawFd, Failure> {
        match self.sending.0.load(Ordering::Acquire) {
            OVER => Err(DETACHED),
            _ => Ok(self.descriptor),
        }
    }

    /// The sending half, for one call.
    pub(crate) fn sender(&self) -> Result<Claim<'_, Sender>, Failure> {
        self.sending.take()?;
        // SAFETY: whoever has the turn is the only one to touch this field, and the guest is
        // there until the turn is over. The other half is another field: no reference to the
        // whole is made meanwhile.
        let half = unsafe { &mut (*self.guest.get().cast::<shm_transport::Guest>()).link.sender };
        Ok(Claim { turn: &self.sending, half })
    }

    /// The receiving half, for one call.
    pub(crate) fn receiver(&self) -> Result<Claim<'_, Receiver>, Failure> {
        self.receiving.take()?;
        // SAFETY: as for `sender`.
        let half = unsafe { &mut (*self.guest.get().cast::<shm_transport::Guest>()).link.receiver };
        Ok(Claim { turn: &self.receiving, half })
    }

    /// Detaches. Only freeing is left then.
    pub(crate) fn detach(&self, deadline: Deadline) -> Result<(), Failure> {
        self.sending.take()?;
        if let Err(busy) = self.receiving.take() {
            self.sending.set(FREE);
            return Err(busy);
        }
        self.sending.set(OVER);
        self.receiving.set(OVER);
        // SAFETY: both turns were ours, and nobody gets one again: it is taken this once, and
        // not dropped.
        let guest = unsafe { ManuallyDrop::take(&mut *self.guest.get()) };
        Ok(guest.detach(deadline)?)
    }
}

/// Without a detach: the host still receives what was sent.
impl Drop for Guest {
    fn drop(&mut self) {
        if *self.sending.0.get_mut() != OVER {
            // SAFETY: it was not taken, and is dropped here only.
            unsafe { ManuallyDrop::drop(self.guest.get_mut()) };
        }
    }
}
