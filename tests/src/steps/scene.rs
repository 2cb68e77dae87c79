//! A link with a victim at its other end: a guest of this process's host, or the host of
//! this process's guest.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use shm_transport::{Guest, Host, Link};

use super::{
    Sweep, Victim,
    operation::Operation,
    survivor::{Survivor, outcomes},
};
use crate::{Place, WAIT, eventually, pattern::matches};

/// A command that starts the helper as a victim.
pub fn command(helper: &str, role: &str, path: &Path, what: &str) -> Command {
    let mut command = Command::new(helper);
    command.args([role.as_ref(), path.as_os_str(), what.as_ref()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The names beside a hub.
///
/// # Panics
///
/// If its directory cannot be read.
#[must_use]
pub fn names(hub: &Path) -> Vec<String> {
    let entries = fs::read_dir(hub.parent().expect("a directory")).expect("a directory");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Message 0.
fn hear(link: &mut Link) {
    let first = link.recv(WAIT).expect("it says that it is there");
    assert!(first.len() == 10 && matches(0, &first.to_bytes()));
}

/// Kills guests after every instruction of an operation. Their host has one entry, so each
/// guest has that of the one killed before it.
///
/// # Panics
///
/// If anything is lost, comes twice or stays.
pub fn kill_guests(helper: &str, operation: Operation) {
    let place = Place::new();
    let mut host = place.host(Host::builder().link(operation.config()).max_guests(1));
    let name = format!("guest, {operation}");
    let sweep = Sweep { name: &name, outcomes: outcomes(operation), sleeps: operation.sleeps() };
    sweep.run(|strike| {
        let victim = Victim::start(&mut command(helper, "stepped-guest", host.path(), &name[7..]));
        let mut link = host.accept(WAIT).expect("a guest");
        hear(&mut link);
        Survivor::help(operation, &mut link);
        victim.wait_for_begin();
        let mut survivor = Survivor::new(operation, link);
        if operation.sleeps() {
            strike.run_beside(&victim, || survivor.wake());
        } else {
            strike.run(&victim);
        }
        survivor.look();
        victim.kill();
        let outcome = survivor.settle();
        assert_eq!(host.hub().peers(), []);
        let counts = host.hub().statistics();
        assert_eq!(counts.attached, counts.departed + counts.died);
        outcome
    });
}

/// Kills hosts after every instruction of an operation. Each serves at the path of the one
/// killed before it.
///
/// # Panics
///
/// If anything is lost, comes twice or stays.
pub fn kill_hosts(helper: &str, operation: Operation) {
    let place = Place::new();
    let hub = place.hub();
    let name = format!("host, {operation}");
    let sweep = Sweep { name: &name, outcomes: outcomes(operation), sleeps: operation.sleeps() };
    sweep.run(|strike| {
        let victim = Victim::start(&mut command(helper, "stepped-host", &hub, &name[6..]));
        // The host before is dead, or this one is not there yet.
        let guest = eventually(|| Guest::attach(&hub, WAIT).ok());
        let mut link = guest.link;
        hear(&mut link);
        Survivor::help(operation, &mut link);
        victim.wait_for_begin();
        let mut survivor = Survivor::new(operation, link);
        if operation.sleeps() {
            strike.run_beside(&victim, || survivor.wake());
        } else {
            strike.run(&victim);
        }
        survivor.look();
        victim.kill();
        assert_eq!(names(&hub), ["hub", "hub.lock"]);
        survivor.settle()
    });
    drop(place.host(Host::builder()));
    assert!(names(&hub).is_empty());
}
