//! Every kind of bad input gives an error of its own, whose message says what to do, and
//! changes nothing.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, listen, send, socket_with,
};
use shm_tests::{
    Place, WAIT, eventually, peer, peer_command,
    process::Peer,
    raw::{RawSocket, VERSION, tag},
};
use shm_transport::{
    AcceptError, AttachError, CreateError, CredentialsPolicy, Deadline, GeometryError, Guest, Host,
    HostBuilder, Link, LinkConfig, PathError, RecvError, SendError, SizeClass,
};

const SOON: Duration = Duration::from_millis(50);

/// That an error's message says each of these.
#[track_caller]
fn says(error: &dyn std::error::Error, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "“{text}” does not say “{part}”");
    }
}

fn attach_error(path: impl AsRef<Path>) -> AttachError {
    Guest::attach(path, SOON).map(drop).unwrap_err()
}

fn create_error(path: impl AsRef<Path>) -> CreateError {
    Host::create(path).map(drop).unwrap_err()
}

/// A seqpacket socket bound to a path.
fn bound(path: &Path) -> rustix::fd::OwnedFd {
    let kind = SocketType::SEQPACKET;
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

#[test]
fn nothing_at_the_path_is_no_host() {
    let place = Place::new();
    for path in [place.hub(), place.file("no/such/directory/hub")] {
        let error = attach_error(&path);
        assert!(matches!(&error, AttachError::NoHost(at) if *at == path), "{error:?}");
        says(&error, &["no host", path.to_str().unwrap(), "start it"]);
        assert!(!path.exists());
    }
}

#[test]
fn a_socket_that_nobody_listens_on_is_a_dead_host() {
    let place = Place::new();
    drop(bound(&place.hub()));
    let error = attach_error(place.hub());
    assert!(matches!(&error, AttachError::HostDead(at) if *at == place.hub()), "{error:?}");
    says(&error, &["dead", "start it again", "stale socket"]);
    // Which is what a new host replaces.
    let mut host = place.small_host();
    let path = place.hub();
    let guest = thread::spawn(move || Guest::attach(path, WAIT).map(drop));
    host.accept(WAIT).unwrap();
    guest.join().unwrap().unwrap();
}

#[test]
fn files_directories_and_other_sockets_are_not_hubs() {
    let place = Place::new();
    let file = place.file("file");
    fs::write(&file, "contents").unwrap();
    let directory = place.file("directory");
    fs::create_dir(&directory).unwrap();
    let stream = place.file("stream");
    let _listener = UnixListener::bind(&stream).unwrap();
    for path in [file, directory, stream] {
        let error = attach_error(&path);
        assert!(matches!(&error, AttachError::NotAHub(at) if *at == path), "{error:?}");
        says(&error, &["not a hub", path.to_str().unwrap(), "check the path"]);
    }
    assert_eq!(fs::read_to_string(place.file("file")).unwrap(), "contents");
}

#[test]
fn a_socket_that_answers_something_else_is_not_a_hub() {
    let place = Place::new();
    let listener = bound(&place.hub());
    listen(&listener, 8).unwrap();
    let welcome = tag(b"SHMWELCM").to_le_bytes();
    let garbage: [&[u8]; 4] = [b"HTTP/1.1 400 Bad Request", &[0; 512], &welcome, &[0xff; 4096]];
    for answer in garbage {
        thread::scope(|scope| {
            let connection = scope.spawn(|| {
                let connection = accept(&listener).unwrap();
                send(&connection, answer, rustix::net::SendFlags::NOSIGNAL).unwrap();
                connection
            });
            let error = Guest::attach(place.hub(), WAIT).map(drop).unwrap_err();
            drop(connection.join().unwrap());
            assert!(matches!(error, AttachError::NotAHub(_)), "{error:?}");
        });
    }
}

#[test]
fn a_host_that_hangs_up_during_the_attach_is_gone() {
    let place = Place::new();
    let listener = bound(&place.hub());
    listen(&listener, 8).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| drop(accept(&listener).unwrap()));
        let error = Guest::attach(place.hub(), WAIT).map(drop).unwrap_err();
        assert!(matches!(error, AttachError::HostGone), "{error:?}");
        says(&error, &["went away", "try again"]);
    });
}

#[test]
fn a_host_that_does_not_answer_is_waited_for_until_the_deadline() {
    let place = Place::new();
    let host = place.small_host();
    for _ in 0..3 {
        let error = attach_error(place.hub());
        assert!(matches!(error, AttachError::TimedOut), "{error:?}");
        says(&error, &["deadline"]);
    }
    // Nor does a queue of those that nobody accepts hold anybody up for longer.
    let mut waiting = Vec::new();
    let path = place.hub();
    drop(host);
    let listener = bound(&path);
    listen(&listener, 1).unwrap();
    for _ in 0..4 {
        let path = path.clone();
        waiting.push(thread::spawn(move || attach_error(path)));
    }
    for thread in waiting {
        let error = thread.join().unwrap();
        assert!(matches!(error, AttachError::TimedOut), "{error:?}");
    }
}

#[test]
fn a_path_that_is_served_is_not_taken_over() {
    let place = Place::new();
    let mut host = place.small_host();
    let before = fs::symlink_metadata(place.hub()).unwrap().ino();
    for _ in 0..3 {
        let error = create_error(place.hub());
        assert!(matches!(&error, CreateError::HostExists(at) if *at == place.hub()), "{error:?}");
        says(&error, &["living host", "attach to it", "another path"]);
    }
    let answer = peer!("host", place.hub()).answer();
    assert!(answer.starts_with("error HostExists"), "{answer}");
    assert_eq!(fs::symlink_metadata(place.hub()).unwrap().ino(), before);
    let mut guest = peer!("guest", place.hub());
    let _link = host.accept(WAIT).unwrap();
    assert!(guest.answer().starts_with("attached"));
}

#[test]
fn of_many_processes_that_create_a_host_at_once_one_does() {
    for stale in [false, true] {
        let place = Place::new();
        if stale {
            drop(bound(&place.hub()));
        }
        let mut hosts: Vec<Peer> = (0..8).map(|_| peer!("host", place.hub())).collect();
        let answers: Vec<String> = hosts.iter_mut().map(Peer::answer).collect();
        let served = answers.iter().filter(|answer| *answer == "host").count();
        let refused = answers.iter().filter(|a| a.starts_with("error HostExists")).count();
        assert_eq!((served, refused), (1, 7), "{answers:?}");
    }
}

#[test]
fn files_and_links_at_the_path_are_left_alone() {
    let place = Place::new();
    let victim = place.file("victim");
    fs::write(&victim, "contents").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
    let link = place.file("link");
    symlink(&victim, &link).unwrap();
    let dangling = place.file("dangling");
    symlink(place.file("nowhere"), &dangling).unwrap();
    let directory = place.file("directory");
    fs::create_dir(&directory).unwrap();
    for path in [&victim, &link, &dangling, &directory] {
        let error = create_error(path);
        let is_occupied =
            matches!(&error, CreateError::Path(PathError::Occupied(at)) if at == path);
        assert!(is_occupied, "{error:?}");
        says(&error, &["not a socket", "left alone", "another path"]);
        assert!(!path.with_extension("lock").exists());
        assert!(!PathBuf::from(format!("{}.lock", path.display())).exists());
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "contents");
    assert_eq!(victim.metadata().unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::read_link(&link).unwrap(), victim);
    assert!(!place.file("nowhere").exists());
}

/// What stands where the lock or the temporary socket goes and is not ours survives, too.
#[test]
fn files_and_links_beside_the_path_are_left_alone() {
    let victim = Place::new();
    fs::write(victim.file("victim"), "contents").unwrap();
    for suffix in ["lock", "new"] {
        let place = Place::new();
        symlink(victim.file("victim"), place.file(&format!("hub.{suffix}"))).unwrap();
        drop(Host::create(place.hub()));
        assert_eq!(fs::read_to_string(victim.file("victim")).unwrap(), "contents");

        let place = Place::new();
        let file = place.file(&format!("hub.{suffix}"));
        fs::write(&file, "contents").unwrap();
        drop(Host::create(place.hub()));
        let left = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(left, "contents", "of a file named hub.{suffix}");
    }
}

#[test]
fn paths_that_are_too_long_or_name_nothing_are_refused() {
    let place = Place::new();
    let long = place.file(&"x".repeat(120));
    let error = create_error(&long);
    let CreateError::Path(PathError::TooLong { path, max }) = &error else { panic!("{error:?}") };
    assert_eq!(*path, long);
    says(&error, &[&max.to_string(), "shorter"]);
    let error = attach_error(&long);
    assert!(matches!(error, AttachError::Path(PathError::TooLong { .. })), "{error:?}");
    // The longest that is allowed works.
    let room = max - place.file("").as_os_str().len();
    let longest = place.file(&"x".repeat(room));
    assert_eq!(longest.as_os_str().len(), *max);
    let mut host = Host::create(&longest).unwrap();
    let guest = thread::spawn(move || Guest::attach(longest, WAIT).map(drop));
    host.accept(WAIT).unwrap();
    guest.join().unwrap().unwrap();
    for path in ["", "/", "/tmp/.."] {
        let error = create_error(path);
        assert!(matches!(error, CreateError::Path(PathError::NoName(_))), "{path:?}: {error:?}");
        says(&error, &["name"]);
        assert!(matches!(attach_error(path), AttachError::Path(PathError::NoName(_))));
    }
    let error = create_error(place.file("nul\0byte"));
    assert!(matches!(error, CreateError::Os(_)), "{error:?}");
}

#[test]
fn directories_that_others_can_write_are_refused() {
    let place = Place::new();
    for mode in [0o777, 0o1777, 0o770, 0o702] {
        let directory = place.file(&format!("{mode:o}"));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        let error = create_error(directory.join("hub"));
        assert!(
            matches!(&error, CreateError::Path(PathError::UnsafeDirectory(at)) if *at == directory),
            "{mode:o}: {error:?}"
        );
        says(&error, &["yours alone", "XDG_RUNTIME_DIR"]);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }
    // One that is not there is made, for this user alone.
    let host = Host::create(place.file("made/for/it/hub")).unwrap();
    let made = place.file("made").metadata().unwrap();
    assert_eq!(made.mode() & 0o077, 0);
    drop(host);
}

#[test]
fn the_socket_is_for_its_user_alone_whatever_the_umask() {
    let place = Place::new();
    let mut process = peer!("limits", "umask", place.hub());
    assert_eq!(process.answer(), "ok");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A guest that the host may refuse, and what it is told.
fn refused_by(builder: HostBuilder, uid: Option<u32>) -> String {
    let place = Place::new();
    let mut host = place.host(builder);
    let mut command = peer_command!("guest", place.hub());
    if let Some(uid) = uid {
        // Others have to reach the socket and the program at all.
        fs::set_permissions(place.file(""), fs::Permissions::from_mode(0o755)).unwrap();
        let program = place.file("peer");
        fs::copy(env!("CARGO_BIN_EXE_peer"), &program).unwrap();
        command = std::process::Command::new(program);
        command.arg("guest").arg(place.hub()).uid(uid).gid(uid);
    }
    let mut guest = Peer::start(&mut command);
    eventually(|| {
        let _link = host.try_accept().unwrap();
        guest.answer_within(Duration::from_millis(5))
    })
}

#[test]
fn guests_that_the_policy_refuses_are_told_so() {
    let nobody = Host::builder().credentials(CredentialsPolicy::custom(|_| false));
    let answer = refused_by(nobody, None);
    assert!(answer.starts_with("error NotPermitted"), "{answer}");
    assert!(answer.contains("policy"), "{answer}");
    let anybody = Host::builder().credentials(CredentialsPolicy::any_user());
    assert!(refused_by(anybody.clone(), None).starts_with("attached"));
    if is_root() {
        // The socket itself keeps other users out, and then the policy does.
        let answer = refused_by(Host::builder(), Some(65534));
        assert!(answer.starts_with("error NotPermitted"), "{answer}");
        let own = Host::builder().credentials(CredentialsPolicy::custom(|peer| peer.uid == 0));
        let answer = refused_by(own, Some(65534));
        assert!(answer.starts_with("error NotPermitted"), "{answer}");
        let answer = refused_by(anybody, Some(65534));
        assert!(answer.starts_with("attached"), "{answer}");
    }
}

#[test]
fn a_guest_refuses_hosts_that_its_own_policy_does_not_trust() {
    let place = Place::new();
    let _host = place.small_host();
    let builder = Guest::builder().credentials(CredentialsPolicy::custom(|host| host.uid == 12345));
    let error = builder.attach(place.hub(), WAIT).map(drop).unwrap_err();
    assert!(matches!(error, AttachError::NotPermitted), "{error:?}");
}

#[test]
fn a_guest_of_another_version_is_told_the_hosts() {
    let place = Place::new();
    let mut host = place.small_host();
    for version in [0, VERSION - 1, VERSION + 1, u32::MAX] {
        let guest = RawSocket::connect(&place.hub());
        guest.hello(version, (0, 0)).unwrap();
        let answer = eventually(|| {
            assert!(host.try_accept().unwrap().is_none());
            guest.receive(Duration::from_millis(1))
        });
        assert_eq!(answer.message[..8], tag(b"SHMREFUS").to_le_bytes());
        assert_eq!(answer.message[8..12], 1u32.to_le_bytes(), "a refusal of the version");
        assert_eq!(answer.message[12..16], VERSION.to_le_bytes(), "the host's version");
        assert!(answer.descriptors.is_empty());
    }
    assert!(host.hub().peers().is_empty());
    // And of a host of another version, a guest.
    let other = place.file("other");
    let listener = bound(&other);
    listen(&listener, 8).unwrap();
    let mut refusal = tag(b"SHMREFUS").to_le_bytes().to_vec();
    refusal.extend([1, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0]);
    thread::scope(|scope| {
        let connection = scope.spawn(|| {
            let connection = accept(&listener).unwrap();
            send(&connection, &refusal, rustix::net::SendFlags::NOSIGNAL).unwrap();
            connection
        });
        let error = Guest::attach(&other, WAIT).map(drop).unwrap_err();
        drop(connection.join().unwrap());
        assert!(matches!(error, AttachError::Version { host: 77, guest: VERSION }), "{error:?}");
        says(&error, &["77", "same release"]);
    });
}

#[test]
fn impossible_sizes_are_refused_before_anything_is_made() {
    let place = Place::new();
    let class =
        |slot_size, extent_slots, max_extents| SizeClass { slot_size, extent_slots, max_extents };
    let ring = |ring_capacity| LinkConfig { ring_capacity, ..LinkConfig::default() };
    let classes = |size_classes| LinkConfig { size_classes, ..LinkConfig::default() };
    let cases = [
        (ring(0), GeometryError::RingCapacity(0)),
        (ring(32), GeometryError::RingCapacity(32)),
        (ring(1000), GeometryError::RingCapacity(1000)),
        (ring(1 << 31), GeometryError::RingCapacity(1 << 31)),
        (ring(u64::MAX), GeometryError::RingCapacity(u64::MAX)),
        (classes(vec![class(0, 1, 1)]), GeometryError::SlotSize(0)),
        (classes(vec![class(100, 1, 1)]), GeometryError::SlotSize(100)),
        (classes(vec![class((1 << 30) + 64, 1, 1)]), GeometryError::SlotSize((1 << 30) + 64)),
        (classes(vec![class(128, 1, 1), class(64, 1, 1)]), GeometryError::SlotOrder(64)),
        (classes(vec![class(64, 1, 1), class(64, 1, 1)]), GeometryError::SlotOrder(64)),
        (classes(vec![class(64, 0, 1)]), GeometryError::SlotCount(0)),
        (classes(vec![class(64, 1 << 16, 2)]), GeometryError::SlotCount(1 << 17)),
        (
            classes(vec![class(64, u32::MAX, u32::MAX)]),
            GeometryError::SlotCount(u64::from(u32::MAX) * u64::from(u32::MAX)),
        ),
        (classes((1..=17).map(|n| class(64 * n, 1, 1)).collect()), GeometryError::Classes(17)),
    ];
    for (config, expected) in cases {
        let error = Host::builder().link(config.clone()).create(place.hub()).map(drop).unwrap_err();
        assert!(matches!(&error, CreateError::Geometry(found) if *found == expected), "{error:?}");
        says(
            &error,
            &["choose"].map(|word| if error.to_string().contains("list") { "list" } else { word }),
        );
        assert!(matches!(Link::pair(&config), Err(CreateError::Geometry(_))));
    }
    for peers in [0, (1 << 16) + 1, usize::MAX] {
        let error = Host::builder().max_guests(peers).create(place.hub()).map(drop).unwrap_err();
        assert!(matches!(&error, CreateError::Geometry(GeometryError::Peers(_))), "{error:?}");
        says(&error, &["1 to 65536"]);
    }
    assert_eq!(fs::read_dir(place.file("")).unwrap().count(), 0);
}

/// Runs a test that needs a process of its own.
fn in_a_process(kind: &str) {
    let place = Place::new();
    let mut process = peer!("limits", kind, place.hub());
    let answer = process.answer_within(WAIT);
    assert_eq!(answer.as_deref(), Some("ok"), "{:?}", process.wait());
}

#[test]
fn a_lack_of_descriptors_is_said_and_survived() {
    in_a_process("descriptors");
}

#[test]
fn a_lack_of_descriptors_loses_no_message() {
    in_a_process("descriptors-receiving");
}

#[test]
fn a_guest_that_lacks_descriptors_says_so() {
    let place = Place::new();
    let mut host = place.host(Host::builder().max_guests(1000));
    let mut process = peer!("limits", "descriptors-attaching", place.hub());
    let answer = eventually(|| {
        // It may come or go; the host goes on.
        let _link = host.try_accept().unwrap();
        // Asked first: what a process that ended had to say is there by then.
        let was_running = process.is_running();
        match process.answer_within(Duration::from_millis(1)) {
            None if !was_running => Some(None),
            None => None,
            answer => Some(answer),
        }
    });
    assert_eq!(answer.as_deref(), Some("ok"));
}

#[test]
fn a_lack_of_memory_is_said_and_survived() {
    in_a_process("memory");
}

#[test]
fn deadlines_that_pass_are_errors_of_their_own() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut left, mut right) = Link::pair(&shm_tests::small()).unwrap();
    for deadline in [Deadline::NOW, SOON.into(), std::time::Instant::now().into()] {
        let error = host.accept(deadline).map(drop).unwrap_err();
        assert!(matches!(error, AcceptError::TimedOut));
        says(&error, &["no guest", "deadline"]);
        let error = left.recv(deadline).map(drop).unwrap_err();
        assert!(matches!(error, RecvError::TimedOut));
        says(&error, &["no message", "deadline"]);
        let full = loop {
            match left.try_send(&[0; 100]) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(full, SendError::Full));
        says(&full, &["no room", "wait"]);
        let error = left.send(&[0; 100], deadline).unwrap_err();
        assert!(matches!(error, SendError::TimedOut), "{error:?}");
        says(&error, &["no room", "deadline"]);
        let error = left.sender.send_batch(&[[0; 100]; 3], deadline).unwrap_err();
        assert_eq!(error.sent, 0);
        assert!(matches!(error.error, SendError::TimedOut), "{error:?}");
        assert_eq!(left.sender.try_send_batch(&[[0; 100]; 3]).unwrap(), 0);
    }
    while right.try_recv().unwrap().is_some() {}
}
