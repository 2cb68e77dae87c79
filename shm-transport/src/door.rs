//! Where guests come in: connections that are not links yet.
//!
//! Nothing here waits for a guest. Each connection has a deadline, there are only so many
//! at a time, and one that says anything unexpected is closed.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{SocketFlags, accept_with},
};
use shm_primitives::{
    ledger::{About, Role},
    peer::{PeerDetails, PeerError, PeerId, PeerState},
};

use crate::{
    broadcast::attendant::Attendant,
    debt::{Debt, WAKE_UP},
    error::OsError,
    hub::{HubCore, HubEntry},
    link::{Link, LinkParts, core::PeerProcess, new_outbox},
    os::{
        connection::Connection,
        fence,
        foreign::Foreign,
        memory::{self, MapError, Segment},
        named::boot_nanoseconds,
        poll::{Epoll, Timer},
        process,
        socket::{self, Datagram},
    },
    trace::ATTACH,
    wire::{self, Hello, Refusal, Welcome},
};

/// How long a guest that came by path may take to attach.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at a time that are not links yet.
const MAX_WAITING: usize = 512;
/// Connections taken from the listener in one go.
const MAX_ACCEPTED: usize = 16;
const LISTENER: u64 = 0;
const TIMER: u64 = u64::MAX;

/// The connections of a hub that are not links yet.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) epoll: Epoll,
    waiting: Mutex<HashMap<u64, Waiting>>,
    next_token: AtomicU64,
    closed: AtomicBool,
    caution: Mutex<Caution>,
    /// Ends a nap.
    timer: Timer,
}

/// What connections that come to nothing lead to: if they take too much, no more are taken for
/// a while. Who attaches waits a little longer; who is attached does not.
#[derive(Debug)]
struct Caution {
    debt: Debt,
    naps: bool,
}

/// Processor time that connections may take at once that come to nothing: some twenty of them.
const CREDIT: Duration = Duration::from_millis(2);

/// A guest that is about to attach.
#[derive(Debug)]
struct Waiting {
    socket: Connection,
    process: PeerProcess,
    stage: Stage,
    /// A reservation that belongs to this connection and ends with it.
    own_reservation: Option<PeerId>,
    expires: Option<Instant>,
    /// How long this side has worked for it.
    spent: Duration,
}

#[derive(Debug)]
enum Stage {
    /// It has not said anything.
    Silent,
    /// It was welcomed, and has its memory.
    Welcomed { peer: PeerId, fences: bool, outbox: Segment, control: Option<Connection> },
}

/// Why a guest does not come in.
enum Rejected {
    /// It is told why.
    Refused(Refusal),
    /// It hung up, or does not speak the protocol.
    Closed,
}

impl Door {
    pub(crate) fn new() -> Result<Self, OsError> {
        let (epoll, timer) = (Epoll::new()?, Timer::new()?);
        epoll.add(timer.as_fd(), TIMER, EventFlags::IN)?;
        Ok(Self {
            epoll,
            timer,
            waiting: Mutex::default(),
            next_token: AtomicU64::new(LISTENER + 1),
            closed: AtomicBool::new(false),
            caution: Mutex::new(Caution { debt: Debt::new(CREDIT), naps: false }),
        })
    }

    fn caution(&self) -> MutexGuard<'_, Caution> {
        self.caution.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This side has worked for so long on connections that came to nothing.
    fn be_cautious(&self, listener: BorrowedFd<'_>, in_vain: Duration) -> Result<(), OsError> {
        if in_vain.is_zero() {
            return Ok(());
        }
        let mut caution = self.caution();
        if let Some(nap) = caution.debt.add(in_vain) {
            self.timer.set(nap)?;
            if !caution.naps {
                self.epoll.change(listener, LISTENER, EventFlags::empty())?;
                caution.naps = true;
            }
        }
        Ok(())
    }

    fn end_nap(&self, listener: BorrowedFd<'_>) -> Result<(), OsError> {
        self.caution().naps = false;
        self.timer.clear();
        self.epoll.change(listener, LISTENER, EventFlags::IN)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch_listener(&self, listener: impl AsFd) -> Result<(), OsError> {
        self.epoll.add(listener.as_fd(), LISTENER, EventFlags::IN)
    }

    /// Waits for the attach of a spawned guest; `false` if the door is closed.
    pub(crate) fn expect_child(
        &self,
        socket: OwnedFd,
        process: PeerProcess,
        reservation: PeerId,
    ) -> Result<bool, OsError> {
        self.admit(Waiting {
            socket: Connection::new(socket),
            process,
            stage: Stage::Silent,
            own_reservation: Some(reservation),
            expires: None,
            spent: Duration::ZERO,
        })
    }

    /// Lets a connection wait; `false` if the door is closed.
    fn admit(&self, waiting: Waiting) -> Result<bool, OsError> {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        // Under the lock: a door that closes finds everybody who came in before.
        let mut all = self.waiting();
        if self.closed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.epoll.add(waiting.socket.as_fd(), token, EventFlags::IN)?;
        all.insert(token, waiting);
        Ok(true)
    }

    /// When the next connection expires, from now.
    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        let now = Instant::now();
        let expires = self.waiting().values().filter_map(|waiting| waiting.expires).min();
        expires.map(|expires| expires.saturating_duration_since(now))
    }
}

impl HubCore {
    /// Lets in who has come; appends the links of guests that have attached.
    pub(crate) fn admit_guests(
        self: &Arc<Self>,
        listener: impl AsFd,
        tokens: &[(u64, EventFlags)],
        links: &mut impl Extend<Link>,
    ) -> Result<(), OsError> {
        let mut failed = Ok(());
        let mut in_vain = Duration::ZERO;
        for &(token, _) in tokens {
            if token == LISTENER {
                failed = failed.and(self.take_connections(listener.as_fd(), &mut in_vain));
                continue;
            }
            if token == TIMER {
                failed = failed.and(self.door.end_nap(listener.as_fd()));
                continue;
            }
            let Some(waiting) = self.door.waiting().remove(&token) else { continue };
            let (before, start) = (waiting.spent, process::thread_time());
            let advanced = self.advance(waiting);
            let spent = before.saturating_add(process::thread_time().saturating_sub(start));
            match advanced {
                Ok(Progress::Waits(mut waiting)) => {
                    waiting.spent = spent;
                    let mut all = self.door.waiting();
                    if self.door.closed.load(Ordering::Relaxed) {
                        self.dismiss(waiting);
                    } else {
                        all.insert(token, waiting);
                    }
                }
                Ok(Progress::Attached(link)) => links.extend([*link]),
                Ok(Progress::Gone) => in_vain += spent + WAKE_UP,
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        self.expire();
        failed.and(self.door.be_cautious(listener.as_fd(), in_vain))
    }

    fn take_connections(
        &self,
        listener: BorrowedFd<'_>,
        in_vain: &mut Duration,
    ) -> Result<(), OsError> {
        for _ in 0..MAX_ACCEPTED {
            let start = process::thread_time();
            let spent = || process::thread_time().saturating_sub(start);
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match accept_with(listener, flags) {
                Ok(socket) => Connection::new(socket),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(errno) => return Err(OsError::new("accept a guest", errno)),
            };
            let credentials = process::credentials_of(socket.as_fd())?;
            if !self.policy.permits(&credentials) {
                let reason = "the credentials policy";
                tracing::warn!(target: ATTACH, pid = credentials.pid, reason, "guest refused");
                self.refuse(&socket, Refusal::NotPermitted);
                *in_vain += spent() + WAKE_UP;
                continue;
            }
            if self.door.waiting().len() >= MAX_WAITING || self.door.closed.load(Ordering::Relaxed)
            {
                self.refuse(&socket, Refusal::Unable);
                *in_vain += spent() + WAKE_UP;
                continue;
            }
            let pidfd = process::pidfd_of(socket.as_fd(), credentials.pid);
            self.door.admit(Waiting {
                socket,
                process: PeerProcess { pid: credentials.pid, pidfd },
                stage: Stage::Silent,
                own_reservation: None,
                expires: Some(Instant::now() + PATIENCE),
                spent: spent(),
            })?;
        }
        Ok(())
    }

    fn refuse(&self, socket: &Connection, refusal: Refusal) {
        // It may be gone already.
        let _ = socket::send(socket.as_fd(), &refusal.encode(), &[]);
        self.count(|statistics| statistics.refused += 1);
    }

    fn expire(&self) {
        let now = Instant::now();
        let expired: Vec<Waiting> = {
            let mut waiting = self.door.waiting();
            let has_expired = |waiting: &Waiting| waiting.expires.is_some_and(|at| at <= now);
            waiting
                .extract_if(|_, waiting| has_expired(waiting))
                .map(|(_, waiting)| waiting)
                .collect()
        };
        for waiting in expired {
            let pid = waiting.process.pid;
            tracing::debug!(target: ATTACH, pid, "guest took too long to attach");
            self.dismiss(waiting);
        }
    }

    /// Admits nobody from now on, and hangs up on everybody who waits.
    pub(crate) fn close_door(&self) {
        let waiting = {
            let mut waiting = self.door.waiting();
            self.door.closed.store(true, Ordering::Relaxed);
            std::mem::take(&mut *waiting)
        };
        for waiting in waiting.into_values() {
            self.dismiss(waiting);
        }
    }

    /// Closes a connection, and frees the entry that was kept for it.
    fn dismiss(&self, waiting: Waiting) {
        self.door.epoll.remove(waiting.socket.as_fd());
        if let Some(peer) = waiting.own_reservation {
            self.cancel(peer);
        }
    }

    /// Reads what a connection says, and answers.
    fn advance(self: &Arc<Self>, mut waiting: Waiting) -> Result<Progress, OsError> {
        let mut message = [0; wire::MAX_MESSAGE];
        let step = match socket::receive(waiting.socket.as_fd(), &mut message) {
            Err(Errno::AGAIN) => return Ok(Progress::Waits(waiting)),
            Ok(Some(Datagram { len, mut descriptors })) => {
                let message = message.get(..len).unwrap_or_default();
                let outbox = descriptors.pop();
                match (&waiting.stage, outbox) {
                    (Stage::Silent, None) => self.welcome(&mut waiting, message),
                    (Stage::Welcomed { .. }, Some(outbox))
                        if descriptors.is_empty() && message == wire::claim() =>
                    {
                        return self.claim(waiting, &outbox).map(|link| match link {
                            Some(link) => Progress::Attached(Box::new(link)),
                            None => Progress::Gone,
                        });
                    }
                    _ => Ok(Err(Rejected::Closed)),
                }
            }
            Err(errno) if !socket::is_over(errno) => {
                Err(OsError::new("take over a guest's descriptor", errno))
            }
            _ => Ok(Err(Rejected::Closed)),
        };
        match step {
            Ok(Ok(())) => Ok(Progress::Waits(waiting)),
            Ok(Err(Rejected::Refused(refusal))) => {
                self.refuse(&waiting.socket, refusal);
                self.dismiss(waiting);
                Ok(Progress::Gone)
            }
            Ok(Err(Rejected::Closed)) => {
                self.dismiss(waiting);
                Ok(Progress::Gone)
            }
            Err(error) => {
                self.refuse(&waiting.socket, Refusal::Unable);
                self.dismiss(waiting);
                Err(error)
            }
        }
    }

    /// Answers a guest's hello with its memory.
    fn welcome(
        &self,
        waiting: &mut Waiting,
        message: &[u8],
    ) -> Result<Result<(), Rejected>, OsError> {
        let Some(hello) = Hello::decode(message) else { return Ok(Err(Rejected::Closed)) };
        if hello.version != wire::VERSION {
            return Ok(Err(Rejected::Refused(Refusal::Version(wire::VERSION))));
        }
        let peer = match (waiting.own_reservation, hello.ticket) {
            (Some(peer), _) => peer,
            (None, Some(ticket)) => {
                if self.table.state(ticket.index) != Ok((ticket, PeerState::Reserved)) {
                    return Ok(Err(Rejected::Refused(Refusal::StaleTicket(ticket))));
                }
                ticket
            }
            (None, None) => match self.table.reserve() {
                Ok(peer) => *waiting.own_reservation.insert(peer),
                Err(PeerError::Full { peers }) => {
                    return Ok(Err(Rejected::Refused(Refusal::HubFull(peers))));
                }
                Err(_) => return Ok(Err(Rejected::Refused(Refusal::Unable))),
            },
        };
        let (outbox, descriptor) = new_outbox(&self.link, self.incarnation)?;
        let welcome = Welcome {
            peer,
            incarnation: self.incarnation,
            fences: self.link.asymmetric_fence && fence::register(),
            hub_size: self.geometry.total_size(),
            topics: !self.topics.is_empty(),
            link: self.link.clone(),
        };
        let control = if welcome.topics { Some(socket::pair()?) } else { None };
        let mut descriptors = vec![self.descriptor.as_fd(), descriptor.as_fd()];
        descriptors.extend(control.as_ref().map(|(_, theirs)| theirs.as_fd()));
        match socket::send(waiting.socket.as_fd(), &welcome.encode(), &descriptors) {
            Ok(()) => {}
            Err(errno) if socket::is_over(errno) => return Ok(Err(Rejected::Closed)),
            Err(errno) => return Err(OsError::new("welcome a guest", errno)),
        }
        let control = control.map(|(ours, _)| Connection::new(ours));
        waiting.stage = Stage::Welcomed { peer, fences: hello.fences, outbox, control };
        Ok(Ok(()))
    }

    /// Makes a link of a welcomed connection and the outbox that the guest made.
    fn claim(
        self: &Arc<Self>,
        waiting: Waiting,
        guest_outbox: &Foreign,
    ) -> Result<Option<Link>, OsError> {
        let Waiting { socket, process, stage, own_reservation, .. } = waiting;
        // What comes now is for the link.
        self.door.epoll.remove(socket.as_fd());
        let Stage::Welcomed { peer, fences, outbox, control } = stage else { return Ok(None) };
        let give_up = || {
            if let Some(peer) = own_reservation {
                self.cancel(peer);
            }
        };
        let size = self.link.outbox.total_size();
        let peer_outbox = match memory::map_as_reader(guest_outbox.as_fd(), size) {
            Ok(segment) => segment,
            Err(MapError::Bad(bad)) => {
                tracing::warn!(target: ATTACH, pid = process.pid, reason = %bad, "guest refused");
                give_up();
                return Ok(None);
            }
            Err(MapError::Os(error)) => {
                self.refuse(&socket, Refusal::Unable);
                give_up();
                return Err(error);
            }
        };
        let is_stale = || {
            self.refuse(&socket, Refusal::StaleTicket(peer));
            Ok(None)
        };
        if self.table.state(peer.index) != Ok((peer, PeerState::Reserved)) {
            return is_stale();
        }
        let capacity = self.link.outbox.capacity();
        let details = PeerDetails {
            pid: process.pid,
            start_time: process::start_time(process.pid),
            heartbeat: 0,
            to_guest: capacity,
            to_host: capacity,
        };
        self.table.describe(peer, &details);
        if self.table.claim(peer).is_err() {
            return is_stale();
        }
        let hub = &*self.about.path;
        tracing::debug!(target: ATTACH, hub, %peer, pid = process.pid, "guest attached");
        let attendant = match control.map(|socket| Attendant::new(self, socket)).transpose() {
            Ok(attendant) => attendant,
            Err(error) => {
                self.release(peer);
                return Err(error);
            }
        };
        let link = Link::new(LinkParts {
            own: outbox,
            peer_outbox,
            geometry: self.link.clone(),
            socket,
            process,
            peer_fences: fences,
            peer,
            about: About { role: Role::Host, since: boot_nanoseconds(), ..self.about.clone() },
            entry: Some(Box::new(HubEntry { hub: Arc::clone(self), peer, attendant })),
        })?;
        self.attached(peer, &link.sender.half.core);
        if link.end().is_some() {
            // It went before it was recorded.
            self.release(peer);
        }
        // A host that said goodbye meanwhile, on another thread, told those who were recorded
        // before; whoever comes after sees the closed door here.
        if self.door.closed.load(Ordering::Relaxed) {
            link.sender.half.core.say_goodbye();
        }
        match socket::send(link.as_fd(), &wire::admitted(), &[]) {
            // A guest that was not told would wait for it. One that is gone shows as the
            // link's end.
            Err(errno) if !socket::is_over(errno) => Err(OsError::new("admit a guest", errno)),
            _ => Ok(Some(link)),
        }
    }
}

enum Progress {
    Waits(Waiting),
    Attached(Box<Link>),
    Gone,
}
