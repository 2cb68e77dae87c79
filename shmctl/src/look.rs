//! What of this library is on this machine: found without asking anybody.

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use shm_transport::inspect::{self, FleetView, Process, Rendezvous};

/// The most names that are looked at in all directories together.
const MOST_NAMES: usize = 100_000;
/// How deep directories are looked into.
const DEPTH: u32 = 3;

/// What lies in directories.
#[derive(Debug, Default)]
pub struct Places {
    /// Paths of hubs, live and stale.
    pub hubs: Vec<Rendezvous>,
    /// Fleets.
    pub fleets: Vec<FleetView>,
    /// Directories of stores.
    pub stores: Vec<PathBuf>,
    /// What dead processes left of fleets and of stores in memory.
    pub leftovers: Vec<PathBuf>,
    /// What could not be looked at.
    pub problems: Vec<String>,
}

/// Where hubs and stores are likely to be.
pub fn likely() -> Vec<PathBuf> {
    let user = user();
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut all: Vec<PathBuf> = vec![
        runtime.unwrap_or_else(|| format!("/run/user/{user}").into()),
        "/tmp".into(),
        env::temp_dir(),
        "/dev/shm".into(),
    ];
    all.extend(env::current_dir());
    let known: BTreeSet<PathBuf> =
        all.into_iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    known.into_iter().collect()
}

/// This user.
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

impl Places {
    /// Looks into directories, and where processes say that their hubs are.
    pub fn look(directories: &[PathBuf], processes: &[Process]) -> Self {
        let mut search =
            Search { places: Self::default(), left: MOST_NAMES, seen: BTreeSet::new() };
        for directory in directories {
            search.directory(directory, DEPTH);
        }
        for process in processes {
            for hub in process.hubs() {
                let path = PathBuf::from(hub.about.path);
                if let Some(directory) = path.parent() {
                    search.store(directory);
                }
                search.hub(&path);
            }
        }
        search.places.hubs.sort_by(|a, b| a.path.cmp(&b.path));
        search.places.stores.sort();
        search.places.fleets.sort_by(|a, b| a.path.cmp(&b.path));
        search.places
    }
}

struct Search {
    places: Places,
    left: usize,
    seen: BTreeSet<PathBuf>,
}

impl Search {
    /// Looks at a directory of this user, or one that all may use, and at what is in it.
    fn directory(&mut self, path: &Path, depth: u32) {
        let Ok(metadata) = fs::symlink_metadata(path) else { return };
        let own = metadata.uid() == user();
        if !metadata.is_dir() || (depth < DEPTH && !own) || !self.seen.insert(path.to_owned()) {
            return;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if own && name.starts_with(".unlinked-") {
            self.places.leftovers.push(path.to_owned());
            return;
        }
        if own && path.join("members").is_file() {
            match FleetView::look(path) {
                Ok(Some(fleet)) => self.places.fleets.push(fleet),
                Ok(None) => {}
                Err(error) => self.places.problems.push(error.to_string()),
            }
            return;
        }
        self.store(path);
        let Ok(entries) = fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() && depth > 0 {
                self.directory(&path, depth - 1);
            } else if kind.is_file()
                && path.extension().is_some_and(|extension| extension == "lock")
                && entry.metadata().is_ok_and(|metadata| metadata.len() == 0)
            {
                self.hub(&path.with_extension(""));
            }
        }
        if own
            && is_memory_store(&name)
            && !self.places.hubs.iter().any(|hub| hub.live && hub.path.starts_with(path))
        {
            self.places.leftovers.push(path.to_owned());
        }
    }

    fn hub(&mut self, path: &Path) {
        if self.places.hubs.iter().any(|hub| hub.path == path) {
            return;
        }
        match inspect::rendezvous(path) {
            // A lock alone can be anybody's.
            Ok(Some(found)) if found.files.len() > 1 || found.live => self.places.hubs.push(found),
            Ok(_) => {}
            Err(error) => self.places.problems.push(format!("{}: {error}", path.display())),
        }
    }

    fn store(&mut self, path: &Path) {
        let is_store = path.join("layout.json").is_file() && path.join("lease").is_file();
        if is_store && !self.places.stores.iter().any(|store| store == path) {
            self.places.stores.push(path.to_owned());
        }
    }
}

/// Whether a directory has the name of the sockets of a store in memory.
fn is_memory_store(name: &str) -> bool {
    name.strip_prefix("shm-store-")
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// All processes with hubs and links into which this user may look.
pub fn processes() -> Result<Vec<Process>, Box<dyn Error>> {
    inspect::processes().map_err(|error| format!("look at /proc: {error}").into())
}
