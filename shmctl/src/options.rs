//! What options of several commands have in common.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// A time in seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// The exit code of what gave up waiting.
pub const TIMED_OUT: u8 = 4;
/// The exit code of what was left alone by the other side.
pub const DIED: u8 = 5;
/// The exit code of what found something wrong.
pub const WRONG: u8 = 3;

/// Where the hub is that is meant by a path. A host serves no path in a directory that others
/// can write, such as `/tmp`: there it is in a directory of the user's own, `/tmp/shmctl-UID`.
pub fn hub(path: &Path) -> PathBuf {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let user = nix::unistd::geteuid().as_raw();
    match (fs::metadata(parent), path.file_name()) {
        (Ok(metadata), Some(name)) if metadata.uid() != user || metadata.mode() & 0o022 != 0 => {
            parent.join(format!("shmctl-{user}")).join(name)
        }
        _ => path.to_owned(),
    }
}

/// The path of a hub that is to be looked at: as it is, or where [`hub`] puts it.
pub fn existing_hub(path: &Path) -> PathBuf {
    if fs::symlink_metadata(path).is_ok() { path.to_owned() } else { hub(path) }
}
