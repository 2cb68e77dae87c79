use core::fmt;

use super::{Position, Track};
use crate::{
    audit,
    frame::{self, BadFrame, Frame, HEADER, footprint},
    memory::{Memory, Offset},
    order::{FRAME_SEEN, TAIL_PUBLISH},
    outbox::{OutboxGeometry, TAIL},
};

/// The reading end of a ring.
#[derive(Debug)]
pub struct Consumer<M: Memory> {
    own: M,
    peer: M,
    track: Track,
    /// Where the next frame to take stands.
    pub(super) position: Position,
    /// What the producer knows: everything before it may be overwritten.
    pub(super) released: Position,
    /// The header word at `position` if it was loaded already, else 0.
    pub(super) ahead: u64,
    /// Whether nothing was looked for in vain since the last release.
    behind: bool,
}

/// A frame taken from the ring. Its payload stays in place until
/// [`Consumer::release`].
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// A header word that was checked. As a word it stays in a register, where a `Frame`
    /// would be taken apart and put together in memory.
    word: u64,
    payload: Offset,
}

impl Entry {
    /// What the frame's header said.
    #[inline(always)]
    #[must_use]
    pub fn frame(&self) -> Frame {
        match Frame::decode(self.word) {
            Ok(Some(frame)) => frame,
            // Not a word that an entry is made of.
            _ => Frame::Padding,
        }
    }

    /// Where the payload of an inline frame starts, in the producer's outbox.
    #[inline(always)]
    #[must_use]
    pub fn payload(&self) -> Offset {
        self.payload
    }

    /// Length of the payload in the ring, in bytes: 0 but for inline frames.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> u32 {
        frame::inline_len(self.word).unwrap_or(0)
    }

    /// Whether there is no payload in the ring.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What an honest producer never writes. The link cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorruptRing {
    /// A malformed header word.
    Frame(BadFrame),
    /// A frame that is larger than a frame can be, or reaches beyond the ring.
    Length {
        /// What the frame says, in payload bytes.
        len: u32,
    },
    /// Padding at the start of the ring, or without a frame behind it.
    Padding,
}

impl fmt::Display for CorruptRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(bad) => bad.fmt(f),
            Self::Length { len } => {
                write!(f, "a frame of {len} bytes does not fit where it stands")
            }
            Self::Padding => f.write_str("padding where none can be"),
        }
    }
}

impl core::error::Error for CorruptRing {}

impl<M: Memory> Consumer<M> {
    /// The consumer of the ring in outbox `peer`, which has `geometry`; `own` is the
    /// consumer's outbox.
    ///
    /// Both outboxes are new: nothing was sent yet. There is one consumer for a ring.
    pub fn new(own: M, peer: M, geometry: &OutboxGeometry) -> Self {
        let start = Position::default();
        Self {
            own,
            peer,
            track: Track::new(geometry),
            position: start,
            released: start,
            ahead: 0,
            behind: false,
        }
    }

    /// Takes the next frame; `None` if nothing more is published.
    ///
    /// # Errors
    ///
    /// [`CorruptRing`] for what no honest producer writes; it is final, and every later
    /// call fails alike or finds nothing.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "fallible, and the entry borrows nothing")]
    pub fn next(&mut self) -> Result<Option<Entry>, CorruptRing> {
        let _decision = audit::decision();
        if !self.look() {
            return Ok(None);
        }
        let word = core::mem::take(&mut self.ahead);
        match Frame::decode(word).map_err(CorruptRing::Frame)? {
            None => Ok(None),
            Some(Frame::Padding) => self.next_behind_padding().map(Some),
            Some(frame) => self.take(self.position, frame, word).map(Some),
        }
    }

    /// Takes the next frame if it is there and inline; else it is left to
    /// [`next`](Self::next), with whatever else it is.
    #[inline(always)]
    pub fn next_inline(&mut self) -> Option<Entry> {
        let _decision = audit::decision();
        if !self.look() {
            return None;
        }
        let footprint = footprint(frame::inline_len(self.ahead)?);
        if !self.fits(self.position, footprint) {
            return None;
        }
        let payload = self.track.offset(self.position).plus(HEADER);
        self.position = self.position.plus(footprint);
        Some(Entry { word: core::mem::take(&mut self.ahead), payload })
    }

    /// Padding is published together with the frame behind it, so that one is there.
    /// Padding never starts the ring: a chain of it ends here.
    #[cold]
    fn next_behind_padding(&mut self) -> Result<Entry, CorruptRing> {
        if self.track.index(self.position) == 0 {
            return Err(CorruptRing::Padding);
        }
        let at = self.position.plus(self.track.until_end(self.position));
        let word = self.word(at);
        match Frame::decode(word).map_err(CorruptRing::Frame)? {
            None | Some(Frame::Padding) => Err(CorruptRing::Padding),
            Some(frame) => self.take(at, frame, word),
        }
    }

    fn take(&mut self, at: Position, frame: Frame, word: u64) -> Result<Entry, CorruptRing> {
        let footprint = frame.footprint();
        if !self.fits(at, footprint) {
            let len = if let Frame::Inline { len } = frame { len } else { 0 };
            return Err(CorruptRing::Length { len });
        }
        self.position = at.plus(footprint);
        Ok(Entry { word, payload: self.track.offset(at).plus(HEADER) })
    }

    #[inline(always)]
    fn fits(&self, at: Position, footprint: u64) -> bool {
        footprint <= self.track.largest() && footprint <= self.track.until_end(at)
    }

    /// Looks for the next frame; `true` if there is one, or something corrupt.
    #[inline(always)]
    pub fn look(&mut self) -> bool {
        let _decision = audit::decision();
        if self.ahead == 0 {
            self.ahead = self.word(self.position);
            self.behind &= self.ahead != 0;
        }
        self.ahead != 0
    }

    /// Whether a frame is there, or something corrupt: whether
    /// [`next`](Self::next) would return anything but `None`.
    #[inline(always)]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let _decision = audit::decision();
        self.ahead != 0 || self.word(self.position) != 0
    }

    /// Copies payload bytes of the last entry, from `from` on, into `to`. Bytes beyond
    /// the entry's length are left as they are; returns how many were copied.
    #[inline]
    pub fn read(&self, entry: &Entry, from: u32, to: &mut [u8]) -> usize {
        let _decision = audit::decision();
        let available = entry.len().saturating_sub(from) as usize;
        let count = available.min(to.len());
        match to.get_mut(..count) {
            Some(to) if count > 0 => self.peer.read(entry.payload.plus(u64::from(from)), to),
            _ => {}
        }
        count
    }

    /// Gives the space of all entries taken so far back to the producer; returns whether
    /// the producer can see that now.
    ///
    /// While more frames are there the space is given back in larger pieces, up to an
    /// eighth of the ring, so that the line that says so does not move for each of them. A
    /// consumer that has taken all that there is has given all of it back.
    #[inline(always)]
    pub fn release(&mut self) -> bool {
        let _decision = audit::decision();
        let bytes = self.position.since(self.released);
        if bytes == 0 || (self.behind && bytes < self.track.capacity / 8 && self.look()) {
            return false;
        }
        // SYNC TAIL_PUBLISH: our reads of the bytes before it are over.
        self.own.store64(TAIL, self.position.0, TAIL_PUBLISH);
        self.released = self.position;
        self.behind = true;
        true
    }

    /// [`release`](Self::release) at once, even if more frames are there.
    pub fn release_all(&mut self) {
        self.behind = false;
        self.release();
    }

    #[inline(always)]
    fn word(&self, at: Position) -> u64 {
        // SYNC FRAME_SEEN: the one load of this header; payload and all that the
        // producer staged behind it are visible if it is not 0.
        self.peer.load64(self.track.offset(at), FRAME_SEEN)
    }
}
