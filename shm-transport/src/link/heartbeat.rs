use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::core::LinkCore;
use crate::error::LinkEnd;

/// The signs of life of both sides of a link, for any thread: gives those of this side, and
/// observes those of the peer by this process's own clock.
///
/// It is an alarm and nothing more: a peer that is stopped, or only busy, is alive, and its
/// link stays open. What to do about it is the caller's to decide, such as
/// [`Hub::evict_and_kill`](crate::Hub::evict_and_kill). The death of a peer is reported by the
/// link itself, at once and without any sign of life.
///
/// A peer that is to be observed calls [`beat`](Self::beat) again and again, several times
/// within the patience that the other side has: between two messages or two calls that wait
/// for one, which shows that it gets on with its work, or on a thread of its own, which
/// shows that its process runs.
///
/// It keeps neither the link open nor its memory in use.
///
/// ```
/// use std::{thread, time::Duration};
/// use shm_transport::{Link, LinkConfig, Vitality};
///
/// let patience = Duration::from_millis(20);
/// let (left, right) = Link::pair(&LinkConfig::default())?;
/// let mut observer = left.heartbeat();
/// let guest = right.heartbeat();
///
/// thread::sleep(patience);
/// assert!(matches!(observer.look(patience), Vitality::Stalled { stood_still } if stood_still >= patience));
/// guest.beat();
/// assert_eq!(observer.look(patience), Vitality::Beating);
/// drop(right);
/// assert!(matches!(observer.look(patience), Vitality::Ended(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Heartbeat {
    core: Weak<LinkCore>,
    /// The peer's count when it was last seen to change, and when that was.
    seen: u64,
    since: Instant,
    end: Option<LinkEnd>,
}

/// What an observer of a peer's heartbeat finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vitality {
    /// The peer gave a sign of life within the observer's patience.
    Beating,
    /// It gave none. It may be stopped, or busy; it is not dead.
    Stalled {
        /// For how long none was seen: no longer than there was none.
        stood_still: Duration,
    },
    /// The link is over.
    Ended(LinkEnd),
}

impl Heartbeat {
    /// Its patience begins now, so that a peer that has not begun to beat is not stalled yet.
    pub(crate) fn new(core: &Arc<LinkCore>) -> Self {
        let (seen, since) = (core.peer_beats(), Instant::now());
        Self { core: Arc::downgrade(core), seen, since, end: None }
    }

    /// Gives a sign of life: one store into this side's own memory. On a link that is over it
    /// has no effect.
    pub fn beat(&self) {
        if let Some(core) = self.core.upgrade() {
            core.beat();
        }
    }

    /// How the peer is, if who gives no sign of life within `patience` is stalled.
    ///
    /// Any change of the peer's count since the last look is a sign of life. So an observer
    /// looks at least as often as it wants to know; one that has not looked for long, because
    /// it was stopped itself, finds a peer that beats to be beating.
    pub fn look(&mut self, patience: Duration) -> Vitality {
        if let Some(core) = self.core.upgrade() {
            self.end = core.look_for_end();
            let beats = core.peer_beats();
            if beats != self.seen {
                self.seen = beats;
                self.since = Instant::now();
            }
        } else if self.end.is_none() {
            // This side closed it.
            self.end = Some(LinkEnd::Departed);
        }
        let stood_still = self.since.elapsed();
        match self.end {
            Some(end) => Vitality::Ended(end),
            None if stood_still >= patience => Vitality::Stalled { stood_still },
            None => Vitality::Beating,
        }
    }
}
