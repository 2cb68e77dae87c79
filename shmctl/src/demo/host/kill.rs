//! The kill, and the recovery from it.

use std::time::Instant;

use shm_transport::{LinkEnd, LinkKey};

use super::{Demo, GRACE};
use crate::demo::{failure::Failure, recovery::Recovery, worker::Worker};

impl Demo<'_> {
    /// Kills a guest that has just been sent blocks, if the middle has come.
    pub(super) fn kill_in_the_middle(&mut self, index: usize) -> Result<(), Failure> {
        if !self.options.kill || self.recovery.is_some() {
            return Ok(());
        }
        let elapsed = self.began.elapsed();
        let is_middle = match self.options.passes {
            Some(passes) => self.ledger.dealt() * 2 >= passes * self.blocks.per_pass(),
            None => elapsed * 2 >= self.options.seconds,
        };
        let worker = &mut self.workers[index];
        if !is_middle || worker.unanswered.is_empty() {
            return Ok(());
        }
        let killed_at = Instant::now();
        worker.kill()?;
        self.recovery = Some(Recovery {
            guest: worker.number,
            pid: worker.pid(),
            peer: worker.peer,
            after: elapsed,
            detected: None,
            slots_held: 0,
            heir: None,
            handed_over: 0,
            reclaimed: None,
            killed_at,
        });
        Ok(())
    }

    /// A link ended, and all answers that came before its end have been received.
    pub(super) fn ended(
        &mut self,
        index: usize,
        key: LinkKey,
        end: LinkEnd,
    ) -> Result<(), Failure> {
        let worker = &mut self.workers[index];
        let killed = self.recovery.as_mut().filter(|killed| killed.guest == worker.number);
        let Some(recovery) = killed.filter(|_| end == LinkEnd::PeerDead) else {
            // A signal of the terminal goes to the guests as well.
            self.interrupt.check()?;
            return Err(Failure::Ended { guest: worker.number, end });
        };
        recovery.detected = Some(recovery.killed_at.elapsed());
        worker.gone = true;
        worker.key = None;
        if let Some(mut link) = self.links.remove(key) {
            recovery.slots_held = link.sender.slots_in_flight();
        }
        Ok(())
    }

    /// Starts a new guest in the place of the one that was killed, when its entry is free.
    pub(super) fn replace_the_dead(&mut self) -> Result<(), Failure> {
        let Some(recovery) = &mut self.recovery else { return Ok(()) };
        let Some(detected) = recovery.detected.filter(|_| recovery.heir.is_none()) else {
            return Ok(());
        };
        if self.host.hub().peers().iter().any(|entry| entry.id == recovery.peer) {
            return if recovery.killed_at.elapsed() < detected + GRACE {
                Ok(())
            } else {
                Err(Failure::NotFreed { guest: recovery.guest })
            };
        }
        let number = self.workers.len() + 1;
        let mut heir = Worker::start(self.host.hub(), number, None)?;
        if let Some(dead) = self.workers.iter_mut().find(|w| w.number == recovery.guest) {
            heir.again = dead.unanswered.take_all();
            dead.reap(Instant::now() + GRACE)?;
        }
        recovery.handed_over = heir.again.len();
        recovery.heir = Some(number);
        self.workers.push(heir);
        Ok(())
    }

    /// Notes when the new guest has been sent all that the killed one left.
    pub(super) fn note_reclaimed(&mut self, index: usize) {
        let worker = &self.workers[index];
        if let Some(recovery) = &mut self.recovery
            && recovery.heir == Some(worker.number)
            && recovery.reclaimed.is_none()
            && worker.again.is_empty()
        {
            recovery.reclaimed = Some(recovery.killed_at.elapsed());
        }
    }
}
