//! `ls`, `inspect`, `top` and `doctor` from the outside: of hubs that live, that are stale, and
//! that lie.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use shm_transport::{Fleet, Guest, Host, Link, fleet::RingConfig};

const WAIT: Duration = Duration::from_secs(40);

fn shmctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmctl"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    shmctl(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What `--json` printed, with the exit code.
fn json(arguments: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = run(&[arguments, &["--json"]].concat());
    (lines(&output), output.status.code())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A host with one guest that have exchanged messages of all kinds, in this process.
struct Hub {
    host: Host,
    link: Link,
    guest: Guest,
}

fn hub(path: &Path) -> Hub {
    let mut host = Host::create(path).unwrap();
    let attaching = {
        let path = path.to_owned();
        thread::spawn(move || Guest::attach(path, WAIT).unwrap())
    };
    let mut link = host.accept(WAIT).unwrap();
    let mut guest = attaching.join().unwrap();
    for len in [10, 20_000, 2 << 20] {
        link.send(&vec![7; len], WAIT).unwrap();
        assert_eq!(guest.link.recv(WAIT).unwrap().len(), len);
    }
    for _ in 0..5 {
        guest.link.send(&[1; 100], WAIT).unwrap();
    }
    assert_eq!(link.recv(WAIT).unwrap().len(), 100);
    Hub { host, link, guest }
}

/// A `shmctl recv` that serves a path, killed or ended with this.
struct Server(Child);

impl Server {
    fn start(path: &Path) -> Self {
        let child = shmctl(&["recv", "--keep", text(path)]).stdout(Stdio::null()).spawn().unwrap();
        let server = Self(child);
        let end = Instant::now() + WAIT;
        while !path.exists() {
            assert!(Instant::now() < end, "no hub");
            thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ls_shows_what_is_live_and_what_is_stale_and_whose() {
    let place = tempfile::tempdir().unwrap();
    let (live, stale) = (place.path().join("live"), place.path().join("stale"));
    let server = Server::start(&live);
    Server::start(&stale).kill();
    let fleets = place.path().join("fleets");
    let fleet = Fleet::builder().directory(&fleets).join("team", 3).unwrap();
    let store = shm_store::Store::open(place.path().join("store")).unwrap();
    let (rows, code) = json(&["ls", text(place.path())]);
    assert_eq!(code, Some(0));
    let row = |path: &Path| {
        let found = rows.iter().find(|row| row["path"] == text(path));
        found.unwrap_or_else(|| panic!("{path:?} is not in {rows:?}"))
    };
    assert_eq!((&row(&live)["kind"], &row(&live)["state"]), (&"hub".into(), &"live".into()));
    assert_eq!(row(&live)["pid"], server.0.id());
    assert_eq!(row(&live)["command"], "shmctl");
    assert_eq!(row(&live)["users"], 0);
    assert_eq!(row(&stale)["state"], "stale");
    assert_eq!(row(&stale).get("pid"), None);
    let team = row(fleet.path());
    assert_eq!(
        (&team["kind"], &team["state"], &team["users"]),
        (&"fleet".into(), &"live".into(), &1.into())
    );
    let own = row(store.directory());
    assert_eq!((&own["kind"], &own["state"]), (&"store".into(), &"live".into()));
    assert_eq!(own["pid"], std::process::id());
    let table = String::from_utf8(run(&["ls", text(place.path())]).stdout).unwrap();
    assert!(table.starts_with("KIND") && table.contains("stale"), "{table}");
}

#[test]
fn inspect_decodes_a_hub_with_its_links() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub");
    let hub = hub(&path);
    let (report, code) = json(&["inspect", text(&path)]);
    let report = &report[0];
    assert_eq!((code, &report["problems"]), (Some(0), &Value::Array(vec![])));
    assert_eq!(report["facts"]["pid"], std::process::id());
    assert_eq!(report["facts"]["attached"], 1);
    assert_eq!(report["peers"][0]["peer"], hub.guest.link.peer().to_string());
    let link = &report["links"][0];
    let to_guest = &link["to_guest"];
    for kind in ["inline", "slot", "sealed"] {
        assert_eq!(to_guest[kind]["messages"], 1, "{kind}");
    }
    assert_eq!(to_guest["bytes"], 10 + 20_000 + (2 << 20));
    assert_eq!(to_guest["under_way"]["messages"], 0);
    assert_eq!(link["to_host"]["messages"], 5);
    // Four are not received.
    assert_eq!(link["to_host"]["under_way"]["bytes"], 400);
    assert!(link["to_host"]["fill"].as_f64().unwrap() > 0.0);
    let printed = String::from_utf8(run(&["inspect", text(&path)]).stdout).unwrap();
    assert!(printed.contains("nothing is wrong") && printed.contains("to guest"), "{printed}");
    let (of_process, _) = json(&["inspect", &std::process::id().to_string()]);
    assert!(!of_process[0]["links"].as_array().unwrap().is_empty());
    drop((hub.link, hub.host));
}

#[test]
fn inspect_says_what_is_wrong() {
    let place = tempfile::tempdir().unwrap();
    let stale = place.path().join("stale");
    Server::start(&stale).kill();
    let (report, code) = json(&["inspect", text(&stale)]);
    assert_eq!(code, Some(3));
    assert!(report[0]["problems"][0].as_str().unwrap().contains("dead"), "{report:?}");
    let other = place.path().join("other");
    fs::write(&other, "something else").unwrap();
    for nothing in [text(&other), text(&place.path().join("missing")), text(place.path())] {
        let output = run(&["inspect", nothing]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
}

#[test]
fn inspect_decodes_fleets_leases_and_stores() {
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let fleet = Fleet::builder().directory(place.path()).nodes(8).join("team", 2).unwrap();
    let ring = fleet.ring(5, &RingConfig { capacity: 16, max_payload: 64 });
    ring.unwrap().publish(0, 1, b"frame").unwrap();
    let (report, code) = json(&["inspect", text(fleet.path())]);
    let report = &report[0];
    assert_eq!((code, &report["facts"]["alive"]), (Some(0), &1.into()));
    assert_eq!(report["members"][0]["pid"], std::process::id());
    assert_eq!(
        (&report["rings"][0]["published"], &report["rings"][0]["kind"]),
        (&1.into(), &"05".into())
    );
    let data = place.path().join("data");
    fs::write(&data, "").unwrap();
    let lease = shm_transport::Lease::open(&data).unwrap();
    let (report, _) = json(&["inspect", text(&data)]);
    assert_eq!((&report[0]["kind"], &report[0]["facts"]["owned"]), (&"lease".into(), &true.into()));
    drop(lease);
    let store = shm_store::Store::open(place.path().join("store")).unwrap();
    let (report, _) = json(&["inspect", text(store.directory())]);
    assert_eq!((&report[0]["kind"], &report[0]["facts"]["owned"]), (&"store".into(), &true.into()));
    // A broken file of the fleet is a problem, and no end.
    fs::write(fleet.path().join("ring-07"), [7; 4096]).unwrap();
    let (report, code) = json(&["inspect", text(fleet.path())]);
    assert_eq!(code, Some(3));
    assert!(report[0]["problems"][0].as_str().unwrap().starts_with("ring-07"), "{report:?}");
}

#[test]
fn top_shows_rates_and_stalls() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("hub");
    let Hub { host, mut link, mut guest } = hub(&path);
    let looks = ["top", text(&path), "--json", "-n", "3", "-i", "0.3"];
    let mut top = shmctl(&looks).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(top.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    for _ in 0..1000 {
        link.send(&[7; 100], WAIT).unwrap();
        guest.link.recv(WAIT).unwrap();
    }
    // Nobody receives here any more.
    let stalled = thread::spawn(move || while link.send(&[7; 100], WAIT).is_ok() {});
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(top.wait().unwrap().success());
    let looks: Vec<Value> =
        (first + &rest).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(looks.len(), 3, "one link, three looks");
    assert_eq!(looks[0]["to_guest_rate"]["messages"], 0.0);
    let sent = looks[2]["to_guest"]["messages"].as_u64().unwrap();
    assert!(sent > 1000, "{sent}");
    let fastest = looks.iter().map(|look| look["to_guest_rate"]["messages"].as_f64().unwrap());
    assert!(fastest.fold(0.0, f64::max) > 0.0);
    // Now it certainly stands still.
    let end = Instant::now() + WAIT;
    let mut seen = false;
    while !seen && Instant::now() < end {
        let (look, _) = json(&["top", text(&path), "--once"]);
        let to_guest = &look[0]["to_guest"];
        seen = to_guest["stalled"].as_f64().is_some_and(|stalled| stalled > 0.0)
            && to_guest["fill"].as_f64().unwrap() > 0.5
            && to_guest["full"].as_u64().unwrap() >= 1;
    }
    assert!(seen, "it does not stall");
    drop(guest);
    stalled.join().unwrap();
    drop(host);
}

#[test]
fn top_needs_a_terminal_or_a_way_to_print() {
    let output = run(&["top"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--json"));
}

#[test]
fn doctor_says_what_clears_what_is_stale_and_clears_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let (live, stale) = (place.path().join("live"), place.path().join("it's stale"));
    let server = Server::start(&live);
    Server::start(&stale).kill();
    let fleets = place.path().join("fleets");
    fs::create_dir(&fleets).unwrap();
    fs::set_permissions(&fleets, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let team = Fleet::builder().directory(&fleets).join("team", 0).unwrap();
    let dead = Fleet::builder().directory(&fleets).join("dead", 0).unwrap();
    let (team_path, dead_path) = (team.path().to_owned(), dead.path().to_owned());
    drop(dead);
    fs::write(place.path().join("data"), "data").unwrap();
    fs::write(place.path().join("empty.lock"), "").unwrap();

    let (found, code) = json(&["doctor", text(place.path())]);
    assert_eq!(code, Some(3));
    let mut paths: Vec<_> = found.iter().map(|found| found["path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(paths, [text(&dead_path), text(&stale)]);
    // The command is what a shell runs to clear it.
    let of_stale = found.iter().find(|found| found["path"] == text(&stale)).unwrap();
    let command = of_stale["command"].as_str().unwrap();
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
    assert!(!stale.exists() && !place.path().join("it's stale.lock").exists());

    // Nothing is cleared in directories that nobody has named.
    let refused = run(&["doctor", "--fix"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");

    Server::start(&stale).kill();
    let (found, code) = json(&["doctor", "--fix", text(place.path())]);
    assert_eq!((code, found.len()), (Some(0), 2));
    assert!(found.iter().all(|found| found["fixed"] == true), "{found:?}");
    assert!(!stale.exists() && !dead_path.exists());
    assert!(live.exists() && team_path.exists());
    assert!(place.path().join("data").exists() && place.path().join("empty.lock").exists());
    let (found, code) = json(&["doctor", text(place.path())]);
    assert_eq!((code, found.len()), (Some(0), 0));
    drop((server, team));
}
