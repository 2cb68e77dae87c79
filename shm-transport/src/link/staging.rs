//! Putting messages in place, whichever way their size asks for.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use rustix::io::Errno;
use shm_primitives::{
    Frame, Mapped, Memory, Offset,
    ledger::sender,
    outbox::say_dropped,
    pool::{SlotAllocator, SlotId},
    ring::{GrantError, Producer},
};

use super::{core::LinkCore, inbox, open::Open, shared::SharedPayload};
use crate::{
    error::{Corruption, LinkEnd, OsError, SendError},
    ledger::{SenderCounts, coarse},
    os::{
        memory::{self, Segment, Unsealed},
        socket,
    },
    trace::{GROWTH, PERIOD, PRESSURE},
};

/// From this length on, in bytes, a message to several links is shared although it would
/// fit a slot of each. A slot is faster up to about 1 MiB.
const SHARED_FROM: usize = 64 << 10;

/// All of a sender but its way of waiting.
#[derive(Debug)]
pub(crate) struct Half {
    _open: Arc<Open>,
    pub(crate) core: Arc<LinkCore>,
    pub(crate) ring: Producer<Mapped>,
    pub(crate) pool: SlotAllocator<Mapped>,
    counts: SenderCounts,
    /// When a message found no room last, by [`coarse`].
    last_full: Duration,
    /// Inline messages that are staged, to be counted when they are published: how many, and
    /// below [`ONE`] their bytes. One word, because this is on the way of every one in a batch.
    staged: u64,
    extents: Vec<Vec<Segment>>,
    /// Messages that were dropped instead of waiting for room.
    dropped: u64,
    /// Messages to come that do not wait for a warm slot.
    spread: u32,
    /// Bytes of the ring that messages with a place of their own leave free for an empty one.
    reserve: u32,
}

/// So many bytes more of payload take at least as many more in the ring as an empty message
/// does, however their frame is rounded up.
const FOR_END: u32 = 32;

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    Ring,
    Slots,
    /// An extent's worth of slots is in use; there are more, or could be.
    Growth,
    Socket,
    /// This user has too many descriptors under way in sockets, in all its processes
    /// together. It need not be the peer's fault.
    Descriptors,
}

impl Blocked {
    /// Whether the peer rings when that changes.
    pub(crate) fn is_rung_for(self) -> bool {
        matches!(self, Self::Ring | Self::Slots | Self::Growth)
    }
}

/// When more slots of a class are used than lie in an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    Now,
    /// Not yet: the receiver may be about to give one back, and a slot that was used lately
    /// is still in the caches.
    Later,
}

/// Messages that do not wait for a warm slot, after one did in vain.
const SPREAD: u32 = 64;

/// One staged message. A ring holds 2^30 bytes at most.
const ONE: u64 = 1 << 32;

/// Why a message is not staged.
pub(crate) enum StageError {
    Blocked(Blocked),
    Failed(SendError),
}

impl From<SendError> for StageError {
    fn from(error: SendError) -> Self {
        Self::Failed(error)
    }
}

impl From<LinkEnd> for StageError {
    fn from(end: LinkEnd) -> Self {
        Self::Failed(end.into())
    }
}

impl From<OsError> for StageError {
    fn from(error: OsError) -> Self {
        Self::Failed(error.into())
    }
}

/// Where a message goes.
#[derive(Debug)]
pub(crate) enum Place {
    /// Inline, with its payload at this offset of the own outbox.
    Ring(Offset),
    /// In a slot of an extent.
    Slot { slot: SlotId, segment: Segment, at: Offset },
    /// In memory of its own, to be handed over under this number.
    Sealed(SlotId),
}

impl Half {
    pub(crate) fn new(open: Arc<Open>, pool: SlotAllocator<Mapped>) -> Self {
        let core = Arc::clone(&open.0);
        let ring = Producer::new(core.own.mapped(), core.peer.mapped(), &core.geometry.outbox);
        let extents = core.geometry.pool.classes().iter().map(|_| Vec::new()).collect();
        let counts = core.ledger.sender;
        let (staged, last_full) = (0, Duration::ZERO);
        Self {
            _open: open,
            core,
            ring,
            pool,
            counts,
            last_full,
            staged,
            extents,
            dropped: 0,
            spread: 0,
            reserve: 0,
        }
    }

    /// Sends a message that goes inline where nothing is in the way; returns whether it did.
    #[inline(always)]
    pub(crate) fn send_at_once(&mut self, message: &[u8]) -> bool {
        let sent = message.len() <= self.core.geometry.inline_max as usize
            && self.core.is_open()
            && self.ring.push_at_once(message);
        if sent {
            self.count(sender::INLINE, message.len());
            self.core.ring_data();
        }
        sent
    }

    /// Puts a message in place, unpublished.
    #[inline(always)]
    pub(crate) fn stage(&mut self, message: &[u8], growth: Growth) -> Result<(), StageError> {
        if message.len() <= self.core.geometry.inline_max as usize {
            self.core.check_open()?;
            return self.stage_inline(message);
        }
        self.stage_large(message, growth)
    }

    #[inline(never)]
    fn stage_large(&mut self, message: &[u8], growth: Growth) -> Result<(), StageError> {
        match self.find_place(message.len(), growth)? {
            Place::Ring(_) => self.stage_inline(message),
            Place::Slot { slot, segment, at } => {
                segment.mapped().write(at, message);
                self.stage_slot(slot, message.len())
            }
            Place::Sealed(number) => {
                let filled = Unsealed::new().and_then(|memory| {
                    memory.fill(message)?;
                    Ok(memory)
                });
                match filled {
                    Ok(memory) => self.stage_sealed(number, memory, message.len()),
                    Err(error) => {
                        self.pool.give_back(number);
                        Err(error.into())
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn stage_inline(&mut self, message: &[u8]) -> Result<(), StageError> {
        match self.ring.stage(message) {
            Ok(()) => {
                self.staged += ONE + message.len() as u64;
                Ok(())
            }
            Err(error) => Err(ring_error(&self.core, error)),
        }
    }

    /// Counts a message that is about to be published.
    #[inline(always)]
    pub(crate) fn count(&self, kind: usize, len: usize) {
        self.counts.add(kind, 1);
        self.counts.add(kind + 1, len as u64);
    }

    /// Counts what the receiver has, when something was added to it.
    fn count_in_use(&self) {
        let in_use = self.pool.in_flight_so_far() as u64;
        self.counts.set(sender::IN_USE, in_use);
        if in_use > self.counts.get(sender::MOST_IN_USE) {
            self.counts.set(sender::MOST_IN_USE, in_use);
        }
    }

    /// Counts that a message found no room.
    #[cold]
    pub(crate) fn count_full(&mut self, blocked: Blocked) {
        // An extent's worth in use is no lack of room yet.
        if blocked == Blocked::Growth {
            return;
        }
        self.counts.add(sender::FULL, 1);
        let now = coarse();
        if now.saturating_sub(self.last_full) > PERIOD {
            let (peer, pid) = self.core.named();
            tracing::debug!(target: PRESSURE, %peer, pid, on = ?blocked, "no room for a message");
        }
        self.last_full = now;
    }

    /// What a call that does not wait reports.
    #[cold]
    pub(crate) fn without_waiting(&mut self, error: StageError) -> SendError {
        match error {
            StageError::Blocked(blocked) => {
                self.count_full(blocked);
                SendError::Full
            }
            StageError::Failed(error) => error,
        }
    }

    /// Finds room for a message of `len` bytes. A slot that is found is taken.
    pub(crate) fn find_place(&mut self, len: usize, growth: Growth) -> Result<Place, StageError> {
        self.core.check_open()?;
        self.check_size(len)?;
        let bytes = len as u64;
        let geometry = &self.core.geometry;
        let inline = bytes + u64::from(self.reserve) <= u64::from(geometry.inline_max);
        // A reference needs room in the ring, too.
        let in_ring = if inline { len as u32 } else { 0 };
        let grant = self.ring.grant(in_ring + self.reserve);
        let grant = grant.map_err(|error| ring_error(&self.core, error))?;
        if inline {
            return Ok(Place::Ring(grant.payload()));
        }
        if bytes > u64::from(geometry.pool.largest_slot()) {
            return self.number().map(Place::Sealed);
        }
        if growth == Growth::Later && self.pool.has_an_extent_in_flight(bytes) {
            if self.spread == 0 {
                return Err(StageError::Blocked(Blocked::Growth));
            }
            self.spread -= 1;
        }
        loop {
            match self.pool.allocate(bytes) {
                Ok(slot) => return self.slot_place(slot),
                Err(exhausted) => match exhausted.may_grow {
                    Some(class) => self.grow(class)?,
                    None => return Err(StageError::Blocked(Blocked::Slots)),
                },
            }
        }
    }

    /// From here on a [place](Self::find_place) is found only where room for an empty message
    /// stays behind it: [`send_end`](Self::send_end) does not wait.
    pub(crate) fn reserve_for_end(&mut self) {
        self.reserve = FOR_END;
    }

    /// The most bytes that a message has which is inline or in a slot, and leaves room for the
    /// end.
    pub(crate) fn largest_before_end(&self) -> u64 {
        let geometry = &self.core.geometry;
        let inline = geometry.inline_max.saturating_sub(FOR_END);
        u64::from(inline.max(geometry.pool.largest_slot())).min(geometry.max_message)
    }

    /// Puts the bytes of a message that was found a place in the ring, of `len` bytes, in line.
    pub(crate) fn stage_in_place(&mut self, len: usize, used: usize) -> Result<(), StageError> {
        match self.ring.grant(len as u32 + self.reserve) {
            // The same bytes as before: the ring has not moved since.
            Ok(grant) => {
                grant.commit(used as u32);
                self.count(sender::INLINE, used);
                Ok(())
            }
            Err(error) => Err(ring_error(&self.core, error)),
        }
    }

    /// Sends an empty message in the room that was kept for it.
    pub(crate) fn send_end(&mut self) -> Result<(), StageError> {
        self.reserve = 0;
        self.stage(&[], Growth::Now)?;
        self.publish();
        Ok(())
    }

    /// Whether a message of `len` bytes finds room now. Returns what it waits for if not.
    pub(crate) fn look_for_room(&mut self, len: usize, growth: Growth) -> Result<(), StageError> {
        match self.find_place(len, growth)? {
            Place::Ring(_) => {}
            Place::Slot { slot: number, .. } | Place::Sealed(number) => self.pool.give_back(number),
        }
        Ok(())
    }

    /// To be called when waiting for a warm slot did not help: the receiver holds on to them.
    pub(crate) fn spread(&mut self) {
        self.spread = SPREAD;
    }

    pub(crate) fn check_size(&self, len: usize) -> Result<(), SendError> {
        let (len, max) = (len as u64, self.core.geometry.max_message);
        if len <= max { Ok(()) } else { Err(SendError::TooLarge { len, max }) }
    }

    /// Takes a number for a sealed payload.
    fn number(&mut self) -> Result<SlotId, StageError> {
        self.pool.allocate_sealed().map_err(|_| StageError::Blocked(Blocked::Slots))
    }

    /// Whether this link can carry a message of this length as a payload that several
    /// links share. Otherwise it is copied.
    pub(crate) fn can_share(&self, len: usize) -> bool {
        let geometry = &self.core.geometry;
        len > geometry.inline_max as usize && geometry.pool.sealed() > 0
    }

    /// Whether it should: the memory that it saves is worth the system calls, or there is
    /// no other way.
    pub(crate) fn should_share(&self, len: usize) -> bool {
        let largest_slot = self.core.geometry.pool.largest_slot() as usize;
        self.can_share(len) && (len >= SHARED_FROM || len > largest_slot)
    }

    /// Takes a number for a payload that several links share, when there is room for a
    /// reference to it as well.
    fn find_number(&mut self) -> Result<SlotId, StageError> {
        self.core.check_open()?;
        let grant = self.ring.grant(0).map_err(|error| ring_error(&self.core, error))?;
        drop(grant);
        self.number()
    }

    /// Whether a payload that several links share finds room now.
    pub(crate) fn has_room_to_share(&mut self) -> bool {
        self.find_number().map(|number| self.pool.give_back(number)).is_ok()
    }

    /// Puts a reference to a payload of more than 0 bytes in place, unpublished.
    pub(crate) fn stage_shared(&mut self, payload: &SharedPayload) -> Result<(), StageError> {
        self.check_size(payload.len())?;
        let number = self.find_number()?;
        self.stage_handed_over(number, payload.as_fd())?;
        self.count(sender::SHARED, payload.len());
        Ok(())
    }

    /// Counts a dropped message where the peer sees it.
    pub(crate) fn count_dropped(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
        say_dropped(&self.core.own.mapped(), self.dropped);
        self.counts.set(sender::DROPPED, self.dropped);
    }

    /// How many messages were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn slot_place(&mut self, slot: SlotId) -> Result<Place, StageError> {
        let class = self.core.geometry.pool.class(slot.class).copied();
        let (extent, at) = class.map_or((u32::MAX, 0), |class| class.place(slot.index));
        let segment =
            self.extents.get(usize::from(slot.class)).and_then(|all| all.get(extent as usize));
        match segment {
            Some(segment) => {
                Ok(Place::Slot { slot, segment: segment.clone(), at: Offset::new(at) })
            }
            // Allocated slots lie in extents that were added; see `grow`.
            None => {
                self.pool.give_back(slot);
                Err(StageError::Blocked(Blocked::Slots))
            }
        }
    }

    /// Adds an extent to a class: made, mapped and handed over before it is used.
    fn grow(&mut self, class: u8) -> Result<(), StageError> {
        let size = self.core.geometry.pool.class(class).map_or(0, |class| class.extent_size());
        let descriptor = memory::create("shm-extent", size)?;
        let segment = memory::map_as_writer(descriptor.as_fd(), size)?;
        self.hand_over(&inbox::extent_message(class), descriptor.as_fd())?;
        if let Some(extents) = self.extents.get_mut(usize::from(class)) {
            extents.push(segment);
            self.pool.add_extent(class);
            let slots = self.pool.slots() as u64;
            self.counts.set(sender::SLOTS, slots);
            let (peer, pid) = self.core.named();
            tracing::debug!(target: GROWTH, %peer, pid, class, size, slots, "slot pool grows by an extent");
        }
        Ok(())
    }

    fn hand_over(&self, message: &[u8], descriptor: BorrowedFd<'_>) -> Result<(), StageError> {
        match socket::send(self.core.socket.as_fd(), message, &[descriptor]) {
            Ok(()) => Ok(()),
            // The peer reads them when it reaches the frames that refer to them.
            Err(Errno::AGAIN) => Err(StageError::Blocked(Blocked::Socket)),
            Err(Errno::TOOMANYREFS) => Err(StageError::Blocked(Blocked::Descriptors)),
            Err(errno) if socket::is_over(errno) => {
                self.core.notice_hang_up();
                self.core.check_open()?;
                Err(LinkEnd::PeerDead.into())
            }
            Err(errno) => Err(OsError::new("hand over memory", errno).into()),
        }
    }

    /// Stages a reference to a slot that holds the message, or gives the slot back.
    pub(crate) fn stage_slot(&mut self, slot: SlotId, len: usize) -> Result<(), StageError> {
        let frame = Frame::Slot { slot, len: len as u32 };
        match self.ring.stage_reference(frame) {
            Ok(()) => {
                self.pool.sent(slot);
                self.count(sender::SLOT, len);
                self.count_in_use();
                Ok(())
            }
            Err(error) => {
                self.pool.give_back(slot);
                Err(ring_error(&self.core, error))
            }
        }
    }

    /// Seals memory that holds a message of more than 0 bytes, hands it over and stages a
    /// reference to it, or gives its number back.
    pub(crate) fn stage_sealed(
        &mut self,
        number: SlotId,
        memory: Unsealed,
        len: usize,
    ) -> Result<(), StageError> {
        match memory.seal(len as u64) {
            Ok(fd) => {
                self.stage_handed_over(number, fd.as_fd())?;
                self.count(sender::SEALED, len);
                Ok(())
            }
            Err(error) => {
                self.pool.give_back(number);
                Err(error.into())
            }
        }
    }

    /// Hands sealed memory over and stages a reference to it, or gives its number back.
    fn stage_handed_over(
        &mut self,
        number: SlotId,
        sealed: BorrowedFd<'_>,
    ) -> Result<(), StageError> {
        if let Err(error) = self.hand_over(&inbox::sealed_message(number.index), sealed) {
            self.pool.give_back(number);
            return Err(error);
        }
        // The descriptor is on its way, so the number is in use whatever comes.
        self.pool.sent(number);
        self.count_in_use();
        self.ring
            .stage_reference(Frame::Sealed { index: number.index })
            .map_err(|error| ring_error(&self.core, error))
    }

    /// Whether the peer has read everything that was sent, or will never.
    pub(crate) fn look_drained(&mut self) -> Option<Result<(), LinkEnd>> {
        let Self { core, ring, .. } = self;
        match ring.is_drained() {
            Ok(true) => Some(Ok(())),
            // The last of what it read may have come with its end.
            Ok(false) => core.look_for_end().map(|end| match ring.is_drained() {
                Ok(true) => Ok(()),
                _ => Err(end),
            }),
            Err(error) => match ring_error(core, error) {
                StageError::Failed(SendError::Ended(end)) => Some(Err(end)),
                _ => None,
            },
        }
    }

    /// Publishes what is staged, and wakes the peer if it sleeps.
    #[inline(always)]
    pub(crate) fn publish(&mut self) {
        if self.ring.has_staged() {
            self.ring.publish();
            self.counts.add(sender::INLINE, self.staged / ONE);
            self.counts.add(sender::INLINE + 1, self.staged % ONE);
            self.staged = 0;
            self.core.ring_data();
        }
    }
}

#[cold]
fn ring_error(core: &LinkCore, error: GrantError) -> StageError {
    match error {
        GrantError::Full => StageError::Blocked(Blocked::Ring),
        GrantError::Corrupt { tail } => core.end(LinkEnd::Corrupt(Corruption::Tail(tail))).into(),
        GrantError::TooLarge { len, max } => SendError::TooLarge { len, max }.into(),
        _ => StageError::Blocked(Blocked::Ring),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_message_fits_behind_every_message_that_keeps_room_for_it() {
        let footprint = |len| Frame::Inline { len }.footprint();
        for len in 0..4096 {
            assert!(footprint(len + FOR_END) >= footprint(len) + footprint(0), "{len}");
        }
    }
}
