//! Hosts and guests. Where the other side can be a thread of this process it is one.

use std::{
    env,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use nix::unistd::gettid;
use shm_tests::{eventually, process::Peer};
use shm_transport::{
    AttachError, CommandExt, Guest, Host, HostBuilder, Link, RecvError, Start, Subscriber,
    TopicConfig,
};

use super::{
    Failure, Operation, Outcome, PATIENCE, Spot,
    links::{config, works},
    marked, wait_for_sleep,
};

pub(super) const OPERATIONS: &[(&str, Operation)] = &[
    ("host create", create),
    ("host create, in place of a dead one", replace),
    ("host drop", drop_host),
    ("host accept", accept),
    ("guest attach", attach),
    ("guest detach", detach),
    ("spawn a guest", spawn),
    ("a dead guest's end and release", reclaim),
    ("evict and kill", evict),
    ("send all kinds to a process", send_to_process),
    ("receive all kinds from a process", receive_from_process),
    ("subscribe", subscribe),
    ("publish, waking", publish_waking),
    ("next value, asleep", next_asleep),
    ("subscriber's descriptor", descriptor),
];

const TOPIC: &str = "topic";

fn builder() -> HostBuilder {
    Host::builder().link(config()).topic(TOPIC, TopicConfig { slots: 4, max_payload: 64 })
}

fn host(spot: &Spot<'_>) -> Host {
    builder().create(spot.hub()).expect("a host")
}

/// A guest in this process, attached while the host accepts.
fn guest_of(host: &mut Host) -> (Guest, Link) {
    let path = host.path().to_owned();
    let attaching = thread::spawn(move || Guest::attach(path, PATIENCE));
    let link = host.accept(PATIENCE).expect("accepted");
    (attaching.join().expect("no panic").expect("attached"), link)
}

/// A guest attaches, messages pass, and its entry is free again.
fn serves(host: &mut Host) {
    let (mut guest, mut link) = guest_of(host);
    works(&mut link, &mut guest.link);
    works(&mut guest.link, &mut link);
    drop((guest, link));
    is_empty(host);
}

fn is_empty(host: &Host) {
    eventually(|| host.hub().peers().is_empty().then_some(()));
}

fn helper(arguments: &[&std::ffi::OsStr]) -> Peer {
    let program = env::current_exe().expect("this program");
    Peer::start(Command::new(program).args(arguments))
}

fn create(spot: &Spot<'_>) -> Outcome {
    let path = spot.file("new/hub");
    let created = marked(|| builder().create(&path));
    let outcome = match created {
        Ok(mut host) => {
            serves(&mut host);
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    serves(&mut builder().create(&path).expect("a host"));
    outcome
}

fn replace(spot: &Spot<'_>) -> Outcome {
    let mut dead = helper(&["host".as_ref(), spot.hub().as_ref()]);
    assert_eq!(dead.answer(), "host");
    dead.kill();
    let created = marked(|| builder().create(spot.hub()));
    let outcome = match created {
        Ok(mut host) => {
            serves(&mut host);
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    serves(&mut host(spot));
    outcome
}

fn drop_host(spot: &Spot<'_>) -> Outcome {
    let mut first = host(spot);
    let (mut guest, mut link) = guest_of(&mut first);
    marked(|| drop(first));
    // A link goes on without it, and the next host takes the place.
    works(&mut link, &mut guest.link);
    serves(&mut host(spot));
    Ok(())
}

fn accept(spot: &Spot<'_>) -> Outcome {
    let mut host = host(spot);
    let path = spot.hub();
    let (tell, told) = mpsc::channel();
    let attaching = thread::spawn(move || {
        tell.send(gettid().as_raw()).expect("somebody listens");
        Guest::attach(path, PATIENCE)
    });
    let thread = told.recv().expect("a thread");
    wait_for_sleep(thread, || attaching.is_finished());
    let accepted = marked(|| host.accept(PATIENCE));
    let (link, outcome) = match accepted {
        Ok(link) => (Some(link), Ok(())),
        Err(error) => {
            // The guest is told, or is let in by the next call.
            let mut link = None;
            while !attaching.is_finished() {
                if let Ok(accepted) = host.accept(Duration::from_millis(5)) {
                    link = Some(accepted);
                }
            }
            (link, Err(error.into()))
        }
    };
    match (link, attaching.join().expect("no panic")) {
        (Some(mut link), Ok(mut guest)) => {
            works(&mut link, &mut guest.link);
            works(&mut guest.link, &mut link);
        }
        (None, Ok(mut guest)) => {
            let end = guest.link.recv(PATIENCE).map(|message| message.len());
            assert!(matches!(end, Err(RecvError::Ended(_))), "{end:?}");
        }
        (Some(mut link), Err(_)) => {
            let end = link.recv(PATIENCE).map(|message| message.len());
            assert!(matches!(end, Err(RecvError::Ended(_))), "{end:?}");
        }
        (None, Err(error)) => {
            assert!(matches!(error, AttachError::HostGone), "{error:?}");
        }
    }
    serves(&mut host);
    outcome
}

/// A host that lets in who comes and echoes what they say, until it is told to stop.
fn echo_host(mut host: Host, stop: Arc<AtomicBool>) -> thread::JoinHandle<Host> {
    thread::spawn(move || {
        let mut links: Vec<Link> = Vec::new();
        while !stop.load(Ordering::Relaxed) || !links.is_empty() {
            if let Ok(link) = host.accept(Duration::from_millis(2)) {
                links.push(link);
            }
            links.retain_mut(|link| {
                loop {
                    match link.try_recv().map(|message| message.map(|message| message.to_bytes())) {
                        Ok(Some(message)) => link.send(&message, PATIENCE).expect("sent"),
                        Ok(None) => return true,
                        Err(_) => return false,
                    }
                }
            });
        }
        host
    })
}

fn echoes(guest: &mut Guest) {
    for len in [10, 1000, 20_000] {
        let message = shm_tests::pattern::message(len as u64, len);
        guest.link.send(&message, PATIENCE).expect("sent");
        super::links::arrives(&mut guest.link, len as u64);
    }
}

fn attach(spot: &Spot<'_>) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let serving = echo_host(host(spot), Arc::clone(&stop));
    let attached = marked(|| Guest::attach(spot.hub(), PATIENCE));
    let outcome = match attached {
        Ok(mut guest) => {
            echoes(&mut guest);
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    echoes(&mut Guest::attach(spot.hub(), PATIENCE).expect("attached"));
    stop.store(true, Ordering::Relaxed);
    is_empty(&serving.join().expect("the host goes on"));
    outcome
}

fn detach(spot: &Spot<'_>) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let serving = echo_host(host(spot), Arc::clone(&stop));
    let mut guest = Guest::attach(spot.hub(), PATIENCE).expect("attached");
    echoes(&mut guest);
    let detached = marked(|| guest.detach(PATIENCE));
    stop.store(true, Ordering::Relaxed);
    is_empty(&serving.join().expect("the host goes on"));
    Ok(detached?)
}

fn spawn(spot: &Spot<'_>) -> Outcome {
    let mut host = host(spot);
    let mut outcome = Ok(());
    for round in 0..2 {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.arg("inherited");
        Peer::prepare(&mut command);
        let spawned = if round == 0 {
            marked(|| command.spawn_guest(host.hub()))
        } else {
            command.spawn_guest(host.hub())
        };
        match spawned {
            Ok(spawned) => {
                let mut guest = Peer::adopt(spawned.child);
                let mut link = host.accept(PATIENCE).expect("accepted");
                assert_eq!(link.peer(), spawned.peer);
                assert_eq!(guest.answer(), format!("attached {}", spawned.peer));
                link.send(b"hello", PATIENCE).expect("sent");
                assert_eq!(guest.ask("receive 30000"), "5 bytes");
                drop(link);
                guest.succeeds();
            }
            Err(error) if round == 0 => outcome = Err(error.into()),
            Err(error) => panic!("{error:?}"),
        }
        is_empty(&host);
    }
    outcome
}

/// A guest that is another process.
fn helped_guest(host: &mut Host) -> (Peer, Link) {
    let mut guest = helper(&["guest".as_ref(), host.path().as_ref()]);
    let link = host.accept(PATIENCE).expect("accepted");
    guest.answer();
    (guest, link)
}

fn reclaim(spot: &Spot<'_>) -> Outcome {
    let mut host = host(spot);
    let (mut guest, mut link) = helped_guest(&mut host);
    assert_eq!(guest.ask("send 0 1 1000"), "sent");
    for len in [10, 1000, 20_000] {
        link.send(&vec![1; len], PATIENCE).expect("sent");
    }
    guest.kill();
    let ended = marked(|| {
        let first = link.recv(PATIENCE).map(|message| message.to_bytes());
        let end = link.recv(PATIENCE).map(|message| message.to_bytes());
        drop(link);
        (first, end)
    });
    serves(&mut host);
    match ended {
        (Ok(first), Err(RecvError::Ended(_))) => {
            assert!(shm_tests::pattern::matches(0, &first));
            Ok(())
        }
        (Err(RecvError::Os(error)), Ok(_) | Err(RecvError::Ended(_))) => Err(error.into()),
        other => panic!("{other:?}"),
    }
}

fn evict(spot: &Spot<'_>) -> Outcome {
    let mut host = host(spot);
    let (mut guest, mut link) = helped_guest(&mut host);
    let evicted = marked(|| host.hub().evict_and_kill(link.peer()));
    assert!(evicted);
    let end = link.recv(PATIENCE).map(|message| message.len());
    assert!(matches!(end, Err(RecvError::Ended(_))), "{end:?}");
    drop(link);
    // If the kill failed, it lives, and nobody listens to it.
    guest.kill();
    serves(&mut host);
    Ok(())
}

const KINDS: [usize; 3] = [10, 1000, 20_000];

/// The other process gets all that was sent, and is there for more.
fn send_to_process(spot: &Spot<'_>) -> Outcome {
    let mut host = host(spot);
    let (mut guest, mut link) = helped_guest(&mut host);
    let sent = marked(|| {
        KINDS.map(|len| link.send(&shm_tests::pattern::message(len as u64, len), PATIENCE))
    });
    let mut outcome = Ok(());
    for (len, sent) in KINDS.into_iter().zip(sent) {
        match sent {
            Ok(()) => assert_eq!(guest.ask("receive 30000"), format!("{len} bytes")),
            Err(error) => outcome = Err(error.into()),
        }
    }
    for len in KINDS {
        link.send(&shm_tests::pattern::message(1, len), PATIENCE).expect("sent");
        assert_eq!(guest.ask("receive 30000"), format!("{len} bytes"));
    }
    assert_eq!(guest.ask("end"), "None");
    drop(link);
    guest.succeeds();
    is_empty(&host);
    outcome
}

fn receive_from_process(spot: &Spot<'_>) -> Outcome {
    let mut host = host(spot);
    let (mut guest, mut link) = helped_guest(&mut host);
    for (number, len) in KINDS.into_iter().enumerate() {
        assert_eq!(guest.ask(&format!("send {number} 1 {len}")), "sent");
    }
    let mut numbers = 0..KINDS.len() as u64;
    let received = marked(|| KINDS.map(|_| link.recv(PATIENCE).map(|message| message.to_bytes())));
    let mut outcome = Ok(());
    let mut failed = 0;
    for received in received {
        match received {
            Ok(message) => {
                let number = numbers.next().expect("no more than were sent");
                assert!(shm_tests::pattern::matches(number, &message));
            }
            Err(error) => {
                failed += 1;
                outcome = Err(error.into());
            }
        }
    }
    assert!(failed <= 1, "one call failed");
    for number in numbers {
        super::links::arrives(&mut link, number);
    }
    assert!(link.try_recv().expect("the link is open").is_none());
    assert_eq!(guest.ask("in-flight"), "0");
    drop(link);
    guest.succeeds();
    is_empty(&host);
    outcome
}

fn subscriber(guest: &Guest) -> Subscriber {
    guest.subscribe(TOPIC, Start::Oldest).expect("subscribed")
}

fn subscribe(spot: &Spot<'_>) -> Outcome {
    let mut host = host(spot);
    let (guest, link) = guest_of(&mut host);
    let mut publisher = host.hub().publisher(TOPIC).expect("a publisher");
    let subscribed = marked(|| guest.subscribe(TOPIC, Start::Oldest));
    publisher.publish(b"value").expect("published");
    let outcome = match subscribed {
        Ok(mut subscriber) => {
            assert_eq!(subscriber.next(PATIENCE).expect("a value").payload, b"value");
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    let mut again = subscriber(&guest);
    assert_eq!(again.next(PATIENCE).expect("a value").payload, b"value");
    drop((again, guest, link, publisher));
    is_empty(&host);
    outcome
}

fn publish_waking(spot: &Spot<'_>) -> Outcome {
    let mut host = host(spot);
    let (guest, link) = guest_of(&mut host);
    let mut publisher = host.hub().publisher(TOPIC).expect("a publisher");
    let mut subscriber = subscriber(&guest);
    let (tell, told) = mpsc::channel();
    let reading = thread::spawn(move || {
        tell.send(gettid().as_raw()).expect("somebody listens");
        for expected in [b"one", b"two"] {
            assert_eq!(subscriber.next(PATIENCE).expect("a value").payload, expected);
        }
    });
    let thread = told.recv().expect("a thread");
    wait_for_sleep(thread, || reading.is_finished());
    let published = marked(|| publisher.publish(b"one"));
    publisher.publish(b"two").expect("published");
    reading.join().expect("all values");
    drop((guest, link, publisher));
    is_empty(&host);
    published.map(drop).map_err(Into::into)
}

fn next_asleep(spot: &Spot<'_>) -> Outcome {
    let mut host = host(spot);
    let (guest, link) = guest_of(&mut host);
    let mut publisher = host.hub().publisher(TOPIC).expect("a publisher");
    let mut subscriber = subscriber(&guest);
    let returned = Arc::new(AtomicBool::new(false));
    let has_returned = Arc::clone(&returned);
    let sleeper = gettid().as_raw();
    let publishing = thread::spawn(move || {
        wait_for_sleep(sleeper, || has_returned.load(Ordering::Relaxed));
        publisher.publish(b"value").expect("published");
    });
    let next = marked(|| subscriber.next(PATIENCE).map(|value| value.payload.to_vec()));
    returned.store(true, Ordering::Relaxed);
    publishing.join().expect("published");
    let outcome: Outcome = match next {
        Ok(value) => {
            assert_eq!(value, b"value");
            Ok(())
        }
        Err(error) => {
            assert_eq!(subscriber.next(PATIENCE).expect("a value").payload, b"value");
            Err(error.into())
        }
    };
    drop((subscriber, guest, link));
    is_empty(&host);
    outcome
}

fn descriptor(spot: &Spot<'_>) -> Outcome {
    let mut host = host(spot);
    let (guest, link) = guest_of(&mut host);
    let mut publisher = host.hub().publisher(TOPIC).expect("a publisher");
    let mut subscriber = subscriber(&guest);
    let armed = marked(|| {
        subscriber.descriptor()?;
        subscriber.arm()
    });
    let outcome = armed.map(|ready| assert!(!ready)).map_err(Failure::from);
    subscriber.descriptor().expect("a descriptor");
    subscriber.arm().expect("armed");
    publisher.publish(b"value").expect("published");
    // The host tells it so by its socket.
    let ready = std::os::fd::AsRawFd::as_raw_fd(&subscriber.descriptor().expect("a descriptor"));
    assert!(is_readable(ready), "it was not told of the value");
    assert_eq!(subscriber.try_next().expect("a value").expect("a value").payload, b"value");
    drop((subscriber, guest, link, publisher));
    is_empty(&host);
    outcome
}

fn is_readable(descriptor: i32) -> bool {
    let mut poll = nix::libc::pollfd { fd: descriptor, events: nix::libc::POLLIN, revents: 0 };
    // SAFETY: one structure, which lives until the call returns.
    unsafe { nix::libc::poll(&raw mut poll, 1, PATIENCE.as_millis() as i32) == 1 }
}
