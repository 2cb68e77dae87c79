use std::{sync::atomic::AtomicU32, time::Duration};

use shm_primitives::{
    Mapped, Offset,
    doorbell::{SleepMode, Sleeper},
};

use super::core::LinkCore;
use crate::{
    deadline::Deadline,
    ledger::{Sleep, SleepingHalf},
    os::futex,
    patience::Patience,
};

/// How one half of a link waits: asleep, in the end, until the peer rings or the link ends.
#[derive(Debug)]
pub(crate) struct Waiter {
    sleeper: Sleeper<Mapped>,
    patience: Patience,
    half: SleepingHalf,
}

impl Waiter {
    pub(crate) fn new(sleeper: Sleeper<Mapped>, max_spin: Duration, half: SleepingHalf) -> Self {
        Self { sleeper, patience: Patience::new(max_spin), half }
    }

    /// See [`Receiver::set_yielding_spin`](super::Receiver::set_yielding_spin).
    pub(crate) fn set_yielding_spin(&mut self, max_spin: Duration) {
        self.patience = Patience::yielding(max_spin);
    }

    /// Calls `attempt` until it returns something, or until the deadline. `attempt`
    /// returns something, at the latest, when the link has ended.
    #[inline(always)]
    pub(crate) fn wait<T, A: FnMut() -> Option<T>>(
        &mut self,
        core: &LinkCore,
        deadline: Deadline,
        attempt: A,
    ) -> Option<T> {
        let Self { sleeper, patience, half } = self;
        let half = *half;
        let sleep = |attempt: &mut A, deadline: Deadline| {
            let seen = sleeper.announce(SleepMode::Futex);
            let result = attempt();
            if result.is_none() && !deadline.has_passed() {
                let bell = core.peer.mapped();
                let _counted = Sleep::begin(&core.ledger, half);
                let bell: (&AtomicU32, u32) = (bell.word32(sleeper.bell()), seen.0);
                futex::wait_either(bell, core.end_word(), deadline.remaining());
            }
            sleeper.awake();
            result.or_else(attempt)
        };
        patience.wait(deadline, attempt, sleep, |nap| futex::wait_private(core.end_word(), nap))
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

    /// See [`Patience::was_brief`].
    pub(crate) fn was_brief(&self) -> bool {
        self.patience.was_brief()
    }

    /// How long a wait may poll before it sleeps.
    pub(crate) fn max_spin(&self) -> Duration {
        self.patience.max_spin()
    }

    /// The fence that ends an announcement.
    pub(crate) fn fence(&self) {
        self.sleeper.fence();
    }

    /// Whether a sleep is announced.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_announced(&self) -> bool {
        self.sleeper.is_announced()
    }

    /// Ends an announced sleep.
    pub(crate) fn awake(&mut self) {
        self.sleeper.awake();
    }
}
