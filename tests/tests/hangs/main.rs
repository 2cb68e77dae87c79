//! Every blocking call of the public interface against peers that are dead, stopped, closed,
//! corrupt or full: each returns by its deadline, or when the peer's end is known, with the
//! error that is documented.
//!
//! The processor's time is shared with whatever else runs, so a call may be late by
//! [`matrix::MARGIN`]; how late the latest was is printed (`--nocapture`).
//!
//! `SHM_TEST_HANG_ROUNDS=20` is the whole form.

mod attach;
mod links;
mod matrix;
mod shared_state;

use std::{collections::BTreeSet, fs, path::Path};

/// All public calls that take a deadline, by the test that is about them.
const BLOCKING: [&[&str]; 3] = [links::BLOCKING, attach::BLOCKING, shared_state::BLOCKING];

/// Reads the library's source: a call that is added and takes a deadline is to be added here.
#[test]
fn no_public_call_with_a_deadline_is_missing_here() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shm-transport/src");
    let mut found = BTreeSet::new();
    collect(&source, &mut found);
    let listed: BTreeSet<String> = BLOCKING.concat().into_iter().map(Into::into).collect();
    assert!(found.len() > 10, "the source is there: {found:?}");
    assert_eq!(found, listed, "found in the source, and listed in the tests");
}

fn collect(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("the library's source").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            collect_file(&fs::read_to_string(&path).expect("source"), found);
        }
    }
}

/// Methods stand in the file's outermost `impl` blocks, as the formatter has them.
fn collect_file(source: &str, found: &mut BTreeSet<String>) {
    let mut owner = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("impl") {
            // `impl<T> Type<T> {`, `impl Trait for Type {`
            let rest = if rest.starts_with('<') {
                rest.split_once("> ").unwrap_or_default().1
            } else {
                rest.trim_start()
            };
            let rest = rest.split_once(" for ").map_or(rest, |(_, owner)| owner);
            owner = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().into();
        }
        let Some(rest) = line.trim_start().strip_prefix("pub fn ") else { continue };
        let name =
            rest.split(|c: char| c != '_' && !c.is_alphanumeric()).next().unwrap_or_default();
        let mut signature = line.to_owned();
        while !signature.contains(['{', ';']) {
            signature += lines.next().unwrap_or("{");
        }
        if signature.contains("Deadline") {
            found.insert(format!("{owner}::{name}"));
        }
    }
}
