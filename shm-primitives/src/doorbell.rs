//! Sleeping and waking without a lost wake-up, and without a system call while nobody
//! sleeps.
//!
//! Two words, each with one writing process:
//!
//! - the *sleep word* of the sleeper (64 bits, in the sleeper's outbox): how, if at
//!   all, it sleeps, and how often it has done so;
//! - the *bell* of the waker (32 bits, in the waker's outbox): how often it has rung.
//!   It is what a futex waits on.
//!
//! ```text
//! sleeper                              waker
//!   read the bell        BELL_SEEN       publish
//!   sleep word = asleep                  fence            WAKE_FENCE
//!   fence                SLEEP_FENCE     read the sleep word
//!   check again                          if asleep and not yet rung for this sleep:
//!   wait while the bell is unchanged       bell += 1      BELL_RING
//!   sleep word = awake                     wake (one system call)
//! ```
//!
//! Of the two fences one comes first: either the sleeper's check sees what was
//! published, or the waker sees the sleep word. A waker that saw it changes the bell,
//! so a sleeper that was about to wait does not.
//!
//! Crash outcomes: a sleeper that dies leaves its word *asleep*, and its peer makes one
//! system call that wakes nobody. A waker that dies between publishing and waking
//! leaves its peer asleep on data that is there; the death itself wakes it.
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{
    audit,
    memory::{Memory, Offset},
    order::{BELL_RING, BELL_SEEN, OWN, SLEEP_FENCE, WAKE_FENCE},
};

/// How a sleeper wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepMode {
    /// It waits on the bell as a futex.
    Futex,
    /// It waits until the link's socket is readable.
    Socket,
}

/// What the waker's bell showed before the sleeper announced itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BellSeen(pub u32);

const MODE: u64 = 3;
const STEP: u64 = 4;

/// The sleeping end of a doorbell.
#[derive(Debug)]
pub struct Sleeper<M: Memory> {
    own: M,
    peer: M,
    word: Offset,
    bell: Offset,
    /// The sleep word's value: it is ours alone to write.
    state: u64,
}

impl<M: Memory> Sleeper<M> {
    /// The sleeper whose sleep word is `word` in outbox `own`, woken by `bell` in
    /// outbox `peer`. The word is still 0.
    pub fn new(own: M, word: Offset, peer: M, bell: Offset) -> Self {
        Self { own, peer, word, bell, state: 0 }
    }

    /// Announces that this side is about to sleep. The caller now checks once more for
    /// what it waits for, and sleeps only if it is not there.
    pub fn announce(&mut self, mode: SleepMode) -> BellSeen {
        let seen = self.announce_unfenced(mode);
        self.fence();
        seen
    }

    /// [`announce`](Self::announce) without its fence, for a caller that announces
    /// many sleepers and then calls [`fence`](Self::fence) once.
    pub fn announce_unfenced(&mut self, mode: SleepMode) -> BellSeen {
        let _decision = audit::decision();
        // SYNC BELL_SEEN: what was published before the rings counted here is visible
        // to the check that follows.
        let seen = BellSeen(self.peer.load32(self.bell, BELL_SEEN));
        let mode = match mode {
            SleepMode::Futex => 1,
            SleepMode::Socket => 2,
        };
        self.state = (self.state & !MODE).wrapping_add(STEP) | mode;
        self.own.store64(self.word, self.state, OWN);
        seen
    }

    /// The fence between announcing and checking.
    pub fn fence(&self) {
        // SYNC SLEEP_FENCE: see the module's argument.
        self.own.fence_heavy(SLEEP_FENCE);
    }

    /// Says that this side is awake again. Does nothing if it never announced sleep.
    pub fn awake(&mut self) {
        if self.state & MODE != 0 {
            self.state &= !MODE;
            self.own.store64(self.word, self.state, OWN);
        }
    }

    /// Whether this side has announced sleep and is not awake again.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.state & MODE != 0
    }

    /// The bell that wakes this sleeper, in the peer's outbox.
    #[must_use]
    pub fn bell(&self) -> Offset {
        self.bell
    }
}

/// The waking end of a doorbell. Any thread of the process may ring it.
#[derive(Debug)]
pub struct Waker<M: Memory> {
    own: M,
    peer: M,
    word: Offset,
    bell: Offset,
    /// The latest sleep that was rung for. Private: it makes one system call of many.
    rung: AtomicU64,
}

impl<M: Memory> Waker<M> {
    /// The waker that rings `bell` in outbox `own` when sleep word `word` in outbox
    /// `peer` asks for it.
    pub fn new(own: M, bell: Offset, peer: M, word: Offset) -> Self {
        Self { own, peer, word, bell, rung: AtomicU64::new(0) }
    }

    /// To be called after publishing. Returns how the peer is to be woken, once for
    /// each of its sleeps, and `None` while it is awake.
    #[inline(always)]
    pub fn ring(&self) -> Option<SleepMode> {
        self.ring_or(|| {})
    }

    /// [`ring`](Self::ring), and `spared` is called when the peer sleeps and was rung for
    /// before.
    #[inline(always)]
    pub fn ring_or(&self, spared: impl FnOnce()) -> Option<SleepMode> {
        let _decision = audit::decision();
        // SYNC WAKE_FENCE: see the module's argument.
        self.own.fence_light(WAKE_FENCE);
        let word = self.peer.load64(self.word, OWN);
        if word & MODE == 0 {
            return None;
        }
        let mode = self.ring_for(word);
        if mode.is_none() {
            spared();
        }
        mode
    }

    #[cold]
    fn ring_for(&self, word: u64) -> Option<SleepMode> {
        // Relaxed: which of our threads rings is all that this word decides. A thread
        // that read the word of an earlier sleep need not ring: its fence came before
        // that of the later one, whose check sees what it published. (The word of an
        // honest peer only grows; another's is its own loss.)
        if self.rung.fetch_max(word, Ordering::Relaxed) >= word {
            return None;
        }
        // SYNC BELL_RING: what was published is visible to whoever sees the new count.
        self.own.add32(self.bell, 1, BELL_RING);
        // An unknown mode cannot come from an honest peer; it gets the cheaper wake.
        Some(if word & MODE == 2 { SleepMode::Socket } else { SleepMode::Futex })
    }

    /// The bell, in the own outbox.
    #[must_use]
    pub fn bell(&self) -> Offset {
        self.bell
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Mapped,
        outbox::{DATA_BELL, DATA_SLEEP},
    };

    fn with_doorbell(test: impl FnOnce(Sleeper<Mapped>, Waker<Mapped>)) {
        let (own, peer) = (Mapped::leaked(768), Mapped::leaked(768));
        test(
            Sleeper::new(own, DATA_SLEEP, peer, DATA_BELL),
            Waker::new(peer, DATA_BELL, own, DATA_SLEEP),
        );
    }

    #[test]
    fn each_sleep_is_rung_for_once() {
        with_doorbell(|mut sleeper, waker| {
            assert_eq!(waker.ring(), None);
            for mode in [SleepMode::Futex, SleepMode::Socket, SleepMode::Futex] {
                sleeper.announce(mode);
                assert_eq!(waker.ring(), Some(mode));
                assert_eq!(waker.ring(), None);
                sleeper.awake();
                assert_eq!(waker.ring(), None);
            }
        });
    }

    #[test]
    fn a_ring_changes_the_bell_that_the_sleeper_saw() {
        with_doorbell(|mut sleeper, waker| {
            let seen = sleeper.announce(SleepMode::Futex);
            waker.ring();
            assert_ne!(BellSeen(waker.own.load32(waker.bell(), OWN)), seen);
        });
    }
}
