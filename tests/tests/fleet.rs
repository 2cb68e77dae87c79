//! Fleets: rings by kind, members that come, stop and die, caches and claims.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use shm_tests::{
    Place, eventually,
    fleet::{CLAIMS, CONFIG, Content, NAME, NODES, RING},
    peer,
};
use shm_transport::HeaderError;
use shm_transport::fleet::{
    Cache, CacheError, ClaimError, Claims, Fleet, FleetFileError, FleetId, FleetPublishError,
    JoinError, PublishError, ReadAtError, RingConfig, RingError, RingHeaderError, Start,
};

fn join(place: &Place, node: u32) -> Fleet {
    try_join(place, node).unwrap()
}

fn try_join(place: &Place, node: u32) -> Result<Fleet, JoinError> {
    Fleet::builder().directory(place.file("fleets")).nodes(NODES).join(NAME, node)
}

fn directory(place: &Place) -> String {
    place.file("fleets").to_str().unwrap().to_owned()
}

#[test]
fn the_same_kind_is_the_same_ring_in_all_members_and_the_first_one_makes_it() {
    let place = Place::in_memory();
    let (left, right) = (join(&place, 0), join(&place, 1));
    assert!(left.created() && !right.created());
    let ours = left.ring(1, &CONFIG).unwrap();
    let again = left.ring(1, &CONFIG).unwrap();
    let theirs = right.ring(1, &CONFIG).unwrap();
    assert!(ours.created() && again.created() && !theirs.created());
    assert_eq!(left.rings().unwrap(), [1]);
    right.ring(0xff, &CONFIG).unwrap();
    assert_eq!(left.rings().unwrap(), [1, 0xff]);

    let first = ours.publish(3, 4, b"first").unwrap();
    let second = again.publish(3, 4, b"second").unwrap();
    let third = theirs.publish(3, 4, b"third").unwrap();
    let ids = [first, second, third].map(|published| published.id.to_string());
    assert_eq!(ids, ["01-0-0", "01-0-1", "01-1-0"]);
    for published in [first, second, third] {
        let parsed: FleetId = published.id.to_string().parse().unwrap();
        let by_id = theirs.read(parsed).unwrap().unwrap();
        assert_eq!(by_id, ours.read_at(published.position).unwrap());
        assert_eq!((by_id.kind(), by_id.version()), (3, 4));
    }
    assert_eq!(ours.read_newest().unwrap().unwrap().payload(), b"third");
    assert_eq!(ours.read_at(ours.end()), Err(ReadAtError::NotYet));
}

#[test]
fn each_mismatch_on_opening_is_an_error_with_both_values() {
    let place = Place::in_memory();
    let fleet = join(&place, 0);
    let other = join(&place, 1);
    let config = |capacity, max_payload| RingConfig { capacity, max_payload };
    fleet.ring(1, &config(64, 100)).unwrap();
    // In the process that has it open, and in another.
    for fleet in [&fleet, &other] {
        let refused = fleet.ring(1, &config(128, 100)).unwrap_err();
        assert!(matches!(refused, RingError::Capacity { asked: 128, found: 64 }), "{refused}");
        let refused = fleet.ring(1, &config(64, 99)).unwrap_err();
        assert!(matches!(refused, RingError::MaxPayload { asked: 99, found: 100 }), "{refused}");
        let refused = fleet.ring(1, &config(63, 100)).unwrap_err();
        assert!(matches!(refused, RingError::Geometry(_)), "{refused}");
    }
    let path = |kind: &str| fleet.path().join(format!("ring-{kind}"));
    fs::copy(path("01"), path("02")).unwrap();
    let refused = fleet.ring(2, &config(64, 100)).unwrap_err();
    assert!(matches!(refused, RingError::Kind { asked: 2, found: 1 }), "{refused}");

    let builder = |nodes| Fleet::builder().directory(place.file("fleets")).nodes(nodes);
    let refused = builder(NODES + 1).join(NAME, 2).unwrap_err();
    let expected = (NODES + 1, NODES);
    assert!(
        matches!(refused, JoinError::OtherNodes { asked, found } if (asked, found) == expected),
        "{refused}"
    );
    let fewer = builder(3).join("fewer", 0).unwrap();
    fs::copy(path("01"), fewer.path().join("ring-01")).unwrap();
    let refused = fewer.ring(1, &config(64, 100)).unwrap_err();
    assert!(matches!(refused, RingError::Nodes { asked: 3, found: NODES }), "{refused}");
    let same = builder(NODES).join("same", 0).unwrap();
    fs::copy(path("01"), same.path().join("ring-01")).unwrap();
    let refused = same.ring(1, &config(64, 100)).unwrap_err();
    assert!(matches!(refused, RingError::OtherFleet { .. }), "{refused}");
}

#[test]
fn what_is_no_ring_is_refused_and_left_alone() {
    let place = Place::in_memory();
    let fleet = join(&place, 0);
    let path = |kind: u8| fleet.path().join(format!("ring-{kind:02x}"));
    let header = |refused: RingError| match refused {
        RingError::Header(RingHeaderError::Header(error)) => error,
        other => panic!("{other}"),
    };
    fleet.ring(1, &CONFIG).unwrap();
    let good = fs::read(path(1)).unwrap();
    let write = |kind: u8, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::write(path(kind), bytes).unwrap();
        fs::set_permissions(path(kind), fs::Permissions::from_mode(0o600)).unwrap();
        fleet.ring(kind, &CONFIG).unwrap_err()
    };
    let refused = write(2, &|bytes| bytes.clear());
    assert!(matches!(header(refused), HeaderError::TooSmall { size: 0 }));
    let refused = write(3, &|bytes| bytes[0] ^= 1);
    assert!(matches!(header(refused), HeaderError::Magic { .. }));
    let refused = write(4, &|bytes| bytes[8] = 99);
    assert!(matches!(header(refused), HeaderError::Version { found: 99 }));
    let refused = write(5, &|bytes| bytes.truncate(4096));
    assert!(matches!(header(refused), HeaderError::TotalSize { actual: 4096, .. }));
    let refused = write(6, &|bytes| bytes.truncate(4095));
    assert!(matches!(header(refused), HeaderError::TotalSize { actual: 4095, .. }));
    let refused = write(7, &|bytes| bytes[56] = 3);
    assert!(matches!(refused, RingError::Header(RingHeaderError::Geometry(_))), "{refused}");
    assert_eq!(fs::read(path(6)).unwrap(), good[..4095]);

    symlink(path(1), path(8)).unwrap();
    fs::create_dir(path(9)).unwrap();
    nix::unistd::mkfifo(&path(10), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for kind in [8, 9, 10] {
        let refused = fleet.ring(kind, &CONFIG).unwrap_err();
        assert!(matches!(refused, RingError::File(FleetFileError::WrongType(_))), "{refused}");
    }
    fs::copy(path(1), path(11)).unwrap();
    fs::set_permissions(path(11), fs::Permissions::from_mode(0o622)).unwrap();
    let refused = fleet.ring(11, &CONFIG).unwrap_err();
    let unsafe_mode = |error: &FleetFileError, expected: u32| matches!(error, FleetFileError::UnsafeMode { mode, .. } if *mode == expected);
    assert!(matches!(&refused, RingError::File(error) if unsafe_mode(error, 0o622)), "{refused}");
}

#[test]
fn names_and_directories_that_others_could_use_are_refused() {
    let place = Place::in_memory();
    let join = |name: &str| Fleet::builder().directory(place.file("fleets")).join(name, 0);
    let long = "x".repeat(65);
    for name in ["", ".", "..", ".hidden", "a/b", "a b", "ä", long.as_str()] {
        assert!(matches!(join(name), Err(JoinError::Name(_))), "{name:?}");
    }
    let long = "x".repeat(64);
    for name in ["a", "A-1_b.c", "-", long.as_str()] {
        join(name).unwrap();
    }
    let in_directory = |path: &Path| Fleet::builder().directory(path).join("f", 0).unwrap_err();
    let open = place.file("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o770)).unwrap();
    let refused = in_directory(&open);
    assert!(
        matches!(refused, JoinError::File(FleetFileError::UnsafeMode { mode: 0o770, .. })),
        "{refused}"
    );
    let link = place.file("link");
    symlink(place.file("fleets"), &link).unwrap();
    let refused = in_directory(&link);
    assert!(matches!(refused, JoinError::File(FleetFileError::WrongType(_))), "{refused}");
    fs::write(place.file("file"), "").unwrap();
    let refused = in_directory(&place.file("file"));
    assert!(matches!(refused, JoinError::File(FleetFileError::WrongType(_))), "{refused}");
    if nix::unistd::geteuid().is_root() {
        let theirs = place.file("theirs");
        fs::create_dir(&theirs).unwrap();
        nix::unistd::chown(&theirs, Some(12345.into()), None).unwrap();
        let refused = in_directory(&theirs);
        assert!(
            matches!(refused, JoinError::File(FleetFileError::ForeignOwner { uid: 12345, .. })),
            "{refused}"
        );
    }
    // By default each user has a directory of its own.
    let fleet = Fleet::join(&format!("test-{}", std::process::id()), 0).unwrap();
    let user = nix::unistd::geteuid();
    assert!(fleet.path().starts_with(format!("/dev/shm/shm-fleets-{user}")));
    fleet.unlink().unwrap();
    assert!(!fleet.path().exists());
}

#[test]
fn a_payload_that_is_too_large_is_refused_with_both_figures() {
    let place = Place::in_memory();
    let fleet = join(&place, 0);
    let ring = fleet.ring(1, &RingConfig::default()).unwrap();
    ring.publish(0, 0, &[7; 256]).unwrap();
    assert!(matches!(
        ring.publish(0, 0, &[7; 257]),
        Err(FleetPublishError::Publish(PublishError::TooLarge { len: 257, max: 256 }))
    ));
}

#[test]
fn cursors_follow_and_report_exactly_what_they_lost() {
    let place = Place::in_memory();
    let (left, right) = (join(&place, 0), join(&place, 1));
    let config = RingConfig { capacity: 64, max_payload: 256 };
    let (ours, theirs) = (left.ring(RING, &config).unwrap(), right.ring(RING, &config).unwrap());
    let mut cursor = theirs.cursor(Start::Oldest);
    let mut late = theirs.cursor(Start::Next);
    for sequence in 0..200 {
        let (node, ring) = if sequence % 3 == 0 { (1, &theirs) } else { (0, &ours) };
        ring.publish(0, 1, &Content { node, life: 0, sequence }.bytes()).unwrap();
    }
    let mut expected = 136;
    let first = cursor.next().unwrap().unwrap();
    assert_eq!((first.lost, first.frame.position().number()), (136, expected));
    while let Some(next) = cursor.next().unwrap() {
        expected += 1;
        assert_eq!(next.lost, 0);
        assert_eq!(Content::check(&next.frame).unwrap().sequence, expected);
    }
    assert_eq!((expected, cursor.lost()), (199, 136));
    assert_eq!(late.next().unwrap().unwrap().lost, 136);
    let newest = theirs.cursor(Start::Newest).next().unwrap().unwrap();
    assert_eq!(newest.frame.position().number(), 199);

    assert_eq!(ours.reset().number(), 200);
    assert_eq!(theirs.read_newest().unwrap(), None);
    assert!(theirs.read_at(newest.frame.position()).is_err());
    let published = ours.publish(0, 1, &Content { node: 0, life: 1, sequence: 0 }.bytes());
    assert_eq!(published.unwrap().position.number(), 200, "positions go on");
    assert_eq!(cursor.next().unwrap().unwrap().lost, 0);
}

#[test]
fn an_unlinked_ring_is_made_anew_and_who_has_the_old_one_keeps_it() {
    let place = Place::in_memory();
    let (left, right) = (join(&place, 0), join(&place, 1));
    let old = left.ring(1, &CONFIG).unwrap();
    let theirs = right.ring(1, &CONFIG).unwrap();
    old.publish(0, 0, b"old").unwrap();
    assert!(right.unlink_ring(1).unwrap());
    assert!(!right.unlink_ring(1).unwrap());
    assert!(left.rings().unwrap().is_empty());
    assert_eq!(theirs.read_newest().unwrap().unwrap().payload(), b"old");
    let new = right.ring(1, &RingConfig { capacity: 8, max_payload: 8 }).unwrap();
    assert!(new.created());
    assert_eq!(new.read_newest().unwrap(), None);
    assert_eq!(new.publish(0, 0, b"new").unwrap().id.counter(), 0);
    old.publish(0, 0, b"older").unwrap();
    assert_eq!(theirs.read_newest().unwrap().unwrap().payload(), b"older");
}

#[test]
fn an_unlinked_fleet_leaves_nothing_and_the_next_one_is_another() {
    let place = Place::in_memory();
    let (left, right) = (join(&place, 0), join(&place, 1));
    let ring = left.ring(1, &CONFIG).unwrap();
    // What a process left that died in the middle of this.
    fs::create_dir(place.file("fleets").join(".unlinked-0")).unwrap();
    fs::write(place.file("fleets").join(".unlinked-0/members"), "").unwrap();
    left.unlink().unwrap();
    assert_eq!(fs::read_dir(place.file("fleets")).unwrap().count(), 0);
    assert!(matches!(right.unlink(), Err(FleetFileError::Unlinked(_))));
    let refused = right.ring(2, &CONFIG).unwrap_err();
    assert!(matches!(refused, RingError::File(FleetFileError::Unlinked(_))), "{refused}");
    // The old members keep what they have; nodes of the new one are free.
    ring.publish(0, 0, b"still").unwrap();
    let new = join(&place, 0);
    assert!(new.created());
    assert_eq!(new.ring(1, &CONFIG).unwrap().read_newest().unwrap(), None);
}

#[test]
fn many_that_join_and_open_at_once_get_one_fleet_and_one_ring() {
    for _ in 0..20 {
        let place = Place::in_memory();
        let made: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|node| {
                    let place = &place;
                    scope.spawn(move || {
                        let fleet = join(place, node);
                        let ring = fleet.ring(RING, &CONFIG).unwrap();
                        ring.publish(0, 0, b"here").unwrap();
                        (fleet.created(), ring.created())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|made| made.0).count(), 1);
        assert_eq!(made.iter().filter(|made| made.1).count(), 1);
        assert_eq!(join(&place, 0).ring(RING, &CONFIG).unwrap().end().number(), 8);
    }
}

#[test]
fn members_are_alive_until_they_leave_or_die_and_beat_meanwhile() {
    let place = Place::in_memory();
    let fleet = join(&place, 0);
    let alive = |node: u32| {
        let members = fleet.members().unwrap();
        members.into_iter().find(|member| member.node == node).map(|member| member.alive)
    };
    assert_eq!((alive(0), alive(1)), (Some(true), None));
    let mut other = peer!("fleet", directory(&place), "1");
    assert_eq!(other.answer(), "joined");
    assert_eq!(alive(1), Some(true));
    assert_eq!(other.ask("beat"), "1");
    assert_eq!(other.ask("beat"), "2");
    let member = fleet.members().unwrap().into_iter().find(|member| member.node == 1).unwrap();
    assert_eq!((member.pid, member.heartbeat), (other.pid(), 2));
    assert!(member.start_time > 0 && member.joined > 0);
    let taken = try_join(&place, 1).unwrap_err();
    let pid = other.pid();
    assert!(matches!(taken, JoinError::NodeTaken { node: 1, pid: found } if found == pid));

    other.signal(Signal::SIGSTOP);
    assert_eq!(alive(1), Some(true), "stopped is not dead");
    other.kill();
    assert_eq!(alive(1), Some(false));
    let again = join(&place, 1);
    assert_eq!(alive(1), Some(true));
    assert_ne!(again.incarnation(), member.incarnation);
    assert_eq!(again.beat(), 3, "heartbeats go on growing");
    drop(again);
    // A child that another test is starting may have our lock until it runs its program.
    eventually(|| (alive(1) == Some(false)).then_some(()));
    assert!(matches!(try_join(&place, NODES), Err(JoinError::NoSuchNode { .. })));
}

#[test]
fn a_node_is_ours_as_long_as_we_have_a_ring_of_it() {
    let place = Place::in_memory();
    let fleet = join(&place, 0);
    let ring = fleet.ring(RING, &CONFIG).unwrap();
    drop(fleet);
    ring.publish(0, 0, b"x").unwrap();
    let pid = std::process::id();
    assert!(
        matches!(try_join(&place, 0), Err(JoinError::NodeTaken { pid: found, .. }) if found == pid)
    );
    drop(ring);
    // A child that another test is starting may have our lock until it runs its program.
    eventually(|| try_join(&place, 0).ok());
}

#[test]
fn members_that_are_stopped_or_killed_while_they_publish_hold_up_nobody() {
    let place = Place::in_memory();
    let fleet = join(&place, 0);
    let ring = fleet.ring(RING, &CONFIG).unwrap();
    let mut last_counter = None;
    for round in 0..40 {
        let mut other = peer!("fleet", directory(&place), "1");
        other.answer();
        other.ask("spin");
        let start = ring.end();
        eventually(|| (ring.end() > start.plus(100)).then_some(()));
        other.signal(if round % 2 == 0 { Signal::SIGSTOP } else { Signal::SIGKILL });
        if round % 2 == 1 {
            other.wait();
        }
        // More than a lap, so that whatever it is in the middle of is in the way.
        for sequence in 0..CONFIG.capacity + 10 {
            let end = ring.end();
            let content = Content { node: 0, life: round, sequence };
            let published = ring.publish(0, 1, &content.bytes()).unwrap();
            // A stopped one may still have committed, but nobody else does.
            assert!(published.position.since(end) <= 1);
            if sequence == 0 {
                // All that is kept can be read, up to what the other one committed last.
                let mut cursor = ring.cursor(Start::Oldest);
                while let Some(next) = cursor.next().unwrap() {
                    assert_eq!(next.lost, 0);
                    Content::check(&next.frame).unwrap();
                    let id = next.frame.id();
                    assert_eq!(ring.read(id).unwrap(), Some(next.frame));
                    if id.node() == 1 {
                        assert!(last_counter < Some(id.counter()) || round > 0);
                        last_counter = last_counter.max(Some(id.counter()));
                    }
                }
            }
        }
        if round % 2 == 0 {
            other.kill();
        }
    }
}

#[test]
fn a_member_that_comes_back_goes_on_after_its_last_id() {
    let place = Place::in_memory();
    let mut last = None;
    for _ in 0..5 {
        let mut other = peer!("fleet", directory(&place), "3");
        other.answer();
        for _ in 0..2 {
            let answer = other.ask("publish 700");
            let id: FleetId = answer.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(id.counter(), last.map_or(699, |last: u64| last + 700));
            last = Some(id.counter());
        }
        other.kill();
    }
}

#[test]
fn a_full_file_system_is_an_error_and_never_a_signal() {
    // A file system of its own needs a mount, which only root may make.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::in_memory();
    let mount = place.file("small");
    fs::create_dir(&mount).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs"])
        .arg(&mount)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let fleet = Fleet::builder().directory(mount.join("f")).nodes(4).join(NAME, 0).unwrap();
        let small = RingConfig { capacity: 16, max_payload: 256 };
        let ring = fleet.ring(1, &small).unwrap();
        fs::write(mount.join("filler"), vec![1; 1 << 20]).unwrap_err();
        // The head of a new ring does not fit, nor does the lane of the old one.
        let refused = fleet.ring(2, &small).unwrap_err();
        let space = |error: &shm_transport::OsError| {
            matches!(error, shm_transport::OsError::OutOfSpace { .. })
        };
        assert!(
            matches!(&refused, RingError::File(FleetFileError::Os(error)) if space(error)),
            "{refused}"
        );
        let refused = ring.publish(0, 0, b"x").unwrap_err();
        assert!(matches!(&refused, FleetPublishError::Os(error) if space(error)), "{refused}");
        assert_eq!(ring.read("01-0-0".parse().unwrap()).unwrap(), None, "and touches no hole");
        fs::remove_file(mount.join("filler")).unwrap();
        ring.publish(0, 0, b"x").unwrap();
    });
    let _ = std::process::Command::new("umount").arg("-l").arg(&mount).status();
    outcome.unwrap();
}

#[test]
fn a_cache_keeps_the_newest_values_and_all_members_agree() {
    let place = Place::in_memory();
    let (left, right) = (join(&place, 0), join(&place, 1));
    let config = RingConfig { capacity: 32, max_payload: 64 };
    let mut ours = Cache::open(&left, 1, &config).unwrap();
    let mut theirs = Cache::open(&right, 1, &config).unwrap();
    ours.put(b"a/1", b"old", None).unwrap();
    theirs.put(b"a/1", b"new", None).unwrap();
    theirs.put(b"a/2", b"", None).unwrap();
    ours.put(b"b/1", b"other", None).unwrap();
    for cache in [&mut ours, &mut theirs] {
        assert_eq!(cache.get(b"a/1").unwrap().unwrap(), b"new");
        assert_eq!(cache.get(b"a/2").unwrap().unwrap(), b"");
        assert_eq!(cache.get(b"a").unwrap(), None);
        assert_eq!(cache.keys(b"a/").unwrap(), [b"a/1", b"a/2"]);
    }
    theirs.delete(b"a/2").unwrap();
    assert_eq!(ours.get(b"a/2").unwrap(), None);
    ours.reset_prefix(b"a/").unwrap();
    ours.put(b"a/3", b"after", None).unwrap();
    assert_eq!(theirs.keys(b"").unwrap(), [b"a/3", b"b/1"]);

    ours.put(b"short", b"x", Some(Duration::from_millis(30))).unwrap();
    assert_eq!(theirs.get(b"short").unwrap().unwrap(), b"x");
    eventually(|| theirs.get(b"short").unwrap().is_none().then_some(()));
    assert_eq!(ours.get(b"short").unwrap(), None);
    let refused = ours.put(&[0; 30], &[0; 23], None).unwrap_err();
    assert!(matches!(refused, CacheError::TooLarge { len: 53, max: 52 }), "{refused}");
    ours.put(&[0; 30], &[0; 22], None).unwrap();
}

#[test]
fn caches_of_members_that_missed_much_and_of_late_ones_are_the_same() {
    let place = Place::in_memory();
    let (left, right) = (join(&place, 0), join(&place, 1));
    let config = RingConfig { capacity: 32, max_payload: 64 };
    let mut ours = Cache::open(&left, 1, &config).unwrap();
    let mut seldom = Cache::open(&right, 1, &config).unwrap();
    let mut random = 88172645463325252u64;
    for round in 0..3000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = [b'k', (random >> 20) as u8 % 40];
        match random % 16 {
            0 => ours.reset_prefix(&key[..1 + (random >> 40) as usize % 2]).map(|_| ()).unwrap(),
            1..4 => ours.delete(&key).map(|_| ()).unwrap(),
            _ => ours.put(&key, &round.to_string().into_bytes(), None).map(|_| ()).unwrap(),
        }
        if round % 97 == 0 {
            let mut late = Cache::open(&join(&place, 2), 1, &config).unwrap();
            let keys = late.keys(b"").unwrap();
            assert!(keys.len() <= 32);
            for cache in [&mut ours, &mut seldom] {
                assert_eq!(cache.keys(b"").unwrap(), keys);
                for key in &keys {
                    assert_eq!(cache.get(key).unwrap(), late.get(key).unwrap());
                }
            }
        }
    }
}

#[test]
fn one_member_holds_a_subject_and_the_others_are_told_who() {
    let place = Place::in_memory();
    let (left, right) = (join(&place, 0), join(&place, 1));
    let ours = Claims::open(&left, CLAIMS, &CONFIG).unwrap();
    let theirs = Claims::open(&right, CLAIMS, &CONFIG).unwrap();
    let long = Duration::from_secs(600);
    let guard = ours.claim(b"x", long).unwrap();
    assert_eq!(guard.subject(), b"x");
    for claims in [&ours, &theirs] {
        match claims.claim(b"x", long) {
            Err(ClaimError::Held { node: 0, pid, left }) => {
                assert_eq!(pid, std::process::id());
                assert!(left <= long && left > long / 2);
            }
            other => panic!("{other:?}"),
        }
        let holder = claims.holder(b"x").unwrap().unwrap();
        assert_eq!((holder.node, holder.token), (0, guard.token()));
        assert_eq!(claims.holder(b"y").unwrap(), None);
    }
    let other = theirs.claim(b"y", long).unwrap();
    assert!(guard.is_held().unwrap() && other.is_held().unwrap());
    guard.renew(long * 2).unwrap();
    let first = guard.token();
    drop(guard);
    let guard = theirs.claim(b"x", long).unwrap();
    assert!(guard.token() > first, "tokens fence");
    let refused = theirs.claim(&[0; 217], long).unwrap_err();
    assert!(matches!(refused, ClaimError::SubjectTooLong { len: 217, max: 216 }), "{refused}");
}

#[test]
fn a_claim_that_runs_out_is_anothers_and_does_not_come_back() {
    let place = Place::in_memory();
    let (left, right) = (join(&place, 0), join(&place, 1));
    let ours = Claims::open(&left, CLAIMS, &CONFIG).unwrap();
    let theirs = Claims::open(&right, CLAIMS, &CONFIG).unwrap();
    let (short, long) = (Duration::from_millis(30), Duration::from_secs(600));
    let guard = ours.claim(b"x", short).unwrap();
    let taken = eventually(|| theirs.claim(b"x", long).ok());
    assert!(!guard.is_held().unwrap());
    assert!(matches!(guard.renew(long), Err(ClaimError::Lost)));
    assert!(taken.is_held().unwrap());
    drop(guard);
    assert!(taken.is_held().unwrap(), "the release was of the old claim");
    drop(taken);
    // Nobody wanted it meanwhile: then it can be renewed late.
    let guard = ours.claim(b"x", short).unwrap();
    eventually(|| (!guard.is_held().unwrap()).then_some(()));
    guard.renew(long).unwrap();
    assert!(guard.is_held().unwrap());
    assert!(matches!(theirs.claim(b"x", long), Err(ClaimError::Held { node: 0, .. })));
}

#[test]
fn a_dead_members_claim_is_free_and_a_stopped_ones_is_not() {
    let place = Place::in_memory();
    let fleet = join(&place, 0);
    let claims = Claims::open(&fleet, CLAIMS, &CONFIG).unwrap();
    let long = Duration::from_secs(600);
    for _ in 0..3 {
        let mut other = peer!("fleet", directory(&place), "1");
        other.answer();
        assert!(other.ask("claim x 600000").starts_with("held"));
        other.signal(Signal::SIGSTOP);
        assert!(matches!(claims.claim(b"x", long), Err(ClaimError::Held { node: 1, .. })));
        other.kill();
        // Neither is the next one that joins as its node.
        let mut next = peer!("fleet", directory(&place), "1");
        next.answer();
        drop(claims.claim(b"x", long).unwrap());
        assert!(next.ask("claim x 600000").starts_with("held"));
        assert_eq!(next.ask("release"), "released");
        drop(claims.claim(b"x", long).unwrap());
    }
}

#[test]
fn of_eight_claimants_one_holds_at_a_time_whatever_dies() {
    let place = Place::in_memory();
    let counter = place.file("counter");
    fs::write(&counter, "0").unwrap();
    let mut peers: Vec<_> =
        (0..8).map(|node| peer!("fleet", directory(&place), node.to_string())).collect();
    for peer in &mut peers {
        peer.answer();
    }
    for peer in &mut peers {
        peer.tell(&format!("contend x {} 25", counter.display()));
    }
    let told: u64 = peers.iter_mut().map(|peer| peer.answer().parse::<u64>().unwrap()).sum();
    assert_eq!(fs::read_to_string(&counter).unwrap(), "200", "two held at once");
    assert!(told > 0, "nobody was ever told that another one holds it");
    // One dies while it holds or claims: the others go on.
    for victim in 0..4 {
        for peer in &mut peers[victim..] {
            peer.tell(&format!("contend y{victim} {} 5", counter.display()));
        }
        thread::sleep(Duration::from_millis(5));
        peers[victim].kill();
        for peer in &mut peers[victim + 1..] {
            peer.answer();
        }
    }
}

#[test]
fn claims_that_would_push_out_a_living_one_are_refused() {
    let place = Place::in_memory();
    let (left, right) = (join(&place, 0), join(&place, 1));
    let config = RingConfig { capacity: 64, max_payload: 64 };
    let ours = Claims::open(&left, CLAIMS, &config).unwrap();
    let theirs = Claims::open(&right, CLAIMS, &config).unwrap();
    let long = Duration::from_secs(600);
    let guard = ours.claim(b"old", long).unwrap();
    let start = Instant::now();
    let refused = loop {
        match theirs.claim(b"new", long) {
            Ok(guard) => drop(guard),
            Err(error) => break error,
        }
        assert!(start.elapsed() < shm_tests::WAIT);
    };
    let full = |error: &ClaimError| matches!(error, ClaimError::Full { node: 0, subject } if subject == b"old");
    assert!(full(&refused), "{refused}");
    assert!(guard.is_held().unwrap());
    guard.renew(long).unwrap();
    drop(theirs.claim(b"new", long).unwrap());
    // Renewals alone push nobody out either.
    let mine = theirs.claim(b"new", long).unwrap();
    let refused = loop {
        if let Err(error) = mine.renew(long) {
            break error;
        }
        assert!(start.elapsed() < shm_tests::WAIT);
    };
    assert!(full(&refused), "{refused}");
    assert!(guard.is_held().unwrap() && mine.is_held().unwrap());
}
