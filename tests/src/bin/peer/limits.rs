//! Processes that run out of something. Each is a whole test of its own, because limits
//! are those of a process: it says `ok`, or panics.

use std::{fs::File, path::Path, thread};

use nix::unistd::{Uid, getuid, setuid};
use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
};
use shm_tests::{WAIT, pattern, raw::RawSocket, small};
use shm_transport::{
    AcceptError, AttachError, CreateError, Guest, Host, Link, LinkConfig, LinkSet, Missed, OsError,
    RecvError, SendError, SizeClass, SlowGuest,
};

use crate::say;

pub(crate) fn run(kind: &str, path: &str) {
    let path = Path::new(path);
    match kind {
        "descriptors" => descriptors(path),
        "descriptors-receiving" => descriptors_receiving(),
        "descriptors-attaching" => descriptors_attaching(path),
        "memory" => memory(path),
        "umask" => umasks(path),
        "payloads" => payloads(),
        "broken-pipe" => broken_pipe(),
        "descriptors-under-way" => descriptors_under_way(),
        _ => panic!("unknown limit {kind}"),
    }
    say("ok");
}

/// While this lives, all descriptors but a few are taken.
pub(crate) struct Scarcity(#[expect(dead_code, reason = "they are held")] Vec<File>);

impl Scarcity {
    pub(crate) fn but_for(few: usize) -> Self {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = Some(200);
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("a limit");
        let null = || File::open("/dev/null").ok();
        let mut taken: Vec<File> = std::iter::from_fn(null).collect();
        assert!(taken.len() > few, "fewer than 200 descriptors are in use");
        taken.truncate(taken.len() - few);
        Self(taken)
    }
}

/// The kernel limits the descriptors that a user has under way in sockets. Whoever reaches
/// that limit is told, and no guest is thrown out for it.
fn descriptors_under_way() {
    const LINKS: usize = 24;
    let mut links = LinkSet::new().expect("a descriptor");
    let mut ends = Vec::new();
    for _ in 0..LINKS {
        let (left, right) = Link::pair(&LinkConfig::default()).expect("a pair");
        links.insert(left).expect("memory");
        ends.push(right);
    }
    // The limit does not hold for root, and is that of a user whom nobody else uses.
    if getuid().is_root() {
        setuid(Uid::from_raw(47_114)).expect("another user");
    }
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(120), maximum }).expect("a limit");
    let message = pattern::message(1, 100_000);
    let (mut sent, mut refused) = (0, 0);
    for _ in 0..8 {
        let all = links.send_to_all(&message, SlowGuest::Evict).expect("memory");
        assert_eq!(all.sent + all.missed.len(), LINKS);
        sent += all.sent;
        refused += all.missed.len();
        for (_, missed) in all.missed {
            let Missed::Os(OsError::OutOfDescriptors { .. }) = missed else { panic!("{missed:?}") };
        }
    }
    assert!(sent >= 100 && refused > 0, "{sent} sent, {refused} refused");
    let all = links.send_to_all(&message, SlowGuest::Drop).expect("memory");
    let dropped = |missed: &Missed| matches!(missed, Missed::Dropped);
    assert!(!all.missed.is_empty() && all.missed.iter().all(|(_, missed)| dropped(missed)));
    assert_eq!(ends.iter().map(Link::missed).sum::<u64>(), all.missed.len() as u64);
    // One who waits for all is done when the guests have read.
    let sending = thread::spawn(move || {
        let all = links.send_to_all(&message, SlowGuest::Wait(WAIT.into())).expect("memory");
        (all, links)
    });
    let mut received = 0;
    while received < sent + all.sent + LINKS {
        for end in &mut ends {
            while let Some(message) = end.try_recv().expect("the link is open") {
                assert!(pattern::matches(1, &message.to_bytes()));
                received += 1;
            }
        }
    }
    let (all, _links) = sending.join().expect("it ends");
    assert_eq!((all.sent, all.missed.len()), (LINKS, 0));
}

fn attach(host: &mut Host) -> (Guest, Link) {
    let path = host.path().to_owned();
    let attaching = thread::spawn(move || Guest::attach(path, WAIT).expect("attached"));
    let link = host.accept(WAIT).expect("accepted");
    (attaching.join().expect("attached"), link)
}

/// Whatever lacks descriptors says so, and goes on when there are some again.
fn descriptors(path: &Path) {
    let mut host = Host::builder().link(small()).create(path).expect("a host");
    let (mut guest, mut link) = attach(&mut host);
    let mut lacking = 0;
    for more in 0..12 {
        // The guest's socket is made before descriptors run out.
        let socket = RawSocket::connect(path);
        let scarcity = Scarcity::but_for(more);
        let created = Host::builder().create(path.with_extension("other"));
        lacking += u32::from(created.is_err());
        assert!(
            matches!(created, Ok(_) | Err(CreateError::Os(OsError::OutOfDescriptors { .. }))),
            "with {more}: {created:?}"
        );
        drop(created);
        let attached = Guest::attach(path, std::time::Duration::from_millis(1));
        let expected = matches!(
            attached,
            Err(AttachError::TimedOut | AttachError::Os(OsError::OutOfDescriptors { .. }))
        );
        assert!(expected, "with {more}: {attached:?}");
        let _ = socket.hello(shm_tests::raw::VERSION, (0, 0));
        for _ in 0..3 {
            match host.try_accept() {
                Ok(_) => {}
                Err(AcceptError::Os(error @ OsError::OutOfDescriptors { .. })) => {
                    assert!(error.to_string().contains("ulimit -n"), "{error}");
                    lacking += 1;
                }
                Err(error) => panic!("with {more}: {error:?}"),
            }
        }
        let pair = Link::pair(&small());
        assert!(
            matches!(pair, Ok(_) | Err(CreateError::Os(OsError::OutOfDescriptors { .. }))),
            "with {more}: {pair:?}"
        );
        drop(pair);
        // The link that is there goes on, whatever there is to be had.
        link.send(b"on", WAIT).expect("sent");
        assert_eq!(guest.link.recv(WAIT).expect("received").to_bytes(), "on");
        drop(scarcity);
    }
    assert!(lacking > 0, "there was no lack");
    // And everything is well again.
    let (mut other, mut next) = attach(&mut host);
    for len in [10, 1000, 20_000] {
        next.send(&pattern::message(1, len), WAIT).expect("sent");
        let message = other.link.recv(WAIT).expect("received");
        assert!(pattern::matches(1, &message.to_bytes()));
    }
}

/// Without a descriptor left, a sender cannot hand memory over and a receiver cannot take
/// it. Each is told, nothing is lost, and both go on when there are descriptors again.
fn descriptors_receiving() {
    let (mut left, mut right) = Link::pair(&small()).expect("a pair");
    for len in [1000, 20_000] {
        let scarcity = Scarcity::but_for(0);
        let refused = left.send(&vec![0; len], WAIT);
        assert!(
            matches!(refused, Err(SendError::Os(OsError::OutOfDescriptors { .. }))),
            "{len} bytes: {refused:?}"
        );
        drop(scarcity);
        left.send(&pattern::message(1, len), WAIT).expect("sent");
        let scarcity = Scarcity::but_for(0);
        let refused = right.recv(WAIT).map(|message| message.len());
        drop(scarcity);
        assert!(
            matches!(refused, Err(RecvError::Os(OsError::OutOfDescriptors { .. }))),
            "{len} bytes: {refused:?}"
        );
        let message = right.recv(WAIT).expect("it is still there");
        assert!(pattern::matches(1, &message.to_bytes()));
    }
}

/// A guest that cannot take the host's descriptors says that it lacks descriptors, not that
/// the host is at fault.
fn descriptors_attaching(path: &Path) {
    // The host is another process.
    for more in 0..12 {
        let scarcity = Scarcity::but_for(more);
        let attached = Guest::attach(path, WAIT);
        drop(scarcity);
        let expected =
            matches!(attached, Ok(_) | Err(AttachError::Os(OsError::OutOfDescriptors { .. })));
        assert!(expected, "with {more}: {attached:?}");
    }
}

/// Without memory there is an error, and what is there goes on.
fn memory(path: &Path) {
    let slots = SizeClass { slot_size: 64 << 20, extent_slots: 1, max_extents: 4 };
    let config = LinkConfig { size_classes: vec![slots], ..LinkConfig::default() };
    let mut host = Host::builder().link(config.clone()).create(path).expect("a host");
    let (mut guest, mut link) = attach(&mut host);
    let message = vec![1; 40 << 20];
    let before = getrlimit(Resource::As);
    // Room for a little, but not for an extent, a large ring, or a sealed payload.
    let current = Some(address_space() + (16 << 20));
    setrlimit(Resource::As, Rlimit { current, maximum: before.maximum }).expect("a limit");
    let large = LinkConfig { ring_capacity: 64 << 20, ..LinkConfig::default() };
    let refused = Link::pair(&large).map(drop);
    let is_refused = matches!(refused, Err(CreateError::Os(OsError::OutOfMemory { .. })));
    let slot = link.send(&message, WAIT);
    let slot_refused = matches!(slot, Err(SendError::Os(OsError::OutOfMemory { .. })));
    let grant = link.sender.grant(100 << 20, WAIT).map(drop);
    let grant_refused = matches!(grant, Err(SendError::Os(OsError::OutOfMemory { .. })));
    let small = link.send(b"on", WAIT);
    setrlimit(Resource::As, before).expect("a limit");
    assert!(is_refused, "{refused:?}");
    assert!(slot_refused, "{slot:?}");
    assert!(grant_refused, "{grant:?}");
    small.expect("sent");
    assert_eq!(guest.link.recv(WAIT).expect("received").to_bytes(), "on");
    link.send(&message, WAIT).expect("sent");
    // A receiver that cannot map what it was sent is told, and keeps the message.
    let current = Some(address_space() + (16 << 20));
    setrlimit(Resource::As, Rlimit { current, maximum: before.maximum }).expect("a limit");
    let refused = guest.link.recv(WAIT).map(|message| message.len());
    setrlimit(Resource::As, before).expect("a limit");
    assert!(matches!(refused, Err(RecvError::Os(OsError::OutOfMemory { .. }))), "{refused:?}");
    assert_eq!(guest.link.recv(WAIT).expect("still there").len(), message.len());
}

/// Bytes of address space in use.
fn address_space() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages: u64 = statm.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    pages * 4096
}

/// Whatever the umask, the socket is for its user alone.
fn umasks(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for mask in [0o000, 0o022, 0o077, 0o177, 0o777] {
        let path = path.with_extension(format!("{mask:o}"));
        umask(Mode::from_raw_mode(mask));
        let host = Host::create(&path).expect("a host");
        let mode = path.metadata().expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "with umask {mask:o}");
        let mode = path.with_extension(format!("{mask:o}.lock")).metadata().expect("a lock");
        assert_eq!(mode.permissions().mode() & 0o077, 0, "with umask {mask:o}");
        drop(host);
    }
}

/// Many more payloads than there are descriptors pass one after the other.
fn payloads() {
    let (mut left, mut right) = Link::pair(&small()).expect("a pair");
    let _scarcity = Scarcity::but_for(8);
    for number in 0..2000 {
        left.send(&pattern::message(number, 20_000), WAIT).expect("sent");
        let message = right.recv(WAIT).expect("received");
        assert!(number % 100 != 0 || pattern::matches(number, &message.to_bytes()));
    }
}

/// A peer that is gone is an error and not a signal.
fn broken_pipe() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default action runs no code of this process.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.expect("the default action");
    for len in [10, 1000, 20_000] {
        let (mut left, right) = Link::pair(&small()).expect("a pair");
        drop(right);
        let refused = left.send(&vec![0; len], WAIT);
        assert!(matches!(refused, Err(SendError::Ended(_)) | Ok(())), "{refused:?}");
        let _ = left.send(&vec![0; len], WAIT);
        drop(left.detach(WAIT));
    }
}
