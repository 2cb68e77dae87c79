//! Defects of earlier systems in peers, segments and doorbells, as schedules that ours survives. Each
//! test has the name of its row; `defects.rs` lists all rows.

use std::{
    fs,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, PermissionsExt, symlink},
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use rustix::{fs::fstat, io::Errno};
use shm_primitives::{
    Mapped, Memory, Offset,
    hub::HubGeometry,
    order::OWN,
    peer::{PeerError, PeerTable},
};
use shm_tests::{
    Place, WAIT, eventually, peer, peer_command,
    process::Peer,
    raw::{ONE_WRITER, RawSocket, at, attach_by_hand, holey_memory, memory, sealed_with, slot},
    small, within_wait,
};
use shm_transport::{
    AttachError, CommandExt, CreateError, Deadline, Guest, Host, Link, LinkEnd, PathError, PeerId,
    RecvError,
};

/// An entry that said goodbye never became empty, so a table was full after as many
/// guests as it has entries.
#[test]
fn table_fills_up() {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(small()).max_guests(1));
    for epoch in 1..40 {
        let path = place.hub();
        let guest = thread::spawn(move || {
            let mut guest = Guest::attach(path, WAIT).unwrap();
            guest.link.send(b"hello", WAIT).unwrap();
            guest.detach(WAIT).unwrap();
        });
        let mut link = host.accept(WAIT).unwrap();
        assert_eq!(link.peer(), PeerId { index: 0, epoch });
        assert!(link.recv(WAIT).is_ok());
        assert!(link.recv(WAIT).is_err());
        guest.join().unwrap();
        // The host keeps its link until after the guest is gone.
        eventually(|| host.hub().peers().is_empty().then_some(()));
    }
}

/// A state that nobody writes counted as empty, and its entry was handed out.
#[test]
fn unknown_state_reads_as_empty() {
    let geometry = HubGeometry::new(2, []).unwrap();
    let memory = Mapped::leaked(geometry.total_size());
    geometry.initialise(&memory, 1);
    let table: PeerTable<Mapped> = geometry.peer_table(memory);
    for word in [4, 0xff, 1 << 8 | 4, 1 << 40, u64::MAX] {
        memory.store64(Offset::new(256), word, OWN);
        assert_eq!(table.state(0), Err(PeerError::Corrupt { word }));
        assert_eq!(table.reserve(), Err(PeerError::Corrupt { word }));
    }
}

/// Losing one race for an entry was reported as a full table.
#[test]
fn losing_one_race_reads_as_no_free_slot() {
    let place = Place::new();
    let host = place.host(Host::builder().max_guests(64));
    for _ in 0..50 {
        let hub = host.hub();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..8).map(|_| hub.reserve().unwrap()).collect::<Vec<_>>()))
                .collect();
            let all: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
            let different: std::collections::HashSet<_> =
                all.iter().map(|reservation| reservation.ticket().index).collect();
            assert_eq!(different.len(), 64);
            assert!(hub.reserve().is_err());
        });
        assert!(hub.peers().is_empty());
    }
}

/// A guest that came late claimed the entry that was reserved for the next one.
#[test]
fn zombie_claims_the_next_guests_entry() {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(small()).max_guests(1));
    for _ in 0..5 {
        let old = host.hub().reserve().unwrap().ticket();
        let next = host.hub().reserve().unwrap();
        let ticket = next.ticket();
        assert!(old.index == ticket.index && old.epoch != ticket.epoch);
        let mut zombie = peer!("guest", place.hub(), old.to_string());
        let _ = host.accept(Duration::from_millis(50));
        let answer = zombie.answer();
        assert!(answer.starts_with("error StaleTicket"), "{answer}");
        let mut guest = peer!("guest", place.hub(), ticket.to_string());
        let link = host.accept(WAIT).unwrap();
        assert_eq!(link.peer(), ticket);
        assert!(guest.answer().starts_with("attached"));
        drop((link, guest, next));
        eventually(|| host.hub().peers().is_empty().then_some(()));
    }
}

/// A heartbeat of 0 counted as stale from birth, one of 2⁶⁴ − 1 as never stale.
#[test]
fn stale_at_birth_or_never_stale() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach_by_hand(&mut host);
    for beats in [0, u64::MAX, 1, u64::MAX - 1, 0] {
        guest.memory.store64(at::HEARTBEAT, beats);
        assert_eq!(link.peer_heartbeat(), beats);
        assert_eq!(host.hub().peers()[0].details.heartbeat, beats);
        assert_eq!(link.end(), None);
        guest.send_word(beats);
        assert_eq!(link.recv(WAIT).unwrap().read_u64(0), Some(beats));
    }
}

/// Guests that raced with the making of a segment saw it half made. Here hosts come and go
/// while guests attach all the time: each gets in or is told that nobody is there.
#[test]
fn half_built_segment_seen() {
    let place = Place::new();
    let stop = Arc::new(AtomicBool::new(false));
    let guests: Vec<_> = (0..2)
        .map(|_| {
            let (path, stop) = (place.hub(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut attached = 0;
                while !stop.load(Ordering::Relaxed) {
                    match Guest::attach(&path, WAIT) {
                        Ok(guest) => {
                            attached += 1;
                            let _ = (guest.peers(), guest.statistics());
                        }
                        Err(
                            AttachError::NoHost(_)
                            | AttachError::HostDead(_)
                            | AttachError::HostGone,
                        ) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
                attached
            })
        })
        .collect();
    let end = Instant::now() + WAIT;
    let mut hosts = 0;
    while hosts < 300 {
        assert!(Instant::now() < end);
        let mut host = place.small_host();
        if hosts % 3 == 0 {
            let _ = host.accept(Duration::from_millis(20));
        }
        hosts += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let attached: u32 = guests.into_iter().map(|guest| guest.join().unwrap()).sum();
    assert!(attached > 0, "nobody ever raced");
}

/// Creating followed a link and truncated what it led to, with a mode for everybody.
#[test]
fn victim_file_truncated() {
    let place = Place::new();
    let victim = place.file("victim");
    fs::write(&victim, "contents").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
    for name in ["hub", "hub.lock", "hub.new"] {
        let link = place.file(name);
        symlink(&victim, &link).unwrap();
        let result = Host::create(place.hub());
        assert!(matches!(&result, Err(CreateError::Path(PathError::Occupied(_)))), "{result:?}");
        fs::remove_file(link).unwrap();
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "contents");
    let host = place.small_host();
    assert_eq!(place.hub().metadata().unwrap().mode() & 0o777, 0o600);
    drop(host);
}

/// A second host truncated the file of the first, which then died of SIGBUS.
#[test]
fn second_host_kills_the_first() {
    let place = Place::new();
    let mut first = place.small_host();
    let (mut guest, mut link) = attach_by_hand(&mut first);
    for _ in 0..10 {
        assert!(matches!(Host::create(place.hub()), Err(CreateError::HostExists(_))));
        guest.send_word(1);
        assert_eq!(link.recv(WAIT).unwrap().read_u64(0), Some(1));
    }
}

/// A guest changed the size of the file that both had mapped.
#[test]
fn sigbus_on_growth() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach_by_hand(&mut host);
    for fd in [guest.own.as_fd(), guest.outbox.as_fd(), guest.hub.as_fd()] {
        let size = fstat(fd).unwrap().st_size as u64;
        for wanted in [0, 4096, size - 1, size + 4096] {
            assert_eq!(rustix::fs::ftruncate(fd, wanted), Err(Errno::PERM));
        }
    }
    guest.send_word(1);
    assert_eq!(link.recv(WAIT).unwrap().read_u64(0), Some(1));
    // Growth is new memory, and nothing that is mapped changes.
    let (mut left, mut right) = Link::pair(&small()).unwrap();
    let mut held = Vec::new();
    while left.try_send(&[3; 1000]).is_ok() {
        held.push(right.recv(WAIT).unwrap().into_owned());
    }
    assert!(held.len() > 4, "no more than one extent");
    assert!(held.iter().all(|message| message.to_bytes().iter().all(|byte| *byte == 3)));
}

/// Memory was made without being allocated: touching it on a full file system killed. Here all of
/// it is there before anybody touches it, also what a guest hands over with holes.
#[test]
fn sigbus_on_a_full_tmpfs() {
    let place = Place::new();
    let mut host = place.small_host();
    let path = place.hub();
    let guest = thread::spawn(move || {
        let welcome = RawSocket::connect(&path).welcomed();
        let own = holey_memory(welcome.geometry.total);
        let guest = welcome.mapped_with(own);
        guest.seal();
        guest.claim();
        guest
    });
    let _link = host.accept(WAIT).unwrap();
    let guest = guest.join().unwrap();
    for fd in [guest.own.as_fd(), guest.outbox.as_fd(), guest.hub.as_fd()] {
        let stat = fstat(fd).unwrap();
        assert!(stat.st_blocks * 512 >= stat.st_size, "{} of {}", stat.st_blocks, stat.st_size);
    }
}

/// A sibling had inherited the doorbell, so the death of its owner made no end of file.
#[test]
fn death_unseen() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut guests: Vec<(Peer, Link)> = (0..3)
        .map(|_| {
            let mut command = peer_command!("inherited");
            Peer::prepare(&mut command);
            let spawned = command.spawn_guest(host.hub()).unwrap();
            let link = host.accept(WAIT).unwrap();
            let mut guest = Peer::adopt(spawned.child);
            assert!(guest.answer().starts_with("attached"));
            (guest, link)
        })
        .collect();
    // The first one's socket was there when the others were started.
    while !guests.is_empty() {
        let (guest, mut link) = guests.remove(0);
        guest.signal(Signal::SIGKILL);
        let result = within_wait(move || link.recv(Deadline::NEVER).map(drop));
        assert!(matches!(result, Err(RecvError::Ended(LinkEnd::PeerDead))), "{result:?}");
        for (_, link) in &mut guests {
            assert!(link.try_recv().unwrap().is_none());
            link.try_send(b"you live").unwrap();
        }
    }
}

/// The old owner's drop deleted the new owner's file. Here a cleaner removes what the
/// first host made, a second one takes its place, and then the first goes.
#[test]
fn old_owners_drop_deletes_the_new_file() {
    let place = Place::new();
    let first = place.small_host();
    for entry in fs::read_dir(place.file("")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let mut second = place.small_host();
    drop(first);
    assert!(place.hub().exists());
    let third = Host::create(place.hub());
    assert!(matches!(third, Err(CreateError::HostExists(_))), "the second was stolen: {third:?}");
    let path = place.hub();
    let guest = thread::spawn(move || Guest::attach(path, WAIT).map(drop));
    second.accept(WAIT).unwrap();
    guest.join().unwrap().unwrap();
}

/// A peer that was gone killed the sender by a signal.
#[test]
fn sigpipe() {
    let place = Place::new();
    let mut process = peer!("limits", "broken-pipe", place.hub());
    assert_eq!(process.answer(), "ok");
    process.succeeds();
}

/// Two waiters drained one doorbell, and one of them slept on. Here both halves of a link
/// sleep at once, and each is woken by what it waits for.
#[test]
fn two_waiters_drain_one_doorbell() {
    let (left, right) = Link::pair(&small()).unwrap();
    let (mut sender, mut receiver) = left.split();
    let (mut other_sender, mut other_receiver) = right.split();
    for round in 0..100 {
        while sender.try_send(&[1; 100]).is_ok() {}
        let sending = thread::spawn(move || {
            sender.send(&[2; 100], Deadline::NEVER).unwrap();
            sender
        });
        let receiving = thread::spawn(move || {
            receiver.recv(Deadline::NEVER).unwrap();
            receiver
        });
        if round % 2 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        // Data for the one, then room for the other.
        other_sender.send(b"data", WAIT).unwrap();
        receiver = within_wait(move || receiving.join().unwrap());
        drop(other_receiver.recv(WAIT).unwrap());
        while !sending.is_finished() {
            if other_receiver.try_recv().unwrap().is_none() {
                thread::yield_now();
            }
        }
        sender = within_wait(move || sending.join().unwrap());
        while other_receiver.try_recv().unwrap().is_some() {}
    }
}

/// Leases of large payloads were never released: descriptors ran out after 503.
#[test]
fn descriptors_run_out() {
    let place = Place::new();
    let mut process = peer!("limits", "payloads", place.hub());
    assert_eq!(process.answer(), "ok");
}

/// A reference to memory that was never handed over was waited for. Here it ends the link
/// at once, whatever the deadline.
#[test]
fn unknown_id_waited_for() {
    let place = Place::new();
    let mut host = place.small_host();
    let (mut guest, mut link) = attach_by_hand(&mut host);
    guest.publish(slot(0, 0, 10), 8);
    let result = within_wait(move || link.recv(Deadline::NEVER).map(drop));
    assert!(matches!(result, Err(RecvError::Ended(LinkEnd::Corrupt(_)))), "{result:?}");
}

/// The announced length of a descriptor was mapped and read, beyond the end of the file.
#[test]
fn announced_length_trusted() {
    let place = Place::new();
    let mut host = place.small_host();
    for size in [0, 64, 1024, 4096] {
        let (mut guest, mut link) = attach_by_hand(&mut host);
        // An extent of two slots of 1024 bytes.
        let fd = sealed_with(if size == 0 { holey_memory(0) } else { memory(size) }, ONE_WRITER);
        guest.socket.send(&[2, 0], &[fd.as_fd()]).unwrap();
        guest.publish(slot(0, 1, 1024), 8);
        let result = within_wait(move || link.recv(Deadline::NEVER).map(drop));
        let corrupt = matches!(&result, Err(RecvError::Ended(LinkEnd::Corrupt(_))));
        assert!(corrupt, "{size}: {result:?}");
    }
}

/// A child that a dead guest had forked kept the mapping and wrote on. Here it has none, and keeps
/// nobody from learning of the death.
#[test]
fn orphan_writes_on() {
    let place = Place::new();
    let mut host = place.small_host();
    let mut guest = peer!("guest", place.hub());
    let mut link = host.accept(WAIT).unwrap();
    assert!(guest.answer().starts_with("attached"));
    let answer = guest.ask("fork");
    let (child, mappings) = answer.split_once(' ').unwrap();
    assert_eq!(mappings, "0", "the child has memory of the link");
    guest.kill();
    let result = within_wait(move || link.recv(Deadline::NEVER).map(drop));
    assert!(matches!(result, Err(RecvError::Ended(LinkEnd::PeerDead))), "{result:?}");
    let child = nix::unistd::Pid::from_raw(child.parse().unwrap());
    nix::sys::signal::kill(child, Signal::SIGKILL).unwrap();
}
