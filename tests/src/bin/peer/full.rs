//! Files in a small file system that is full, but for a few pages or a few names. A whole
//! test of its own, because the file system is mounted for this process alone: it says `ok`,
//! or why it cannot be done here, or panics.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{getgid, getuid},
};
use shm_tests::{
    WAIT,
    fleet::{self, RING},
    pattern, small,
};
use shm_transport::{
    CreateError, Guest, Host, Lease, LeaseError, OsError,
    fleet::{Cache, Claims, Fleet, FleetFileError, JoinError, RingConfig, RingError, Start},
};

use crate::say;

const PAGE: usize = 4096;
const RINGS: RingConfig = RingConfig { capacity: 64, max_payload: 256 };

pub(crate) fn run(directory: &str) {
    match mount_at(directory) {
        Ok(()) => {
            let room = Room(PathBuf::from(directory));
            fleets(&room);
            leases(&room);
            hosts(&room);
            say("ok");
        }
        Err(error) => say(&format!("no file system can be mounted here: {error}")),
    }
}

/// A file system of 1 MiB and 64 files, which nobody else sees.
fn mount_at(directory: &str) -> Result<(), nix::Error> {
    let (user, group) = (getuid(), getgid());
    if user.is_root() {
        unshare(CloneFlags::CLONE_NEWNS)?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        let write = |path: &str, line: String| {
            fs::write(path, line)
                .map_err(|error| nix::Error::from_raw(error.raw_os_error().unwrap_or_default()))
        };
        write("/proc/self/setgroups", "deny".into())?;
        write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let options = Some("size=1m,nr_inodes=64,mode=700");
    mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), options)
}

/// The file system.
struct Room(PathBuf);

impl Room {
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Takes all pages but so many. Room is made when this is called with all of them.
    fn leave_pages(&self, count: usize) {
        let filler = self.file("filler");
        let mut file = File::create(&filler).expect("a name is free");
        // Page by page: what is left is exactly known.
        let mut taken = 0;
        while file.write_all(&[1; PAGE]).is_ok() {
            taken += PAGE;
        }
        let left = taken.saturating_sub(count * PAGE);
        file.set_len(left as u64).expect("it is cut");
    }

    /// Takes all names but so many.
    fn leave_names(&self, count: usize) {
        let filler = |number: usize| self.file(&format!("filler-{number}"));
        let mut made = 0;
        while File::create(filler(made)).is_ok() {
            made += 1;
        }
        for number in made.saturating_sub(count)..made {
            fs::remove_file(filler(number)).expect("it is removed");
        }
    }

    fn make_room(&self) {
        for entry in fs::read_dir(&self.0).expect("the directory").map_while(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with("filler") {
                fs::remove_file(entry.path()).expect("it is removed");
            }
        }
    }

    fn clear(&self) {
        for entry in fs::read_dir(&self.0).expect("the directory").map_while(Result::ok) {
            let path = entry.path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("it is removed");
        }
    }
}

/// Tries something with 0, 1, 2 … pages free, and then so many names, until it succeeds each
/// time; `set_up` is done before with all the room there is, `work` when there is again.
/// Returns how often it failed.
fn tried<S, T>(
    room: &Room,
    what: &str,
    set_up: impl Fn(&Room) -> S,
    attempt: impl Fn(&Room, &S) -> Result<T, OsError>,
    work: impl Fn(&Room, &S),
) -> usize {
    let mut failures = 0;
    for leave in [Room::leave_pages, Room::leave_names] {
        for count in 0.. {
            room.clear();
            let before = set_up(room);
            leave(room, count);
            let done = attempt(room, &before).map(drop);
            room.make_room();
            work(room, &before);
            match done {
                Ok(()) => break,
                Err(OsError::OutOfSpace { .. }) => failures += 1,
                Err(error) => panic!("{what} with {count}: {error:?}"),
            }
            assert!(count < 60, "{what} needs less than there is");
        }
    }
    println!("{what}: {failures} times too little room");
    failures
}

fn join(room: &Room, node: u32) -> Result<Fleet, JoinError> {
    let builder = Fleet::builder().directory(room.file("fleets")).nodes(4);
    builder.join(fleet::NAME, node)
}

fn of_join(error: JoinError) -> OsError {
    match error {
        JoinError::File(FleetFileError::Os(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn of_ring(error: RingError) -> OsError {
    match error {
        RingError::File(FleetFileError::Os(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn talk(room: &Room, first: &Fleet) {
    let second = join(room, 3).expect("joined");
    let (from, to) =
        (second.ring(RING, &RINGS).expect("a ring"), first.ring(RING, &RINGS).expect("a ring"));
    let mut cursor = to.cursor(Start::Newest);
    while cursor.next().expect("a sound ring").is_some() {}
    // More than the lane has slots: none of them is touched for the first time.
    for number in 0..200u8 {
        from.publish(0, 1, &[number; 256]).expect("published");
        let next = cursor.next().expect("a sound ring").expect("a frame");
        assert_eq!(next.frame.payload(), [number; 256]);
    }
}

fn fleets(room: &Room) {
    let mut failures = 0;
    failures += tried(
        room,
        "fleet create",
        |_| (),
        |room, ()| join(room, 0).map_err(of_join),
        |room, ()| talk(room, &join(room, 0).expect("joined")),
    );
    failures += tried(
        room,
        "fleet join",
        |room| join(room, 0).expect("joined"),
        |room, _| join(room, 1).map_err(of_join),
        talk,
    );
    failures += tried(
        room,
        "ring create",
        |room| join(room, 0).expect("joined"),
        |_, fleet| fleet.ring(RING, &RINGS).map_err(of_ring),
        talk,
    );
    // A member's first publication makes its lane.
    failures += tried(
        room,
        "ring growth by a lane, and publish",
        |room| {
            let first = join(room, 0).expect("joined");
            first.ring(RING, &RINGS).expect("a ring");
            (join(room, 1).expect("joined"), first)
        },
        |_, (second, _)| {
            let ring = second.ring(RING, &RINGS).map_err(of_ring)?;
            for number in 0..200u8 {
                match ring.publish(0, 1, &[number; 256]) {
                    Err(shm_transport::fleet::FleetPublishError::Os(error)) => return Err(error),
                    published => drop(published.expect("published")),
                }
            }
            Ok(())
        },
        |room, (_, first)| talk(room, first),
    );
    failures += tried(
        room,
        "claims and cache open",
        |room| join(room, 0).expect("joined"),
        |_, fleet| {
            Claims::open(fleet, fleet::CLAIMS, &RINGS).map_err(of_ring)?;
            Cache::open(fleet, 7, &RINGS).map_err(of_ring).map(drop)
        },
        |room, fleet| {
            let claims = Claims::open(fleet, fleet::CLAIMS, &RINGS).expect("claims");
            let _held = claims.claim(b"subject", Duration::from_secs(60)).expect("claimed");
            talk(room, fleet);
        },
    );
    assert!(failures > 10, "{failures}");

    // What is there goes on when nothing more fits.
    room.clear();
    let first = join(room, 0).expect("joined");
    talk(room, &first);
    let ring = first.ring(RING, &RINGS).expect("a ring");
    ring.publish(0, 1, b"before").expect("published");
    room.leave_pages(0);
    for number in 0..1000u32 {
        let published = ring.publish(0, 1, &number.to_le_bytes()).expect("published");
        let frame = ring.read(published.id).expect("a sound ring").expect("a frame");
        assert_eq!(frame.payload(), number.to_le_bytes());
    }
    first.beat();
    first.members().expect("the members");
}

fn of_lease(error: LeaseError) -> OsError {
    match error {
        LeaseError::Os(error) => error,
        other => panic!("{other:?}"),
    }
}

fn own(path: &Path) {
    let mut lease = Lease::open(path).expect("a lease");
    assert!(lease.is_owner());
    lease.beat().expect("a beat");
    let mut reader = lease.attach_reader(5).expect("a reader");
    reader.pin(7).expect("pinned");
    assert_eq!(lease.oldest_pin().expect("a pin"), Some(7));
}

fn leases(room: &Room) {
    let data = |room: &Room| {
        let path = room.file("data");
        fs::write(&path, "contents").expect("a data file");
        path
    };
    let failures = tried(
        room,
        "lease create",
        data,
        |_, path| Lease::open(path).map_err(of_lease),
        |_, path| own(path),
    );
    assert!(failures >= 2, "{failures}");
    tried(
        room,
        "lease open, healing",
        |room| {
            let path = data(room);
            drop(Lease::open(&path).expect("a lease"));
            File::create(room.file("data-shm")).expect("emptied");
            path
        },
        |_, path| Lease::open(path).map_err(of_lease),
        |_, path| own(path),
    );
    tried(
        room,
        "lease reader",
        |room| {
            let path = data(room);
            (Lease::open(&path).expect("a lease"), path)
        },
        |_, (lease, _)| {
            let mut reader = lease.attach_reader(5).expect("locks need no room");
            reader.pin(7).expect("locks need no room");
            Ok(())
        },
        |_, (lease, _)| assert!(lease.is_owner()),
    );
}

fn hosts(room: &Room) {
    let path = |room: &Room| room.file("new/hub");
    let create = move |room: &Room| Host::builder().link(small()).create(path(room));
    let failures = tried(
        room,
        "host create",
        |_| (),
        |room, ()| {
            create(room).map_err(|error| match error {
                CreateError::Os(error) => error,
                other => panic!("{other:?}"),
            })
        },
        |room, ()| drop(create(room).expect("a host")),
    );
    assert!(failures >= 2, "{failures}");
    // Links need nothing of the file system.
    room.clear();
    let mut host = create(room).expect("a host");
    room.leave_pages(0);
    room.leave_names(0);
    let attaching = std::thread::spawn({
        let path = path(room);
        move || Guest::attach(path, WAIT).expect("attached")
    });
    let mut link = host.accept(WAIT).expect("accepted");
    let mut guest = attaching.join().expect("no panic");
    for len in [10, 1000, 20_000] {
        link.send(&pattern::message(1, len), WAIT).expect("sent");
        assert!(pattern::matches(1, &guest.link.recv(WAIT).expect("received").to_bytes()));
    }
}
