//! Fleets and leases.

use std::{env, fs, process::Command, time::Duration};

use shm_tests::{
    fleet::{self, CONFIG, RING},
    process::Peer,
};
use shm_transport::{
    Lease,
    fleet::{Cache, Claims, Fleet, FleetRing, JoinError, Start},
};

use super::{Operation, Outcome, PATIENCE, Spot, marked};

pub(super) const OPERATIONS: &[(&str, Operation)] = &[
    ("fleet create", |spot| join(spot, false)),
    ("fleet join", |spot| join(spot, true)),
    ("fleet join, in place of a dead member", rejoin),
    ("fleet ring create", |spot| ring(spot, false)),
    ("fleet ring open", |spot| ring(spot, true)),
    ("fleet publish and read", publish),
    ("fleet members and rings", members),
    ("fleet claim and release", claim),
    ("fleet cache", cache),
    ("fleet leave", leave),
    ("fleet unlink", unlink),
    ("lease create", lease_create),
    ("lease attach", lease_attach),
    ("lease open, after a dead owner", lease_recover),
    ("lease take-over", lease_take_over),
    ("lease open, healing", lease_heal),
    ("lease beat, healing", lease_beat),
    ("lease reader", lease_reader),
    ("lease drop", lease_drop),
];

fn as_node(spot: &Spot<'_>, node: u32) -> Result<Fleet, JoinError> {
    Fleet::builder().directory(spot.file("fleets")).nodes(fleet::NODES).join(fleet::NAME, node)
}

fn joined(spot: &Spot<'_>, node: u32) -> Fleet {
    as_node(spot, node).expect("joined")
}

fn opened(fleet: &Fleet) -> FleetRing {
    fleet.ring(RING, &CONFIG).expect("the ring")
}

/// What one member publishes the other reads.
fn talk(from: &FleetRing, to: &FleetRing) {
    let mut cursor = to.cursor(Start::Newest);
    while cursor.next().expect("a sound ring").is_some() {}
    let published = from.publish(0, 1, b"hello").expect("published");
    let next = cursor.next().expect("a sound ring").expect("a frame");
    assert_eq!((next.frame.id(), next.frame.payload()), (published.id, &b"hello"[..]));
}

fn member(spot: &Spot<'_>, node: &str) -> Peer {
    let program = env::current_exe().expect("this program");
    let mut member =
        Peer::start(Command::new(program).arg("fleet").arg(spot.file("fleets")).arg(node));
    assert_eq!(member.answer(), "joined");
    member
}

fn join(spot: &Spot<'_>, exists: bool) -> Outcome {
    let first = exists.then(|| joined(spot, 0));
    let result = marked(|| as_node(spot, 1));
    let outcome = match result {
        Ok(second) => {
            assert_eq!(second.created(), !exists);
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    let first = first.unwrap_or_else(|| joined(spot, 0));
    let second = joined(spot, 1);
    talk(&opened(&first), &opened(&second));
    talk(&opened(&second), &opened(&first));
    assert_eq!(first.members().expect("members").len(), 2);
    outcome
}

fn rejoin(spot: &Spot<'_>) -> Outcome {
    let mut dead = member(spot, "1");
    dead.ask("publish 3");
    dead.kill();
    let first = joined(spot, 0);
    let result = marked(|| {
        let fleet = as_node(spot, 1).map_err(super::Failure::from)?;
        fleet.ring(RING, &CONFIG).map_err(super::Failure::from).map(|ring| (fleet, ring))
    });
    let outcome = result.map(|(_fleet, ring)| talk(&ring, &opened(&first)));
    let second = joined(spot, 1);
    talk(&opened(&second), &opened(&first));
    assert_eq!(opened(&first).oldest().number(), 0);
    outcome
}

fn ring(spot: &Spot<'_>, exists: bool) -> Outcome {
    let (first, second) = (joined(spot, 0), joined(spot, 1));
    let before = exists.then(|| opened(&first));
    let result = marked(|| second.ring(RING, &CONFIG));
    let outcome = match result {
        Ok(ring) => {
            assert_eq!(ring.created(), !exists);
            talk(&ring, &opened(&first));
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    drop(before);
    talk(&opened(&second), &opened(&first));
    outcome
}

fn publish(spot: &Spot<'_>) -> Outcome {
    let fleet = joined(spot, 0);
    let ring = opened(&fleet);
    let published = marked(|| {
        ring.publish(0, 1, b"hello").map(|published| ring.read(published.id).expect("sound"))
    });
    talk(&ring, &ring);
    assert_eq!(published?.expect("a frame").payload(), b"hello");
    Ok(())
}

fn members(spot: &Spot<'_>) -> Outcome {
    let fleet = joined(spot, 0);
    opened(&fleet);
    let found = marked(|| fleet.members().and_then(|members| Ok((members, fleet.rings()?))));
    assert_eq!(fleet.members().expect("members").len(), 1);
    assert_eq!(fleet.rings().expect("rings"), [RING]);
    let (members, rings) = found?;
    assert_eq!((members.len(), &rings[..]), (1, &[RING][..]));
    Ok(())
}

fn claim(spot: &Spot<'_>) -> Outcome {
    let fleet = joined(spot, 0);
    let claims = Claims::open(&fleet, fleet::CLAIMS, &CONFIG).expect("claims");
    let claimed = marked(|| claims.claim(b"subject", Duration::from_secs(60)).map(drop));
    assert!(claims.holder(b"subject").expect("it can be told").is_none());
    let guard = claims.claim(b"subject", Duration::from_secs(60)).expect("claimed");
    assert!(guard.is_held().expect("it can be told"));
    drop(guard);
    Ok(claimed?)
}

fn cache(spot: &Spot<'_>) -> Outcome {
    let fleet = joined(spot, 0);
    let put = marked(|| {
        let mut cache = Cache::open(&fleet, 7, &CONFIG).map_err(super::Failure::from)?;
        cache.put(b"key", b"value", None).map(drop).map_err(super::Failure::from)
    });
    let mut cache = Cache::open(&fleet, 7, &CONFIG).expect("a cache");
    let found = cache.get(b"key").expect("it can be told");
    assert_eq!(found.is_some(), put.is_ok());
    cache.put(b"key", b"other", None).expect("put");
    assert_eq!(cache.get(b"key").expect("it can be told").as_deref(), Some(&b"other"[..]));
    put
}

fn leave(spot: &Spot<'_>) -> Outcome {
    let (first, second) = (joined(spot, 0), joined(spot, 1));
    let ring = opened(&second);
    marked(|| drop((ring, second)));
    talk(&opened(&joined(spot, 1)), &opened(&first));
    Ok(())
}

fn unlink(spot: &Spot<'_>) -> Outcome {
    let fleet = joined(spot, 0);
    opened(&fleet);
    let unlinked = marked(|| fleet.unlink());
    drop(fleet);
    let again = joined(spot, 0);
    talk(&opened(&again), &opened(&again));
    again.unlink().expect("unlinked");
    assert_eq!(fs::read_dir(spot.file("fleets")).expect("the directory").count(), 0);
    Ok(unlinked?)
}

fn data(spot: &Spot<'_>) -> std::path::PathBuf {
    let path = spot.file("data");
    fs::write(&path, "contents").expect("a data file");
    path
}

/// The file can be leased, and the generation is higher than before.
fn leases(path: &std::path::Path, before: Option<shm_transport::lease::Generation>) {
    let lease = Lease::open(path).expect("a lease");
    assert!(lease.is_owner());
    assert!(lease.generation() > before);
    let guest = Lease::open(path).expect("a lease");
    assert!(!guest.is_owner());
    assert_eq!(guest.generation(), lease.generation());
    assert_eq!(fs::read_to_string(path).expect("the data"), "contents");
}

fn lease_create(spot: &Spot<'_>) -> Outcome {
    let path = data(spot);
    open_owning(&path, None)
}

fn open_owning(
    path: &std::path::Path,
    before: Option<shm_transport::lease::Generation>,
) -> Outcome {
    let opened = marked(|| Lease::open(path));
    let mut newest = before;
    let outcome = match opened {
        Ok(lease) => {
            assert!(lease.is_owner());
            assert!(lease.generation() > before);
            newest = lease.generation();
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    leases(path, newest);
    outcome
}

fn lease_attach(spot: &Spot<'_>) -> Outcome {
    let path = data(spot);
    let owner = Lease::open(&path).expect("a lease");
    let opened = marked(|| Lease::open(&path));
    let outcome = match opened {
        Ok(lease) => {
            assert!(!lease.is_owner());
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    assert!(owner.is_owner());
    let newest = owner.generation();
    drop(owner);
    leases(&path, newest);
    outcome
}

fn dead_owner(path: &std::path::Path) -> Peer {
    let program = env::current_exe().expect("this program");
    let mut owner = Peer::start(Command::new(program).arg("lease").arg(path));
    assert!(owner.ask("open").starts_with("owner"));
    owner
}

fn lease_recover(spot: &Spot<'_>) -> Outcome {
    let path = data(spot);
    let mut owner = dead_owner(&path);
    let newest = Lease::open(&path).expect("a lease").generation();
    owner.kill();
    open_owning(&path, newest)
}

fn lease_take_over(spot: &Spot<'_>) -> Outcome {
    let path = data(spot);
    let mut owner = dead_owner(&path);
    let mut lease = Lease::open(&path).expect("a lease");
    let before = lease.generation();
    owner.kill();
    let taken = marked(|| lease.wait_for_ownership(PATIENCE));
    if taken.is_err() {
        assert!(!lease.is_owner());
        lease.wait_for_ownership(PATIENCE).expect("taken over");
    }
    assert!(lease.is_owner());
    assert!(lease.generation() > before);
    let newest = lease.generation();
    drop(lease);
    leases(&path, newest);
    Ok(taken.map(drop)?)
}

fn lease_heal(spot: &Spot<'_>) -> Outcome {
    let path = data(spot);
    let newest = Lease::open(&path).expect("a lease").generation();
    fs::write(spot.file("data-shm"), [7; 4096]).expect("damaged");
    open_owning(&path, newest)
}

fn lease_beat(spot: &Spot<'_>) -> Outcome {
    let path = data(spot);
    let mut owner = Lease::open(&path).expect("a lease");
    fs::write(spot.file("data-shm"), [7; 4096]).expect("damaged");
    let beaten = marked(|| owner.beat());
    assert!(owner.is_owner());
    owner.beat().expect("healed");
    assert_eq!(Lease::open(&path).expect("a lease").generation(), owner.generation());
    let newest = owner.generation();
    drop(owner);
    leases(&path, newest);
    Ok(beaten.map(drop)?)
}

fn lease_reader(spot: &Spot<'_>) -> Outcome {
    let path = data(spot);
    let owner = Lease::open(&path).expect("a lease");
    let read = marked(|| {
        let mut reader = owner.attach_reader(5)?;
        reader.pin(7)?;
        let count = owner.reader_count()?;
        let pin = owner.oldest_pin()?;
        drop(reader);
        Ok((count, pin))
    });
    // A lock that was not given back is, with the file.
    let left = owner.reader_count().expect("a count");
    assert!(left <= 1);
    let reader = owner.attach_reader(9).expect("attached");
    assert_eq!(owner.reader_count().expect("a count"), left + 1);
    drop(reader);
    let newest = owner.generation();
    drop(owner);
    leases(&path, newest);
    match read {
        Ok(found) => {
            assert_eq!(found, (1, Some(7)));
            Ok(())
        }
        Err::<_, shm_transport::lease::ReaderError>(error) => Err(error.into()),
    }
}

fn lease_drop(spot: &Spot<'_>) -> Outcome {
    let path = data(spot);
    let owner = Lease::open(&path).expect("a lease");
    let newest = owner.generation();
    marked(|| drop(owner));
    leases(&path, newest);
    Ok(())
}
