//! A process is killed after each instruction of what it does with shared state: publishes
//! and follows a topic, joins a fleet, publishes and claims there, leases a data file. The
//! others find all that was committed and nothing else, and go on. See `shm_tests::steps`;
//! `SHM_TEST_STEPS=0` is the whole form. How a fleet is made is in `fleet_creation`.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use shm_tests::{
    Place, WAIT, eventually,
    fleet::{CLAIMS, Content, NAME, NODES, RING, STEPPED},
    pattern,
    steps::{
        Sweep, Victim, alone,
        operation::Operation,
        scene::{command, names},
    },
};
use shm_transport::{
    Guest, Host, Lease, LinkEnd, RecvError, Start, SubscriberError, TopicConfig,
    fleet::{Claims, Fleet, Start as FleetStart},
    lease::{Beat, Generation},
};

const HELPER: &str = env!("CARGO_BIN_EXE_peer");
const VALUES: &str = "values";
const MAX: usize = 24;

fn victim(role: &str, path: &Path, what: &str) -> Command {
    command(HELPER, role, path, what)
}

#[test]
fn of_a_value_published_there_is_all_or_nothing() {
    let _alone = alone();
    let place = Place::new();
    let outcomes = &["not published", "published"];
    Sweep { name: "host, publish", outcomes, sleeps: false }.run(|strike| {
        let victim = Victim::start(&mut victim("stepped-serve", &place.hub(), "publish"));
        let guest = eventually(|| Guest::attach(place.hub(), WAIT).ok());
        victim.wait_for_begin();
        let mut values = guest.subscribe(VALUES, Start::Oldest).expect("the topic");
        let mut next = guest.subscribe(VALUES, Start::Next).expect("the topic");
        strike.run(&victim);
        victim.kill();
        // Six were published, and four are kept.
        let (mut positions, mut lost) = (Vec::new(), 0);
        let end = loop {
            match values.next(WAIT) {
                Ok(value) => {
                    assert!(pattern::is_value(value.position, MAX, value.payload));
                    positions.push(value.position);
                    lost += value.lost;
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(end, SubscriberError::Ended(LinkEnd::PeerDead)), "{end:?}");
        // The oldest one is lost when the seventh is begun, and counted.
        let published = usize::from(positions.last() == Some(&6));
        assert_eq!(positions.len() as u64 + values.lost(), 4 + published as u64);
        assert!(positions.is_sorted() && lost <= values.lost());
        match next.next(WAIT) {
            Ok(value) => assert_eq!((value.position, published), (6, 1)),
            Err(SubscriberError::Ended(LinkEnd::PeerDead)) => assert_eq!(published, 0),
            Err(error) => panic!("{error:?}"),
        }
        outcomes[published]
    });
}

/// Kills guests that follow a topic. Their host goes on, and so do the others.
fn kill_subscribers(what: &str, outcomes: &[&'static str]) {
    let _alone = alone();
    let place = Place::new();
    let topic = TopicConfig { slots: 4, max_payload: MAX as u64 };
    let config = Operation::SendInline.config();
    let mut host = place.host(Host::builder().link(config).topic(VALUES, topic).max_guests(2));
    let mut publisher = host.hub().publisher(VALUES).expect("the topic");
    let mut publish = || {
        let position = publisher.published();
        publisher.publish(&pattern::value(position, MAX)).expect("published");
        position
    };
    let other = thread::scope(|scope| {
        let guest = scope.spawn(|| Guest::attach(place.hub(), WAIT).expect("attached"));
        (host.accept(WAIT).expect("a guest"), guest.join().expect("attached"))
    });
    let mut values = other.1.subscribe(VALUES, Start::Next).expect("the topic");
    publish();
    values.next(WAIT).expect("there");
    // Its way to tell the host of sleeps is made once, and kept.
    assert!(!values.arm().expect("armed"));
    let name = format!("guest, {what}");
    Sweep { name: &name, outcomes, sleeps: what == "sleep" }.run(|strike| {
        let victim = Victim::start(&mut victim("stepped-subscriber", host.path(), what));
        let mut link = host.accept(WAIT).expect("a guest");
        victim.wait_for_begin();
        let mut woken = 0;
        if what == "sleep" {
            strike.run_beside(&victim, || {
                woken += usize::from(woken == 0 && publish() > 0);
                true
            });
        } else {
            strike.run(&victim);
        }
        victim.kill();
        let end = link.recv(WAIT).map(drop);
        assert!(matches!(end, Err(RecvError::Ended(LinkEnd::PeerDead))), "{end:?}");
        drop(link);
        // The other one, which sleeps, misses nothing.
        let next = values.position() + woken as u64;
        thread::scope(|scope| {
            let sleeping = scope.spawn(|| {
                for _ in 0..=woken {
                    let value = values.next(WAIT).expect("published");
                    assert_eq!(value.lost, 0);
                    assert!(pattern::is_value(value.position, MAX, value.payload));
                }
            });
            assert_eq!(publish(), next);
            sleeping.join().expect("woken");
        });
        assert_eq!(host.hub().peers().len(), 1);
        outcomes[woken]
    });
}

#[test]
fn whoever_dies_reading_a_topic_takes_nothing_from_the_others() {
    kill_subscribers("read", &["read"]);
    kill_subscribers("newest", &["read"]);
}

#[test]
fn whoever_dies_asleep_on_a_topic_keeps_nobody_else_asleep() {
    kill_subscribers("arm", &["armed"]);
    kill_subscribers("sleep", &["not woken", "woken"]);
}

fn join(place: &Place) -> Fleet {
    let builder = Fleet::builder().directory(place.file("fleets")).nodes(NODES);
    builder.join(NAME, 1).expect("joined")
}

/// Kills members that publish, the life before with a frame of its own.
fn kill_members(what: &str, before: u64) {
    let _alone = alone();
    let place = Place::in_memory();
    let fleet = join(&place);
    let ring = fleet.ring(RING, &STEPPED).expect("the ring");
    let mut cursor = ring.cursor(FleetStart::Oldest);
    let (mut ids, mut life) = (HashSet::new(), 0);
    let name = format!("member, {what}");
    let outcomes = &["not committed", "committed"];
    Sweep { name: &name, outcomes, sleeps: false }.run(|strike| {
        life += 1;
        let mut command = victim("stepped-member", &place.file("fleets"), what);
        let victim = Victim::start(command.arg(life.to_string()));
        victim.wait_for_begin();
        strike.run(&victim);
        victim.kill();
        // Another member goes on.
        let own = ring.publish(0, 1, b"next").expect("published");
        let mut sequence = 0;
        while let Some(next) = cursor.next().expect("sound") {
            assert_eq!(next.lost, 0);
            assert!(ids.insert(next.frame.id()), "{} twice", next.frame.id());
            assert_eq!(ring.read(next.frame.id()).expect("sound").as_ref(), Some(&next.frame));
            if next.frame.id() == own.id {
                break;
            }
            let content = Content::check(&next.frame).expect("whole");
            assert_eq!(content, Content { node: 0, life, sequence });
            sequence += 1;
        }
        assert_eq!(cursor.position(), ring.end());
        assert!(
            !fleet
                .members()
                .expect("members")
                .iter()
                .any(|member| member.node == 0 && member.alive)
        );
        outcomes[sequence.checked_sub(before).expect("what was published before") as usize]
    });
    fleet.unlink().expect("unlinked");
}

#[test]
fn of_a_frame_of_a_fleet_there_is_all_or_nothing() {
    kill_members("publish", 1);
}

#[test]
fn whoever_dies_joining_a_fleet_leaves_its_node_to_the_next() {
    kill_members("join", 0);
}

/// Kills members that claim a subject or release it; the next claim succeeds.
fn kill_claimants(what: &str, outcomes: &[&'static str]) {
    let _alone = alone();
    let place = Place::in_memory();
    let fleet = join(&place);
    let claims = Claims::open(&fleet, CLAIMS, &STEPPED).expect("the claims");
    let mut token = None;
    let name = format!("member, {what}");
    Sweep { name: &name, outcomes, sleeps: false }.run(|strike| {
        let victim = Victim::start(victim("stepped-member", &place.file("fleets"), what).arg("0"));
        victim.wait_for_begin();
        strike.run(&victim);
        // It lives, so its claim stands.
        let holder = claims.holder(b"subject").expect("an answer");
        assert!(holder.is_none_or(|holder| (holder.node, holder.pid) == (0, victim.pid())));
        victim.kill();
        let guard = claims.claim(b"subject", WAIT).expect("nobody holds it");
        assert!(guard.is_held().expect("an answer"));
        assert!(Some(guard.token()) > token && holder.is_none_or(|of| guard.token() > of.token));
        token = Some(guard.token());
        if holder.is_some() { "held" } else { "free" }
    });
    fleet.unlink().expect("unlinked");
}

#[test]
fn whoever_dies_claiming_holds_nothing() {
    kill_claimants("claim", &["free", "held"]);
}

#[test]
fn whoever_dies_releasing_a_claim_holds_nothing() {
    kill_claimants("release", &["held", "free"]);
}

/// Kills processes that do something with a lease. `prepare` and `before` make the state that
/// the victim finds when it starts and when it begins; the next opener says what it left.
fn kill_lessees(
    what: &str,
    outcomes: &[&'static str],
    mut prepare: impl FnMut(&Path) -> Option<Lease>,
) {
    let _alone = alone();
    let place = Place::new();
    let path = place.file("data");
    fs::write(&path, "contents").expect("a data file");
    let mut newest: Option<Generation> = None;
    let role = what.split(' ').next().expect("a word");
    let name = format!("lessee, {what}");
    Sweep { name: &name, outcomes, sleeps: false }.run(|strike| {
        let owner = prepare(&path);
        newest = newest.max(owner.as_ref().and_then(Lease::generation));
        let victim = Victim::start(&mut victim("stepped-lease", &path, role));
        victim.wait_for_begin();
        drop(owner);
        strike.run(&victim);
        victim.kill();
        let left = Lease::read_header(&path).ok().map(|reading| reading.header.generation);
        let mut next = Lease::open(&path).expect("a lease");
        assert!(next.is_owner());
        assert!(next.generation() > newest.max(left), "{next:?} after {newest:?}, {left:?}");
        newest = next.generation();
        assert_eq!(next.beat().expect("the owner"), Beat::Sound);
        let reading = Lease::read_header(&path).expect("sound").header;
        assert_eq!((Some(reading.generation), reading.readers), (newest, 0));
        assert_eq!(
            (next.reader_count().expect("told"), next.oldest_pin().expect("told")),
            (0, None)
        );
        assert_eq!(names(&path), ["data", "data-shm"]);
        let outcome = format!("{:?}", next.outcome());
        let outcome = outcome.split('(').next().expect("a word");
        outcomes.iter().find(|known| **known == outcome).unwrap_or_else(|| panic!("{outcome}"))
    });
    assert_eq!(fs::read_to_string(path).expect("the data file"), "contents");
}

fn shm_of(path: &Path) -> PathBuf {
    path.with_file_name("data-shm")
}

#[test]
fn whoever_dies_opening_a_lease_leaves_it_to_the_next() {
    kill_lessees("open", &["Created", "Recovered"], |path| {
        let _ = fs::remove_file(shm_of(path));
        None
    });
    kill_lessees("open again", &["Reopened", "Recovered"], |path| {
        drop(Lease::open(path).expect("a lease"));
        None
    });
}

#[test]
fn whoever_dies_healing_a_lease_leaves_it_to_the_next() {
    kill_lessees("open and heal", &["Healed", "Recovered"], |path| {
        fs::write(shm_of(path), [0x5a; 4096]).expect("spoilt");
        None
    });
    kill_lessees("heal-and-beat", &["Healed", "Recovered"], |_| None);
}

#[test]
fn whoever_dies_taking_over_leaves_it_to_the_next() {
    kill_lessees("take-over", &["Reopened", "Recovered"], |path| {
        Some(Lease::open(path).expect("a lease"))
    });
}

#[test]
fn whoever_dies_as_an_owner_or_leaving_leaves_it_to_the_next() {
    kill_lessees("beat", &["Recovered"], |_| None);
    kill_lessees("close", &["Recovered", "Reopened"], |_| None);
}

#[test]
fn whoever_dies_as_a_reader_pins_nothing() {
    kill_lessees("attach-reader", &["Recovered"], |_| None);
    kill_lessees("pin", &["Recovered"], |_| None);
}
