use core::fmt;

use super::{Position, Track};
use crate::{
    audit,
    frame::{Frame, HEADER, footprint},
    memory::{Memory, Offset},
    order::{FRAME_PUBLISH, HINT, OWN, TAIL_SEEN},
    outbox::{HEAD, OutboxGeometry, TAIL},
};

/// The writing end of a ring.
///
/// Frames are *staged* one by one and *published* together. Dropping a producer leaves
/// staged frames unpublished: nobody ever sees them.
#[derive(Debug)]
pub struct Producer<M: Memory> {
    own: M,
    peer: M,
    track: Track,
    /// Where the next frame goes.
    head: Position,
    /// Everything before it is published.
    published: Position,
    /// The last valid `tail` seen.
    tail: Position,
    /// The kept-back header at `published`, while frames are staged.
    kept_back: Option<u64>,
}

/// Why the ring does not take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantError {
    /// No room now; the consumer makes some.
    Full,
    /// More than the ring could ever take in one frame.
    TooLarge {
        /// Payload bytes asked for.
        len: u64,
        /// The most that one frame of this ring can carry.
        max: u64,
    },
    /// The peer's `tail` is a lie: the link is corrupt.
    Corrupt {
        /// What the peer says it has read, in bytes since the beginning.
        tail: u64,
    },
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full: wait until the peer has read some of it"),
            Self::TooLarge { len, max } => {
                write!(f, "{len} bytes in one frame; this ring takes {max}: send it through a slot")
            }
            Self::Corrupt { tail } => {
                write!(
                    f,
                    "the peer says that it has read up to {tail}, where nothing was published"
                )
            }
        }
    }
}

impl core::error::Error for GrantError {}

/// Contiguous bytes of the ring that the producer may write before it commits them.
///
/// Dropping a grant aborts it: nothing happened.
#[must_use = "a grant that is not committed is aborted"]
#[derive(Debug)]
pub struct Grant<'a, M: Memory> {
    producer: &'a mut Producer<M>,
    /// Where the frame's header goes; `producer.head` or, behind padding, offset 0.
    at: Position,
    len: u32,
}

impl<M: Memory> Producer<M> {
    /// The producer of the ring in outbox `own`, whose consumer owns outbox `peer`.
    ///
    /// Both outboxes are new: nothing was sent yet. There is one producer for a ring.
    pub fn new(own: M, peer: M, geometry: &OutboxGeometry) -> Self {
        let start = Position::default();
        Self {
            own,
            peer,
            track: Track::new(geometry),
            head: start,
            published: start,
            tail: start,
            kept_back: None,
        }
    }

    /// The most payload bytes that one inline frame can carry.
    #[inline(always)]
    #[must_use]
    pub fn largest_inline(&self) -> u64 {
        self.track.largest().saturating_sub(HEADER)
    }

    /// Asks for `len` contiguous payload bytes.
    ///
    /// # Errors
    ///
    /// [`GrantError::Full`] without waiting, [`GrantError::TooLarge`] if no grant of
    /// this ring can be so large, [`GrantError::Corrupt`] if the peer's `tail` is
    /// impossible.
    #[inline(always)]
    pub fn grant(&mut self, len: u32) -> Result<Grant<'_, M>, GrantError> {
        let _decision = audit::decision();
        let need = footprint(len);
        if need > self.track.largest() {
            return Err(GrantError::TooLarge { len: u64::from(len), max: self.largest_inline() });
        }
        let until_end = self.track.until_end(self.head);
        let padding = if need <= until_end { 0 } else { until_end };
        // With `need <= capacity / 2` this fits an empty ring at every position: see
        // `an_empty_ring_takes_its_largest_frame_everywhere`.
        let end = self.head.plus(padding.wrapping_add(need).wrapping_add(HEADER));
        if end.since(self.tail) > self.track.capacity {
            self.look_at_tail()?;
            if end.since(self.tail) > self.track.capacity {
                return Err(GrantError::Full);
            }
        }
        let at = self.head.plus(padding);
        Ok(Grant { producer: self, at, len })
    }

    /// Publishes one inline frame, with those that are staged before it.
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage).
    #[inline]
    pub fn push(&mut self, payload: &[u8]) -> Result<(), GrantError> {
        let _decision = audit::decision();
        if !self.push_at_once(payload) {
            self.stage(payload)?;
            self.publish();
        }
        Ok(())
    }

    /// [`push`](Self::push) where nothing is staged and there is room, as far as is known,
    /// before the end of the ring: does nothing otherwise, and returns whether it did.
    #[inline(always)]
    pub fn push_at_once(&mut self, payload: &[u8]) -> bool {
        let Ok(len) = u32::try_from(payload.len()) else { return false };
        let need = footprint(len);
        let next = self.head.plus(need);
        let fits = need <= self.track.largest()
            && need <= self.track.until_end(self.head)
            && next.plus(HEADER).since(self.tail) <= self.track.capacity;
        if !fits || self.kept_back.is_some() {
            return false;
        }
        let at = self.track.offset(self.head);
        self.own.write(at.plus(HEADER), payload);
        // The header behind this frame, before the one that makes it reachable.
        self.own.store64(self.track.offset(next), 0, OWN);
        // SYNC FRAME_PUBLISH: the payload and the cleared header become visible with this
        // store.
        self.own.store64(at, Frame::Inline { len }.encode(), FRAME_PUBLISH);
        self.head = next;
        self.published = next;
        self.own.store64(HEAD, next.0, HINT);
        true
    }

    /// Stages one inline frame behind those already staged.
    ///
    /// # Errors
    ///
    /// As [`grant`](Self::grant); a payload whose length has more than 32 bits is
    /// [`GrantError::TooLarge`].
    #[inline(always)]
    pub fn stage(&mut self, payload: &[u8]) -> Result<(), GrantError> {
        let _decision = audit::decision();
        let max = self.largest_inline();
        let len = u32::try_from(payload.len())
            .map_err(|_| GrantError::TooLarge { len: payload.len() as u64, max })?;
        let grant = self.grant(len)?;
        grant.producer.own.write(grant.payload(), payload);
        grant.commit(len);
        Ok(())
    }

    /// Stages a frame that has no payload in the ring: a reference to a slot or to a
    /// sealed payload.
    ///
    /// # Errors
    ///
    /// As [`grant`](Self::grant).
    #[inline]
    pub fn stage_reference(&mut self, frame: Frame) -> Result<(), GrantError> {
        let _decision = audit::decision();
        let grant = self.grant(0)?;
        grant.finish(frame);
        Ok(())
    }

    /// Publishes all staged frames with one store. Does nothing if there are none.
    #[inline(always)]
    pub fn publish(&mut self) {
        let Some(word) = self.kept_back.take() else { return };
        // SYNC FRAME_PUBLISH: payloads, the headers of the frames behind the first and
        // the cleared header behind the last become visible with this store.
        self.own.store64(self.track.offset(self.published), word, FRAME_PUBLISH);
        self.published = self.head;
        self.own.store64(HEAD, self.head.0, HINT);
    }

    /// Whether frames are staged that are not published.
    #[inline(always)]
    #[must_use]
    pub fn has_staged(&self) -> bool {
        self.kept_back.is_some()
    }

    /// Forgets all staged frames.
    pub fn abort(&mut self) {
        self.kept_back = None;
        self.head = self.published;
    }

    /// Whether the consumer has read everything that was published.
    ///
    /// # Errors
    ///
    /// [`GrantError::Corrupt`] if the peer's `tail` is impossible.
    pub fn is_drained(&mut self) -> Result<bool, GrantError> {
        let _decision = audit::decision();
        self.look_at_tail()?;
        Ok(self.tail == self.published)
    }

    /// Loads the peer's claim once and takes it over if it is possible.
    #[cold]
    fn look_at_tail(&mut self) -> Result<(), GrantError> {
        // SYNC TAIL_SEEN: the consumer's reads of the bytes before `tail` are over.
        let tail = Position(self.peer.load64(TAIL, TAIL_SEEN));
        // It never goes back, and never beyond what was published.
        if tail.since(self.tail) > self.published.since(self.tail) {
            return Err(GrantError::Corrupt { tail: tail.0 });
        }
        self.tail = tail;
        Ok(())
    }
}

impl<M: Memory> Grant<'_, M> {
    /// Payload bytes granted.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the grant has no payload bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the granted bytes start, in the producer's outbox.
    #[inline(always)]
    #[must_use]
    pub fn payload(&self) -> Offset {
        self.producer.track.offset(self.at).plus(HEADER)
    }

    /// Stages an inline frame of the first `used` granted bytes; more than were granted
    /// count as all of them.
    #[inline(always)]
    pub fn commit(self, used: u32) {
        let len = used.min(self.len);
        self.finish(Frame::Inline { len });
    }

    #[inline(always)]
    fn finish(self, frame: Frame) {
        let Self { producer, at, .. } = self;
        let next = at.plus(frame.footprint());
        // The header behind this frame, before anything that makes it reachable.
        producer.own.store64(producer.track.offset(next), 0, OWN);
        let word = frame.encode();
        if at != producer.head {
            // Behind padding: the padding's header is what is kept back or stands in
            // line, and the frame's own is written in place.
            producer.own.store64(producer.track.offset(at), word, OWN);
            producer.put(Frame::Padding.encode());
        } else {
            producer.put(word);
        }
        producer.head = next;
    }
}

impl<M: Memory> Producer<M> {
    /// Puts a header word at `head`: kept back if it is the first that is staged.
    #[inline(always)]
    fn put(&mut self, word: u64) {
        if self.kept_back.is_none() {
            self.kept_back = Some(word);
        } else {
            self.own.store64(self.track.offset(self.head), word, OWN);
        }
    }
}
