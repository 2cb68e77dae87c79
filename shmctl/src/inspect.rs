//! `shmctl inspect`: what a path is, decoded, and what is wrong with it.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;
use serde_json::{Value, json};
use shm_transport::{
    Lease,
    inspect::{FleetView, Process, rendezvous},
    lease::Ownership,
};

use crate::{
    links::{Count, Link, Way, links},
    look,
    options::{WRONG, existing_hub},
    table::{Table, harmless, short},
};

/// Options of `inspect`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The path of a hub, a fleet's or a store's directory, a data file with a lease, or the
    /// number of a process
    #[arg(value_name = "PATH|PID")]
    what: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found out.
#[derive(Debug, Default, Serialize)]
struct Report {
    kind: &'static str,
    /// Names and values, in order.
    facts: Vec<(&'static str, Value)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rings: Vec<Value>,
    problems: Vec<String>,
}

pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let path = &existing_hub(&options.what);
    let report = match path.to_str().and_then(|text| text.parse().ok()) {
        Some(pid) if !path.exists() => process(pid)?,
        _ => at(path)?,
    };
    if options.json {
        let mut object = json!(report);
        // Facts are members of an object, for programs.
        object["facts"] = report.facts.iter().map(|(name, value)| (*name, value.clone())).collect();
        println!("{object}");
    } else {
        print(&report);
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}

fn at(path: &Path) -> Result<Report, Box<dyn Error>> {
    if let Some(found) = rendezvous(path)? {
        return hub(path, &found);
    }
    if path.is_dir() {
        if let Some(fleet) = FleetView::look(path)? {
            return Ok(self::fleet(&fleet));
        }
        if path.join("layout.json").is_file() {
            return store(path);
        }
        return Err(format!("{} is no fleet and no store", path.display()).into());
    }
    let shm = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-shm");
        PathBuf::from(name)
    };
    if shm(path).exists() {
        return lease(path);
    }
    let data = path.to_str().and_then(|path| path.strip_suffix("-shm")).map(Path::new);
    match data.filter(|data| data.exists()) {
        Some(data) => lease(data),
        None if path.exists() => {
            Err(format!("{} is nothing of this library", path.display()).into())
        }
        None => Err(format!("there is nothing at {}", path.display()).into()),
    }
}

fn hub(path: &Path, found: &shm_transport::inspect::Rendezvous) -> Result<Report, Box<dyn Error>> {
    let mut report = Report { kind: "hub", ..Report::default() };
    report.fact("path", path.to_string_lossy());
    report.fact("live", found.live);
    report.fact("uid", found.uid);
    let processes = look::processes()?;
    let host = processes.iter().find_map(|process| Some((process, process.hub_at(path)?)));
    let Some((process, hub)) = host.filter(|_| found.live) else {
        report.problems.push(if found.live {
            "its host lives, and is another user's, in another pid namespace, or of another \
             release: it cannot be looked into"
                .into()
        } else {
            let files: Vec<_> = found.files.iter().map(|file| file.to_string_lossy()).collect();
            format!("its host is dead; left behind: {}", files.join(" "))
        });
        return Ok(report);
    };
    report.fact("pid", process.pid);
    report.fact("command", harmless(&process.command));
    report.problems.extend(process.problems.iter().cloned());
    let about = &hub.about;
    report.fact("incarnation", format!("{:032x}", about.incarnation));
    report.links = links(processes.iter());
    let own = |link: &Link| link.host == Some(process.pid) && link.hub == about.path;
    report.links.retain(own);
    let Some(view) = hub.view else {
        report.problems.push("its memory is not there, or broken".into());
        return Ok(report);
    };
    report.fact("size", view.size());
    report.fact("max_guests", view.max_guests());
    report.fact("goodbye", view.goodbye());
    match view.statistics() {
        Ok(counts) => {
            report.fact("attached", counts.attached);
            report.fact("departed", counts.departed);
            report.fact("died", counts.died);
            report.fact("evicted", counts.evicted);
            report.fact("corrupt", counts.corrupt);
            report.fact("refused", counts.refused);
        }
        Err(busy) => report.problems.push(format!("statistics: {busy}")),
    }
    for entry in view.peers() {
        let entry = match entry {
            Ok(entry) => entry,
            Err((index, error)) => {
                report.problems.push(format!("peer {index}: {error}"));
                continue;
            }
        };
        let details = &entry.details;
        let state = format!("{:?}", entry.state).to_lowercase();
        if state == "attached" && details.pid != 0 && !is_there(details.pid) {
            report.problems.push(format!("peer {}: its process {} is gone", entry.id, details.pid));
        }
        report.peers.push(json!({
            "peer": entry.id.to_string(), "state": state, "pid": details.pid,
            "start_time": details.start_time, "heartbeat": details.heartbeat,
            "ring_to_guest": details.to_guest, "ring_to_host": details.to_host,
        }));
    }
    report.topics = view
        .topics()
        .iter()
        .map(|topic| {
            json!({
                "name": harmless(&topic.name), "slots": topic.slots,
                "max_payload": topic.max_payload, "published": topic.published,
            })
        })
        .collect();
    report.look_at_links();
    Ok(report)
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn process(pid: u32) -> Result<Report, Box<dyn Error>> {
    let failed = |error| format!("look into process {pid}: {error}");
    let process = Process::look(pid).map_err(failed)?;
    let process = process.ok_or_else(|| format!("process {pid} has no hub and no link"))?;
    let mut report = Report { kind: "process", ..Report::default() };
    report.fact("pid", process.pid);
    report.fact("command", harmless(&process.command));
    report.fact("uid", process.uid);
    report.fact(
        "hubs",
        process.hubs().iter().map(|hub| harmless(&hub.about.path)).collect::<Vec<_>>(),
    );
    report.problems.extend(process.problems.iter().map(|problem| harmless(problem)));
    report.links = links(look::processes()?.iter());
    report.links.retain(|link| link.host == Some(pid) || link.guest == Some(pid));
    report.look_at_links();
    Ok(report)
}

fn fleet(fleet: &FleetView) -> Report {
    let mut report = Report { kind: "fleet", ..Report::default() };
    report.fact("path", fleet.path.to_string_lossy());
    report.fact("nodes", fleet.nodes);
    report.fact("alive", fleet.members.iter().filter(|member| member.alive).count());
    report.members = fleet
        .members
        .iter()
        .map(|member| {
            json!({
                "node": member.node, "alive": member.alive, "pid": member.pid,
                "start_time": member.start_time, "heartbeat": member.heartbeat,
                "incarnation": format!("{:032x}", member.incarnation),
            })
        })
        .collect();
    report.rings = fleet
        .rings
        .iter()
        .map(|ring| {
            json!({
                "kind": format!("{:02x}", ring.kind), "capacity": ring.capacity,
                "max_payload": ring.max_payload, "allocated": ring.allocated,
                "published": ring.published, "oldest": ring.oldest,
            })
        })
        .collect();
    report.problems.extend(fleet.problems.iter().cloned());
    report
}

fn lease(data: &Path) -> Result<Report, Box<dyn Error>> {
    let mut report = Report { kind: "lease", ..Report::default() };
    report.fact("path", data.to_string_lossy());
    report.lease(data);
    Ok(report)
}

fn store(path: &Path) -> Result<Report, Box<dyn Error>> {
    let mut report = Report { kind: "store", ..Report::default() };
    report.fact("path", path.to_string_lossy());
    let layout = std::fs::read_to_string(path.join("layout.json"))?;
    match serde_json::from_str::<Value>(&layout) {
        Ok(layout) => report.fact("layout", layout),
        Err(error) => report.problems.push(format!("layout.json: {error}")),
    }
    report.lease(&path.join("lease"));
    Ok(report)
}

impl Report {
    fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push((name, value.into()));
    }

    fn lease(&mut self, data: &Path) {
        let reading = match Lease::read_header(data) {
            Ok(reading) => reading,
            Err(error) => {
                self.problems.push(error.to_string());
                return;
            }
        };
        let header = &reading.header;
        let owned = matches!(reading.ownership, Ownership::Owned(_));
        self.fact("owned", owned);
        self.fact("pid", header.pid);
        self.fact("generation", header.generation.to_string());
        self.fact("state", format!("{:?}", header.state).to_lowercase());
        self.fact("heartbeat", header.heartbeat);
        self.fact("readers", reading.readers.len());
    }

    fn look_at_links(&mut self) {
        let found = self.links.iter().flat_map(|link| {
            link.problems.iter().map(move |problem| format!("link {}: {problem}", link.peer))
        });
        let found: Vec<String> = found.collect();
        self.problems.extend(found);
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), harmless)
}

fn print(report: &Report) {
    println!("{}", report.kind);
    for (name, value) in &report.facts {
        println!("  {name:<12} {}", text(value));
    }
    let tables: [(_, _, &[&str]); 4] = [
        (
            "peers",
            &report.peers,
            &["peer", "state", "pid", "start_time", "heartbeat", "ring_to_guest", "ring_to_host"],
        ),
        ("topics", &report.topics, &["name", "slots", "max_payload", "published"]),
        (
            "members",
            &report.members,
            &["node", "alive", "pid", "start_time", "heartbeat", "incarnation"],
        ),
        (
            "rings",
            &report.rings,
            &["kind", "capacity", "max_payload", "allocated", "published", "oldest"],
        ),
    ];
    for (name, rows, head) in tables.into_iter().filter(|(_, rows, _)| !rows.is_empty()) {
        let cells = |row: &Value| head.iter().map(|name| text(&row[*name])).collect();
        let head: Vec<String> = head.iter().map(|name| name.to_uppercase()).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        println!("\n{name}\n{}", Table { head: &head, rows: rows.iter().map(cells).collect() });
    }
    if !report.links.is_empty() {
        let head = &[
            "LINK",
            "WAY",
            ">MESSAGES",
            ">BYTES",
            ">INLINE",
            ">SLOT",
            ">SEALED",
            ">SHARED",
            ">UNDER WAY",
            ">FILL",
            ">FULL",
            ">SLOTS",
            ">IN USE",
            ">MOST",
            ">WAKES",
            ">SPARED",
        ];
        let ways = |link: &Link| {
            [way(&link.peer, "to guest", &link.to_guest), way(&link.peer, "to host", &link.to_host)]
        };
        let rows = report.links.iter().flat_map(ways).collect();
        println!("\nlinks\n{}", Table { head, rows });
    }
    if report.problems.is_empty() {
        println!("\nnothing is wrong");
    }
    for problem in &report.problems {
        println!("\nWRONG: {}", harmless(problem));
    }
}

fn way(peer: &str, name: &str, way: &Way) -> Vec<String> {
    let count = |count: Count| short(count.messages as f64);
    let number = |number: Option<u64>| number.map_or("-".into(), |number| short(number as f64));
    vec![
        peer.into(),
        name.into(),
        way.all.messages.to_string(),
        way.all.bytes.to_string(),
        count(way.inline),
        count(way.slot),
        count(way.sealed),
        count(way.shared),
        number(way.under_way.map(|count| count.messages)),
        way.fill.map_or("-".into(), |fill| format!("{:.0} %", fill * 100.0)),
        number(way.full),
        number(way.slots),
        number(way.in_use),
        number(way.most_in_use),
        number(way.wakes),
        number(way.wakes_spared),
    ]
}
