//! What a process holds: descriptors and mappings.

use std::{collections::BTreeSet, fs};

/// Counts of what this process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Descriptors of anonymous memory.
    pub memfds: usize,
    /// Mappings of anonymous memory made by descriptor.
    pub mappings: usize,
}

/// What this process holds now.
///
/// # Panics
///
/// If proc(5) is not there.
#[must_use]
pub fn holdings() -> Holdings {
    let targets: Vec<String> = fs::read_dir("/proc/self/fd")
        .expect("/proc/self/fd")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    Holdings {
        descriptors: targets.len(),
        memfds: targets.iter().filter(|target| target.starts_with("/memfd:")).count(),
        mappings: mappings_of("self"),
    }
}

/// How many mappings of this library's memory a process has.
///
/// # Panics
///
/// If the process is gone.
#[must_use]
pub fn mappings_of(pid: &str) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("/proc/pid/maps");
    maps.lines().filter(|line| line.contains("/memfd:shm-")).count()
}

/// The sealed payloads that a process has mapped, each by the number of its inode.
///
/// # Panics
///
/// If the process is gone.
#[must_use]
pub fn payloads_mapped_by(pid: &str) -> Vec<u64> {
    inodes_mapped_by(pid, "/memfd:shm-payload").collect()
}

/// The slot pools' extents that this process has mapped, each by the number of its inode.
///
/// # Panics
///
/// If proc(5) is not there.
#[must_use]
pub fn extents_mapped() -> BTreeSet<u64> {
    inodes_mapped_by("self", "/memfd:shm-extent").collect()
}

fn inodes_mapped_by(pid: &str, name: &str) -> impl Iterator<Item = u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("/proc/pid/maps");
    let lines = maps.lines().filter(|line| line.contains(name));
    let inodes: Vec<u64> =
        lines.filter_map(|line| line.split_whitespace().nth(4)?.parse().ok()).collect();
    inodes.into_iter()
}

/// How many sockets a process has open.
///
/// # Panics
///
/// If the process is gone.
#[must_use]
pub fn sockets_of(pid: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("/proc/pid/fd")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}
