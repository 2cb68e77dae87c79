//! The lives of guests: from the start of a process to the account of its link.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use shm_transport::LinkEnd;

use super::{
    checker::{Checker, salt},
    record::{Phase, Record, Records},
    report::Totals,
    traffic::Traffic,
};
use crate::monotonic;

/// One life of a guest.
#[derive(Debug)]
pub struct Life {
    /// Counted from 1.
    pub number: u64,
    /// What the guest tells.
    pub record: Record,
    /// When it was killed, if it was.
    killed_at: AtomicU64,
    /// The host has a link to it.
    is_accepted: AtomicBool,
}

impl Life {
    /// It is about to be killed.
    pub fn mark_killed(&self) {
        self.killed_at.store(monotonic(), Ordering::Release);
    }

    /// How long ago it was killed, if it was.
    pub fn killed_for(&self) -> Option<Duration> {
        match self.killed_at.load(Ordering::Acquire) {
            0 => None,
            at => Some(Duration::from_nanos(monotonic().saturating_sub(at))),
        }
    }
}

/// How long a link of a killed guest may come after its death, before it is taken for one
/// that was killed before it attached.
const LATE: Duration = Duration::from_secs(60);

/// All lives that are not over, by their process, and the account of those that are.
#[derive(Debug)]
pub struct Lives {
    /// What guests tell.
    pub records: Records,
    current: Mutex<HashMap<u32, Arc<Life>>>,
    totals: Mutex<Totals>,
    started: AtomicU64,
    is_over: AtomicBool,
}

impl Lives {
    /// None yet.
    pub fn new(records: Records) -> Self {
        Self {
            records,
            current: Mutex::default(),
            totals: Mutex::default(),
            started: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    fn current(&self) -> MutexGuard<'_, HashMap<u32, Arc<Life>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account so far.
    pub fn account(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account.
    pub fn totals(&self) -> Totals {
        self.account().clone()
    }

    /// Says that something went wrong.
    pub fn fail(&self, what: String) {
        self.account().fail(what);
    }

    /// A new life, in the process that `start` starts.
    pub fn begin<P>(
        &self,
        start: impl FnOnce(&Life) -> Result<(u32, P), String>,
    ) -> Result<(Arc<Life>, P), String> {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let life = Life {
            number,
            record: self.records.take(),
            killed_at: AtomicU64::new(0),
            is_accepted: AtomicBool::new(false),
        };
        // Whoever meets the process finds it here.
        let mut current = self.current();
        match start(&life) {
            Ok((pid, process)) => {
                let life = Arc::new(life);
                if let Some(before) = current.insert(pid, Arc::clone(&life)) {
                    self.records.give_back(before.record.number);
                }
                Ok((life, process))
            }
            Err(error) => {
                self.records.give_back(life.record.number);
                Err(error)
            }
        }
    }

    /// The life of the process at the other end of a link.
    pub fn of(&self, pid: u32) -> Option<Arc<Life>> {
        let life = self.current().get(&pid).cloned();
        life.inspect(|life| life.is_accepted.store(true, Ordering::Release))
    }

    /// Forgets those that were killed long ago before they had a link; returns how many
    /// guests were killed more than `hang` ago whose link has not ended.
    pub fn prune(&self, hang: Duration) -> usize {
        let mut not_ended = 0;
        self.current().retain(|_, life| {
            let is_accepted = life.is_accepted.load(Ordering::Acquire);
            let killed_for = life.killed_for();
            not_ended += usize::from(is_accepted && killed_for > Some(hang));
            let stays = is_accepted || killed_for.is_none_or(|ago| ago < LATE);
            if !stays {
                self.records.give_back(life.record.number);
            }
            stays
        });
        not_ended
    }

    /// How many links have not ended.
    pub fn links(&self) -> usize {
        let current = self.current();
        current.values().filter(|life| life.is_accepted.load(Ordering::Acquire)).count()
    }

    /// No guest lives any more.
    pub fn no_more(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether no guest lives any more.
    pub fn are_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Closes the account of a life whose link has ended.
    pub fn conclude(&self, pid: u32, link: Concluded<'_>) {
        let mut totals = self.account();
        link.check(&mut totals);
        drop(totals);
        let mut current = self.current();
        if current.get(&pid).is_some_and(|life| life.number == link.life.number) {
            current.remove(&pid);
            self.records.give_back(link.life.record.number);
        }
    }
}

/// The host's side of the link to one guest.
#[derive(Debug)]
pub struct Served {
    /// Whose.
    pub life: Arc<Life>,
    /// What the guest sends.
    pub checker: Checker,
    /// What is sent to it.
    pub traffic: Traffic,
}

impl Served {
    /// A link that has just been accepted.
    pub fn new(life: Arc<Life>) -> Self {
        let checker = Checker::new(salt(life.number, false));
        let traffic = Traffic::new(salt(life.number, true), life.record.to_guest());
        Self { life, checker, traffic }
    }
}

/// A link that has ended.
#[derive(Debug)]
pub struct Concluded<'a> {
    /// Whose.
    pub life: &'a Life,
    /// How.
    pub end: LinkEnd,
    /// What the guest sent.
    pub checker: &'a Checker,
    /// How many messages were sent to it.
    pub sent: u64,
    /// The host's slots that the guest has not given back.
    pub in_flight: usize,
}

impl Concluded<'_> {
    fn check(&self, totals: &mut Totals) {
        let Self { life, end, checker, sent, in_flight } = self;
        let (record, found) = (&life.record, checker.counts());
        let (committed, started) = (record.to_host().sent(), record.to_host().started());
        let received = found.received;
        totals.to_host.add(&found);
        let by_guest = record.counts();
        totals.to_guest.add(&by_guest);
        // Committed, and passed over at the end.
        totals.to_host.lost += committed.saturating_sub(received + found.lost);
        let mut fail = |what: &str| {
            let number = life.number;
            totals.failures.push(format!(
                "guest {number}: {what} (received {received}, committed {committed}, started \
                 {started}, the guest {by_guest:?} of {sent}, {end:?})"
            ));
        };
        if received > started {
            fail("more was received than was sent");
        }
        if by_guest.received > record.to_guest().started() {
            fail("the guest received more than was sent");
        }
        match (end, life.killed_for()) {
            (LinkEnd::Departed, _) => {
                if record.phase() != Phase::Finished {
                    fail("it left and had not finished");
                }
                if by_guest.received != *sent {
                    fail("it left and had not received everything");
                }
                if (received, committed) != (started, started) {
                    fail("it left and not everything was received");
                }
                if *in_flight != 0 || record.in_flight() != 0 {
                    fail("it left and slots are in use");
                }
                totals.departed += 1;
                totals.slots_left += *in_flight as u64 + record.in_flight();
            }
            (LinkEnd::PeerDead, Some(ago)) => {
                totals.died += 1;
                totals.longest_to_end = totals.longest_to_end.max(ago);
                let partial = committed < received && received < started;
                totals.partial_batches += u64::from(partial);
                totals.in_mid_send += u64::from(committed < started);
            }
            (LinkEnd::PeerDead, None) => fail("it died by itself"),
            _ => fail("its link ended otherwise"),
        }
    }
}
