//! What keeps the books: see the module above.
// A defect that it finds ends the process, which is what it is for.
#![allow(clippy::arithmetic_side_effects)]

extern crate std;

use core::{cell::RefCell, marker::PhantomData, panic::Location};
use std::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    env, format, fs,
    fs::File,
    io::Write,
    path::Path,
    process,
    string::String,
    thread_local,
};

type At = &'static Location<'static>;

/// A decision, until it is dropped.
#[derive(Debug)]
#[must_use = "a decision ends when this is dropped"]
pub struct Decision(PhantomData<*const ()>);

/// Bytes that were loaded in this decision.
struct Loaded {
    end: usize,
    at: At,
}

#[derive(Default)]
struct Counts {
    decisions: u64,
    loads: u64,
    second_looks: u64,
    most: u64,
}

#[derive(Default)]
struct Books {
    depth: u32,
    second_look: bool,
    /// By their first address; they do not overlap.
    loaded: BTreeMap<usize, Loaded>,
    /// Places outside of every decision that may be there.
    outside: BTreeSet<(&'static str, u32)>,
    counts: Counts,
}

thread_local! {
    static BOOKS: RefCell<Box<Books>> = RefCell::default();
}

/// Begins a decision; inside another one, goes on with that.
pub fn decision() -> Decision {
    with(|books| {
        if books.depth == 0 {
            books.begin();
        }
        books.depth += 1;
    });
    Decision(PhantomData)
}

impl Drop for Decision {
    fn drop(&mut self) {
        with(|books| {
            books.depth -= 1;
            books.second_look = false;
        });
    }
}

/// Begins another attempt, or another question, within this decision.
pub fn anew() {
    with(Books::begin);
}

/// The next load looks whether a word has changed since it was loaded first.
pub fn second_look() {
    with(|books| books.second_look = true);
}

/// `len` bytes at an address are loaded.
pub(crate) fn loaded(start: *const u8, len: usize, at: At) {
    if len > 0 {
        with(|books| books.load(start.addr(), len, at));
    }
}

/// Whatever a thread does after its books are closed is not audited.
fn with(work: impl FnOnce(&mut Books)) {
    let _ = BOOKS.try_with(|books| work(&mut books.borrow_mut()));
}

impl Books {
    fn begin(&mut self) {
        self.loaded.clear();
        self.counts.decisions += 1;
        if self.counts.decisions >= 1 << 16 {
            self.counts.write();
        }
    }

    fn load(&mut self, start: usize, len: usize, at: At) {
        self.counts.loads += 1;
        let looks_again = core::mem::take(&mut self.second_look);
        if self.depth == 0 {
            self.begin();
            if self.outside.insert((at.file(), at.line())) && is_library(at) {
                defect(&format!("{at}: a load outside of every decision"));
            }
        }
        let end = start + len;
        if let Some((first, before)) = self.loaded.range(..end).next_back()
            && before.end > start
        {
            let whole = *first == start && before.end == end;
            if !(looks_again && whole) {
                let from = before.at;
                defect(&format!(
                    "a second fetch within one decision, of {len} bytes:\n  first {from}\n  again {at}"
                ));
            }
            self.counts.second_looks += 1;
            return;
        }
        self.loaded.insert(start, Loaded { end, at });
        self.counts.most = 1;
    }
}

impl Counts {
    fn write(&mut self) {
        let Counts { decisions, loads, second_looks, most } = core::mem::take(self);
        let Some(path) = env::var_os("SHM_AUDIT") else { return };
        let line = format!("{decisions} {loads} {second_looks} {most}\n");
        // One write, so that lines of several processes do not mix.
        let written = File::options()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            defect(&format!("the books cannot be written: {error}"));
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        if self.counts.loads > 0 {
            self.counts.write();
        }
    }
}

/// Whether a place is in the library, and not in its tests.
fn is_library(at: At) -> bool {
    let file = at.file();
    let library = ["shm-primitives/src/", "shm-transport/src/"];
    if !library.iter().any(|part| file.contains(part)) || file.ends_with("/tests.rs") {
        return false;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = fs::read_to_string(path).unwrap_or_default();
    let tests = text.lines().position(|line| line.trim() == "#[cfg(test)]");
    tests.is_none_or(|tests| (at.line() as usize) < tests)
}

fn defect(what: &str) -> ! {
    let message: String = format!("shm-primitives, audit: {what}\n");
    let _ = std::io::stderr().write_all(message.as_bytes());
    process::abort();
}
