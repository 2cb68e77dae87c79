//! The BipBuffer ring: single producer, single consumer, contiguous grants.
//!
//! The ring lies in the producer's outbox; `tail`, how far the consumer has read it,
//! lies in the consumer's. Positions are free-running `u64` byte counts, and the ring
//! is a sequence of [frames](crate::frame), each aligned to 8 bytes and contiguous.
//!
//! # The commit word is the frame's own header
//!
//! There is no shared write index on the path of a message. The producer writes the
//! payload, clears the header word *behind* the new frame, and then stores the new
//! frame's header: the one publishing store. The consumer polls the header word at its
//! own position, so a message and the news of it travel in the same cache line.
//!
//! ```text
//!            consumer's position                 producer's position
//!                    │                                    │
//!   ─────────────────▼────────────────────────────────────▼──────────────
//!    free (released) │ word │ payload │ word │ payload    │  0  │ free
//!   ───────────────────────────────────────────────────────────────────────
//!                                                            └ cleared before the
//!                                                              frame left of it was
//!                                                              published
//! ```
//!
//! Invariant: a consumer that has seen all published frames finds 0 at its position.
//! It holds for a new ring, whose memory is zero, and every publication keeps it.
//!
//! A batch is staged: the first frame's header is kept back while the others are
//! written in place behind it, so that the one store of the first publishes all.
//! Padding at the end of the ring is staged the same way, together with the frame that
//! follows it at offset 0.
//!
//! # Sizes
//!
//! A frame takes its header and its payload, rounded up as
//! [`footprint`](crate::frame::footprint) says. One that is larger than half the capacity
//! is refused ([`GrantError::TooLarge`]), because at an unlucky position an empty ring could
//! never take it. 8 bytes always stay free, for the cleared header behind the last frame.
//!
//! # Crash outcomes
//!
//! | killed | the consumer sees |
//! |---|---|
//! | producer, before the publishing store | nothing: the header at its position is still 0 |
//! | producer, after it | the frame, or the whole batch |
//! | consumer, before the store of `tail` | (its peer) the space still in use |
//! | consumer, after it | (its peer) the space free |

mod consumer;
mod producer;

pub use consumer::{Consumer, CorruptRing, Entry};
pub use producer::{Grant, GrantError, Producer};

/// A place in the endless sequence of bytes that passes through a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

impl Position {
    #[inline(always)]
    const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// Bytes from `earlier` to here.
    #[inline(always)]
    const fn since(self, earlier: Self) -> u64 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// Where positions of a ring lie in its segment.
#[derive(Clone, Copy, Debug)]
struct Track {
    base: crate::Offset,
    capacity: u64,
}

impl Track {
    fn new(geometry: &crate::outbox::OutboxGeometry) -> Self {
        Self { base: geometry.ring(), capacity: geometry.capacity() }
    }

    /// Distance of `position` from the start of the ring, in bytes.
    #[inline(always)]
    const fn index(&self, position: Position) -> u64 {
        // The capacity is a power of two, at least 64.
        position.0 & self.capacity.wrapping_sub(1)
    }

    #[inline(always)]
    const fn offset(&self, position: Position) -> crate::Offset {
        self.base.plus(self.index(position))
    }

    /// Bytes from `position` to the end of the ring: never 0.
    #[inline(always)]
    const fn until_end(&self, position: Position) -> u64 {
        self.capacity.wrapping_sub(self.index(position))
    }

    /// The largest frame, header included.
    #[inline(always)]
    const fn largest(&self) -> u64 {
        self.capacity / 2
    }
}

#[cfg(test)]
mod tests;
