//! A process is killed in the middle of an operation, and the one that comes upon what it
//! left is killed in the middle of that: the third one finds all that was committed, once,
//! and goes on. See `shm_tests::steps`.
//!
//! Any of the first one's instructions with any of the second one's would be hundreds of
//! millions of pairs, so some of each are paired. `SHM_TEST_PAIRS=40` is the whole form: about
//! 40 of either, others of the second for each of the first.

use std::{cell::RefCell, collections::HashSet, fs, path::Path, thread, time::Duration};

use shm_tests::{
    Place, WAIT, eventually,
    fleet::{Content, NAME, NODES, RING, STEPPED},
    pattern::{matches, message},
    steps::{
        Strike, Sweep, Victim, alone,
        operation::Operation,
        scene::{command, names},
    },
};
use shm_transport::{
    Guest, Lease, LinkEnd, RecvError,
    fleet::{Fleet, Start},
    lease::{Beat, Generation},
};

const HELPER: &str = env!("CARGO_BIN_EXE_peer");

fn kill(strike: &mut Strike<'_>, role: &str, path: &Path, what: &str) {
    kill_started(strike, &Victim::start(&mut command(HELPER, role, path, what)));
}

/// It is killed when it is dropped.
fn kill_started(strike: &mut Strike<'_>, victim: &Victim) {
    victim.wait_for_begin();
    strike.run(victim);
}

/// Two openers of a lease are killed; the third owns it, in a generation of its own.
fn kill_openers(name: &str, outcomes: &[&'static str], spoil: impl Fn(&Path)) {
    let _alone = alone();
    let place = Place::new();
    let path = place.file("data");
    fs::write(&path, "contents").expect("a data file");
    let newest: RefCell<Option<Generation>> = RefCell::default();
    // The generation of an owner that was killed, if it came so far.
    let note = || {
        let reading = Lease::read_header(&path).ok();
        let generation = reading.map(|reading| reading.header.generation);
        let mut newest = newest.borrow_mut();
        assert!(generation.is_none() || generation >= *newest, "{generation:?}, {newest:?}");
        *newest = generation.max(*newest);
    };
    Sweep { name, outcomes, sleeps: false }.run_pairs(
        |strike| {
            spoil(&place.file("data-shm"));
            kill(strike, "stepped-lease", &path, "open");
            note();
        },
        |strike| {
            kill(strike, "stepped-lease", &path, "open");
            note();
            let mut third = Lease::open(&path).expect("a lease");
            assert!(third.is_owner());
            assert!(third.generation() > *newest.borrow());
            *newest.borrow_mut() = third.generation();
            assert_eq!(third.beat().expect("the owner"), Beat::Sound);
            assert_eq!(names(&path), ["data", "data-shm"]);
            let outcome = format!("{:?}", third.outcome());
            let outcome = outcome.split('(').next().expect("a word");
            outcomes.iter().find(|known| **known == outcome).unwrap_or_else(|| panic!("{outcome}"))
        },
    );
}

#[test]
fn a_lease_has_one_owner_of_a_higher_generation_after_two_openers_died() {
    kill_openers("lessees, open, open", &["Created", "Recovered"], |shm| {
        let _ = fs::remove_file(shm);
    });
    kill_openers("lessees, heal, heal", &["Healed", "Recovered"], |shm| {
        fs::write(shm, [0x5a; 4096]).expect("spoilt");
    });
}

#[test]
fn each_frame_of_a_fleet_is_read_once_after_two_lives_of_a_member_ended_publishing() {
    let _alone = alone();
    let place = Place::in_memory();
    let directory = place.file("fleets");
    let join = |node| {
        let builder = Fleet::builder().directory(&directory).nodes(NODES);
        builder.join(NAME, node).expect("joined")
    };
    let fleet = join(1);
    let ring = fleet.ring(RING, &STEPPED).expect("the ring");
    let mut cursor = ring.cursor(Start::Oldest);
    let mut ids = HashSet::new();
    let life = RefCell::new(0u64);
    let kill_next = |strike: &mut Strike<'_>, what: &str| {
        *life.borrow_mut() += 1;
        let mut command = command(HELPER, "stepped-member", &directory, what);
        kill_started(strike, &Victim::start(command.arg(life.borrow().to_string())));
    };
    let outcomes = &["one frame", "two frames", "three frames"];
    Sweep { name: "members, publish, join", outcomes, sleeps: false }.run_pairs(
        |strike| kill_next(strike, "publish"),
        |strike| {
            kill_next(strike, "join");
            let (first, second) = (*life.borrow() - 1, *life.borrow());
            // The third life of the node, and another one.
            let third = join(0);
            let third_ring = third.ring(RING, &STEPPED).expect("the ring");
            let content = Content { node: 0, life: second + 1, sequence: 0 };
            let own = third_ring.publish(0, 1, &content.bytes()).expect("published");
            let other = ring.publish(0, 1, b"other").expect("published");
            let mut lives = Vec::new();
            while let Some(next) = cursor.next().expect("sound") {
                assert_eq!(next.lost, 0);
                assert!(ids.insert(next.frame.id()), "{} twice", next.frame.id());
                let again = third_ring.read(next.frame.id()).expect("sound");
                assert_eq!(again.as_ref(), Some(&next.frame));
                if next.frame.id() != other.id {
                    let content = Content::check(&next.frame).expect("whole");
                    lives.push((content.life, content.sequence));
                }
            }
            assert!(ids.contains(&own.id) && ids.contains(&other.id));
            assert_eq!(lives.pop(), Some((second + 1, 0)));
            // What was committed before the kill of the first, then perhaps its last frame,
            // and perhaps the first of the second.
            let all = [(first, 0), (first, 1), (second, 0)];
            let expected: Vec<_> = all.into_iter().filter(|frame| lives.contains(frame)).collect();
            assert_eq!((lives.first(), &lives), (Some(&all[0]), &expected));
            *life.borrow_mut() += 1;
            outcomes[lives.len() - 1]
        },
    );
    fleet.unlink().expect("unlinked");
}

/// The third host serves a guest, and leaves nothing.
fn serves(place: &Place) {
    let mut host = place.small_host();
    thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let mut guest = Guest::attach(place.hub(), WAIT).expect("attached");
            guest.link.send(&message(0, 10), WAIT).expect("sent");
            guest.detach(WAIT).expect("detached");
        });
        let mut link = host.accept(WAIT).expect("a guest");
        assert!(matches(0, &link.recv(WAIT).expect("received").to_bytes()));
        let end = link.recv(WAIT).map(drop);
        assert!(matches!(end, Err(RecvError::Ended(LinkEnd::Departed))), "{end:?}");
        guest.join().expect("it returns");
    });
    drop(host);
    assert!(names(&place.hub()).is_empty());
}

#[test]
fn a_path_is_served_after_two_hosts_died_making_their_hubs() {
    let _alone = alone();
    let place = Place::new();
    let outcomes = &["nothing", "a lock", "a hidden socket", "both sockets", "a socket"];
    Sweep { name: "hosts, create, create", outcomes, sleeps: false }.run_pairs(
        |strike| kill(strike, "stepped-serve", &place.hub(), "create"),
        |strike| {
            kill(strike, "stepped-serve", &place.hub(), "create");
            let left = names(&place.hub());
            let error = Guest::attach(place.hub(), Duration::ZERO).map(drop);
            assert!(error.is_err(), "nobody is there");
            serves(&place);
            match left.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                [] => "nothing",
                ["hub.lock"] => "a lock",
                ["hub.lock", "hub.new"] => "a hidden socket",
                ["hub", "hub.lock", "hub.new"] => "both sockets",
                ["hub", "hub.lock"] => "a socket",
                _ => panic!("{left:?}"),
            }
        },
    );
}

#[test]
fn a_path_is_served_after_a_guest_died_sending_and_its_host_receiving() {
    for operation in [Operation::SendFirstSlot, Operation::SendSealed, Operation::Drop] {
        let _alone = alone();
        let place = Place::new();
        let host: RefCell<Option<Victim>> = RefCell::default();
        let name = format!("guest, {operation}, then its host, drain");
        Sweep { name: &name, outcomes: &["served"], sleeps: false }.run_pairs(
            |strike| {
                let mut command = command(HELPER, "stepped-serve", &place.hub(), "drain");
                let serving = Victim::start(&mut command);
                eventually(|| place.hub().exists().then_some(()));
                kill(strike, "stepped-guest", &place.hub(), &operation.to_string());
                *host.borrow_mut() = Some(serving);
            },
            |strike| {
                let serving = host.borrow_mut().take().expect("it serves");
                kill_started(strike, &serving);
                drop(serving);
                assert_eq!(names(&place.hub()), ["hub", "hub.lock"]);
                serves(&place);
                "served"
            },
        );
    }
}
