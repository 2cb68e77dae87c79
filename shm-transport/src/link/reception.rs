//! Taking messages from the ring, and finding the memory that they refer to.

use std::{os::fd::AsFd, sync::Arc};

use shm_primitives::{
    Frame, Mapped, Memory, Offset, audit,
    ledger::receiver,
    pool::{BadSlot, Receipt, SEALED, SlotId, SlotReceipts},
    ring::{Consumer, Entry},
};

use super::{core::LinkCore, open::Open, sealed::SealedPayload, slot::SlotBytes};
use crate::{
    error::{Corruption, LinkEnd, OsError, RecvError},
    ledger::ReceiverCounts,
    os::memory::{self, MapError, Segment},
};

/// All of a receiver but its way of waiting.
#[derive(Debug)]
pub(crate) struct Half {
    _open: Arc<Open>,
    pub(crate) core: Arc<LinkCore>,
    pub(crate) ring: Consumer<Mapped>,
    receipts: SlotReceipts,
    counts: ReceiverCounts,
    extents: Vec<Vec<Segment>>,
    /// The next message, taken from the ring and not given out yet.
    held: Option<Held>,
    /// Bytes of the ring that are still read after the link has ended.
    left: u64,
    /// Whether a reference keeps its place in the ring until its message was read.
    keeps_references: bool,
}

/// A message that was taken from the ring.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Its bytes are still in the ring.
    Inline(Entry),
    Slot(SlotBytes),
    Sealed(SealedPayload),
}

/// A look for the next message, again and again.
pub(crate) struct Search<'a> {
    core: &'a LinkCore,
    ring: &'a mut Consumer<Mapped>,
    counts: ReceiverCounts,
    held: bool,
}

/// What a look found.
pub(crate) enum Found {
    /// An inline message, which is taken.
    Inline(Entry),
    /// A message of another kind, or the end of the link.
    Other,
}

impl Search<'_> {
    #[inline(always)]
    pub(crate) fn look(&mut self) -> Option<Found> {
        let over = self.held || !self.core.is_open();
        if !over && let Some(entry) = self.ring.next_inline() {
            count(&self.counts, receiver::INLINE, u64::from(entry.len()));
            return Some(Found::Inline(entry));
        }
        let found = over || self.ring.look() || self.core.look_for_end().is_some();
        found.then_some(Found::Other)
    }
}

/// Why a message that was taken was not given out.
#[derive(Debug)]
enum Held {
    /// It did not fit the caller's buffer.
    Message(Taken),
    /// The memory that it refers to could not be mapped.
    Reference(Frame, Receipt),
}

impl Taken {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Inline(entry) => entry.len() as usize,
            Self::Slot(slot) => slot.len(),
            Self::Sealed(payload) => payload.len(),
        }
    }
}

impl Half {
    pub(crate) fn new(open: Arc<Open>, receipts: SlotReceipts) -> Self {
        let core = Arc::clone(&open.0);
        let ring = Consumer::new(core.own.mapped(), core.peer.mapped(), &core.geometry.outbox);
        let extents = core.geometry.pool.classes().iter().map(|_| Vec::new()).collect();
        let left = core.geometry.outbox.capacity();
        let counts = core.ledger.receiver;
        let (held, keeps_references) = (None, false);
        Self { _open: open, core, ring, receipts, counts, extents, held, left, keeps_references }
    }

    /// From here on the caller gives the space of references back, too: the peer sees which
    /// messages were read, and not only that they were taken.
    pub(crate) fn keep_references(&mut self) {
        self.keeps_references = true;
    }

    /// Takes the next message if it is there and inline, and nothing else is to be done.
    #[inline(always)]
    pub(crate) fn take_inline(&mut self) -> Option<Entry> {
        if self.held.is_some() || !self.core.is_open() {
            return None;
        }
        let entry = self.ring.next_inline()?;
        count(&self.counts, receiver::INLINE, u64::from(entry.len()));
        Some(entry)
    }

    /// Takes the next message, whatever it is.
    pub(crate) fn take(&mut self) -> Result<Option<Taken>, RecvError> {
        if self.held.is_some() || self.core.check_open().is_err() {
            return self.take_slowly();
        }
        match self.ring.next() {
            Ok(Some(entry)) => self.take_entry(entry).map(Some),
            Ok(None) => match self.core.look_for_end() {
                None => Ok(None),
                Some(_) => self.take_slowly(),
            },
            Err(corrupt) => Err(self.corrupt(Corruption::Ring(corrupt))),
        }
    }

    /// Takes the message that was not given out before, or what is left of a link that is
    /// over.
    #[cold]
    fn take_slowly(&mut self) -> Result<Option<Taken>, RecvError> {
        match self.held.take() {
            Some(Held::Message(taken)) => return Ok(Some(taken)),
            Some(Held::Reference(frame, receipt)) => return self.resolve(frame, receipt).map(Some),
            None => {}
        }
        let Some(end) = self.core.end_so_far() else { return Ok(None) };
        if matches!(end, LinkEnd::Evicted | LinkEnd::Corrupt(_)) {
            return Err(end.into());
        }
        // What was committed before the end comes first. A peer that goes on writing after
        // it is not listened to for longer than one that filled its ring.
        match self.ring.next() {
            Ok(Some(entry)) if self.left > 0 => {
                self.left = self.left.saturating_sub(entry.frame().footprint());
                self.take_entry(entry).map(Some)
            }
            _ => Err(end.into()),
        }
    }

    fn take_entry(&mut self, entry: Entry) -> Result<Taken, RecvError> {
        match entry.frame() {
            Frame::Inline { len } => {
                count(&self.counts, receiver::INLINE, u64::from(len));
                Ok(Taken::Inline(entry))
            }
            frame => self.take_reference(frame),
        }
    }

    #[inline(never)]
    fn take_reference(&mut self, frame: Frame) -> Result<Taken, RecvError> {
        // The word says all: its place in the ring is free.
        if !self.keeps_references {
            self.give_space_back();
        }
        let (slot, len) = match frame {
            Frame::Slot { slot, len } => (slot, len),
            Frame::Sealed { index } => (SlotId { class: SEALED, index }, 0),
            Frame::Inline { .. } | Frame::Padding => return Err(self.corrupt(Corruption::Socket)),
        };
        if u64::from(len) > self.core.geometry.max_message {
            let bad = BadSlot { slot, len };
            return Err(self.corrupt(Corruption::Slot(bad)));
        }
        match self.receipts.receive(slot, len) {
            Ok(receipt) => self.resolve(frame, receipt),
            Err(bad) => Err(self.corrupt(Corruption::Slot(bad))),
        }
    }

    /// Finds the memory that a frame refers to.
    fn resolve(&mut self, frame: Frame, receipt: Receipt) -> Result<Taken, RecvError> {
        let found = match frame {
            Frame::Slot { slot, len } => self.slot_bytes(slot, len, receipt).map(|slot| {
                count(&self.counts, receiver::SLOT, u64::from(len));
                Taken::Slot(slot)
            }),
            Frame::Sealed { index } => self.sealed_payload(index, receipt).map(|payload| {
                count(&self.counts, receiver::SEALED, payload.len() as u64);
                Taken::Sealed(payload)
            }),
            Frame::Inline { .. } | Frame::Padding => {
                Err(HandoverError::Corrupt(Corruption::Socket))
            }
        };
        found.map_err(|error| match error {
            HandoverError::Corrupt(corruption) => self.corrupt(corruption),
            HandoverError::Os(error) => {
                self.held = Some(Held::Reference(frame, receipt));
                error.into()
            }
        })
    }

    fn slot_bytes(
        &mut self,
        slot: SlotId,
        len: u32,
        receipt: Receipt,
    ) -> Result<SlotBytes, HandoverError> {
        let class = self.core.geometry.pool.class(slot.class).copied();
        let (extent, at) = class.map_or((u32::MAX, 0), |class| class.place(slot.index));
        let number = extent as usize;
        let class = usize::from(slot.class);
        while self.extents.get(class).is_none_or(|known| known.len() <= number) {
            self.map_next_extent(slot.class)?;
        }
        let known = self.extents.get(class).and_then(|known| known.get(number));
        let segment = known.ok_or(Corruption::NotHandedOver)?.clone();
        Ok(SlotBytes::new(Arc::clone(&self.core), segment, Offset::new(at), len, receipt))
    }

    #[cold]
    fn map_next_extent(&mut self, class: u8) -> Result<(), HandoverError> {
        let missing = Corruption::NotHandedOver;
        let Some(known) = self.extents.get_mut(usize::from(class)) else {
            return Err(missing.into());
        };
        let number = known.len();
        let descriptor = self.core.handed_over(|inbox| inbox.take_extent(class, number))?;
        let descriptor = descriptor.ok_or(missing)?;
        let size = self.core.geometry.pool.class(class).map_or(0, |class| class.extent_size());
        match memory::map_as_reader(descriptor.as_fd(), size) {
            Ok(segment) => known.push(segment),
            Err(MapError::Bad(bad)) => return Err(Corruption::Descriptor(bad).into()),
            Err(MapError::Os(error)) => {
                self.core.put_back(|inbox| inbox.put_back_extent(class, number, descriptor));
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn sealed_payload(
        &mut self,
        index: u16,
        receipt: Receipt,
    ) -> Result<SealedPayload, HandoverError> {
        let descriptor = self.core.handed_over(|inbox| inbox.take_sealed(index))?;
        let descriptor = descriptor.ok_or(Corruption::NotHandedOver)?;
        match memory::map_sealed(descriptor.as_fd(), self.core.geometry.max_message) {
            Ok(map) => Ok(SealedPayload::new(map, Arc::clone(&self.core), receipt)),
            Err(MapError::Bad(bad)) => Err(Corruption::Descriptor(bad).into()),
            Err(MapError::Os(error)) => {
                self.core.put_back(|inbox| inbox.put_back_sealed(index, descriptor));
                Err(error.into())
            }
        }
    }

    /// Keeps a message that was not given out for the next call.
    pub(crate) fn hold(&mut self, taken: Taken) {
        self.held = Some(Held::Message(taken));
    }

    /// Whether there is something to take: a message, or the end of the link.
    pub(crate) fn is_ready(&self) -> bool {
        self.held.is_some() || self.ring.is_ready() || self.core.look_for_end().is_some()
    }

    /// What is waited with, and how.
    pub(crate) fn search(&mut self) -> (&LinkCore, Search<'_>) {
        let Self { core, ring, counts, held, .. } = self;
        (core, Search { core, ring, counts: *counts, held: held.is_some() })
    }

    /// Copies a message in the ring into `buffer`, which is as long, and gives its space
    /// back.
    #[inline(always)]
    pub(crate) fn copy_out(&mut self, entry: Entry, buffer: &mut [u8]) {
        let _decision = audit::decision();
        self.core.peer.mapped().read(entry.payload(), buffer);
        self.give_space_back();
    }

    /// Copies bytes of a message that was taken, from `offset` on, into `buffer`; returns how
    /// many: the rest of the message or the whole buffer, whichever is shorter.
    #[inline(always)]
    pub(crate) fn copy_part(&self, taken: &Taken, offset: usize, buffer: &mut [u8]) -> usize {
        let count = taken.len().saturating_sub(offset).min(buffer.len());
        let buffer = match buffer.get_mut(..count) {
            Some(buffer) if count > 0 => buffer,
            _ => return 0,
        };
        match taken {
            Taken::Inline(entry) => {
                let _decision = audit::decision();
                self.core.peer.mapped().read(entry.payload().plus(offset as u64), buffer);
            }
            Taken::Slot(slot) => slot.read(offset, buffer),
            Taken::Sealed(payload) => {
                if let Some(bytes) = payload.get(offset..offset + count) {
                    buffer.copy_from_slice(bytes);
                }
            }
        }
        count
    }

    /// Gives all space of messages that were read back at once, even if more are there, unless
    /// one is held.
    pub(crate) fn release_all(&mut self) {
        // In a forked child it is its parent's.
        if self.held.is_none() && self.core.is_own() {
            self.ring.release_all();
            self.core.ring_space();
        }
    }

    /// Gives the ring space of what was taken back to the peer.
    #[inline(always)]
    pub(crate) fn give_space_back(&mut self) {
        if self.ring.release() {
            self.core.ring_space();
        }
    }

    #[cold]
    fn corrupt(&self, corruption: Corruption) -> RecvError {
        self.core.end(LinkEnd::Corrupt(corruption)).into()
    }
}

/// Counts a message that is taken.
#[inline(always)]
fn count(counts: &ReceiverCounts, kind: usize, bytes: u64) {
    counts.add(kind, 1);
    counts.add(kind + 1, bytes);
}

/// Why memory that the peer handed over cannot be used.
enum HandoverError {
    Corrupt(Corruption),
    Os(OsError),
}

impl From<Corruption> for HandoverError {
    fn from(corruption: Corruption) -> Self {
        Self::Corrupt(corruption)
    }
}

impl From<OsError> for HandoverError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}
