//! The end: goodbyes, and what guests have not given back.

use std::time::{Duration, Instant};

use shm_transport::{LinkEnd, LinkEvent, LinkKey};

use super::{Demo, GRACE, TICK};
use crate::demo::failure::Failure;

/// How long guests may take to leave if they have not answered all.
const SHORT_GRACE: Duration = Duration::from_secs(1);

impl Demo<'_> {
    /// Says goodbye, and waits until every guest has left and its process has ended.
    pub(super) fn send_home(&mut self) -> Result<(), Failure> {
        // Whoever did not answer may not leave either: the blocks tell enough.
        let must_leave = self.ledger.unanswered() == 0;
        self.hub().say_goodbye();
        let until = Instant::now() + if must_leave { GRACE } else { SHORT_GRACE };
        while !self.links.is_empty() && Instant::now() < until {
            self.interrupt.check()?;
            let mut events = std::mem::take(&mut self.events);
            self.links.wait(&mut events, TICK).map_err(Failure::of("wait for guests"))?;
            for event in &events {
                if let LinkEvent::Ready(key) = *event {
                    self.see_off(key)?;
                }
            }
            self.events = events;
        }
        for (_, link) in self.links.iter_mut() {
            self.slots_left += link.sender.slots_in_flight();
        }
        for worker in self.workers.iter_mut().filter(|worker| worker.is_serving()) {
            match worker.reap(until) {
                Ok(status) if !status.success() => {
                    self.interrupt.check()?;
                    return Err(Failure::BadExit { guest: worker.number, status });
                }
                // It is killed with the rest.
                Err(Failure::Stays { .. }) if !must_leave => {}
                result => drop(result?),
            }
        }
        Ok(())
    }

    /// Receives what a guest still says, until it has left.
    fn see_off(&mut self, key: LinkKey) -> Result<(), Failure> {
        let Some(index) = self.workers.iter().position(|w| w.key == Some(key)) else {
            self.links.remove(key);
            return Ok(());
        };
        match self.receive_batch(index, key)? {
            None => {}
            Some(LinkEnd::Departed) => {
                if let Some(mut link) = self.links.remove(key) {
                    self.slots_left += link.sender.slots_in_flight();
                }
            }
            Some(end) => {
                self.interrupt.check()?;
                return Err(Failure::Ended { guest: self.workers[index].number, end });
            }
        }
        Ok(())
    }
}
