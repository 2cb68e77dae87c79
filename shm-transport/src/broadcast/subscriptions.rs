//! The guest's side of subscriptions: see [`attendant`](super::attendant) for the host's.

use std::{
    collections::HashMap,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{event::PollFlags, io::Errno};
use shm_primitives::hub::HubGeometry;

use super::{
    attendant::{Request, encode_sleep},
    topic::Sleep,
};
use crate::{
    deadline::Deadline,
    error::{LinkEnd, OsError, SubscriberError},
    link::core::LinkCore,
    os::{foreign::Foreign, memory::Segment, poll, socket},
};

/// Messages of the host that one call reads: more than an honest one sends.
pub(super) const MAX_ANSWERS: u32 = 1000;
/// How long a subscriber pauses that cannot tell its host that it sleeps.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// A guest's side of all topics of its hub.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    pub(crate) segment: Segment,
    pub(crate) geometry: HubGeometry,
    pub(super) core: Arc<LinkCore>,
    control: Mutex<Control>,
}

/// Where subscriptions are made.
#[derive(Debug)]
struct Control {
    /// None if the hub has no topics.
    socket: Option<Foreign>,
    next: u32,
    /// Requests that were not given up, and the answers that others received meanwhile.
    requests: HashMap<u32, Option<Answer>>,
}

/// The guest's end of a subscription, unless the host refused it.
type Answer = Option<Foreign>;

impl Subscriptions {
    pub(crate) fn new(
        segment: Segment,
        geometry: HubGeometry,
        core: Arc<LinkCore>,
        control: Option<Foreign>,
    ) -> Self {
        let control = Control { socket: control, next: 0, requests: HashMap::new() };
        Self { segment, geometry, core, control: Mutex::new(control) }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a subscription, and looks whether it is there; does not wait.
    pub(super) fn advance(&self, wake: &mut Wake, topic: u32) -> Result<(), SubscriberError> {
        let mut control = self.control();
        let Control { socket, next, requests } = &mut *control;
        let socket = socket.as_ref().ok_or(SubscriberError::Refused)?;
        let number = match wake {
            Wake::Open(_) => return Ok(()),
            Wake::Asked(number) => *number,
            Wake::Closed => {
                let request = Request { topic, number: *next };
                match socket::send(socket.as_fd(), &request.encode(), &[]) {
                    Ok(()) => {}
                    // Too many are under way.
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(errno) => return Err(self.failed(errno)),
                }
                *next = next.wrapping_add(1);
                requests.insert(request.number, None);
                *wake = Wake::Asked(request.number);
                request.number
            }
        };
        let mut answer = [0; 8];
        for _ in 0..MAX_ANSWERS {
            if let Some(answer) = requests.get_mut(&number).and_then(Option::take) {
                requests.remove(&number);
                *wake = Wake::Closed;
                *wake = Wake::Open(answer.ok_or(SubscriberError::Refused)?);
                return Ok(());
            }
            match socket::receive(socket.as_fd(), &mut answer) {
                Ok(Some(mut datagram)) if datagram.len == answer.len() => {
                    // One that was given up is closed here.
                    if let Some(place) = requests.get_mut(&Request::decode(answer).number) {
                        *place = Some(datagram.descriptors.pop());
                    }
                }
                // No honest host sends that.
                Ok(Some(_)) => {}
                Ok(None) => return Err(self.failed(Errno::PIPE)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(self.failed(errno)),
            }
        }
        Ok(())
    }

    /// Waits for an answer of the host, but not for long: another thread may take it.
    pub(super) fn pause(&self, deadline: Deadline) {
        let socket =
            self.control().socket.as_ref().map(|socket| socket.as_fd().try_clone_to_owned());
        let pause = deadline.remaining_at_most(Some(PAUSE)).unwrap_or(PAUSE);
        match socket {
            Some(Ok(socket)) => poll::poll(socket.as_fd(), PollFlags::IN, Some(pause)),
            _ => thread::sleep(pause),
        }
    }

    pub(super) fn give_up(&self, number: u32) {
        self.control().requests.remove(&number);
    }

    pub(super) fn failed(&self, errno: Errno) -> SubscriberError {
        match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => {
                self.core.look_for_end().unwrap_or(LinkEnd::PeerDead).into()
            }
            _ => OsError::new("tell the host of a sleep", errno).into(),
        }
    }
}

/// How the host is told that a subscriber sleeps.
#[derive(Debug)]
pub(super) enum Wake {
    Closed,
    /// The host was asked for a subscription, under this number.
    Asked(u32),
    Open(Foreign),
}

/// Tells the host that a subscriber, which has read everything before `position`, sleeps.
pub(super) fn tell(socket: &Foreign, position: u64, sleep: Sleep) -> Result<(), Errno> {
    socket::send(socket.as_fd(), &encode_sleep(position, sleep), &[])
}
