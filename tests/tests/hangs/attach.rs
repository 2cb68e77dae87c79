//! The calls by which hosts and guests find each other.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, connect, listen,
        socket, socket_with,
    },
};
use shm_tests::{
    Place, WAIT, peer, peer_command,
    process::Peer,
    raw::{RawSocket, VERSION},
};
use shm_transport::{
    AcceptError, AttachError, CommandExt, Deadline, Guest, Host, HostBuilder, LinkSet,
};

use super::matrix::{Answer, EVENT, Matrix, SHORT, State, rounds};

pub const BLOCKING: &[&str] = &[
    "Host::accept",
    "LinkSet::wait_with",
    "Guest::attach",
    "GuestBuilder::attach",
    "Guest::attach_inherited",
];

fn accepted(result: Result<impl std::fmt::Debug, AcceptError>) -> Answer {
    match result {
        Err(AcceptError::TimedOut) => Answer::TimedOut,
        other => Answer::other(other),
    }
}

fn attached(result: Result<Guest, AttachError>) -> Answer {
    match result {
        Err(AttachError::TimedOut) => Answer::TimedOut,
        other => Answer::other(other),
    }
}

/// Guests that come as far as this and no further, so that no link comes of it.
fn half_attached(path: &Path, state: State) -> Vec<RawSocket> {
    let connected = || RawSocket::connect(path);
    let said_hello = || {
        let socket = connected();
        socket.hello(VERSION, (0, 0)).expect("the host listens");
        socket
    };
    match state {
        State::Corrupt => {
            let socket = connected();
            socket.send(&[0xff; 24], &[]).expect("the host listens");
            vec![socket]
        }
        // Killed processes leave nothing else than these: closed ends.
        State::Dead => {
            drop((connected(), said_hello()));
            Vec::new()
        }
        _ => vec![connected(), said_hello(), connected(), said_hello()],
    }
}

#[test]
fn calls_of_a_host_that_waits_for_guests_return() {
    let mut matrix = Matrix::default();
    (0..rounds()).for_each(|_| wait_for_guests(&mut matrix));
    matrix.finish("A host that waits for guests", &BLOCKING[..2]);
}

fn wait_for_guests(matrix: &mut Matrix) {
    for state in [State::Full, State::Stopped, State::Dead, State::Corrupt] {
        for in_a_set in [false, true] {
            let place = Place::new();
            let mut host = place.host(HostBuilder::max_guests(Host::builder(), 2));
            let sockets = half_attached(&place.hub(), state);
            // Of the full one somebody has all places.
            let reserved = (state == State::Full)
                .then(|| [(); 2].map(|()| host.hub().reserve().expect("a place")));
            let call = if in_a_set { "LinkSet::wait_with" } else { "Host::accept" };
            let answer = matrix.call(call, state, (SHORT, SHORT), move || {
                if !in_a_set {
                    return accepted(host.accept(SHORT));
                }
                let (mut set, mut events) = (LinkSet::new().expect("a set"), Vec::new());
                match set.wait_with(&mut host, &mut events, SHORT) {
                    Ok(()) if events.is_empty() => Answer::TimedOut,
                    other => Answer::other((other, events)),
                }
            });
            assert_eq!(answer, Answer::TimedOut, "{call} with guests {state:?}");
            drop((sockets, reserved));
        }
    }
    // A guest process that is stopped in the middle.
    let place = Place::new();
    let mut host = place.small_host();
    let guest = peer!("guest", place.hub());
    guest.stop();
    let answer = matrix
        .call("Host::accept", State::Stopped, (SHORT, SHORT), move || accepted(host.accept(SHORT)));
    // Unless it was that fast.
    assert!(
        answer == Answer::TimedOut
            || matches!(&answer, Answer::Other(link) if link.contains("Link"))
    );
}

/// A socket that listens at the path and answers as it is told.
fn listener(path: &Path, backlog: i32) -> rustix::fd::OwnedFd {
    let listener = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
    let _ = fs::remove_file(path);
    bind(&listener, &SocketAddrUnix::new(path).expect("an address")).expect("bound");
    listen(&listener, backlog).expect("it listens");
    listener
}

type Attach = (&'static str, fn(&Path, Deadline) -> Result<Guest, AttachError>);

const ATTACH: [Attach; 2] = [
    ("Guest::attach", |path, by| Guest::attach(path, by)),
    ("GuestBuilder::attach", |path, by| Guest::builder().attach(path, by)),
];

#[test]
fn calls_of_a_guest_that_attaches_return() {
    let mut matrix = Matrix::default();
    for _ in 0..rounds() {
        attach_by_path(&mut matrix);
        inherited(&mut matrix);
    }
    matrix.finish("A guest that attaches", &BLOCKING[2..]);
}

fn attach_by_path(matrix: &mut Matrix) {
    for (name, attach) in ATTACH {
        let mut run = |state, due: (Duration, Duration), by: Deadline, path: &Path| {
            let path = path.to_owned();
            matrix.call(name, state, due, move || attached(attach(&path, by)))
        };
        let says = |answer: &Answer, what: &str| {
            let said = format!("{answer:?}");
            assert!(what.split('|').any(|what| said.contains(what)), "{said} and not {what}");
        };
        let (at_once, at_event) = ((Duration::ZERO, Duration::ZERO), (Duration::ZERO, EVENT));
        let at_deadline = (SHORT, SHORT);

        // Nobody there, then a dead one.
        let place = Place::new();
        says(&run(State::Dead, at_once, Deadline::NEVER, &place.hub()), "NoHost");
        let mut host = peer!("host", place.hub());
        assert_eq!(host.answer(), "host");
        host.kill();
        says(&run(State::Dead, at_once, Deadline::NEVER, &place.hub()), "HostDead");

        // A host that does nothing, one that is stopped, one whose queue is full.
        let host = place.small_host();
        let answer = run(State::Full, at_deadline, SHORT.into(), &place.hub());
        assert_eq!(answer, Answer::TimedOut);
        drop(host);
        let mut host = peer!("host", place.hub());
        assert_eq!(host.answer(), "host");
        host.tell("accept");
        host.stop();
        let answer = run(State::Stopped, at_deadline, SHORT.into(), &place.hub());
        assert_eq!(answer, Answer::TimedOut);
        drop(host);
        let full = listener(&place.hub(), 1);
        let queue = fill(&place.hub());
        let answer = run(State::Full, at_deadline, SHORT.into(), &place.hub());
        assert_eq!(answer, Answer::TimedOut);
        drop((full, queue));

        // One that dies, closes, or answers with nonsense, meanwhile.
        let place = Place::new();
        let mut host = peer!("host", place.hub());
        assert_eq!(host.answer(), "host");
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(EVENT);
                host.kill();
            });
            says(&run(State::Dies, at_event, Deadline::NEVER, &place.hub()), "HostGone|HostDead");
        });
        let host = place.small_host();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(EVENT);
                drop(host);
            });
            says(&run(State::Closes, at_event, Deadline::NEVER, &place.hub()), "HostGone|NoHost");
        });
        let liar = listener(&place.hub(), 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                let connection = RawSocket::from(accept(&liar).expect("a guest"));
                let hello = connection.receive(WAIT);
                thread::sleep(EVENT);
                connection.send(&[0xff; 100], &[]).expect("it listens");
                hello
            });
            says(&run(State::Corrupt, at_event, Deadline::NEVER, &place.hub()), "NotAHub");
        });
        drop(liar);

        // One that has no place, and says so.
        let place = Place::new();
        let mut host = place.host(Host::builder().max_guests(1));
        let reserved = host.hub().reserve().expect("a place");
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let end = Instant::now() + WAIT;
                while !is_over.load(Ordering::Relaxed) && Instant::now() < end {
                    assert!(host.accept(EVENT).is_err(), "it has no place");
                }
            });
            let answer = run(State::Full, at_event, Deadline::NEVER, &place.hub());
            is_over.store(true, Ordering::Relaxed);
            says(&answer, "HubFull");
        });
        drop(reserved);
    }
}

/// Connections that nobody accepts, as many as there is room for.
fn fill(path: &Path) -> Vec<rustix::fd::OwnedFd> {
    let address = SocketAddrUnix::new(path).expect("an address");
    let mut queue = Vec::new();
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let socket = socket.expect("a socket");
        match connect(&socket, &address) {
            Ok(()) => queue.push(socket),
            Err(Errno::AGAIN) => return queue,
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// The call is made in another process, whose start is part of the time.
fn inherited(matrix: &mut Matrix) {
    for state in [State::Full, State::Closes] {
        let place = Place::new();
        let host = place.small_host();
        let wait = if state == State::Full { SHORT } else { WAIT };
        let mut command = peer_command!("inherited", wait.as_millis().to_string());
        Peer::prepare(&mut command);
        let mut guest = Peer::adopt(command.spawn_guest(host.hub()).expect("started").child);
        let due = if state == State::Full { SHORT } else { EVENT };
        let answer =
            matrix.call("Guest::attach_inherited", state, (Duration::ZERO, due), move || {
                let host = (state == State::Full).then_some(host);
                let answer = guest.answer();
                drop(host);
                Answer::Other(answer)
            });
        let expected = if state == State::Full { "error TimedOut" } else { "error HostGone" };
        assert!(matches!(&answer, Answer::Other(said) if said.starts_with(expected)), "{answer:?}");
    }
}
