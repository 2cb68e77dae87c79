//! A process that holds something of everything and forks: the child drops what it finds and
//! exits, and the parent goes on as if nothing had been.

use std::{
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::{
        prctl,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shm_tests::{
    WAIT, eventually,
    fleet::{CLAIMS, CONFIG, RING},
    pattern,
    raw::{RawMemory, memory},
};
use shm_transport::{
    Fleet, Guest, Host, Lease, LeasePolicy, Link, LinkConfig, LinkEnd, LinkEvent, LinkSet, Message,
    Publisher, RecvError, Reservation, SealedPayload, SharedPayload, SlowGuest, Start, Subscriber,
    TopicConfig,
    fleet::{Cache, ClaimGuard, Claims, FleetRing},
    lease::Reader,
};

use crate::{command, say};

const SLOT: usize = 1000;
const SEALED: usize = 20_000;

/// Everything that a process can hold. What the child is to drop is taken out.
struct Things {
    host: Option<Host>,
    link: Option<Link>,
    guest: Option<Guest>,
    set: Option<LinkSet>,
    in_set: Option<Guest>,
    reservation: Option<Reservation>,
    slot: Option<Message<'static>>,
    sealed: Option<SealedPayload>,
    shared: Option<SharedPayload>,
    publisher: Option<Publisher>,
    subscriber: Option<Subscriber>,
    lease: Option<Lease>,
    reader: Option<Reader>,
    fleet: Option<Fleet>,
    ring: Option<FleetRing>,
    claims: Option<Claims>,
    guard: Option<ClaimGuard>,
    cache: Option<Cache>,
}

type Drops = (&'static str, fn(&mut Things));

/// What the child drops, each in a child of its own.
const DROPS: &[Drops] = &[
    ("nothing", |_| {}),
    ("host", |all| all.host = None),
    ("link", |all| all.link = None),
    ("halves", |all| drop(all.link.take().map(Link::split))),
    ("guest", |all| all.guest = None),
    ("set", |all| all.set = None),
    ("reservation", |all| all.reservation = None),
    ("slot", |all| all.slot = None),
    ("sealed", |all| all.sealed = None),
    ("shared", |all| all.shared = None),
    ("publisher", |all| all.publisher = None),
    ("subscriber", |all| all.subscriber = None),
    ("lease", |all| all.lease = None),
    ("reader", |all| all.reader = None),
    ("fleet", |all| all.fleet = None),
    ("ring", |all| all.ring = None),
    ("claims", |all| all.claims = None),
    ("guard", |all| all.guard = None),
    ("cache", |all| all.cache = None),
];

/// For each of [`DROPS`], and for all at once, says how the child ended and whether all is
/// well in the parent.
pub(crate) fn run(directory: &str) {
    let mut things = Things::new(Path::new(directory));
    things.check();
    for (name, drops) in DROPS {
        let ended = in_child(|| drops(&mut things));
        things.check();
        say(&format!("{name}: {ended}"));
    }
    say(&format!("grants: {}", with_grants(&mut things)));
    let ended = in_child(|| {
        let own = memory_in_every_hole();
        DROPS.iter().for_each(|(_, drops)| drops(&mut things));
        // Nothing that was dropped was where this is.
        own.iter().for_each(|page| assert_eq!(page.load64(8), 7));
    });
    things.check();
    say(&format!("everything: {ended}"));
    // A child that stays, to be looked at.
    // SAFETY: the child calls nothing but sleep.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            thread::sleep(WAIT);
            std::process::exit(0);
        }
        Ok(ForkResult::Parent { child }) => say(&format!("stays: {child}")),
        Err(error) => say(&format!("{error:?}")),
    }
    things.check();
    say("done");
    // A program, to be looked at.
    if command().as_deref() == Some("start") {
        let mut program = Command::new("sleep");
        program.arg("60").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut program = program.spawn().expect("started");
        say(&program.id().to_string());
        let _ = command();
        let _ = program.kill().and_then(|()| program.wait());
    }
}

/// Attaches to a host, and forks a child that attaches to another one and stays until that is
/// dead. Meanwhile the parent attaches again, and then sends over that link, too.
pub(crate) fn attach_anew(path: &str, other: &str) {
    let mut before = Guest::attach(path, WAIT).expect("attached");
    // SAFETY: as in `in_child`.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let mut guest = Guest::attach(other, WAIT).expect("attached");
            say("attached");
            let end = guest.link.recv(WAIT).map(|message| message.len());
            std::process::exit(match end {
                Err(RecvError::Ended(LinkEnd::PeerDead)) => 0,
                _ => 1,
            });
        }
        Ok(ForkResult::Parent { child }) => {
            let mut after = Guest::attach(path, WAIT).expect("attached");
            say(&ended(child));
            before.link.send(b"before", WAIT).expect("sent");
            after.link.send(b"after", WAIT).expect("sent");
            // Their host has them still.
            assert!(matches!(before.link.recv(WAIT), Err(RecvError::Ended(LinkEnd::Departed))));
            assert!(matches!(after.link.recv(WAIT), Err(RecvError::Ended(LinkEnd::Departed))));
            say("done");
        }
        Err(error) => say(&format!("{error:?}")),
    }
}

/// More pages than lay in the parent's mappings, each mapped alone: the kernel puts them where
/// there is room, so in the child where those were.
fn memory_in_every_hole() -> Vec<RawMemory> {
    let memory = memory(4096);
    let pages = (0..2000).map(|_| RawMemory::map(memory.as_fd(), 4096, true).expect("a page"));
    let pages: Vec<RawMemory> = pages.collect();
    pages[0].store64(8, 7);
    pages
}

/// Forks, does this in the child, and says how the child ended.
fn in_child(what: impl FnOnce()) -> String {
    // SAFETY: the only other thread is the watch, which sleeps in the kernel and holds no
    // lock meanwhile; and a child that hangs is noticed.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            what();
            std::process::exit(0)
        }
        Ok(ForkResult::Parent { child }) => ended(child),
        Err(error) => format!("{error:?}"),
    }
}

fn ended(child: Pid) -> String {
    let status = eventually(|| match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) => None,
        status => Some(status),
    });
    match status {
        Ok(WaitStatus::Exited(_, 0)) => "well".into(),
        status => format!("{status:?}"),
    }
}

/// Grants of each kind that are open while the process forks.
fn with_grants(things: &mut Things) -> String {
    let mut all = Vec::new();
    for len in [100, SLOT, SEALED] {
        let link = things.link.as_mut().expect("a link");
        let mut grant = link.sender.grant(len, WAIT).expect("granted");
        grant.copy_from_slice(&pattern::message(3, len));
        let mut grant = Some(grant);
        all.push(in_child(|| grant = None));
        grant.expect("it is the parent's").commit().expect("committed");
        let guest = things.guest.as_mut().expect("a guest");
        assert!(pattern::matches(3, &guest.link.recv(WAIT).expect("received").to_bytes()));
    }
    all.dedup();
    all.join(", ")
}

fn attach(host: &mut Host) -> (Guest, Link) {
    let path = host.path().to_owned();
    let attaching = thread::spawn(move || Guest::attach(path, WAIT).expect("attached"));
    let link = host.accept(WAIT).expect("a guest");
    (attaching.join().expect("attached"), link)
}

impl Things {
    fn new(directory: &Path) -> Self {
        let config = LinkConfig { spin: Duration::ZERO, ..shm_tests::small() };
        let topic = TopicConfig { slots: 4, max_payload: 64 };
        let builder = Host::builder().link(config).topic("values", topic).max_guests(8);
        let mut host = builder.create(directory.join("hub")).expect("a host");
        let (mut guest, mut link) = attach(&mut host);
        let (in_set, other) = attach(&mut host);
        let mut set = LinkSet::new().expect("a set");
        set.insert(other).expect("inserted");
        link.send(&pattern::message(1, SLOT), WAIT).expect("sent");
        let slot = guest.link.recv(WAIT).expect("received").into_owned();
        link.send(&pattern::message(2, SEALED), WAIT).expect("sent");
        let sealed = guest.link.recv(WAIT).expect("received").into_sealed().expect("sealed");
        let reservation = host.hub().reserve().expect("a place");
        let shared = SharedPayload::new(&pattern::message(4, SEALED)).expect("memory");
        let publisher = host.hub().publisher("values").expect("the topic");
        let subscriber = guest.subscribe("values", Start::Next).expect("the topic");
        let data = directory.join("data");
        std::fs::write(&data, "data").expect("a data file");
        let lease = Lease::builder().policy(LeasePolicy::On).open(&data).expect("opened");
        let reader = lease.attach_reader(5).expect("attached");
        let fleet = Fleet::builder().directory(directory.join("fleets")).nodes(4);
        let fleet = fleet.join("fleet", 1).expect("joined");
        let ring = fleet.ring(RING, &CONFIG).expect("the ring");
        let claims = Claims::open(&fleet, CLAIMS, &CONFIG).expect("the claims");
        let guard = claims.claim(b"claimed", Duration::from_secs(3600)).expect("claimed");
        let mut cache = Cache::open(&fleet, CLAIMS + 1, &CONFIG).expect("the cache");
        cache.put(b"key", b"value", None).expect("put");
        Self {
            host: Some(host),
            link: Some(link),
            guest: Some(guest),
            set: Some(set),
            in_set: Some(in_set),
            reservation: Some(reservation),
            slot: Some(slot),
            sealed: Some(sealed),
            shared: Some(shared),
            publisher: Some(publisher),
            subscriber: Some(subscriber),
            lease: Some(lease),
            reader: Some(reader),
            fleet: Some(fleet),
            ring: Some(ring),
            claims: Some(claims),
            guard: Some(guard),
            cache: Some(cache),
        }
    }

    /// Uses everything, and panics if anything is not as it should be.
    fn check(&mut self) {
        self.check_links();
        self.check_topic();
        let lease = self.lease.as_mut().expect("a lease");
        assert!(lease.is_owner());
        lease.beat().expect("the owner beats");
        assert_eq!(lease.reader_count().expect("counted"), 1);
        self.reader.as_mut().expect("a reader").pin(6).expect("pinned");
        let fleet = self.fleet.as_ref().expect("a fleet");
        assert_eq!(fleet.members().expect("members").len(), 1);
        self.ring.as_ref().expect("a ring").publish(0, 1, b"frame").expect("published");
        let claims = self.claims.as_ref().expect("claims");
        assert_eq!(claims.holder(b"claimed").expect("asked").map(|holder| holder.node), Some(1));
        assert!(self.guard.as_ref().expect("a claim").is_held().expect("asked"));
        let cache = self.cache.as_mut().expect("a cache");
        assert_eq!(cache.get(b"key").expect("got").as_deref(), Some(&b"value"[..]));
    }

    fn check_links(&mut self) {
        let host = self.host.as_mut().expect("a host");
        let (link, guest) = (self.link.as_mut().expect("a link"), self.guest.as_mut());
        let guest = &mut guest.expect("a guest").link;
        for len in [100, SLOT, SEALED] {
            let message = pattern::message(9, len);
            link.send(&message, WAIT).expect("sent");
            guest.send(&message, WAIT).expect("sent");
            assert_eq!(link.recv(WAIT).expect("received").to_bytes(), message);
            assert_eq!(guest.recv(WAIT).expect("received").to_bytes(), message);
        }
        let shared = self.shared.as_ref().expect("a payload");
        link.sender.send_shared(shared, WAIT).expect("sent");
        assert_eq!(guest.recv(WAIT).expect("received").len(), SEALED);
        // What is held is as it was, and not given back.
        assert!(pattern::matches(1, &self.slot.as_ref().expect("a message").to_bytes()));
        assert!(pattern::matches(2, self.sealed.as_ref().expect("a message")));
        assert_eq!(link.sender.slots_in_flight(), 2);
        let (set, other) = (self.set.as_mut().expect("a set"), self.in_set.as_mut());
        let other = &mut other.expect("a guest").link;
        let all = set.send_to_all(b"all", SlowGuest::Wait(WAIT.into())).expect("sent");
        assert_eq!(all.sent, 1);
        assert_eq!(other.recv(WAIT).expect("received").len(), 3);
        let sending = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(2));
                other.send(b"wake", WAIT).expect("sent");
            });
            let mut events = Vec::new();
            set.wait(&mut events, WAIT).expect("it waits");
            events
        });
        let [LinkEvent::Ready(key)] = *sending else { panic!("{sending:?}") };
        let link = set.get_mut(key).expect("its link");
        assert_eq!(link.recv(WAIT).expect("received").len(), 4);
        // Two guests and a reservation, and the next one comes in.
        let (visitor, visited) = attach(host);
        assert_eq!(host.hub().peers().len(), 4);
        drop((visitor, visited));
        eventually(|| (host.hub().peers().len() == 3).then_some(()));
        let statistics = host.hub().statistics();
        assert_eq!((statistics.died, statistics.evicted, statistics.corrupt), (0, 0, 0));
    }

    /// A value wakes the subscriber by its descriptor, and by the bell.
    fn check_topic(&mut self) {
        let publisher = self.publisher.as_mut().expect("a publisher");
        let subscriber = self.subscriber.as_mut().expect("a subscriber");
        assert!(!subscriber.arm().expect("armed"));
        assert!(!is_readable(subscriber, Duration::ZERO), "readable without a value");
        let position = publisher.publish(b"value").expect("published");
        assert!(is_readable(subscriber, WAIT), "a value did not wake");
        assert_eq!(subscriber.try_next().expect("read").map(|v| v.position), Some(position));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(2));
                publisher.publish(b"value").expect("published");
            });
            assert_eq!(subscriber.next(WAIT).expect("read").position, position + 1);
        });
    }
}

fn is_readable(subscriber: &mut Subscriber, wait: Duration) -> bool {
    let timeout = Timespec::try_from(wait).expect("a time");
    let descriptor = subscriber.descriptor().expect("a descriptor");
    let mut fds = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)) == Ok(1)
}
