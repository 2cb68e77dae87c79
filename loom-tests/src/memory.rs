//! Shared memory in the model checker.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env,
    ops::Range,
    panic::Location,
    rc::Rc,
    sync::{
        OnceLock,
        atomic::{AtomicU64 as Counter, Ordering},
    },
};

use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicU64, fence},
};
use shm_primitives::{Memory, Offset, Order, order::FLEET_TAIL};

use crate::swap;

/// The environment variable that names the one ordering to weaken.
pub const WEAKEN: &str = "SHM_WEAKEN";

/// What a range of the region is used for. Only these ranges exist: an access outside
/// them, or at another size, fails the model.
#[derive(Clone, Debug)]
pub enum Area {
    /// 64-bit words that only one thread stores, mixed with payload: a ring, or slots.
    Bytes(Range<u64>),
    /// 64-bit words that are only ever accessed as such.
    Words64(Range<u64>),
    /// 32-bit words.
    Words32(Range<u64>),
}

impl Area {
    /// The 64-bit word at `at`.
    #[must_use]
    pub fn word64(at: Offset) -> Self {
        Self::Words64(at.bytes()..at.bytes() + 8)
    }

    /// The 32-bit word at `at`.
    #[must_use]
    pub fn word32(at: Offset) -> Self {
        Self::Words32(at.bytes()..at.bytes() + 4)
    }

    /// `len` bytes of payload and 64-bit words from `at` on.
    #[must_use]
    pub fn bytes(at: Offset, len: u64) -> Self {
        Self::Bytes(at.bytes()..at.bytes() + len)
    }
}

/// A region of loom's atomics, with cells that find data races.
///
/// It begins as zeroes. Every word has an atomic, which holds its content. A word that
/// can be payload too has two cells besides, without content, that turn every mix of
/// accesses that is a data race into a failure of the model:
///
/// | access | first cell | second cell | races with |
/// |---|---|---|---|
/// | payload write | write | write | everything |
/// | payload read | read | read | payload writes, atomic stores |
/// | atomic load | read | | payload writes |
/// | atomic store | read | write | payload reads and writes |
///
/// Two atomic stores by different threads would race by this table: such words are
/// [`Area::Words64`] or [`Area::Words32`], which have no cells.
#[derive(Clone, Debug)]
pub struct LoomMem {
    // loom runs all threads of a model on one thread of the system.
    region: Rc<Region>,
    light_fence: bool,
    loads: Option<Loads>,
}

/// What 64-bit loads returned, for models that tell their paths by it. Outside of the model:
/// it orders nothing.
#[derive(Clone, Debug, Default)]
pub struct Loads(Rc<RefCell<Vec<u64>>>);

impl Loads {
    /// What was loaded since this was called last.
    #[must_use]
    pub fn take(&self) -> Vec<u64> {
        self.0.take()
    }
}

#[derive(Debug)]
struct Region {
    size: u64,
    wide: BTreeMap<u64, Wide>,
    narrow: BTreeMap<u64, Narrow>,
    /// Outside of the model: a count for tests, which orders nothing.
    lost_exchanges: Counter,
}

#[derive(Debug)]
struct Wide {
    value: AtomicU64,
    shadow: Shadow,
    cells: Option<Cells>,
}

#[derive(Debug)]
struct Narrow {
    value: AtomicU32,
    shadow: Shadow,
}

#[derive(Debug)]
struct Cells {
    first: UnsafeCell<()>,
    second: UnsafeCell<()>,
}

impl Cells {
    fn new() -> Self {
        Self { first: UnsafeCell::new(()), second: UnsafeCell::new(()) }
    }

    fn payload_write(&self) {
        self.first.with_mut(|_| ());
        self.second.with_mut(|_| ());
    }

    fn payload_read(&self) {
        self.first.with(|_| ());
        self.second.with(|_| ());
    }

    fn atomic_load(&self) {
        self.first.with(|_| ());
    }

    fn atomic_store(&self) {
        self.first.with(|_| ());
        self.second.with_mut(|_| ());
    }
}

/// Makes loom consider all orders of the operations on one location.
///
/// loom's partial-order reduction remembers only the last access to each atomic (its
/// issues 166 and 392), so a thread's own load before its store hides another thread's
/// load: the two are then never tried the other way round, and that is the shape of
/// most lock-free code. A read-modify-write of a shadow before each operation makes
/// every two operations on one location depend on each other.
///
/// The shadow is touched by an exchange that always fails. An addition would do for the
/// scheduler, but it stores, and through a store that stands behind one thread's
/// release fence and before another's acquire fence the two would synchronise: the
/// shadow would hide the very executions that fences are there for.
#[derive(Debug)]
pub(crate) struct Shadow(AtomicU64);

impl Shadow {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn touch(&self) {
        let exchanged = self.0.compare_exchange(1, 1, Ordering::Relaxed, Ordering::Relaxed);
        debug_assert!(exchanged.is_err());
    }
}

loom::lazy_static! {
    // A fence is no scheduling point of loom's, but the order of sequentially consistent
    // fences matters.
    static ref FENCES: Shadow = Shadow::new();
}

/// Runs an operation whose place in the schedule was chosen just before, at its shadow:
/// loom need not try a preemption between the two.
pub(crate) fn chosen<R>(operation: impl FnOnce() -> R) -> R {
    loom::stop_exploring();
    let result = operation();
    loom::explore();
    result
}

fn weakened() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    NAME.get_or_init(|| env::var(WEAKEN).ok()).as_deref()
}

/// The ordering that the model runs with.
pub(crate) fn ordering(order: Order) -> Ordering {
    if weakened() == Some(order.name()) { Ordering::Relaxed } else { order.ordering() }
}

impl LoomMem {
    /// A region of `size` bytes, of which `areas` are in use. To be made by a model
    /// before it starts its threads.
    ///
    /// # Panics
    ///
    /// If areas overlap, are not aligned, or reach beyond `size`.
    #[must_use]
    pub fn new(size: u64, areas: &[Area]) -> Self {
        // Made by the main thread, so that nobody synchronises by making it.
        let _ = &FENCES.0;
        let (mut wide, mut narrow) = (BTreeMap::new(), BTreeMap::new());
        let mut taken = vec![false; size as usize / 4];
        for area in areas {
            let (range, step) = match area {
                Area::Bytes(range) | Area::Words64(range) => (range, 8),
                Area::Words32(range) => (range, 4),
            };
            assert!(range.start % step == 0 && range.end % step == 0, "{area:?} is not aligned");
            for at in range.clone().step_by(step as usize) {
                for taken in &mut taken[at as usize / 4..][..step as usize / 4] {
                    assert!(!*taken, "{area:?} overlaps another");
                    *taken = true;
                }
                if let Area::Words32(_) = area {
                    narrow.insert(at, Narrow { value: AtomicU32::new(0), shadow: Shadow::new() });
                } else {
                    let cells = matches!(area, Area::Bytes(_)).then(Cells::new);
                    wide.insert(
                        at,
                        Wide { value: AtomicU64::new(0), shadow: Shadow::new(), cells },
                    );
                }
            }
        }
        let lost_exchanges = Counter::new(0);
        let region = Rc::new(Region { size, wide, narrow, lost_exchanges });
        Self { region, light_fence: true, loads: None }
    }

    /// The same region, with light fences that order nothing: what a memory with an
    /// asymmetric fence does until somebody runs the heavy one.
    #[must_use]
    pub fn without_light_fences(&self) -> Self {
        Self { light_fence: false, ..self.clone() }
    }

    /// The same region, with 64-bit loads that are noted down.
    #[must_use]
    pub fn noting(&self, loads: &Loads) -> Self {
        Self { loads: Some(loads.clone()), ..self.clone() }
    }

    /// How many exchanges failed so far, in all threads.
    #[must_use]
    pub fn lost_exchanges(&self) -> u64 {
        self.region.lost_exchanges.load(Ordering::Relaxed)
    }

    fn wide(&self, at: Offset) -> &Wide {
        let word = self.region.wide.get(&at.bytes());
        word.unwrap_or_else(|| panic!("no 64-bit word at {}", at.bytes()))
    }

    fn narrow(&self, at: Offset) -> &Narrow {
        let word = self.region.narrow.get(&at.bytes());
        word.unwrap_or_else(|| panic!("no 32-bit word at {}", at.bytes()))
    }

    /// The words that `len` payload bytes from `at` on lie in: each with the range of its
    /// bytes that is meant and the range of the payload that stands there.
    fn payload(
        &self,
        at: Offset,
        len: usize,
    ) -> impl Iterator<Item = (&Wide, Range<usize>, Range<usize>)> {
        let (start, end) = (at.bytes(), at.bytes() + len as u64);
        (start / 8..end.div_ceil(8)).map(move |number| {
            let word = number * 8;
            let (from, to) = (start.max(word), end.min(word + 8));
            let inside = (from - word) as usize..(to - word) as usize;
            let of_payload = (from - start) as usize..(to - start) as usize;
            (self.wide(Offset::new(word)), inside, of_payload)
        })
    }

    fn exchange(&self, at: Offset, current: u64, new: u64, order: Order) -> bool {
        let word = self.wide(at);
        assert!(word.cells.is_none(), "an exchange of a word that has one writer");
        word.shadow.touch();
        let exchanged = chosen(|| {
            word.value.compare_exchange(current, new, ordering(order), Ordering::Relaxed).is_ok()
        });
        if !exchanged {
            self.region.lost_exchanges.fetch_add(1, Ordering::Relaxed);
        }
        exchanged
    }

    fn put(&self, at: Offset, from: &[u8]) {
        for (word, inside, of_payload) in self.payload(at, from.len()) {
            word.cells().payload_write();
            chosen(|| {
                let mut bytes = word.value.load(Ordering::Relaxed).to_le_bytes();
                bytes[inside].copy_from_slice(&from[of_payload]);
                // Into the atomic, so that a header loaded here later is what real memory
                // would hold.
                word.value.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
            });
        }
    }
}

impl Wide {
    fn cells(&self) -> &Cells {
        self.cells.as_ref().expect("payload where only words are")
    }
}

impl Memory for LoomMem {
    fn size(&self) -> u64 {
        self.region.size
    }

    fn load32(&self, at: Offset, order: Order) -> u32 {
        swap::settle();
        let word = self.narrow(at);
        word.shadow.touch();
        word.value.load(ordering(order))
    }

    fn store32(&self, at: Offset, value: u32, order: Order) {
        let memory = self.clone();
        swap::store(Location::caller(), move || {
            let word = memory.narrow(at);
            word.shadow.touch();
            chosen(|| word.value.store(value, ordering(order)));
        });
    }

    fn add32(&self, at: Offset, value: u32, order: Order) -> u32 {
        let swapped = swap::arrive_deciding(Location::caller());
        let word = self.narrow(at);
        word.shadow.touch();
        let before = chosen(|| word.value.fetch_add(value, ordering(order)));
        swapped.then_first();
        before
    }

    fn load64(&self, at: Offset, order: Order) -> u64 {
        swap::settle();
        let word = self.wide(at);
        word.shadow.touch();
        let value = word.value.load(ordering(order));
        if let Some(cells) = &word.cells {
            cells.atomic_load();
        }
        if let Some(loads) = &self.loads {
            loads.0.borrow_mut().push(value);
        }
        value
    }

    fn store64(&self, at: Offset, value: u64, order: Order) {
        let memory = self.clone();
        swap::store(Location::caller(), move || {
            let word = memory.wide(at);
            word.shadow.touch();
            if let Some(cells) = &word.cells {
                cells.atomic_store();
            }
            chosen(|| word.value.store(value, ordering(order)));
        });
    }

    fn exchange64(&self, at: Offset, current: u64, new: u64, order: Order) -> bool {
        let site = Location::caller();
        if order.name() == FLEET_TAIL.name() {
            // Nobody looks at its outcome, so it can come later, like a store.
            let memory = self.clone();
            swap::store(site, move || {
                memory.exchange(at, current, new, order);
            });
            return true;
        }
        let swapped = swap::arrive_deciding(site);
        let exchanged = self.exchange(at, current, new, order);
        swapped.then_first();
        exchanged
    }

    fn read(&self, at: Offset, to: &mut [u8]) {
        swap::settle();
        for (word, inside, of_payload) in self.payload(at, to.len()) {
            // Whatever else touches it races, unless it is ordered before or after: so
            // there is one value to read, and no schedule to choose.
            word.cells().payload_read();
            let bytes = chosen(|| word.value.load(Ordering::Relaxed)).to_le_bytes();
            to[of_payload].copy_from_slice(&bytes[inside]);
        }
    }

    fn write(&self, at: Offset, from: &[u8]) {
        let (memory, from) = (self.clone(), from.to_vec());
        swap::store(Location::caller(), move || memory.put(at, &from));
    }

    fn fence(&self, order: Order) {
        swap::fence();
        let ordering = ordering(order);
        if ordering == Ordering::SeqCst {
            FENCES.touch();
        }
        if ordering != Ordering::Relaxed {
            fence(ordering);
        }
    }

    fn fence_light(&self, order: Order) {
        if self.light_fence {
            self.fence(order);
        }
    }

    fn relax(&self) {
        swap::settle();
        loom::thread::yield_now();
    }
}
