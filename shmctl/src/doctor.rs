//! `shmctl doctor`: what is stale or leaked, the command that clears it, and clearing it.

use std::{
    error::Error,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;
use shm_transport::{
    Fleet,
    inspect::{FleetView, Rendezvous, rendezvous},
};

use crate::{
    links::links,
    look::{self, Places},
    options::WRONG,
    table::{self, harmless, time},
};

/// Options of `doctor`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 nothing is stale, or all of it was cleared; 1 an error; 3 \
                        something is left.")]
pub struct Options {
    /// Look into these instead of the likely ones: the runtime, temporary and current directory
    #[arg(value_name = "DIRECTORY")]
    directories: Vec<PathBuf>,

    /// Clear what is stale and this user's in the given directories. They must be named: what
    /// other programs of this user left elsewhere is theirs to decide on
    #[arg(long, requires = "directories")]
    fix: bool,

    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Something stale, or something to know.
#[derive(Debug, Serialize)]
struct Finding {
    problem: String,
    path: PathBuf,
    /// What clears it; none if nothing is to be cleared.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    fixed: bool,
    #[serde(skip)]
    stale: Option<Stale>,
}

/// What is to be cleared.
#[derive(Debug)]
enum Stale {
    Hub(Rendezvous),
    Fleet(FleetView),
    /// A directory that a dead process left.
    Directory(PathBuf),
}

/// A sender that sleeps for so long is worth a word, in seconds.
const STALLED: f64 = 10.0;

pub fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let processes = look::processes()?;
    let likely = look::likely();
    let given = !options.directories.is_empty();
    let directories = if given { &options.directories } else { &likely };
    // Only there: what is elsewhere is nobody's question.
    let places = Places::look(directories, if given { &[] } else { &processes });
    let mut findings = stale(places);
    if !given {
        for process in &processes {
            let path = PathBuf::from(format!("/proc/{}", process.pid));
            let problems = process.problems.iter();
            findings.extend(problems.map(|problem| to_know(harmless(problem), path.clone())));
        }
        findings.extend(stalls(&processes));
    }
    if options.fix {
        findings.iter_mut().for_each(Finding::fix);
    }
    if options.json {
        table::json(&findings)?;
    } else {
        print(&findings);
    }
    let left = findings.iter().any(|finding| finding.stale.is_some() && !finding.fixed);
    Ok(if left { ExitCode::from(WRONG) } else { ExitCode::SUCCESS })
}

fn to_know(problem: String, path: PathBuf) -> Finding {
    Finding { problem, path, command: None, fixed: false, stale: None }
}

fn stale(places: Places) -> Vec<Finding> {
    let mut findings = Vec::new();
    for hub in places.hubs {
        // A leftover directory takes its sockets along.
        let covered = places.leftovers.iter().any(|directory| hub.path.starts_with(directory));
        if !hub.live && !covered && hub.uid == look::user() {
            let files: Vec<String> = hub.files.iter().map(|file| quoted(file)).collect();
            findings.push(Finding {
                problem: "the host of this hub is dead".into(),
                path: hub.path.clone(),
                command: Some(format!("rm -f {}", files.join(" "))),
                fixed: false,
                stale: Some(Stale::Hub(hub)),
            });
        }
    }
    for fleet in places.fleets {
        let path = fleet.path.clone();
        for problem in &fleet.problems {
            findings.push(to_know(problem.clone(), path.clone()));
        }
        // Somebody may just be making one that has no members yet.
        if fleet.members.is_empty() || fleet.members.iter().any(|member| member.alive) {
            continue;
        }
        findings.push(Finding {
            problem: "all members of this fleet are dead".into(),
            command: Some(format!("rm -r {}", quoted(&path))),
            path,
            fixed: false,
            stale: Some(Stale::Fleet(fleet)),
        });
    }
    for path in places.leftovers {
        findings.push(Finding {
            problem: "a process that is dead left this directory".into(),
            command: Some(format!("rm -r {}", quoted(&path))),
            path: path.clone(),
            fixed: false,
            stale: Some(Stale::Directory(path)),
        });
    }
    findings.extend(places.problems.into_iter().map(|problem| to_know(problem, PathBuf::new())));
    findings
}

fn stalls(processes: &[shm_transport::inspect::Process]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for link in links(processes.iter()) {
        let ways = [("host", &link.to_guest, link.guest), ("guest", &link.to_host, link.host)];
        for (who, way, other) in ways {
            if let (Some(stalled), Some(other)) = (way.stalled.filter(|s| *s >= STALLED), other) {
                let stalled = time(std::time::Duration::from_secs_f64(stalled));
                let problem = format!(
                    "link {}: the {who} has waited for room for {stalled}; process {other} does \
                     not receive",
                    link.peer
                );
                findings.push(to_know(problem, link.hub.clone().into()));
            }
        }
    }
    findings
}

impl Finding {
    /// Clears it, unless it has come to life meanwhile.
    fn fix(&mut self) {
        let cleared = match &self.stale {
            None => return,
            Some(Stale::Hub(hub)) => hub.clear().map_err(|error| error.to_string()),
            Some(Stale::Fleet(fleet)) => unlink(fleet),
            Some(Stale::Directory(path)) => remove(path),
        };
        match cleared {
            Ok(cleared) => self.fixed = cleared,
            Err(error) => self.problem = format!("{}; not cleared: {error}", self.problem),
        }
    }
}

/// Takes a fleet's name away, as one of its members, if it has no other.
fn unlink(fleet: &FleetView) -> Result<bool, String> {
    let (Some(root), Some(name)) = (fleet.path.parent(), fleet.path.file_name()) else {
        return Ok(false);
    };
    let name = name.to_str().ok_or("its name is no text")?;
    let joined = Fleet::builder().directory(root).nodes(fleet.nodes).join(name, 0);
    let joined = joined.map_err(|error| error.to_string())?;
    let others = joined.members().map_err(|error| error.to_string())?;
    if others.iter().any(|member| member.alive && member.node != 0) {
        return Ok(false);
    }
    joined.unlink().map_err(|error| error.to_string())?;
    Ok(true)
}

/// Removes a directory of this user, if no host lives in it.
fn remove(path: &Path) -> Result<bool, String> {
    let failed = |error: std::io::Error| error.to_string();
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if !metadata.is_dir() || metadata.uid() != look::user() {
        return Ok(false);
    }
    for entry in fs::read_dir(path).map_err(failed)?.flatten() {
        let hub = entry.path().with_extension("");
        if rendezvous(&hub).map_err(|error| error.to_string())?.is_some_and(|hub| hub.live) {
            return Ok(false);
        }
    }
    fs::remove_dir_all(path).map_err(failed)?;
    Ok(true)
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn print(findings: &[Finding]) {
    if findings.is_empty() {
        println!("nothing is stale");
    }
    for finding in findings {
        println!("{}: {}", harmless(&finding.path.to_string_lossy()), finding.problem);
        match &finding.command {
            Some(_) if finding.fixed => println!("    cleared"),
            Some(command) => println!("    {}", harmless(command)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_quoted_path_as_it_is() {
        assert_eq!(quoted(Path::new("/tmp/a-b.lock")), "/tmp/a-b.lock");
        assert_eq!(quoted(Path::new("/tmp/a b;'c")), r"'/tmp/a b;'\''c'");
    }
}
