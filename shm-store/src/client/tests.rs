//! How a process finds its way to an owner, and to the next one.

use std::{
    fmt::Debug,
    io::ErrorKind,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use shm_transport::{Host, TopicConfig};

use super::*;
use crate::{
    Append, From, Producer, Store, StreamConfig,
    fs::{Fault, MemoryFs, RealFs, SimulatedFs, Step, Watched},
    place::Place,
    protocol::{COMMIT, DURABLE, DURABLE_LSN, READ, commit_link, durable_topic, read_link},
};

const WAIT: Duration = Duration::from_secs(40);

/// A store in memory whose first attempts to open fail with an error; says when each was made.
fn opened_after(failures: usize, kind: ErrorKind) -> (Result<Store, OpenError>, Vec<Instant>) {
    let disk = SimulatedFs::default();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let (failing, noted) = (disk.clone(), Arc::clone(&attempts));
    let fs = Watched::new(disk, move |step| {
        // The first step of each attempt, until one gets further.
        let mut attempts = noted.lock().unwrap();
        if !matches!(step, Step::Read) && attempts.len() <= failures {
            attempts.push(Instant::now());
            if attempts.len() <= failures {
                failing.fail(failing.operations(), Fault::Once(kind));
            }
        }
    });
    let store = Store::open_at(Home::memory(fs).unwrap(), Options::default());
    let attempts = attempts.lock().unwrap().clone();
    (store, attempts)
}

#[test]
fn an_error_that_may_pass_is_tried_again_after_10_25_and_50_ms() {
    let (store, attempts) = opened_after(4, ErrorKind::WouldBlock);
    store.unwrap().create("s", StreamConfig::default()).unwrap();
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses.len(), 4);
    for (pause, least) in pauses.into_iter().zip([10, 25, 50, 50]) {
        assert!(pause >= Duration::from_millis(least), "{pause:?} instead of {least} ms");
    }
}

#[test]
fn an_error_that_does_not_pass_is_not_tried_again() {
    for kind in [ErrorKind::PermissionDenied, ErrorKind::StorageFull, ErrorKind::Other] {
        let (store, attempts) = opened_after(1, kind);
        assert!(matches!(store, Err(OpenError::Io(error)) if error.kind() == kind));
        assert_eq!(attempts.len(), 1);
    }
}

/// An owner that takes one write and is gone, without an answer or a farewell.
fn mortal(place: &Place) -> thread::JoinHandle<()> {
    let most = Options::default().max_operation_bytes;
    let commit = Host::builder().link(commit_link(most)).create(place.socket(COMMIT)).unwrap();
    let read = Host::builder()
        .link(read_link(most))
        .topic(DURABLE, durable_topic())
        .topic(DURABLE_LSN, TopicConfig::of::<u64>())
        .create(place.socket(READ))
        .unwrap();
    thread::spawn(move || {
        let (mut commit, mut read) = (commit, read);
        let mut writes = commit.accept(WAIT).unwrap();
        let _reads = read.accept(WAIT).unwrap();
        writes.recv(WAIT).unwrap();
    })
}

#[test]
fn a_repeated_append_that_is_refused_may_have_been_done_the_first_time() {
    let directory = tempfile::tempdir().unwrap();
    let owner = mortal(&Place::new(directory.path()).unwrap());
    let store = Store::open(directory.path()).unwrap().waiting(WAIT);
    let producer = Some(Producer { id: "p".into(), epoch: 0, sequence: 0 });
    let append = Append { entries: vec!["x".into()], producer, ..Append::default() };
    // This process becomes the owner meanwhile, of a store without such a stream.
    let result = store.append_with("s", append.clone());
    assert!(matches!(result, Err(WriteError::Indeterminate)), "{result:?}");
    owner.join().unwrap();
    assert!(store.is_owner());
    assert!(matches!(store.append_with("s", append), Err(WriteError::NotFound)));
}

/// A thread that is to panic at its next step on the disk.
#[derive(Debug, Default)]
struct Fuse {
    /// Its name, and whether the step is to be a write.
    thread: Mutex<Option<(&'static str, bool)>>,
    burned: AtomicBool,
}

impl Fuse {
    fn watch(self: &Arc<Self>, fs: impl crate::fs::FileSystem + 'static) -> Arc<Watched> {
        let fuse = Arc::clone(self);
        Watched::new(fs, move |step| {
            let mut thread = fuse.thread.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((name, write)) = *thread
                && thread::current().name() == Some(name)
                && (!write || matches!(step, Step::Write { .. }))
            {
                *thread = None;
                fuse.burned.store(true, Ordering::SeqCst);
                panic!("as the test wants it");
            }
        })
    }

    fn light(&self, thread: &'static str, write: bool) {
        self.burned.store(false, Ordering::SeqCst);
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some((thread, write));
    }
}

/// So little memory that each append goes through all threads.
fn tiny() -> Options {
    Options { segment_bytes: 64 << 10, memory_bytes: 1, cache_bytes: 0, ..Options::default() }
}

fn answers<T: Debug, E: Debug>(what: &str, result: Result<T, E>, error: impl Fn(&E) -> bool) {
    assert!(result.as_ref().err().is_none_or(error), "{what}: {result:?}");
}

/// Lets each of the owner's threads panic, while `stores` are used: no call hangs, and all go on.
fn threads_panic(fuse: &Fuse, stores: &[Store]) {
    let appended = AtomicUsize::new(0);
    let text = vec![b'x'; 4 << 10];
    stores[0].create("s", StreamConfig::default()).unwrap();
    // In the midst of a write, redb has locks.
    for (victim, write) in [
        ("shm-store-commit", false),
        ("shm-store-checkpoint", false),
        ("shm-store-checkpoint", true),
        ("shm-store-read", false),
        ("shm-store-check", false),
    ] {
        let append = |store: &Store| {
            let result = store.append("s", text.clone());
            appended.fetch_add(usize::from(result.is_ok()), Ordering::SeqCst);
            let is_known = |error: &WriteError| {
                matches!(error, WriteError::Indeterminate | WriteError::Poisoned)
            };
            answers(victim, result, is_known);
        };
        (0..10).for_each(|_| append(&stores[0]));
        fuse.light(victim, write);
        while !fuse.burned.load(Ordering::SeqCst) {
            for store in stores {
                append(store);
                store.read("s", From::Start).unwrap();
                store.verify().unwrap();
            }
        }
        // What was under way may have ended so. Others have their turn, too.
        stores.iter().rev().for_each(append);
        for store in stores {
            store.append("s", text.clone()).unwrap();
            appended.fetch_add(1, Ordering::SeqCst);
            let entries: usize =
                store.pages("s", From::Start).map(|page| page.unwrap().entries.len()).sum();
            assert!(entries >= appended.load(Ordering::SeqCst), "{victim}: {entries}");
            assert_eq!(store.verify().unwrap().problems, Vec::<String>::new(), "{victim}");
        }
    }
}

#[test]
fn a_thread_of_the_owner_that_panics_leaves_its_process_with_the_next_owner() {
    let fuse = Arc::<Fuse>::default();
    let home = Home::memory(fuse.watch(MemoryFs::default())).unwrap();
    threads_panic(&fuse, &[Store::open_at(home, tiny()).unwrap().waiting(WAIT)]);
}

#[test]
fn a_thread_of_the_owner_that_panics_leaves_other_openings_with_the_next_owner() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let fuse = Arc::<Fuse>::default();
    let open = |path: &Path| {
        let home = Home::Directory(Place::new(path).unwrap(), fuse.watch(RealFs));
        Store::open_at(home, tiny()).unwrap().waiting(WAIT)
    };
    let stores = [(); 3].map(|()| open(directory.path()));
    threads_panic(&fuse, &stores);
}
