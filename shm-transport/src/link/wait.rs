use std::{
    sync::atomic::AtomicU32,
    time::{Duration, Instant},
};

use shm_primitives::{
    Mapped, Offset,
    doorbell::{SleepMode, Sleeper},
};

use super::core::LinkCore;
use crate::{deadline::Deadline, os::futex};

/// How long a wait polls at least before it sleeps, while polling does not pay.
const MIN_SPIN: Duration = Duration::from_micros(1);
/// Polls between two looks at the clock.
const POLLS: u32 = 64;

/// How one half of a link waits: polling first, for a time that adapts to how often that
/// was enough, then asleep until the peer rings or the link ends.
#[derive(Debug)]
pub(crate) struct Waiter {
    sleeper: Sleeper<Mapped>,
    spin: Duration,
    max_spin: Duration,
}

impl Waiter {
    pub(crate) fn new(sleeper: Sleeper<Mapped>, max_spin: Duration) -> Self {
        Self { sleeper, spin: max_spin, max_spin }
    }

    /// Calls `attempt` until it returns something, or until the deadline. `attempt`
    /// returns something, at the latest, when the link has ended.
    #[inline(always)]
    pub(crate) fn wait<T>(
        &mut self,
        core: &LinkCore,
        deadline: Deadline,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        for _ in 0..POLLS {
            if let Some(result) = attempt() {
                return Some(result);
            }
            std::hint::spin_loop();
        }
        self.wait_long(core, deadline, attempt)
    }

    #[cold]
    fn wait_long<T>(
        &mut self,
        core: &LinkCore,
        deadline: Deadline,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let deadline = deadline.fixed();
        let start = Instant::now();
        let spin = deadline.remaining_at_most(Some(self.spin)).unwrap_or_default();
        while start.elapsed() < spin {
            for _ in 0..POLLS {
                if let Some(result) = attempt() {
                    self.spin = self.max_spin.min(self.spin.saturating_mul(2));
                    return Some(result);
                }
                std::hint::spin_loop();
            }
        }
        if deadline.has_passed() {
            return None;
        }
        self.spin = self.max_spin.min(MIN_SPIN.max(self.spin / 2));
        loop {
            let seen = self.sleeper.announce(SleepMode::Futex);
            let result = attempt();
            if result.is_none() && !deadline.has_passed() {
                let bell = core.peer.mapped();
                let bell: (&AtomicU32, u32) = (bell.word32(self.sleeper.bell()), seen.0);
                futex::wait_either(bell, core.end_word(), deadline.remaining());
            }
            self.sleeper.awake();
            if let Some(result) = result.or_else(&mut attempt) {
                // Had it come a little later, polling would have been enough.
                if start.elapsed() < self.max_spin {
                    self.spin = self.max_spin;
                }
                return Some(result);
            }
            if deadline.has_passed() {
                return None;
            }
        }
    }

    /// Announces a sleep on the link's socket; see [`Sleeper::announce_unfenced`].
    pub(crate) fn announce_on_socket(&mut self) {
        self.sleeper.announce_unfenced(SleepMode::Socket);
    }

    /// Announces a sleep on the futex; see [`Sleeper::announce_unfenced`]. Returns the bell
    /// to sleep on, in the peer's outbox, and what it showed.
    pub(crate) fn announce_on_futex(&mut self) -> (Offset, u32) {
        let seen = self.sleeper.announce_unfenced(SleepMode::Futex);
        (self.sleeper.bell(), seen.0)
    }

    /// How long a wait may poll before it sleeps.
    pub(crate) fn max_spin(&self) -> Duration {
        self.max_spin
    }

    /// The fence that ends an announcement.
    pub(crate) fn fence(&self) {
        self.sleeper.fence();
    }

    /// Ends an announced sleep.
    pub(crate) fn awake(&mut self) {
        self.sleeper.awake();
    }
}
