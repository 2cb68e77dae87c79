//! What stands in the way at each path that is used, and who may not use it: each case has its
//! error, and no file of anybody else's is changed.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::stat::Mode;
use shm_tests::{Place, attempt::attempt, process::Peer};

/// A file that belongs to somebody else, and all that can be told of it from outside.
struct Victim {
    path: PathBuf,
    before: (Vec<u8>, [u64; 4], [i64; 2]),
}

impl Victim {
    fn new(place: &Place, contents: &str) -> Self {
        let path = place.file("victim");
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = Self::look(&path);
        Self { path, before }
    }

    fn look(path: &Path) -> (Vec<u8>, [u64; 4], [i64; 2]) {
        let found = path.symlink_metadata().unwrap();
        let numbers = [found.ino(), found.mode().into(), found.uid().into(), found.gid().into()];
        (fs::read(path).unwrap(), numbers, [found.mtime(), found.mtime_nsec()])
    }

    fn is_unchanged(&self) {
        assert!(Self::look(&self.path) == self.before, "it was changed");
    }
}

/// What stands at a path.
type Obstacle = (&'static str, fn(&Victim, &Path));

const OBSTACLES: [Obstacle; 6] = [
    ("a symbolic link", |victim, at| symlink(&victim.path, at).unwrap()),
    ("a symbolic link to nowhere", |victim, at| {
        symlink(victim.path.with_extension("gone"), at).unwrap();
    }),
    ("a hard link", |victim, at| fs::hard_link(&victim.path, at).unwrap()),
    ("a FIFO", |_, at| nix::unistd::mkfifo(at, Mode::S_IRWXU).unwrap()),
    ("a directory", |_, at| fs::create_dir(at).unwrap()),
    ("a file", |_, at| fs::write(at, "what somebody wrote there").unwrap()),
];

/// What is tried, by which path, where the obstacle stands, and what it is told for each
/// obstacle.
type Use = (&'static str, &'static str, &'static str, [&'static str; 6]);

const USES: [Use; 8] = [
    ("host", "hub", "hub", ["Path(Occupied"; 6]),
    ("host", "hub", "hub.lock", ["Path(Occupied"; 6]),
    ("host", "hub", "hub.new", ["Path(Occupied"; 6]),
    ("guest", "hub", "hub", ["NotAHub", "NoHost", "NotAHub", "NotAHub", "NotAHub", "NotAHub"]),
    (
        "fleet",
        "fleets",
        "fleets",
        ["WrongType", "WrongType", "WrongType", "WrongType", "ok", "WrongType"],
    ),
    (
        "fleet",
        "fleets",
        "fleets/fleet/members",
        ["WrongType", "WrongType", "Members(", "WrongType", "WrongType", "Members("],
    ),
    (
        "ring",
        "fleets",
        "fleets/fleet/ring-07",
        ["WrongType", "WrongType", "Header(", "WrongType", "WrongType", "Header("],
    ),
    ("lease", "data", "data-shm", ["File(Occupied"; 6]),
];

fn clear(place: &Place) {
    for entry in fs::read_dir(place.file("")).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn whatever_stands_in_the_way_is_left_as_it_is() {
    let place = Place::in_memory();
    let mut cases = 0;
    for (what, path, at, expected) in USES {
        for ((obstacle, make), expected) in OBSTACLES.into_iter().zip(expected) {
            for contents in ["what somebody needs", ""] {
                clear(&place);
                let victim = Victim::new(&place, contents);
                if what == "lease" {
                    fs::write(place.file("data"), "data").unwrap();
                }
                if at.contains('/') {
                    fs::create_dir_all(place.file(at).parent().unwrap()).unwrap();
                    let private = fs::Permissions::from_mode(0o700);
                    fs::set_permissions(place.file("fleets"), private.clone()).unwrap();
                    fs::set_permissions(place.file("fleets/fleet"), private).unwrap();
                }
                make(&victim, &place.file(at));
                let private = fs::Permissions::from_mode(0o700);
                if obstacle == "a directory" {
                    fs::set_permissions(place.file(at), private).unwrap();
                }
                let before = place.file(at).symlink_metadata().unwrap();
                let said = attempt(what, &place.file(path));
                let case = format!("{what} with {obstacle} at {at} ({} bytes)", contents.len());
                // An empty file is what a lock is, and what an owner that died may leave.
                let harmless = contents.is_empty() && obstacle == "a hard link" && said == "ok";
                assert!(harmless || said.contains(expected), "{case}: {said}");
                victim.is_unchanged();
                if said != "ok" {
                    let after = place.file(at).symlink_metadata().unwrap();
                    assert_eq!(
                        (before.ino(), before.mode(), before.len()),
                        (after.ino(), after.mode(), after.len()),
                        "{case}"
                    );
                }
                assert!(!victim.path.with_extension("gone").exists(), "{case}");
                cases += 1;
            }
        }
    }
    println!("{cases} cases");
    // A link in the place of a directory leads nowhere, either.
    for (what, path) in [("fleet", "link"), ("ring", "link")] {
        clear(&place);
        fs::create_dir(place.file("elsewhere")).unwrap();
        symlink(place.file("elsewhere"), place.file("link")).unwrap();
        let said = attempt(what, &place.file(path));
        assert!(said.contains("WrongType"), "{what}: {said}");
        assert_eq!(fs::read_dir(place.file("elsewhere")).unwrap().count(), 0);
    }
}

/// In a process of its own: an umask and a user are those of a process.
fn attempt_as(what: &str, path: &Path, umask: u32, user: Option<u32>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peer"));
    let copy = Place::new();
    if let Some(user) = user {
        // Where others can run it.
        fs::set_permissions(copy.file(""), fs::Permissions::from_mode(0o755)).unwrap();
        let program = copy.file("peer");
        fs::copy(env!("CARGO_BIN_EXE_peer"), &program).unwrap();
        command = Command::new(program);
        command.uid(user).gid(user);
    }
    command.args(["attempt", what]).arg(path).arg(format!("{umask:o}"));
    let mut process = Peer::start(&mut command);
    let answer = process.answer();
    process.succeeds();
    answer
}

#[test]
fn what_is_made_is_for_its_user_alone_whatever_the_umask() {
    for umask in [0o000, 0o022, 0o027, 0o077, 0o177, 0o777] {
        let place = Place::in_memory();
        fs::write(place.file("data"), "data").unwrap();
        fs::set_permissions(place.file("data"), fs::Permissions::from_mode(0o640)).unwrap();
        let cases = [("host", "new/hub"), ("ring", "fleets"), ("lease", "data")];
        for (what, path) in cases {
            let said = attempt_as(what, &place.file(path), umask, None);
            let is_root = rustix::process::geteuid().is_root();
            // Who takes rights from itself has none to what it has made, unless it is root.
            let takes_its_own = umask & 0o700 != 0 && !is_root;
            let refused = takes_its_own && said.contains("PermissionDenied");
            assert!(said == "ok" || refused, "{what}, {umask:o}: {said}");
        }
        for entry in
            ["new", "fleets", "fleets/fleet", "fleets/fleet/members", "fleets/fleet/ring-07"]
        {
            let Ok(found) = place.file(entry).symlink_metadata() else { continue };
            assert_eq!(found.mode() & 0o077, 0, "{entry} with umask {umask:o}");
        }
        // For the users of the data file, whom it is for.
        let shm = place.file("data-shm").symlink_metadata().map(|found| found.mode() & 0o777);
        assert!(shm.is_err() || shm.as_ref().is_ok_and(|mode| *mode == 0o640), "{shm:?}");
    }
}

#[test]
fn directories_that_others_can_write_are_used_by_nobody() {
    for mode in [0o777, 0o1777, 0o770, 0o702] {
        let place = Place::in_memory();
        let directory = place.file("open");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        let cases = [
            ("host", directory.join("hub"), "UnsafeDirectory"),
            ("fleet", directory.clone(), "Mode"),
            ("ring", directory.clone(), "Mode"),
        ];
        for (what, path, expected) in cases {
            let said = attempt(what, &path);
            assert!(said.contains(expected), "{what}, {mode:o}: {said}");
            assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "{what}, {mode:o}");
        }
    }
}

const NOBODY: u32 = 65534;

/// Whether there is another user to be; if not it says so.
fn has_another_user() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: only root can be another user");
    }
    is_root
}

fn give_away(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

#[test]
fn another_user_gets_at_nothing() {
    if !has_another_user() {
        return;
    }
    let place = Place::in_memory();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(place.file(""), open.clone()).unwrap();
    let victim = Victim::new(&place, "what somebody needs");
    fs::write(place.file("data"), "data").unwrap();
    let host = shm_transport::Host::create(place.hub()).unwrap();
    assert_eq!(attempt("ring", &place.file("fleets")), "ok");
    assert_eq!(attempt("lease", &place.file("data")), "ok");
    for at in ["fleets", "fleets/fleet"] {
        fs::set_permissions(place.file(at), open.clone()).unwrap();
    }
    let page = fs::read(place.file("data-shm")).unwrap();

    let cases = [
        ("host", place.hub(), "UnsafeDirectory"),
        ("host", place.file("other"), "UnsafeDirectory"),
        ("host", place.file("new/hub"), "PermissionDenied"),
        ("guest", place.hub(), "NotPermitted"),
        ("fleet", place.file("fleets"), "Owner"),
        ("ring", place.file("fleets"), "Owner"),
        ("fleet", place.file("other-fleets"), "PermissionDenied"),
        ("lease", place.file("data"), "NotPermitted"),
    ];
    for (what, path, expected) in cases {
        let said = attempt_as(what, &path, 0o022, Some(NOBODY));
        assert!(said.contains(expected), "{what} at {}: {said}", path.display());
    }
    // Of a data file that all may write the lease's file is for all, too, unless its owner
    // says otherwise.
    fs::set_permissions(place.file("data"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(place.file("data-shm"), fs::Permissions::from_mode(0o600)).unwrap();
    let said = attempt_as("lease", &place.file("data"), 0o022, Some(NOBODY));
    assert!(said.contains("File(NotPermitted"), "{said}");
    assert_eq!(fs::read(place.file("data-shm")).unwrap(), page);
    victim.is_unchanged();
    drop(host);
}

#[test]
fn what_another_user_has_made_is_not_used() {
    if !has_another_user() {
        return;
    }
    let place = Place::in_memory();
    let theirs = |path: PathBuf| {
        fs::create_dir(&path).unwrap();
        give_away(&path);
        path
    };
    let directory = theirs(place.file("theirs"));
    for (what, path, expected) in [
        ("host", directory.join("hub"), "UnsafeDirectory"),
        ("fleet", directory.clone(), "Owner"),
        ("ring", directory.clone(), "Owner"),
    ] {
        let said = attempt(what, &path);
        assert!(said.contains(expected), "{what}: {said}");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }
    // A file of theirs in our directory.
    assert_eq!(attempt("ring", &place.file("fleets")), "ok");
    for file in ["fleets/fleet/ring-07", "fleets/fleet/members"] {
        give_away(&place.file(file));
        let before = fs::read(place.file(file)).unwrap();
        let said = attempt("ring", &place.file("fleets"));
        assert!(said.contains("Owner"), "{file}: {said}");
        assert_eq!(fs::read(place.file(file)).unwrap(), before);
    }
}
