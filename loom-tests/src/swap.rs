//! Neighbouring stores in the wrong order.
//!
//! Two stores are neighbours if a thread makes the second right after the first, with at most a
//! fence between. A store is known by where it stands in the code. [`record`] notes all pairs that
//! a model makes; with [`SWAP`] set to one of them, every thread holds the first back until it has
//! made the second. If the second does not follow this time, the first is made before whatever
//! does.
//!
//! An exchange or an addition is never the first of a pair: its outcome decides whether there is a
//! second. The exchange of a fleet's tail is, because nobody looks at its outcome.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    env, fmt,
    panic::Location,
    sync::OnceLock,
};

use loom::thread::{self, ThreadId};

/// The environment variable that names the two stores to swap, as [`Pair`] is written.
pub const SWAP: &str = "SHM_SWAP";

/// A store in the code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// From the root of the repository.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1.
    pub column: u32,
}

impl Site {
    fn new(at: At) -> Self {
        Self { file: at.file().to_owned(), line: at.line(), column: at.column() }
    }

    fn is(&self, at: At) -> bool {
        self.line == at.line() && self.column == at.column() && self.file == at.file()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let file = parts.next()?.to_owned();
        let (line, column) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { file, line, column })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Two neighbouring stores.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The first, as the code has it.
    pub first: Site,
    /// The second.
    pub second: Site,
    /// Whether a fence stands between them.
    pub fenced: bool,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.fenced { "fence" } else { "" };
        write!(f, "{}|{between}|{}", self.first, self.second)
    }
}

impl Pair {
    /// What [`Display`](fmt::Display) wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('|');
        let (first, between, second) = (parts.next()?, parts.next()?, parts.next()?);
        let (first, second) = (Site::parse(first)?, Site::parse(second)?);
        Some(Self { first, second, fenced: between == "fence" })
    }
}

enum Mode {
    Off,
    Record,
    Swap(Pair),
}

static MODE: OnceLock<Mode> = OnceLock::new();

pub(crate) fn is_recording() -> bool {
    matches!(mode(), Mode::Record)
}

/// Notes from now on which pairs there are. Models then need not reach what they are about.
///
/// # Panics
///
/// If a model has run before.
pub fn record() {
    assert!(MODE.set(Mode::Record).is_ok(), "a model runs already");
}

fn mode() -> &'static Mode {
    MODE.get_or_init(|| match env::var(SWAP) {
        Ok(pair) => Mode::Swap(Pair::parse(&pair).expect("two stores")),
        Err(_) => Mode::Off,
    })
}

/// The pairs that were noted.
#[must_use]
pub fn recorded() -> BTreeSet<Pair> {
    THREADS.with_borrow(|threads| threads.pairs.iter().map(written).collect())
}

fn written(&(first, second, fenced): &(At, At, bool)) -> Pair {
    Pair { first: Site::new(first), second: Site::new(second), fenced }
}

type At = &'static Location<'static>;
type Make = Box<dyn FnOnce()>;

/// What the threads of this execution did last. Outside of the model: loom runs them all on one
/// thread of the system.
#[derive(Default)]
struct Threads {
    last: HashMap<ThreadId, (At, bool)>,
    held: HashMap<ThreadId, Make>,
    pairs: BTreeSet<(At, At, bool)>,
}

thread_local! {
    static THREADS: RefCell<Threads> = RefCell::default();
}

/// Begins an execution.
pub(crate) fn begin() {
    THREADS.with_borrow_mut(|threads| {
        threads.last.clear();
        threads.held.clear();
    });
}

fn take_held() -> Option<Make> {
    if !matches!(mode(), Mode::Swap(_)) {
        return None;
    }
    let id = thread::current().id();
    THREADS.with_borrow_mut(|threads| threads.held.remove(&id))
}

/// Makes the store that this thread holds back, if it does: to be called before it does anything
/// but a store or a fence.
pub(crate) fn settle() {
    match mode() {
        Mode::Off => {}
        Mode::Record => {
            let id = thread::current().id();
            THREADS.with_borrow_mut(|threads| threads.last.remove(&id));
        }
        Mode::Swap(_) => {
            if let Some(make) = take_held() {
                make();
            }
        }
    }
}

/// A fence of this thread.
pub(crate) fn fence() {
    match mode() {
        Mode::Off => {}
        Mode::Record => {
            let id = thread::current().id();
            THREADS.with_borrow_mut(|threads| {
                if let Some((_, fenced)) = threads.last.get_mut(&id) {
                    *fenced = true;
                }
            });
        }
        Mode::Swap(pair) if pair.fenced => {}
        Mode::Swap(_) => settle(),
    }
}

/// What a store does with the one that was held back for it.
#[must_use = "the store that was held back is to be made"]
pub(crate) struct Swapped(Option<Make>);

impl Swapped {
    /// Makes the store that was held back, now that the second is made.
    pub(crate) fn then_first(self) {
        if let Some(make) = self.0 {
            make();
        }
    }
}

/// This thread is about to make the store at `at`.
pub(crate) fn arrive(at: At) -> Swapped {
    match mode() {
        Mode::Off => Swapped(None),
        Mode::Record => {
            let id = thread::current().id();
            THREADS.with_borrow_mut(|threads| {
                if let Some((first, fenced)) = threads.last.insert(id, (at, false)) {
                    threads.pairs.insert((first, at, fenced));
                }
            });
            Swapped(None)
        }
        Mode::Swap(pair) if pair.second.is(at) => Swapped(take_held()),
        Mode::Swap(_) => {
            settle();
            Swapped(None)
        }
    }
}

/// This thread is about to make the store at `at`, whose outcome decides what comes next.
pub(crate) fn arrive_deciding(at: At) -> Swapped {
    let swapped = arrive(at);
    if let Mode::Record = mode() {
        settle();
    }
    swapped
}

/// Makes the store at `at`, or holds it back.
pub(crate) fn store(at: At, make: impl FnOnce() + 'static) {
    let swapped = arrive(at);
    match mode() {
        Mode::Swap(pair) if swapped.0.is_none() && pair.first.is(at) => {
            let id = thread::current().id();
            THREADS.with_borrow_mut(|threads| threads.held.insert(id, Box::new(make)));
        }
        _ => {
            make();
            swapped.then_first();
        }
    }
}

/// This thread dies instead of making the store at `at`: returns whether that is one that comes
/// before the one that it should follow, which is then never made.
pub(crate) fn dies_at_second(at: At) -> bool {
    let second = matches!(mode(), Mode::Swap(pair) if pair.second.is(at));
    if second { take_held().is_some() } else { false }
}
