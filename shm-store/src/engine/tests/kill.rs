//! Processes that kill themselves at each step that a store takes on a real disk, and while
//! they recover from that: what was acknowledged is there, once, in order, and nothing that was
//! never sent.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::process::ExitStatusExt,
};

use super::{
    itself::{command, die, role},
    script::{Note, Script, check},
    *,
};
use crate::Durability;

const TEST: &str = concat!(
    module_path!(),
    "::a_process_that_is_killed_at_any_step_on_the_disk_loses_nothing_that_was_acknowledged"
);

/// A disk whose user kills itself before a step, counted from 0; or in the midst of it, if it is
/// a write.
fn deadly(at: u64, half: bool) -> Arc<Watched> {
    let steps = AtomicU64::new(0);
    Watched::new(RealFs, move |step| {
        if matches!(step, Step::Read) || steps.fetch_add(1, Ordering::Relaxed) != at {
            return;
        }
        match step {
            _ if !half => die(),
            Step::Write { file, at, bytes } => {
                file.write_all_at(at, &bytes[..bytes.len() / 2]).expect("half of it is written");
                die();
            }
            _ => {}
        }
    })
}

fn options(round: u64) -> Options {
    let durability = [Durability::Durable, Durability::Relaxed][round as usize % 2];
    Options { durability, ..small() }
}

/// Runs a script until it dies, and says how far it has come.
fn play(dir: &Path, round: u64, at: u64, half: bool) {
    let notes = dir.with_extension("notes");
    let mut notes = OpenOptions::new().create(true).append(true).open(notes).expect("notes");
    // One write: a death in between leaves no half of a line.
    let mut note = |line: String| notes.write_all(line.as_bytes()).expect("noted");
    Script::new(round).run(deadly(at, half), dir, options(round), |found| match found {
        Note::Sent { writes } => note(format!("sent {writes}\n")),
        Note::Acknowledged { writes, last, .. } => note(format!("done {writes} {last}\n")),
    });
}

/// How many writes were sent, how many acknowledged, and the last number of one.
fn notes(dir: &Path) -> (usize, usize, u64) {
    let (mut sent, mut done, mut last) = (0, 0, 0);
    for line in fs::read_to_string(dir.with_extension("notes")).unwrap_or_default().lines() {
        let numbers: Vec<u64> =
            line.split(' ').skip(1).map(|number| number.parse().expect("a number")).collect();
        match numbers[..] {
            [writes] => sent = writes as usize,
            [writes, number] => (done, last) = (writes as usize, number),
            _ => panic!("{line}"),
        }
    }
    (sent, done, last)
}

/// Runs a role until it dies; says whether it did.
fn dies(role: &str) -> bool {
    let status = command(TEST, role).status().expect("this program runs");
    assert!(status.success() || status.signal() == Some(9), "{role}: {status}");
    !status.success()
}

/// `SHM_TEST_STORE_KILLS=2` is the whole form: each step, of a durable and a relaxed store.
#[test]
fn a_process_that_is_killed_at_any_step_on_the_disk_loses_nothing_that_was_acknowledged() {
    if let Some(role) = role() {
        let number = |at: usize| role[at].parse().expect("a number");
        let dir = Path::new(&role[1]);
        match &*role[0] {
            "play" => play(dir, number(2), number(3), number(4) == 1),
            _ => drop(Bench::on(deadly(number(3), number(4) == 1), dir, options(number(2)))),
        }
        return;
    }
    let rounds = amount("SHM_TEST_STORE_KILLS", 0);
    let every = if rounds == 0 { 8 } else { 1 };
    // Who is killed loses nothing of what the system has, on whatever disk.
    let place = match rounds {
        0 => tempfile::tempdir_in("/dev/shm"),
        _ => tempfile::tempdir(),
    };
    let place = place.expect("a directory");
    let (mut points, mut bad) = (0, Vec::new());
    for round in 0..rounds.max(1) {
        let states = Script::new(round).states;
        for (step, half) in (0..).step_by(every).flat_map(|step| [(step, 0), (step, 1)]) {
            let dir = place.path().join(format!("{round}-{step}-{half}"));
            let at = dir.to_str().expect("a path");
            match dies(&format!("play {at} {round} {step} {half}")) {
                true => {}
                // It was no write.
                false if half == 1 => continue,
                false => {
                    println!("round {round}: {step} steps");
                    break;
                }
            }
            // Who recovers is killed, too, at one of its first steps.
            points += 1 + u64::from(dies(&format!("recover {at} {round} {} {half}", step % 31)));
            let (sent, done, last) = notes(&dir);
            let open = |_| Bench::on(Arc::new(RealFs), &dir, options(round));
            if let Err(problem) = check(&states[done..=sent], last, open) {
                bad.push(format!("round {round}, step {step}, half {half}: {problem}"));
            }
            fs::remove_dir_all(&dir).expect("removed");
        }
    }
    println!("{points} processes killed, {} bad", bad.len());
    assert!(bad.is_empty(), "{} bad, the first: {}", bad.len(), bad[0]);
    assert!(points > 20, "too few steps were reached");
}
