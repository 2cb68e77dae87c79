use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::event::epoll::EventFlags;
use shm_primitives::{
    Mapped, Memory, Offset, audit,
    doorbell::{SleepMode, Waker},
    header::{Goodbye, goodbye_of, say_goodbye},
    ledger::{LinkStatistics, receiver, sender},
    order::{HINT, TAIL_SEEN},
    outbox::{DATA_BELL, DATA_SLEEP, HEAD, HEARTBEAT, SPACE_BELL, SPACE_SLEEP, TAIL, dropped_by},
    peer::PeerId,
    pool::Receipt,
};

use super::inbox::{self, Drained, Inbox};
#[cfg(feature = "tokio")]
use super::tasks::Tasks;
use crate::{
    config::LinkGeometry,
    error::{Corruption, LinkEnd, OsError},
    ledger::Entry,
    os::{connection::Connection, forked::Origin, futex, memory::Segment, process, socket},
    trace::{DEATH, DETACH},
    watch::{self, Watched},
};

const OPEN: u32 = 0;
const DEPARTED: u32 = 1;
const PEER_DEAD: u32 = 2;
const EVICTED: u32 = 3;
const CORRUPT: u32 = 4;
const CLOSED: u32 = 5;

/// The process at the other end.
#[derive(Debug)]
pub(crate) struct PeerProcess {
    pub(crate) pid: u32,
    pub(crate) pidfd: Option<OwnedFd>,
}

impl PeerProcess {
    fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }
}

/// Where a link is registered, if it is: a host keeps an entry for each of its guests.
pub(crate) trait Registration: fmt::Debug + Send + Sync {
    /// The link ended: said once, before anybody else is told.
    fn ended(&self, end: LinkEnd);
    /// The entry may be used by the next guest. The link's memory is never used again.
    fn release(&self);
    /// Nothing is counted for the link any more.
    fn settle(&self, statistics: &LinkStatistics);
}

/// What both halves of a link, its messages and the death watch share. All of it is
/// private to this process but the two outboxes.
pub(crate) struct LinkCore {
    /// Names this link among all of this process, for ever.
    pub(crate) id: u64,
    origin: Origin,
    pub(crate) own: Segment,
    pub(crate) peer: Segment,
    pub(crate) geometry: LinkGeometry,
    pub(crate) process: PeerProcess,
    peer_id: PeerId,
    pub(crate) socket: Connection,
    inbox: Mutex<Inbox>,
    data_waker: Waker<Mapped>,
    space_waker: Waker<Mapped>,
    /// `OPEN`, or how the link ended. Waiting threads sleep on it, beside the bell.
    state: AtomicU32,
    /// Held by the one thread that ends the link.
    ending: Mutex<()>,
    corruption: OnceLock<Corruption>,
    heartbeat: AtomicU64,
    /// Who is woken when something came over the socket, and when the link ends.
    #[cfg(feature = "tokio")]
    pub(crate) tasks: Arc<Tasks>,
    /// Where it counts.
    pub(crate) ledger: Entry,
    /// The host's side of a link has an entry in the hub; a guest's has none.
    entry: Option<Box<dyn Registration>>,
}

impl fmt::Debug for LinkCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("peer", &self.process.pid)
            .field("end", &self.end_so_far())
            .finish_non_exhaustive()
    }
}

impl LinkCore {
    pub(crate) fn new(
        own: Segment,
        peer: Segment,
        geometry: LinkGeometry,
        socket: Connection,
        (process, peer_id): (PeerProcess, PeerId),
        ledger: Entry,
        entry: Option<Box<dyn Registration>>,
    ) -> Self {
        let (ours, theirs) = (own.mapped(), peer.mapped());
        Self {
            data_waker: Waker::new(ours, DATA_BELL, theirs, DATA_SLEEP),
            space_waker: Waker::new(ours, SPACE_BELL, theirs, SPACE_SLEEP),
            inbox: Mutex::new(Inbox::new(&geometry)),
            id: watch::new_id(),
            origin: Origin::here(),
            own,
            peer,
            geometry,
            process,
            peer_id,
            socket,
            state: AtomicU32::new(OPEN),
            ending: Mutex::new(()),
            corruption: OnceLock::new(),
            heartbeat: AtomicU64::new(0),
            #[cfg(feature = "tokio")]
            tasks: Arc::default(),
            ledger,
            entry,
        }
    }

    /// Watches for the end of the link until it is forgotten.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<(), OsError> {
        let watched: Weak<Self> = Arc::downgrade(self);
        let hang_up = EventFlags::RDHUP | EventFlags::ONESHOT;
        watch::watch(self.id, watched, (self.socket.as_fd(), hang_up), self.process.pidfd())
    }

    /// Ends the watch.
    pub(crate) fn forget(&self) {
        watch::forget(self.id, self.socket.as_fd(), self.process.pidfd());
    }

    /// How far this side has written its ring, in bytes since the beginning.
    #[inline(always)]
    pub(crate) fn sent(&self) -> u64 {
        let _decision = audit::decision();
        self.own.mapped().load64(HEAD, HINT)
    }

    /// How many bytes of this side's ring the other side has not read, by its own account.
    pub(crate) fn unread_by_peer(&self) -> u64 {
        let _decision = audit::decision();
        self.sent().wrapping_sub(self.peer.mapped().load64(TAIL, TAIL_SEEN))
    }

    /// Gets the lines that the next frame of this side will be written to on their way,
    /// while it waits for the other side: most answers are sent soon.
    #[inline(always)]
    pub(crate) fn prefetch_ring(&self, head: u64) {
        let (own, ring) = (self.own.mapped(), &self.geometry.outbox);
        // Not the line of the next header: the consumer polls that.
        for ahead in [64, 128] {
            let index = head.wrapping_add(ahead) & (ring.capacity() - 1);
            own.prefetch_write(ring.ring().plus(index));
        }
    }

    /// To be called after publishing frames.
    #[inline(always)]
    pub(crate) fn ring_data(&self) {
        let spared = || self.ledger.sender.add_from_anywhere(sender::SPARED, 1);
        if let Some(mode) = self.data_waker.ring_or(spared) {
            self.ledger.sender.add_from_anywhere(sender::WAKES, 1);
            self.wake(mode, DATA_BELL);
        }
    }

    /// To be called after giving space or a slot back.
    #[inline(always)]
    pub(crate) fn ring_space(&self) {
        let spared = || self.ledger.receiver.add_from_anywhere(receiver::SPARED, 1);
        if let Some(mode) = self.space_waker.ring_or(spared) {
            self.ledger.receiver.add_from_anywhere(receiver::WAKES, 1);
            self.wake(mode, SPACE_BELL);
        }
    }

    /// Whether this process has the link, and not one that it was forked from.
    #[inline(always)]
    pub(crate) fn is_own(&self) -> bool {
        self.origin.is_here()
    }

    /// Gives a slot or a sealed payload of the peer back.
    #[inline(always)]
    pub(crate) fn give_back(&self, receipt: &Receipt) {
        // In a forked child it is its parent's, and the memory is not there.
        if self.is_own() {
            receipt.ack(&self.own.mapped());
            self.ring_space();
        }
    }

    #[cold]
    fn wake(&self, mode: SleepMode, bell: Offset) {
        match mode {
            SleepMode::Futex => futex::wake_shared(self.own.mapped().word32(bell)),
            SleepMode::Socket => {
                // A full socket is readable, and so wakes as well; a closed one needs no
                // wake.
                let _ = socket::send(self.socket.as_fd(), &inbox::BELL, &[]);
            }
        }
    }

    /// Whether a message is sent without a fence, because this side's sleep makes up for it.
    pub(crate) fn has_asymmetric_fence(&self) -> bool {
        self.own.mapped().has_asymmetric_fence()
    }

    /// Whether the link is open as far as this process knows: one private load.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        // Acquire: with the Release of `end`; what led to it is visible.
        self.state.load(Ordering::Acquire) == OPEN
    }

    /// How the link ended, if it has as far as this process knows.
    #[inline(always)]
    pub(crate) fn check_open(&self) -> Result<(), LinkEnd> {
        if self.is_open() { Ok(()) } else { Err(self.ended()) }
    }

    /// How the link ended; also looks for the peer's goodbye. After an end was seen, the
    /// ring is to be checked once more: what was committed before it counts.
    #[inline]
    pub(crate) fn look_for_end(&self) -> Option<LinkEnd> {
        if let Err(end) = self.check_open() {
            return Some(end);
        }
        let goodbye = goodbye_of(&self.peer.mapped())?;
        Some(self.end(end_by(goodbye)))
    }

    /// How the link ended, as far as this process knows.
    pub(crate) fn end_so_far(&self) -> Option<LinkEnd> {
        self.check_open().err()
    }

    #[cold]
    fn ended(&self) -> LinkEnd {
        match self.state.load(Ordering::Acquire) {
            DEPARTED => LinkEnd::Departed,
            EVICTED => LinkEnd::Evicted,
            CLOSED => LinkEnd::Departed,
            CORRUPT => {
                LinkEnd::Corrupt(self.corruption.get().copied().unwrap_or(Corruption::Socket))
            }
            _ => LinkEnd::PeerDead,
        }
    }

    /// Ends the link, unless it has ended: the first reason stays. Returns the reason.
    #[cold]
    pub(crate) fn end(&self, end: LinkEnd) -> LinkEnd {
        let state = match end {
            LinkEnd::Departed => DEPARTED,
            LinkEnd::PeerDead => PEER_DEAD,
            LinkEnd::Evicted => EVICTED,
            LinkEnd::Corrupt(corruption) => {
                let _ = self.corruption.set(corruption);
                CORRUPT
            }
        };
        self.conclude(state, || {
            self.say_ended(end);
            // A peer that said goodbye closes the socket itself, when it is drained.
            if state != DEPARTED {
                socket::hang_up(self.socket.as_fd());
            }
            if let Some(entry) = &self.entry {
                entry.ended(end);
            }
        });
        self.ended()
    }

    #[cold]
    fn say_ended(&self, end: LinkEnd) {
        let (peer, pid) = self.named();
        match end {
            LinkEnd::Departed => tracing::debug!(target: DETACH, %peer, pid, "peer has left"),
            LinkEnd::Evicted => tracing::debug!(target: DETACH, %peer, pid, "evicted"),
            LinkEnd::PeerDead => tracing::debug!(target: DEATH, %peer, pid, "peer has died"),
            LinkEnd::Corrupt(reason) => {
                tracing::warn!(target: DETACH, %peer, pid, %reason, "peer broke the protocol");
            }
        }
    }

    /// Who is at the other end: the guest's entry in the hub, and the process.
    pub(crate) fn named(&self) -> (PeerId, u32) {
        (self.peer_id, self.process.pid)
    }

    /// Ends an open link: settles everything first, then tells those who wait or look.
    fn conclude(&self, state: u32, settle: impl FnOnce()) {
        let _one_at_a_time = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.load(Ordering::Relaxed) == OPEN {
            settle();
            // Release: with the Acquire of `check_open`.
            self.state.store(state, Ordering::Release);
            futex::wake_private(&self.state);
            #[cfg(feature = "tokio")]
            self.tasks.wake_all();
        }
    }

    /// The private word to sleep on beside a bell, and its value while the link is open.
    pub(crate) fn end_word(&self) -> (&AtomicU32, u32) {
        (&self.state, OPEN)
    }

    /// The socket was hung up: by the peer, or because it is gone.
    pub(crate) fn notice_hang_up(&self) {
        let goodbye = goodbye_of(&self.peer.mapped());
        self.end(goodbye.map_or(LinkEnd::PeerDead, end_by));
        if let Some(entry) = &self.entry {
            entry.release();
        }
    }

    /// Says goodbye: nothing more will be sent. What was sent stays to be read.
    pub(crate) fn say_goodbye(&self) {
        self.leave_goodbye();
        // Once for a link, whoever sleeps there: who waits for nothing but the end has not
        // announced a sleep.
        self.wake(SleepMode::Socket, DATA_BELL);
    }

    fn leave_goodbye(&self) {
        say_goodbye(&self.own.mapped(), Goodbye::Graceful);
        self.ring_data();
        self.ring_space();
    }

    /// Throws the peer out, and kills it if asked to.
    pub(crate) fn evict(&self, kill: bool) {
        if self.check_open().is_ok() {
            say_goodbye(&self.own.mapped(), Goodbye::Evicted);
        }
        self.end(LinkEnd::Evicted);
        if kill && let Some(pidfd) = &self.process.pidfd {
            process::kill(pidfd.as_fd());
        }
        if let Some(entry) = &self.entry {
            entry.release();
        }
    }

    /// Closes this side. The memory stays mapped while messages of it are held.
    pub(crate) fn close(&self) {
        self.conclude(CLOSED, || {});
        if goodbye_of(&self.own.mapped()).is_none() {
            // The hang-up wakes whoever waits for the end.
            self.leave_goodbye();
        }
        socket::hang_up(self.socket.as_fd());
        self.ledger.close();
        if let Some(entry) = &self.entry {
            entry.release();
        }
    }

    /// Reads what came over the socket: descriptors, and rings of the doorbell.
    pub(crate) fn drain_socket(&self) {
        // Whoever needs what is not there will find out.
        let _ = self.drain(&mut self.inbox(), inbox::SOME);
    }

    /// [`drain_socket`](Self::drain_socket) for one of the [tasks](Tasks): the others are woken.
    /// Returns whether all was read.
    #[cfg(feature = "tokio")]
    pub(crate) fn drain_for_tasks(&self) -> Result<bool, OsError> {
        self.drain(&mut self.inbox(), inbox::SOME)
    }

    /// Something that the peer handed over, which `take` finds in the inbox; `None` if it
    /// has not come, which cannot be for what a frame refers to.
    pub(crate) fn handed_over<T>(
        &self,
        mut take: impl FnMut(&mut Inbox) -> Option<T>,
    ) -> Result<Option<T>, OsError> {
        let mut inbox = self.inbox();
        if let Some(found) = take(&mut inbox) {
            return Ok(Some(found));
        }
        let drained = self.drain(&mut inbox, inbox::ALL);
        match take(&mut inbox) {
            None => drained.map(|_| None),
            found => Ok(found),
        }
    }

    /// Puts something back that cannot be used now.
    pub(crate) fn put_back(&self, put: impl FnOnce(&mut Inbox)) {
        put(&mut self.inbox());
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether nothing is left to be read.
    fn drain(&self, inbox: &mut Inbox, most: usize) -> Result<bool, OsError> {
        let drained = inbox.drain(self.socket.as_fd(), most);
        #[cfg(feature = "tokio")]
        self.tasks.socket_was_read();
        match drained {
            Ok(Drained::Empty) => {}
            Ok(Drained::Enough) if most < inbox::ALL => return Ok(false),
            Ok(Drained::Enough) => {
                self.end(LinkEnd::Corrupt(Corruption::Socket));
            }
            Ok(Drained::HungUp) => self.notice_hang_up(),
            Ok(Drained::Starved(error)) => return Err(error),
            Err(corruption) => {
                self.end(LinkEnd::Corrupt(corruption));
            }
        }
        Ok(true)
    }

    /// Counts a sign of life of this side.
    pub(crate) fn beat(&self) {
        // Relaxed: one process counts, and the peer only looks whether it moves.
        let beats = self.heartbeat.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.own.mapped().store64(HEARTBEAT, beats, HINT);
    }

    /// The other side's signs of life so far, by its own account.
    pub(crate) fn peer_beats(&self) -> u64 {
        let _decision = audit::decision();
        self.peer.mapped().load64(HEARTBEAT, HINT)
    }

    /// What the other side has dropped so far, by its own account.
    pub(crate) fn peer_dropped(&self) -> u64 {
        dropped_by(&self.peer.mapped())
    }
}

impl Drop for LinkCore {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry
            && self.is_own()
        {
            entry.settle(&self.ledger.statistics());
        }
    }
}

impl Watched for LinkCore {
    fn notice(self: Arc<Self>) -> Option<Duration> {
        self.notice_hang_up();
        None
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn notice_death(self: Arc<Self>) {
        self.notice_hang_up();
        // Whoever polls the socket learns of it, even if a child that the peer forked
        // still holds the other end.
        socket::hang_up(self.socket.as_fd());
    }
}

impl AsFd for LinkCore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn end_by(goodbye: Goodbye) -> LinkEnd {
    match goodbye {
        Goodbye::Evicted => LinkEnd::Evicted,
        _ => LinkEnd::Departed,
    }
}
