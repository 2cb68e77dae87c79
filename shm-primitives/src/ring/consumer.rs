use core::fmt;

use super::{Position, Track};
use crate::{
    frame::{BadFrame, Frame, HEADER},
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
}

/// A frame taken from the ring. Its payload stays in place until
/// [`Consumer::release`].
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    frame: Frame,
    payload: Offset,
}

impl Entry {
    /// What the frame's header said.
    #[inline(always)]
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.frame
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
        match self.frame {
            Frame::Inline { len } => len,
            _ => 0,
        }
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
        Self { own, peer, track: Track::new(geometry), position: start, released: start }
    }

    /// Takes the next frame; `None` if nothing more is published.
    ///
    /// # Errors
    ///
    /// [`CorruptRing`] for what no honest producer writes; it is final, and every later
    /// call fails alike or finds nothing.
    #[inline(always)]
    #[expect(clippy::should_implement_trait, reason = "fallible, and the entry borrows nothing")]
    pub fn next(&mut self) -> Result<Option<Entry>, CorruptRing> {
        match self.load(self.position)? {
            None => Ok(None),
            Some(Frame::Padding) => self.next_behind_padding().map(Some),
            Some(frame) => self.take(self.position, frame).map(Some),
        }
    }

    /// Padding is published together with the frame behind it, so that one is there.
    /// Padding never starts the ring: a chain of it ends here.
    #[cold]
    fn next_behind_padding(&mut self) -> Result<Entry, CorruptRing> {
        if self.track.index(self.position) == 0 {
            return Err(CorruptRing::Padding);
        }
        let at = self.position.plus(self.track.until_end(self.position));
        match self.load(at)? {
            None | Some(Frame::Padding) => Err(CorruptRing::Padding),
            Some(frame) => self.take(at, frame),
        }
    }

    #[inline(always)]
    fn take(&mut self, at: Position, frame: Frame) -> Result<Entry, CorruptRing> {
        let footprint = frame.footprint();
        if footprint > self.track.largest() || footprint > self.track.until_end(at) {
            let len = if let Frame::Inline { len } = frame { len } else { 0 };
            return Err(CorruptRing::Length { len });
        }
        self.position = at.plus(footprint);
        Ok(Entry { frame, payload: self.track.offset(at).plus(HEADER) })
    }

    /// Whether a frame is there, or something corrupt: whether
    /// [`next`](Self::next) would return anything but `None`.
    #[inline(always)]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.word(self.position) != 0
    }

    /// Copies payload bytes of the last entry, from `from` on, into `to`. Bytes beyond
    /// the entry's length are left as they are; returns how many were copied.
    #[inline]
    pub fn read(&self, entry: &Entry, from: u32, to: &mut [u8]) -> usize {
        let available = entry.len().saturating_sub(from) as usize;
        let count = available.min(to.len());
        match to.get_mut(..count) {
            Some(to) if count > 0 => self.peer.read(entry.payload.plus(u64::from(from)), to),
            _ => {}
        }
        count
    }

    /// Gives the space of all entries taken so far back to the producer.
    #[inline(always)]
    pub fn release(&mut self) {
        if self.released != self.position {
            // SYNC TAIL_PUBLISH: our reads of the bytes before it are over.
            self.own.store64(TAIL, self.position.0, TAIL_PUBLISH);
            self.released = self.position;
        }
    }

    #[inline(always)]
    fn load(&self, at: Position) -> Result<Option<Frame>, CorruptRing> {
        Frame::decode(self.word(at)).map_err(CorruptRing::Frame)
    }

    #[inline(always)]
    fn word(&self, at: Position) -> u64 {
        // SYNC FRAME_SEEN: the one load of this header; payload and all that the
        // producer staged behind it are visible if it is not 0.
        self.peer.load64(self.track.offset(at), FRAME_SEEN)
    }
}
