//! Every memory ordering of this crate, by name, with its partner.
//!
//! A `SYNC` pair is a release at one end and an acquire at the other; the constant's
//! name stands at both ends in the code. The model checker weakens them one at a time
//! (`SHM_WEAKEN=FRAME_PUBLISH`), and its tests must then fail.

use core::sync::atomic::Ordering;

/// A memory ordering and the name under which it is argued for.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    name: &'static str,
    ordering: Ordering,
}

impl Order {
    /// The name of the constant.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The ordering itself.
    #[inline(always)]
    #[must_use]
    pub const fn ordering(self) -> Ordering {
        self.ordering
    }
}

macro_rules! orders {
    ($($(#[$doc:meta])* $name:ident = $ordering:ident;)*) => {
        $($(#[$doc])* pub const $name: Order =
            Order { name: stringify!($name), ordering: Ordering::$ordering };)*

        /// All orders of the table.
        pub const ALL: &[Order] = &[$($name),*];
    };
}

orders! {
    /// A word read by the side that alone writes it, or written before anything that
    /// refers to it is published.
    OWN = Relaxed;
    /// A value that only advises: being late or early costs time, never correctness.
    HINT = Relaxed;

    /// The store of a frame's header word that makes the frame, and all frames staged
    /// behind it, visible. Partner: [`FRAME_SEEN`].
    FRAME_PUBLISH = Release;
    /// The consumer's load of a frame's header word. Partner: [`FRAME_PUBLISH`].
    FRAME_SEEN = Acquire;

    /// The consumer's store of `tail`: it has read everything before it.
    /// Partner: [`TAIL_SEEN`].
    TAIL_PUBLISH = Release;
    /// The producer's load of `tail`, before it overwrites. Partner: [`TAIL_PUBLISH`].
    TAIL_SEEN = Acquire;

    /// The receiver's store of a slot's ack: it has read the slot. Partner: [`ACK_SEEN`].
    ACK_PUBLISH = Release;
    /// The sender's load of an ack, before it writes the slot again.
    /// Partner: [`ACK_PUBLISH`].
    ACK_SEEN = Acquire;

    /// The waker's increment of its bell, after it published. Partner: [`BELL_SEEN`].
    BELL_RING = Release;
    /// The sleeper's load of the bell, before it checks again. Partner: [`BELL_RING`].
    BELL_SEEN = Acquire;
    /// The sleeper's fence between its sleep word and its last check.
    /// Partner: [`WAKE_FENCE`].
    SLEEP_FENCE = SeqCst;
    /// The waker's fence between publishing and its look at the sleep word.
    /// Partner: [`SLEEP_FENCE`].
    WAKE_FENCE = SeqCst;

    /// The writer's fence between the odd sequence and the words.
    /// Partner: [`SEQLOCK_LAST`].
    SEQLOCK_BEGIN = Release;
    /// The writer's store of the even sequence after the words.
    /// Partner: [`SEQLOCK_FIRST`].
    SEQLOCK_END = Release;
    /// The reader's load of the sequence before the words. Partner: [`SEQLOCK_END`].
    SEQLOCK_FIRST = Acquire;
    /// The reader's fence between the words and its second look at the sequence.
    /// Partner: [`SEQLOCK_BEGIN`].
    SEQLOCK_LAST = Acquire;

    /// The change of a peer entry's state word. Partner: [`PEER_SEEN`].
    PEER_CHANGE = Release;
    /// The load of a peer entry's state word. Partner: [`PEER_CHANGE`].
    PEER_SEEN = Acquire;

    /// The store of the goodbye word, after the last frame. Partner: [`GOODBYE_SEEN`].
    GOODBYE_SAY = Release;
    /// The load of the goodbye word; the ring is checked once more after it.
    /// Partner: [`GOODBYE_SAY`].
    GOODBYE_SEEN = Acquire;

    /// The exchange of an index word that commits a frame of a fleet's ring.
    /// Partner: [`FLEET_COMMITTED`].
    FLEET_COMMIT = Release;
    /// The load of an index word, before the frame that it refers to is copied.
    /// Partner: [`FLEET_COMMIT`].
    FLEET_COMMITTED = Acquire;
    /// The exchange that moves a fleet ring's tail on from a committed position.
    /// Partner: [`FLEET_TAIL_SEEN`].
    FLEET_TAIL = Release;
    /// The load of the tail, before the index words that it tells of.
    /// Partner: [`FLEET_TAIL`].
    FLEET_TAIL_SEEN = Acquire;
    /// The store of a slot's place, after the tail is beyond it.
    /// Partner: [`FLEET_PLACE_SEEN`].
    FLEET_PLACE = Release;
    /// The load of a slot's place by who looks for a frame by its id.
    /// Partner: [`FLEET_PLACE`].
    FLEET_PLACE_SEEN = Acquire;
}
