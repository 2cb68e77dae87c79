//! A guest is killed after each instruction of attaching, and a host after each of serving:
//! of making its hub, admitting, saying goodbye, evicting, sending to all, and leaving. The
//! other side is told, and the next guest or host finds everything as if there had been
//! nobody. See `shm_tests::steps`; `SHM_TEST_STEPS=0` is the whole form.

use std::{
    fs,
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use shm_primitives::peer::PeerId;
use shm_tests::{
    Place, WAIT, eventually,
    pattern::{matches, message},
    steps::{
        Strike, Sweep, Victim, alone,
        operation::{Operation, SEALED},
        scene::{command, names},
    },
};
use shm_transport::{AttachError, CommandExt, Guest, GuestBuilder, Host, Link, LinkEnd, RecvError};

const HELPER: &str = env!("CARGO_BIN_EXE_peer");

fn victim(role: &str, path: &Path, what: &str) -> Command {
    command(HELPER, role, path, what)
}

fn end_of(link: &mut Link) -> LinkEnd {
    match link.recv(WAIT) {
        Err(RecvError::Ended(end)) => end,
        other => panic!("{other:?}"),
    }
}

/// A guest of this process attaches, and is heard.
fn attaches(host: &mut Host, guest: GuestBuilder) -> Result<(), AttachError> {
    let path = host.path().to_owned();
    thread::scope(|scope| {
        let guest = scope.spawn(move || {
            let mut guest = guest.attach(path, WAIT)?;
            guest.link.send(&message(0, 10), WAIT).expect("sent");
            guest.detach(WAIT).expect("detached");
            Ok(())
        });
        while !guest.is_finished() {
            let Ok(mut link) = host.accept(Duration::from_millis(1)) else { continue };
            assert!(matches(0, &link.recv(WAIT).expect("received").to_bytes()));
            assert_eq!(end_of(&mut link), LinkEnd::Departed);
        }
        guest.join().expect("it returns")
    })
}

/// Kills a guest that attaches to a host that serves. Returns the link if it came so far.
fn kill_attaching(host: &mut Host, victim: Victim, strike: &mut Strike<'_>) -> Option<Link> {
    victim.wait_for_begin();
    let killed = AtomicBool::new(false);
    let link = thread::scope(|scope| {
        let serving = scope.spawn(|| {
            while !killed.load(Ordering::Relaxed) {
                if let Ok(link) = host.accept(Duration::from_millis(1)) {
                    return Some(link);
                }
            }
            host.try_accept().expect("it serves")
        });
        strike.run(&victim);
        victim.kill();
        killed.store(true, Ordering::Relaxed);
        serving.join().expect("it serves")
    });
    // It may be in the queue, or half attached.
    link.map(|mut link| {
        assert_eq!(end_of(&mut link), LinkEnd::PeerDead);
        link
    })
}

fn is_empty(host: &mut Host) -> bool {
    assert!(host.try_accept().expect("it serves").is_none(), "a guest out of nothing");
    host.hub().peers().is_empty()
}

fn one_entry(place: &Place) -> Host {
    place.host(Host::builder().link(Operation::SendInline.config()).max_guests(1))
}

const ATTACHED: &[&str] = &["not attached", "attached"];

#[test]
fn whoever_dies_walking_in_leaves_the_entry_to_the_next_guest() {
    let _alone = alone();
    let place = Place::new();
    let mut host = one_entry(&place);
    Sweep { name: "guest, attach", outcomes: ATTACHED, sleeps: false }.run(|strike| {
        let victim = Victim::start(&mut victim("stepped-attach", host.path(), "walk-in"));
        let link = kill_attaching(&mut host, victim, strike);
        let outcome = ATTACHED[usize::from(link.is_some())];
        drop(link);
        eventually(|| is_empty(&mut host).then_some(()));
        attaches(&mut host, Guest::builder()).expect("attached");
        assert_eq!(host.hub().peers(), []);
        outcome
    });
}

#[test]
fn whoever_dies_with_a_ticket_leaves_the_ticket_until_it_was_claimed() {
    let _alone = alone();
    let place = Place::new();
    let mut host = one_entry(&place);
    Sweep { name: "guest, claim", outcomes: ATTACHED, sleeps: false }.run(|strike| {
        let reservation = host.hub().reserve().expect("an entry");
        let ticket = reservation.ticket();
        let mut victim = victim("stepped-attach", host.path(), &ticket.to_string());
        let link = kill_attaching(&mut host, Victim::start(&mut victim), strike);
        let outcome = ATTACHED[usize::from(link.is_some())];
        let peers = host.hub().peers();
        assert_eq!(peers.len(), usize::from(link.is_none()), "{peers:?}");
        let next = attaches(&mut host, Guest::builder().ticket(ticket));
        match (link, next) {
            (None, Ok(())) => {}
            (Some(_), Err(AttachError::StaleTicket(stale))) if stale == ticket => {}
            other => panic!("{other:?}"),
        }
        drop(reservation);
        assert_eq!(host.hub().peers(), []);
        attaches(&mut host, Guest::builder()).expect("attached");
        outcome
    });
}

#[test]
fn whoever_dies_as_a_spawned_guest_leaves_its_entry() {
    let _alone = alone();
    let place = Place::new();
    let mut host = one_entry(&place);
    let mut before: Option<PeerId> = None;
    Sweep { name: "spawned guest, claim", outcomes: ATTACHED, sleeps: false }.run(|strike| {
        let mut command = victim("stepped-attach", host.path(), "inherited");
        let spawned = command.spawn_guest(host.hub()).expect("it starts");
        assert!(
            before.replace(spawned.peer).is_none_or(|before| before.epoch < spawned.peer.epoch)
        );
        let link = kill_attaching(&mut host, Victim::adopt(spawned.child), strike);
        let outcome = ATTACHED[usize::from(link.is_some())];
        assert!(link.is_none_or(|link| link.peer() == spawned.peer));
        eventually(|| is_empty(&mut host).then_some(()));
        attaches(&mut host, Guest::builder()).expect("attached");
        outcome
    });
}

/// The next host at a path where one died serves, and leaves nothing.
fn serves_next(place: &Place) {
    let mut host = one_entry(place);
    attaches(&mut host, Guest::builder()).expect("attached");
    drop(host);
    assert!(names(&place.hub()).is_empty());
}

/// Nobody takes what a dead host left for a living one.
fn nobody_is_there(place: &Place) {
    let error = Guest::attach(place.hub(), WAIT).expect_err("nobody is there");
    assert!(matches!(error, AttachError::HostDead(_) | AttachError::NoHost(_)), "{error:?}");
}

#[test]
fn a_host_that_dies_making_its_hub_leaves_the_path_to_the_next() {
    let _alone = alone();
    let place = Place::new();
    let outcomes = &["nothing", "a lock", "a hidden socket", "a socket"];
    Sweep { name: "host, create", outcomes, sleeps: false }.run(|strike| {
        let victim = Victim::start(&mut victim("stepped-serve", &place.hub(), "create"));
        victim.wait_for_begin();
        strike.run(&victim);
        victim.kill();
        let left = names(&place.hub());
        nobody_is_there(&place);
        serves_next(&place);
        match left.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => "nothing",
            ["hub.lock"] => "a lock",
            ["hub.lock", "hub.new"] => "a hidden socket",
            ["hub", "hub.lock"] => "a socket",
            _ => panic!("{left:?}"),
        }
    });
}

#[test]
fn a_host_that_dies_replacing_a_dead_one_leaves_the_path_to_the_next() {
    let _alone = alone();
    let place = Place::new();
    let outcomes = &["the old socket", "both", "the new socket"];
    Sweep { name: "host, replace", outcomes, sleeps: false }.run(|strike| {
        drop(UnixListener::bind(place.hub()).expect("a socket of nobody"));
        fs::write(place.file("hub.lock"), "").expect("a lock of nobody");
        let inode = || fs::metadata(place.hub()).expect("a socket").ino();
        let before = inode();
        let victim = Victim::start(&mut victim("stepped-serve", &place.hub(), "create"));
        victim.wait_for_begin();
        strike.run(&victim);
        victim.kill();
        let (left, is_new) = (names(&place.hub()), inode() != before);
        let outcome = match (left.len(), is_new) {
            (2, false) => "the old socket",
            (3, false) if left[2] == "hub.new" => "both",
            (2, true) => "the new socket",
            _ => panic!("{left:?}"),
        };
        serves_next(&place);
        outcome
    });
}

#[test]
fn a_host_that_dies_leaving_leaves_the_path_to_the_next() {
    let _alone = alone();
    let place = Place::new();
    let outcomes = &["a socket", "a lock", "nothing"];
    Sweep { name: "host, drop", outcomes, sleeps: false }.run(|strike| {
        let victim = Victim::start(&mut victim("stepped-serve", &place.hub(), "drop"));
        victim.wait_for_begin();
        strike.run(&victim);
        victim.kill();
        let left = names(&place.hub());
        nobody_is_there(&place);
        serves_next(&place);
        match left.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["hub", "hub.lock"] => "a socket",
            ["hub.lock"] => "a lock",
            [] => "nothing",
            _ => panic!("{left:?}"),
        }
    });
}

#[test]
fn a_host_that_dies_admitting_a_guest_has_a_guest_or_none() {
    let _alone = alone();
    let place = Place::new();
    Sweep { name: "host, admit", outcomes: ATTACHED, sleeps: false }.run(|strike| {
        let victim = Victim::start(&mut victim("stepped-serve", &place.hub(), "admit"));
        victim.wait_for_begin();
        thread::scope(|scope| {
            let guest = scope.spawn(|| Guest::attach(place.hub(), WAIT));
            strike.run(&victim);
            victim.kill();
            assert_eq!(names(&place.hub()), ["hub", "hub.lock"]);
            match guest.join().expect("it returns") {
                Ok(mut guest) => {
                    assert_eq!(end_of(&mut guest.link), LinkEnd::PeerDead);
                    ATTACHED[1]
                }
                Err(AttachError::HostGone | AttachError::HostDead(_)) => ATTACHED[0],
                Err(error) => panic!("{error:?}"),
            }
        })
    });
    serves_next(&place);
}

/// Kills hosts that end the link to a guest for which there is one message.
fn kill_ending(what: &str, outcomes: &[&'static str], by: LinkEnd) {
    let _alone = alone();
    let place = Place::new();
    let name = format!("host, {what}");
    Sweep { name: &name, outcomes, sleeps: false }.run(|strike| {
        let victim = Victim::start(&mut victim("stepped-serve", &place.hub(), what));
        let guest = eventually(|| Guest::attach(place.hub(), WAIT).ok());
        let mut link = guest.link;
        victim.wait_for_begin();
        strike.run(&victim);
        victim.kill();
        // Before it learns of an eviction, a guest may receive what is there.
        eventually(|| link.end());
        let mut received = 0;
        let end = loop {
            match link.recv(WAIT) {
                Ok(message) => {
                    assert!(message.len() == 10 && matches(received, &message.to_bytes()));
                    received += 1;
                }
                Err(RecvError::Ended(end)) => break end,
                Err(error) => panic!("{error:?}"),
            }
        };
        // Nothing is received after an eviction.
        assert_eq!(received, u64::from(end != LinkEnd::Evicted));
        match end {
            LinkEnd::PeerDead => outcomes[0],
            end if end == by => outcomes[1],
            end => panic!("{end:?}"),
        }
    });
    serves_next(&place);
}

#[test]
fn a_host_that_dies_saying_goodbye_is_dead_before_and_has_departed_after() {
    kill_ending("say-goodbye", &["dead", "departed"], LinkEnd::Departed);
}

#[test]
fn a_host_that_dies_evicting_is_dead_before_and_has_evicted_after() {
    kill_ending("evict", &["dead", "evicted"], LinkEnd::Evicted);
}

#[test]
fn of_a_message_to_all_each_guest_has_all_or_nothing() {
    let _alone = alone();
    let place = Place::new();
    for (what, len) in [("send-to-all", 100), ("share-with-all", SEALED)] {
        let name = format!("host, {what}");
        let outcomes = &["nobody", "one", "both"];
        Sweep { name: &name, outcomes, sleeps: false }.run(|strike| {
            let victim = Victim::start(&mut victim("stepped-serve", &place.hub(), what));
            let attach = || eventually(|| Guest::attach(place.hub(), WAIT).ok());
            let guests = [attach(), attach()];
            victim.wait_for_begin();
            strike.run(&victim);
            victim.kill();
            let mut served = 0;
            for mut guest in guests {
                match guest.link.recv(WAIT) {
                    Ok(received) => {
                        assert!(received.len() == len && matches(0, &received.to_bytes()));
                        served += 1;
                    }
                    Err(RecvError::Ended(LinkEnd::PeerDead)) => continue,
                    Err(error) => panic!("{error:?}"),
                }
                assert_eq!(end_of(&mut guest.link), LinkEnd::PeerDead);
            }
            outcomes[served]
        });
    }
    serves_next(&place);
}
