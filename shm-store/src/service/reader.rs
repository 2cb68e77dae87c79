//! The thread that answers reads.

use std::{
    collections::HashMap,
    sync::Arc,
    thread::{self, JoinHandle},
};

use shm_transport::{
    Deadline, Host, Link, LinkConfig, LinkEvent, LinkKey, LinkSet, RecvError, SendError,
};

use super::system;
use crate::{
    OpenError,
    protocol::{Answer, MAX_LISTED, MAX_PAGE, MAX_PAGE_ENTRIES, Request, encode_page, page_len},
    stat::{Done, Stat, Verified},
    view::View,
};

/// Requests of one link that are answered before the others have their turn.
const TURN: usize = 8;
/// Checks of everything that may go on at once.
const MAX_CHECKS: usize = 4;

/// Answers reads, until the committer ends.
pub(super) struct Reader {
    links: LinkSet,
    host: Host,
    view: View,
    done: Arc<Done>,
    committer: LinkKey,
    checks: HashMap<LinkKey, Check>,
}

/// A check of everything, which takes long: a thread of its own does it, and sends what it
/// found over a link.
struct Check {
    asker: LinkKey,
    number: u64,
    is_answered: bool,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn new(
        host: Host,
        view: View,
        done: Arc<Done>,
        committer: Link,
    ) -> Result<Self, OpenError> {
        let mut links = LinkSet::new().map_err(system)?;
        let committer = links.insert(committer).map_err(system)?;
        Ok(Self { links, host, view, done, committer, checks: HashMap::new() })
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::new();
        loop {
            let waited = self.links.wait_with(&mut self.host, &mut events, Deadline::NEVER);
            if let Err(error) = waited {
                // Who could not be let in tries again.
                tracing::warn!(%error, "a guest was not let in");
            }
            for event in &events {
                let LinkEvent::Ready(key) = *event else { continue };
                if key == self.committer {
                    self.host.hub().say_goodbye();
                    return;
                }
                let stays = match self.checks.contains_key(&key) {
                    true => self.pass_on(key),
                    false => self.serve(key),
                };
                if !stays {
                    self.links.remove(key);
                }
            }
        }
    }

    /// Answers what one client asks; returns whether it stays.
    fn serve(&mut self, key: LinkKey) -> bool {
        for _ in 0..TURN {
            let Some(link) = self.links.get_mut(key) else { return true };
            let message = match link.try_recv() {
                Ok(Some(message)) => message.to_bytes(),
                Ok(None) | Err(RecvError::Os(_)) => return true,
                Err(_) => return false,
            };
            let answered = match Request::decode(&message) {
                Ok((_, Request::Write(_))) | Err(_) => {
                    tracing::warn!(pid = link.peer_pid(), "a client sent nonsense");
                    return false;
                }
                Ok((number, Request::Verify)) => {
                    if self.check(key, number).is_err() {
                        return false;
                    }
                    continue;
                }
                Ok((number, request)) => answer(&self.view, &self.done, link, number, request),
            };
            if let Err(error) = answered {
                tracing::debug!(pid = link.peer_pid(), %error, "a client was not answered");
                return false;
            }
        }
        true
    }

    /// Begins to check everything.
    fn check(&mut self, asker: LinkKey, number: u64) -> Result<(), OpenError> {
        if self.checks.len() >= MAX_CHECKS {
            return Err(OpenError::Busy);
        }
        let (mine, mut its) = Link::pair(&LinkConfig::default()).map_err(system)?;
        let view = self.view.clone();
        let thread = thread::Builder::new().name("shm-store-check".into()).spawn(move || {
            let answer = Answer::Verified(Verified::of(view.verify())).encode(number);
            drop(view);
            // Nobody waits for it any more if the reader has ended.
            let _ = its.try_send(&answer);
        })?;
        let key = self.links.insert(mine).map_err(system)?;
        self.checks.insert(key, Check { asker, number, is_answered: false, thread: Some(thread) });
        Ok(())
    }

    /// Passes on what a check found; returns whether there is more to come.
    fn pass_on(&mut self, key: LinkKey) -> bool {
        let found = match self.links.get_mut(key).map(Link::try_recv) {
            Some(Ok(Some(message))) => Some(message.to_bytes()),
            Some(Ok(None) | Err(RecvError::Os(_))) => return true,
            _ => None,
        };
        let Some(check) = self.checks.get_mut(&key) else { return false };
        let (asker, goes_on) = (check.asker, found.is_some());
        // The thread ends behind its answer. If there was none, it has panicked.
        let answer = match found {
            Some(found) => {
                check.is_answered = true;
                found.to_vec()
            }
            None if check.is_answered => Vec::new(),
            None => Answer::Verified(Verified::unfinished()).encode(check.number),
        };
        if !goes_on {
            self.checks.remove(&key);
        }
        if !answer.is_empty()
            && let Some(link) = self.links.get_mut(asker)
            && link.try_send(&answer).is_err()
        {
            self.links.remove(asker);
        }
        goes_on
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Nothing of the store is in use when this is gone.
            let _ = thread.join();
        }
    }
}

fn answer(
    view: &View,
    done: &Done,
    link: &mut Link,
    number: u64,
    request: Request,
) -> Result<(), SendError> {
    let answer = match request {
        Request::Read { name, expected, from, max_bytes, max_entries } => {
            let max_bytes = max_bytes.clamp(1, MAX_PAGE) as usize;
            let max_entries = max_entries.clamp(1, MAX_PAGE_ENTRIES) as usize;
            match view.read(&name, expected, from, max_bytes, max_entries) {
                Ok(page) => {
                    let mut grant = link.sender.try_grant(page_len(&page))?;
                    encode_page(number, &page, &mut grant);
                    return grant.commit();
                }
                Err(error) => Answer::Page(Err(error)),
            }
        }
        Request::Head { name } => Answer::Head(view.head(&name)),
        Request::List { prefix, after, limit } => {
            let limit = limit.clamp(1, MAX_LISTED) as usize;
            Answer::List(view.list(&prefix, after.as_deref(), limit))
        }
        Request::Stat => Answer::Stat(Stat::of(view.stat(), done)),
        // These are not answered here.
        Request::Verify | Request::Write(_) => return Ok(()),
    };
    link.try_send(&answer.encode(number))
}
