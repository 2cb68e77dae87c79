//! Who owns a data file: one process at a time, whoever opens, waits, dies or is killed
//! meanwhile; and who reads it: as many as live.
//!
//! `SHM_TEST_ROUNDS=10000`, `SHM_TEST_KILLS=1000` and `SHM_TEST_FAILOVERS=100` are the whole
//! forms.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, Flock, FlockArg, fcntl},
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shm_primitives::lease::{HEADERS_AT, PAGE_SIZE, SLOTS};
use shm_tests::{
    Place, WAIT, amount, eventually, monotonic, ownerships, peer, peer_command, process::Peer,
};
use shm_transport::{
    Deadline, Lease, LeaseError, LeasePolicy,
    lease::{
        BeatError, Damage, DataFileError, Generation, LeaseHeader, LeaseHeaderError, LeaseState,
        Outcome, Ownership, ReaderError,
    },
};

const OPENERS: usize = 8;

/// A data file to lease.
fn data_file(place: &Place) -> PathBuf {
    let path = place.file("data");
    fs::write(&path, "contents").unwrap();
    path
}

fn shm_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-shm");
    name.into()
}

fn openers(path: &Path) -> Vec<Peer> {
    (0..OPENERS).map(|_| peer!("lease", path)).collect()
}

/// What an opener answers: whether it is the owner, its outcome and generation.
fn parse(answer: &str) -> (bool, String, u64) {
    let words: Vec<&str> = answer.split(' ').collect();
    let [role @ ("owner" | "guest"), outcome, generation] = words[..] else {
        panic!("no lease: {answer}");
    };
    (role == "owner", outcome.into(), generation.parse().unwrap())
}

#[test]
fn of_simultaneous_processes_one_is_the_owner_fresh_after_a_close_and_after_a_death() {
    let place = Place::new();
    let path = data_file(&place);
    let mut peers = openers(&path);
    let mut expected = "Created";
    let mut last = 0;
    for round in 0..amount("SHM_TEST_ROUNDS", 100) {
        let at = monotonic() + 300_000;
        for peer in &mut peers {
            peer.tell(&format!("open-at {at}"));
        }
        let answers: Vec<_> = peers.iter_mut().map(|peer| parse(&peer.answer())).collect();
        let owners: Vec<_> = (0..OPENERS).filter(|at| answers[*at].0).collect();
        assert_eq!(owners.len(), 1, "round {round}: {answers:?}");
        let owner = owners[0];
        assert_eq!(answers[owner].1, expected, "round {round}");
        let generation = answers[owner].2;
        assert!(generation > last, "round {round}: {generation} after {last}");
        last = generation;
        for (at, (_, outcome, seen)) in answers.iter().enumerate() {
            assert!(at == owner || outcome == "Attached", "round {round}: {answers:?}");
            assert_eq!(*seen, generation, "round {round}: {answers:?}");
        }
        expected = match round % 3 {
            0 => {
                peers[owner].kill();
                peers[owner] = peer!("lease", &path);
                "Recovered"
            }
            1 => "Reopened",
            _ => "Created",
        };
        for peer in &mut peers {
            assert_eq!(peer.ask("drop"), "dropped");
        }
        if expected == "Created" {
            fs::remove_file(shm_of(&path)).unwrap();
        }
    }
    assert_eq!(fs::read_to_string(path).unwrap(), "contents");
}

#[test]
fn of_simultaneous_threads_one_is_the_owner() {
    let place = Place::new();
    let path = data_file(&place);
    let rounds = amount("SHM_TEST_ROUNDS", 500);
    let barrier = Barrier::new(OPENERS);
    let newest = AtomicU64::new(0);
    let owners = AtomicU64::new(0);
    // Not asserted on the threads: the others would wait for ever.
    let wrong = Mutex::new(Vec::new());
    let race = |number: usize| {
        for round in 0..rounds {
            if number == 0 && round % 2 == 0 {
                let _ = fs::remove_file(shm_of(&path));
            }
            barrier.wait();
            let lease = Lease::open(&path);
            let generation = match &lease {
                Ok(lease) => lease.generation().map_or(0, Generation::get),
                Err(_) => 0,
            };
            if lease.as_ref().is_ok_and(Lease::is_owner) {
                owners.fetch_add(1, Ordering::Relaxed);
                if newest.swap(generation, Ordering::Relaxed) >= generation {
                    wrong.lock().unwrap().push(format!("round {round}: not newer: {lease:?}"));
                }
            }
            barrier.wait();
            let seen = (owners.load(Ordering::Relaxed), newest.load(Ordering::Relaxed));
            if seen != (round + 1, generation) {
                wrong.lock().unwrap().push(format!("round {round}: {seen:?}, {lease:?}"));
            }
            drop(lease);
            barrier.wait();
            if !wrong.lock().unwrap().is_empty() {
                break;
            }
        }
    };
    thread::scope(|scope| {
        for number in 0..OPENERS {
            let race = &race;
            scope.spawn(move || race(number));
        }
    });
    assert_eq!(wrong.into_inner().unwrap(), Vec::<String>::new());
}

#[test]
fn openers_killed_at_any_time_leave_a_lease_that_opens() {
    let place = Place::new();
    let path = data_file(&place);
    let log = place.file("log");
    fs::write(&log, "").unwrap();
    let start = || {
        let mut peer = peer!("lease-churn", &path, &log);
        assert_eq!(peer.answer(), "churning");
        peer
    };
    let mut peers: Vec<_> = (0..3).map(|_| start()).collect();
    let kills = amount("SHM_TEST_KILLS", 60);
    for round in 0..kills {
        thread::sleep(Duration::from_micros(round * 7919 % 3000));
        let victim = round as usize % peers.len();
        assert!(peers[victim].is_running(), "it found an error");
        peers[victim].kill();
        let lease = Lease::open(&path).unwrap();
        assert!(!matches!(lease.outcome(), Outcome::Healed(_)), "{:?}", lease.outcome());
        drop(lease);
        peers[victim] = start();
    }
    drop(peers);
    assert!(ownerships(&log) as u64 > kills);
    let lease = Lease::open(&path).unwrap();
    assert!(lease.is_owner());
    assert_eq!(lease.reader_count().unwrap(), 0);
}

#[test]
fn a_waiter_takes_over_when_the_owner_dies_and_one_only() {
    let place = Place::new();
    let path = data_file(&place);
    let mut peers: Vec<_> = (0..4).map(|_| peer!("lease", &path)).collect();
    let (mut is_owner, _, mut generation) = parse(&peers[0].ask("open"));
    assert!(is_owner);
    for peer in &mut peers[1..] {
        assert!(!parse(&peer.ask("open")).0);
    }
    let mut latencies = Vec::new();
    for round in 0..amount("SHM_TEST_FAILOVERS", 8) {
        for peer in &mut peers[1..] {
            peer.tell("wait 60000");
        }
        thread::sleep(Duration::from_millis(round * 7 % 20));
        let killed = Instant::now();
        peers[0].kill();
        let winner = eventually(|| {
            (1..peers.len()).find_map(|at| Some((at, peers[at].answer_within(Duration::ZERO)?)))
        });
        latencies.push(killed.elapsed());
        let (winner, (owner, outcome, newer)) = (winner.0, parse(&winner.1));
        assert!(owner && outcome == "Recovered" && newer > generation);
        generation = newer;
        // The others wait on.
        for (at, peer) in peers.iter_mut().enumerate().skip(1) {
            assert!(at == winner || peer.answer_within(Duration::from_millis(10)).is_none());
        }
        peers.swap(0, winner);
        let reading = Lease::read_header(&path).unwrap();
        assert_eq!(reading.ownership, Ownership::Owned(reading.header.generation));
        assert_eq!(reading.header.pid, peers[0].pid());
        // A new field of waiters.
        for peer in &mut peers[1..] {
            *peer = peer!("lease", &path);
            is_owner = parse(&peer.ask("open")).0;
            assert!(!is_owner);
        }
    }
    latencies.sort();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    println!("take-over after a kill: median {:?}, longest {:?}", at(50), at(100));
}

#[test]
fn waiting_ends_at_its_deadline_and_when_the_owner_leaves() {
    let place = Place::new();
    let path = data_file(&place);
    let mut owner = Lease::open(&path).unwrap();
    assert_eq!(owner.wait_for_ownership(Deadline::NOW).unwrap(), Outcome::Created);
    let mut waiter = Lease::open(&path).unwrap();
    assert!(matches!(waiter.beat(), Err(BeatError::NotOwner)));
    assert!(matches!(waiter.wait_for_ownership(Deadline::NOW), Err(LeaseError::TimedOut)));
    let begun = Instant::now();
    let waited = waiter.wait_for_ownership(Duration::from_millis(30));
    assert!(matches!(waited, Err(LeaseError::TimedOut)));
    assert!(begun.elapsed() >= Duration::from_millis(30));
    let leaving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(owner);
    });
    assert_eq!(waiter.wait_for_ownership(Deadline::NEVER).unwrap(), Outcome::Reopened);
    assert!(waiter.is_owner());
    leaving.join().unwrap();
    waiter.beat().unwrap();
}

#[test]
fn the_count_of_readers_is_exact_whoever_is_killed() {
    let place = Place::new();
    let path = data_file(&place);
    let mut owner = Lease::open(&path).unwrap();
    // They stay through all of it, and so do their pins.
    let mut mine: Vec<_> = (0..5).map(|at| owner.attach_reader(900 + at).unwrap()).collect();
    let (processes, each) = (4, 5);
    for round in 0..amount("SHM_TEST_KILLS", 60).div_ceil(processes * each) {
        let mut peers: Vec<_> = (0..processes).map(|_| peer!("lease", &path)).collect();
        for (at, peer) in peers.iter_mut().enumerate() {
            assert!(!parse(&peer.ask("open")).0);
            for reader in 0..each {
                peer.ask(&format!("attach {}", 100 * (at as u64 + 1) + reader));
            }
        }
        for (gone, mut peer) in peers.into_iter().enumerate() {
            let (left, oldest) = (processes - gone as u64, 100 * (gone as u64 + 1));
            assert_eq!(u64::from(owner.reader_count().unwrap()), left * each + 5);
            assert_eq!(owner.oldest_pin().unwrap(), Some(oldest));
            peer.kill();
        }
        assert_eq!(owner.reader_count().unwrap(), 5, "round {round}");
        assert_eq!(owner.oldest_pin().unwrap(), Some(900));
        owner.beat().unwrap();
        let reading = owner.header().unwrap();
        assert_eq!(reading.header.readers, 5);
        // What the dead left behind is not mistaken for readers.
        assert_eq!(reading.readers.len(), 5);
        assert!(reading.readers.iter().all(|slot| slot.record.unwrap().pid == process::id()));
    }
    mine.remove(0);
    assert_eq!(owner.oldest_pin().unwrap(), Some(901));
    drop(mine);
    assert_eq!((owner.reader_count().unwrap(), owner.oldest_pin().unwrap()), (0, None));
}

#[test]
fn readers_killed_while_they_attach_pin_and_detach_are_not_counted() {
    let place = Place::new();
    let path = data_file(&place);
    let owner = Lease::open(&path).unwrap();
    let _mine = owner.attach_reader(5000).unwrap();
    for round in 0..amount("SHM_TEST_KILLS", 40) {
        let mut peer = peer!("lease", &path);
        peer.ask("open");
        assert_eq!(peer.ask("churn-readers"), "churning");
        let end = Instant::now() + Duration::from_micros(round * 7919 % 2000);
        while Instant::now() < end {
            let (count, oldest) = (owner.reader_count().unwrap(), owner.oldest_pin().unwrap());
            assert!((1..=2).contains(&count), "{count}");
            assert!(oldest.is_some_and(|oldest| oldest >= 1000), "{oldest:?}");
        }
        peer.kill();
        assert_eq!((owner.reader_count().unwrap(), owner.oldest_pin().unwrap()), (1, Some(5000)));
    }
}

#[test]
fn a_moving_pin_is_never_missed_and_equal_pins_do_not_end_each_other() {
    let place = Place::new();
    let path = data_file(&place);
    let owner = Lease::open(&path).unwrap();
    let other = Lease::open(&path).unwrap();
    let mut readers = [owner.attach_reader(7).unwrap(), other.attach_reader(7).unwrap()];
    readers[0].pin(8).unwrap();
    assert_eq!(owner.oldest_pin().unwrap(), Some(7));
    readers[1].pin(8).unwrap();
    readers[1].pin(8).unwrap();
    assert_eq!(owner.oldest_pin().unwrap(), Some(8));
    let [mut stays, moves] = readers;
    drop(moves);
    assert_eq!((owner.reader_count().unwrap(), owner.oldest_pin().unwrap()), (1, Some(8)));
    // What is pinned only rises: an answer beyond the position before is wrong.
    let reached = AtomicU64::new(8);
    thread::scope(|scope| {
        let (reached, owner) = (&reached, &owner);
        scope.spawn(move || {
            for position in 9..20_000 {
                reached.store(position, Ordering::SeqCst);
                stays.pin(position).unwrap();
            }
            stays.pin(1 << 60).unwrap();
            reached.store(1 << 60, Ordering::SeqCst);
        });
        while reached.load(Ordering::SeqCst) < 1 << 60 {
            let oldest = owner.oldest_pin().unwrap();
            let reached = reached.load(Ordering::SeqCst);
            if reached < 19_000 {
                assert!(oldest.is_some_and(|oldest| oldest <= reached), "{oldest:?}, {reached}");
            }
        }
    });
    assert_eq!(owner.oldest_pin().unwrap(), None);
}

#[test]
fn slots_and_positions_have_limits_that_are_told() {
    let place = Place::new();
    let path = data_file(&place);
    let owner = Lease::open(&path).unwrap();
    let max = (1 << 61) - 1;
    let mut readers: Vec<_> = (0..SLOTS).map(|_| owner.attach_reader(max).unwrap()).collect();
    let full = owner.attach_reader(3).unwrap_err();
    assert!(matches!(full, ReaderError::Full { slots: SLOTS }), "{full:?}");
    // Who was refused has pinned nothing.
    assert_eq!(owner.oldest_pin().unwrap(), Some(max));
    assert_eq!(owner.reader_count().unwrap(), SLOTS);
    readers.pop();
    let mut reader = owner.attach_reader(3).unwrap();
    assert!(matches!(reader.pin(max + 1), Err(ReaderError::Position { .. })));
    assert_eq!((reader.position(), owner.oldest_pin().unwrap()), (3, Some(3)));
}

#[test]
fn readers_outlive_their_lease_and_a_change_of_owner() {
    let place = Place::new();
    let path = data_file(&place);
    let owner = Lease::open(&path).unwrap();
    let mut second = Lease::open(&path).unwrap();
    let of_owner = owner.attach_reader(10).unwrap();
    let mut peer = peer!("lease", &path);
    peer.ask("open");
    peer.ask("attach 20");
    drop(owner);
    second.wait_for_ownership(WAIT).unwrap();
    assert_eq!(second.oldest_pin().unwrap(), Some(10));
    drop(of_owner);
    assert_eq!((second.reader_count().unwrap(), second.oldest_pin().unwrap()), (1, Some(20)));
    assert_eq!(peer.ask("readers"), "Ok(1) Ok(Some(20))");
}

/// Leaves a header that names a process as the owner, and nobody that has the lock.
fn leave_header(path: &Path, pid: u32) {
    let header = LeaseHeader {
        pid,
        generation: Generation::new(5).unwrap(),
        incarnation: 1,
        readers: 0,
        state: LeaseState::Owned,
        heartbeat: u64::MAX,
    };
    let mut page = vec![0; PAGE_SIZE];
    for at in HEADERS_AT {
        page[at..at + 64].copy_from_slice(&header.encode());
    }
    fs::write(shm_of(path), page).unwrap();
}

#[test]
fn a_living_process_of_the_owners_number_is_not_the_owner() {
    let place = Place::new();
    let path = data_file(&place);
    let bystander = peer!("lease", &path);
    for pid in [0, 1, process::id(), process::id() + 1, bystander.pid(), u32::MAX] {
        leave_header(&path, pid);
        let reading = Lease::read_header(&path).unwrap();
        assert_eq!((reading.ownership, reading.header.pid), (Ownership::Free, pid));
        let lease = Lease::open(&path).unwrap();
        assert_eq!((lease.outcome(), lease.is_owner()), (Outcome::Recovered, true), "{pid}");
        assert!(lease.generation() > Generation::new(5));
    }
}

#[test]
fn an_owner_in_another_pid_namespace_is_seen_to_live_and_to_die() {
    let place = Place::new();
    let path = data_file(&place);
    let mut inside = peer!("lease-in-namespace", &path);
    let answer = inside.answer();
    if answer != "inside 1" {
        println!("not shown: {answer}");
        return;
    }
    let (owns, _, generation) = parse(&inside.ask("open"));
    assert!(owns);
    let reading = Lease::read_header(&path).unwrap();
    assert_eq!(reading.header.pid, 1, "its own number, which is another's here");
    let mut outside = Lease::open(&path).unwrap();
    assert_eq!(outside.outcome(), Outcome::Attached);
    assert_eq!(outside.generation().unwrap().get(), generation);
    assert!(matches!(outside.wait_for_ownership(Deadline::NOW), Err(LeaseError::TimedOut)));
    inside.kill();
    assert_eq!(outside.wait_for_ownership(WAIT).unwrap(), Outcome::Recovered);
    // And the other way round.
    let mut inside = peer!("lease-in-namespace", &path);
    assert_eq!(inside.answer(), "inside 1");
    let (owns, outcome, generation) = parse(&inside.ask("open"));
    assert_eq!((owns, outcome.as_str()), (false, "Attached"));
    assert_eq!(generation, outside.generation().unwrap().get());
    drop(outside);
    assert!(parse(&inside.ask("wait 10000")).0);
}

#[test]
fn a_forked_child_keeps_nothing_of_its_parent() {
    let place = Place::new();
    let path = data_file(&place);
    let mut parent = peer!("lease", &path);
    parent.ask("open");
    assert_eq!(parent.ask("attach 5"), "attached 1");
    parent.tell("fork");
    let mut answers = [parent.answer(), parent.answer()];
    answers.sort();
    let [child, said] = answers;
    assert_eq!(said, "the child has nothing");
    let child = Pid::from_raw(child.parse().unwrap());
    let guest = Lease::open(&path).unwrap();
    assert_eq!(guest.outcome(), Outcome::Attached);
    assert_eq!(guest.oldest_pin().unwrap(), Some(5));
    assert_eq!(guest.header().unwrap().header.state, LeaseState::Owned);
    assert_eq!(guest.header().unwrap().readers[0].record.unwrap().position, 5);
    drop(guest);
    parent.kill();
    kill(child, None).expect("the child lives");
    let next = Lease::open(&path).unwrap();
    assert_eq!(next.outcome(), Outcome::Recovered);
    assert_eq!(next.reader_count().unwrap(), 0);
    kill(child, Signal::SIGKILL).unwrap();
}

#[test]
fn a_forked_child_of_its_parents_number_keeps_nothing_either() {
    let place = Place::new();
    let path = data_file(&place);
    let mut parent = peer!("lease-in-namespace", &path);
    let answer = parent.answer();
    if answer != "inside 1" {
        println!("not shown: {answer}");
        return;
    }
    parent.ask("open");
    parent.ask("attach 5");
    // The child's number is 1 as well, in its own namespace.
    parent.tell("fork-inside");
    let answers = [parent.answer(), parent.answer()];
    assert!(answers.contains(&"the child has nothing".to_owned()), "{answers:?}");
    let guest = Lease::open(&path).unwrap();
    assert_eq!(guest.outcome(), Outcome::Attached);
    assert_eq!(guest.oldest_pin().unwrap(), Some(5));
    assert_eq!(guest.header().unwrap().header.state, LeaseState::Owned);
}

#[test]
fn handles_can_be_sent_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Lease>();
    is_send::<shm_transport::lease::Reader>();
}

#[test]
fn leases_and_readers_leave_no_descriptor() {
    let place = Place::new();
    assert_eq!(peer!("lease", data_file(&place)).ask("leak"), "ok");
}

#[test]
fn the_policy_is_the_codes_and_then_the_environments() {
    let place = Place::new();
    let path = data_file(&place);
    let with = |value: &str| Peer::start(peer_command!("lease", &path).env("SHM_LEASE", value));
    let mut off = with("off");
    assert_eq!(off.ask("open"), "guest Off 0");
    assert_eq!(off.ask("beat"), "Err(Off)");
    assert_eq!(off.ask("attach 1"), "error Off");
    assert_eq!(off.ask("wait 0"), "error Off");
    assert_eq!(off.ask("readers"), "Err(Off) Err(Off)");
    assert!(!shm_of(&path).exists());
    assert!(parse(&off.ask("open-on")).0);
    assert!(!parse(&with("on").ask("open")).0);
    for value in ["", "On", "0", "no"] {
        let answer = with(value).ask("open");
        assert_eq!(answer, format!("error Variable({value:?})"));
    }
    let off = Lease::builder().policy(LeasePolicy::Off).open(&path).unwrap();
    assert_eq!((off.outcome(), off.is_owner(), off.generation()), (Outcome::Off, false, None));
    assert!(matches!(off.header(), Err(LeaseHeaderError::Off)));
}

#[test]
fn what_cannot_be_leased_says_why() {
    let place = Place::new();
    let missing = place.file("missing");
    let opened = |path: &Path| match Lease::open(path) {
        Err(LeaseError::Data(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(opened(&missing), DataFileError::Missing(missing.clone()));
    let below = data_file(&place).join("below");
    assert_eq!(opened(&below), DataFileError::Missing(below.clone()));
    let directory = place.file("directory");
    fs::create_dir(&directory).unwrap();
    let pipe = place.file("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [directory, pipe, "/dev/null".into()] {
        assert_eq!(opened(&path), DataFileError::NotAFile(path.clone()));
        assert!(!shm_of(&path).exists());
    }
    let error = Lease::read_header(&missing).unwrap_err();
    assert!(matches!(error, LeaseHeaderError::Data(DataFileError::Missing(_))));
    let error = Lease::read_header(data_file(&place)).unwrap_err();
    let missing =
        LeaseHeaderError::Damaged { path: place.file("data-shm"), damage: Damage::Missing };
    assert_eq!(format!("{error:?}"), format!("{missing:?}"));
}

#[test]
fn who_may_only_read_reads_the_header() {
    if !rustix::process::geteuid().is_root() {
        println!("not shown: only the superuser can become somebody else");
        return;
    }
    let place = Place::new();
    let path = data_file(&place);
    fs::set_permissions(place.file(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut nobody = peer!("lease", &path);
    assert_eq!(nobody.ask("nobody"), "nobody");
    let answer = nobody.ask("open");
    assert!(answer.starts_with("error Data(NotPermitted("), "{answer}");
    let owner = Lease::open(&path).unwrap();
    assert_eq!(fs::metadata(shm_of(&path)).unwrap().mode() & 0o777, 0o644);
    let generation = owner.generation().unwrap();
    let answer = nobody.ask("read");
    assert!(answer.starts_with(&format!("Owned({generation:?}) LeaseHeader")), "{answer}");
    drop(owner);
    assert!(nobody.ask("read").starts_with("Free"));
    // It may write the data, and nothing beside it.
    fs::remove_file(shm_of(&path)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let answer = nobody.ask("open");
    assert!(answer.starts_with("error File(NotPermitted("), "{answer}");
    assert!(Lease::open(&path).unwrap().is_owner());
}

#[test]
fn each_name_of_a_data_file_leads_to_the_same_lease() {
    let place = Place::new();
    let path = data_file(&place);
    let link = place.file("link");
    symlink("data", &link).unwrap();
    let owner = Lease::open(&link).unwrap();
    assert!(shm_of(&path).exists() && !shm_of(&link).exists());
    assert_eq!(Lease::open(&path).unwrap().outcome(), Outcome::Attached);
    // A hard link has a file of its own beside it, but the locks are those of the data.
    let hard = place.file("hard");
    fs::hard_link(&path, &hard).unwrap();
    let second = Lease::open(&hard).unwrap();
    assert_eq!(second.outcome(), Outcome::Attached);
    assert_eq!(second.generation(), owner.generation());
    let _reader = second.attach_reader(4).unwrap();
    assert_eq!(owner.oldest_pin().unwrap(), Some(4));
}

#[test]
fn a_replaced_data_file_is_another_one() {
    let place = Place::new();
    let path = data_file(&place);
    let mut old = Lease::open(&path).unwrap();
    let mut waiting = Lease::open(&path).unwrap();
    let mut reader = old.attach_reader(1).unwrap();
    fs::write(place.file("new"), "new contents").unwrap();
    fs::rename(place.file("new"), &path).unwrap();
    let replaced = DataFileError::Replaced(path.clone());
    assert!(matches!(old.beat(), Err(BeatError::Data(error)) if error == replaced));
    let waited = waiting.wait_for_ownership(WAIT);
    assert!(matches!(waited, Err(LeaseError::Data(error)) if error == replaced));
    let attached = old.attach_reader(2);
    assert!(matches!(attached, Err(ReaderError::Data(error)) if error == replaced));
    // Those of the old file go on among themselves.
    reader.pin(3).unwrap();
    assert_eq!(waiting.oldest_pin().unwrap(), Some(3));
    let new = Lease::open(&path).unwrap();
    assert!(new.is_owner() && new.generation() > old.generation());
    assert_eq!(new.reader_count().unwrap(), 0);
    let generation = new.generation();
    drop(old);
    assert_eq!(Some(new.header().unwrap().header.generation), generation);
    assert_eq!(new.header().unwrap().header.state, LeaseState::Owned);
}

#[test]
fn other_locks_on_the_data_file_are_not_in_the_way() {
    let place = Place::new();
    let path = data_file(&place);
    let open = || fs::File::options().read(true).write(true).open(&path).unwrap();
    let flock = Flock::lock(open(), FlockArg::LockExclusiveNonblock).unwrap();
    let lease = Lease::open(&path).unwrap();
    assert!(lease.is_owner());
    drop(flock);
    let lock = |start, len| libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    // As SQLite does.
    let file = open();
    fcntl(&file, FcntlArg::F_OFD_SETLK(&lock(1 << 30, 512))).unwrap();
    assert_eq!(lease.oldest_pin().unwrap(), None);
    assert_eq!(Lease::open(&path).unwrap().outcome(), Outcome::Attached);
    // All of the file: the owner was first.
    let all = fcntl(&file, FcntlArg::F_OFD_SETLK(&lock(0, 0)));
    assert_eq!(all, Err(Errno::EAGAIN));
    drop(lease);
    fcntl(&file, FcntlArg::F_OFD_SETLK(&lock(0, 0))).unwrap();
    let opened = Lease::open(&path);
    assert!(matches!(opened, Err(LeaseError::Busy(_))), "{opened:?}");
    drop(file);
    assert_eq!(Lease::open(&path).unwrap().outcome(), Outcome::Reopened);
}
