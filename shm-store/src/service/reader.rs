//! The thread that answers reads.

use shm_transport::{Host, Link, LinkEvent, LinkKey, LinkSet, RecvError, SendError};

use super::system;
use crate::{
    OpenError,
    protocol::{
        Answer, MAX_LISTED, MAX_PAGE, MAX_PAGE_ENTRIES, Request, encode_page, page_len,
    },
    stat::Stat,
    view::View,
};

/// Requests of one link that are answered before the others have their turn.
const TURN: usize = 8;

/// Answers reads, until the committer ends.
pub(super) struct Reader {
    links: LinkSet,
    host: Host,
    view: View,
    committer: LinkKey,
}

impl Reader {
    pub(super) fn new(host: Host, view: View, committer: Link) -> Result<Self, OpenError> {
        let mut links = LinkSet::new().map_err(system)?;
        let committer = links.insert(committer).map_err(system)?;
        Ok(Self { links, host, view, committer })
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::new();
        loop {
            let waited =
                self.links.wait_with(&mut self.host, &mut events, shm_transport::Deadline::NEVER);
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
                if !self.serve(key) {
                    self.links.remove(key);
                }
            }
        }
    }

    /// Answers what one client asks; returns whether it stays.
    fn serve(&mut self, key: LinkKey) -> bool {
        let Some(link) = self.links.get_mut(key) else { return true };
        for _ in 0..TURN {
            let message = match link.try_recv() {
                Ok(Some(message)) => message.to_bytes(),
                Ok(None) | Err(RecvError::Os(_)) => return true,
                Err(_) => return false,
            };
            let Ok((number, request)) = Request::decode(&message) else {
                tracing::warn!(pid = link.peer_pid(), "a client sent nonsense");
                return false;
            };
            if let Err(error) = answer(&self.view, link, number, request) {
                tracing::debug!(pid = link.peer_pid(), %error, "a client was not answered");
                return false;
            }
        }
        true
    }
}

fn answer(view: &View, link: &mut Link, number: u64, request: Request) -> Result<(), SendError> {
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
        Request::Stat => Answer::Stat(Stat::of(view.stat())),
        // Not by this link.
        Request::Write(_) => return Ok(()),
    };
    link.try_send(&answer.encode(number))
}
