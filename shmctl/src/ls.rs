//! `shmctl ls`: hubs, fleets and stores of this machine, live or stale.

use std::{error::Error, fs, os::unix::fs::MetadataExt, path::PathBuf, process::ExitCode};

use serde::Serialize;
use shm_transport::{
    Lease, PeerState,
    inspect::{FleetView, Process, Rendezvous},
    lease::Ownership,
};

use crate::{
    look::{self, Places},
    table::{self, Table, harmless},
};

/// Options of `ls`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Look into these instead of the likely ones: the runtime, temporary and current directory
    #[arg(value_name = "DIRECTORY")]
    directories: Vec<PathBuf>,

    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Something that was found.
#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    state: &'static str,
    /// Who serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    uid: u32,
    /// How many use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<usize>,
    path: PathBuf,
}

pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let processes = look::processes()?;
    let likely = look::likely();
    let given = !options.directories.is_empty();
    let directories = if given { &options.directories } else { &likely };
    let places = Places::look(directories, &processes);
    let mut rows: Vec<Row> = places.hubs.iter().map(|hub| hub_row(hub, &processes)).collect();
    rows.extend(places.fleets.iter().map(fleet_row));
    rows.extend(places.stores.iter().filter_map(|store| store_row(store.clone())));
    if given {
        let inside = |row: &Row| {
            directories.iter().any(|directory| {
                let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.clone());
                let path = row.path.parent().and_then(|parent| fs::canonicalize(parent).ok());
                path.is_some_and(|path| path.starts_with(&directory))
            })
        };
        rows.retain(inside);
    }
    for problem in &places.problems {
        eprintln!("shmctl: {}", harmless(problem));
    }
    if options.json {
        table::json(&rows)?;
    } else if rows.is_empty() {
        eprintln!("shmctl: no hubs, fleets or stores found");
    } else {
        let head = &["KIND", "STATE", ">PID", "COMMAND", ">UID", ">USERS", "PATH"];
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let cells = |row: &Row| {
            vec![
                row.kind.into(),
                row.state.into(),
                or_none(row.pid.map(|pid| pid.to_string())),
                or_none(row.command.as_deref().map(harmless)),
                row.uid.to_string(),
                or_none(row.users.map(|users| users.to_string())),
                harmless(&row.path.to_string_lossy()),
            ]
        };
        print!("{}", Table { head, rows: rows.iter().map(cells).collect() });
    }
    Ok(ExitCode::SUCCESS)
}

fn state(live: bool) -> &'static str {
    if live { "live" } else { "stale" }
}

fn hub_row(hub: &Rendezvous, processes: &[Process]) -> Row {
    let mut row = Row {
        kind: "hub",
        state: state(hub.live),
        pid: None,
        command: None,
        uid: hub.uid,
        users: None,
        path: hub.path.clone(),
    };
    let host = processes.iter().find_map(|process| Some((process, process.hub_at(&hub.path)?)));
    if let Some((process, found)) = host.filter(|_| hub.live) {
        row.pid = Some(process.pid);
        row.command = Some(process.command.clone());
        row.uid = process.uid;
        let attached = |view: &shm_transport::inspect::HubView| {
            let entries = view.peers().flatten();
            entries.filter(|entry| entry.state == PeerState::Attached).count()
        };
        row.users = found.view.map(attached);
    }
    row
}

fn fleet_row(fleet: &FleetView) -> Row {
    let alive = fleet.members.iter().filter(|member| member.alive);
    let first = alive.clone().next().map(|member| member.pid);
    Row {
        kind: "fleet",
        state: state(first.is_some()),
        pid: first,
        command: None,
        uid: fs::symlink_metadata(&fleet.path).map_or(0, |metadata| metadata.uid()),
        users: Some(alive.count()),
        path: fleet.path.clone(),
    }
}

/// A store, if one is there: who owns it is what the kernel and its lease say.
fn store_row(path: PathBuf) -> Option<Row> {
    let uid = fs::symlink_metadata(&path).ok()?.uid();
    let reading = Lease::read_header(path.join("lease")).ok();
    let owned = reading.filter(|reading| matches!(reading.ownership, Ownership::Owned(_)));
    let pid = owned.as_ref().map(|reading| reading.header.pid);
    Some(Row {
        kind: "store",
        // A store that nobody has open is at rest, not stale.
        state: if owned.is_some() { "live" } else { "closed" },
        pid,
        command: None,
        uid,
        users: None,
        path,
    })
}
