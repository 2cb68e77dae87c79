//! Tests of the whole engine.

mod crash;
mod expiry;
mod faults;
mod figures;
mod forks;
mod itself;
mod kill;
mod model;
mod processes;
mod random;
mod script;
mod streams;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;

use super::Engine;
use crate::{
    Append, From, Offset, OpenError, Options, Page, Producer, ReadError, StreamConfig, WriteError,
    Written,
    fs::{FileSystem, RealFs, SimulatedFs, Step, Watched},
    operation::{Write, WriteResult},
    record::{Change, Effect, Record},
};

/// A store with a time of its own.
struct Bench {
    engine: Option<Engine>,
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    options: Options,
    now: Arc<AtomicU64>,
    _place: Option<tempfile::TempDir>,
}

impl Bench {
    fn new(options: Options) -> Self {
        // Small segments: they are written with zeros first, which takes its time.
        let options = Options { segment_bytes: 64 << 10, ..options };
        let place = tempfile::tempdir().expect("a directory");
        let dir = place.path().join("store");
        let mut bench = Self::on(Arc::new(RealFs), &dir, options).expect("a new store");
        bench._place = Some(place);
        bench
    }

    fn on(fs: Arc<dyn FileSystem>, dir: &Path, options: Options) -> Result<Self, OpenError> {
        let now = Arc::new(AtomicU64::new(1_000_000));
        let (dir, engine, _place) = (dir.into(), None, None);
        let mut bench = Self { engine, fs, dir, options, now, _place };
        bench.open()?;
        Ok(bench)
    }

    fn open(&mut self) -> Result<(), OpenError> {
        self.engine = None;
        let now = self.now.clone();
        let clock =
            Arc::new(move || UNIX_EPOCH + Duration::from_millis(now.load(Ordering::Relaxed)));
        let engine = Engine::open(self.fs.clone(), &self.dir, self.options.clone(), clock)?;
        self.engine = Some(engine);
        Ok(())
    }

    /// Ends the engine and opens the store anew.
    fn reopen(&mut self) {
        self.open().expect("opened again");
    }

    fn pass(&self, millis: u64) {
        self.now.fetch_add(millis, Ordering::Relaxed);
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("an open store")
    }

    fn write(&mut self, write: Write) -> WriteResult {
        self.commit([write]).remove(0)
    }

    fn commit(&mut self, writes: impl IntoIterator<Item = Write>) -> Vec<WriteResult> {
        let engine = self.engine();
        writes.into_iter().for_each(|write| engine.add(write));
        engine.commit()
    }

    fn create(&mut self, name: &str) -> Written {
        self.create_with(name, StreamConfig::default()).expect("created")
    }

    fn create_with(&mut self, name: &str, config: StreamConfig) -> WriteResult {
        self.write(Write::Create { name: name.into(), config, entries: Vec::new(), close: false })
    }

    fn append(&mut self, name: &str, entries: &[&str]) -> WriteResult {
        self.write(append(name, entries))
    }

    fn fork(&mut self, name: &str, from: &str, at: Option<Offset>) -> WriteResult {
        let config = StreamConfig::default();
        self.write(Write::Fork { name: name.into(), from: from.into(), at, config })
    }

    fn delete(&mut self, name: &str) -> WriteResult {
        self.write(Write::Delete { name: name.into() })
    }

    fn page(&mut self, name: &str, from: From) -> Result<Page, ReadError> {
        self.engine().view().read(name, None, from, usize::MAX, usize::MAX)
    }

    /// All entries as texts.
    fn all(&mut self, name: &str) -> Vec<String> {
        self.texts(name, From::Start)
    }

    fn texts(&mut self, name: &str, from: From) -> Vec<String> {
        let page = self.page(name, from).expect("a page");
        let text = |data: &Bytes| String::from_utf8_lossy(data).into_owned();
        page.entries.iter().map(|entry| text(&entry.data)).collect()
    }

    /// Sweeps, 10 streams at most; says how many writes that made.
    fn sweep(&mut self) -> usize {
        let writes = self.engine().sweep(10);
        let results = self.commit(writes);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        results.len()
    }

    /// What is wrong with the store.
    fn verify(&mut self) -> Vec<String> {
        let report = self.engine().view().verify();
        assert!(report.sums, "nobody writes meanwhile");
        report.problems
    }

    fn names(&mut self) -> Vec<String> {
        let heads = self.engine().view().list("", None, 1000).expect("a list");
        heads.into_iter().map(|head| head.name).collect()
    }
}

/// Options with which checkpoints come soon.
fn small() -> Options {
    Options {
        shards: 2,
        segment_bytes: 64 << 10,
        memory_bytes: 6 << 10,
        cache_bytes: 1 << 20,
        ..Options::default()
    }
}

/// Runs a check on what the log has, on what the shards have, and on both after opening.
fn everywhere(mut change: impl FnMut(&mut Bench), mut check: impl FnMut(&mut Bench)) {
    let mut bench = Bench::new(Options::default());
    change(&mut bench);
    check(&mut bench);
    bench.reopen();
    check(&mut bench);
    bench.engine().checkpoint().expect("a checkpoint");
    check(&mut bench);
    bench.reopen();
    check(&mut bench);
    assert_eq!(bench.verify(), [""; 0]);
}

/// How much of something a test does: by default what suits every day.
fn amount(variable: &str, default: u64) -> u64 {
    let said = std::env::var(variable).ok();
    said.map_or(default, |said| said.parse().expect("a number in the environment"))
}

fn append(name: &str, entries: &[&str]) -> Write {
    let entries = entries.iter().map(|entry| Bytes::copy_from_slice(entry.as_bytes())).collect();
    Write::Append { name: name.into(), append: Append { entries, ..Append::default() } }
}
