//! Every route by which a guest could write, or resize, what it may only read. Each must be
//! refused by the kernel; then the program says so.
//!
//! What a process of the same user can do to another process itself (`ptrace`,
//! `process_vm_writev`, `/proc/<pid>/mem`) is no route of shared memory; the kernel's policy
//! for tracing decides about that.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::{
    fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate},
    io::pwrite,
};
use shm_tests::raw::{RawGuest, RawMemory};

use super::{Attached, idle};
use crate::say;

/// What it was given, and its own outbox, which is sealed as well.
fn all(guest: &RawGuest) -> [(&'static str, &OwnedFd); 3] {
    [("hub", &guest.hub), ("host's outbox", &guest.outbox), ("own outbox", &guest.own)]
}

fn refused<T, E>(what: &str, name: &str, result: Result<T, E>) {
    assert!(result.is_err(), "{what} the {name} was let through");
}

fn all_refused() -> ! {
    say("all refused");
    idle()
}

fn readable(fd: BorrowedFd<'_>) -> RawMemory {
    RawMemory::map(fd, 4096, false).expect("it may be read")
}

pub(super) fn resizes(attached: &mut Attached) {
    for (name, fd) in all(&attached.guest) {
        for size in [0, 1, 4095, 1 << 20, 1 << 40] {
            refused("resizing", name, ftruncate(fd, size));
        }
        refused("growing", name, fallocate(fd, FallocateFlags::empty(), 0, 1 << 20));
        refused("sealing", name, fcntl_add_seals(fd, SealFlags::WRITE));
        refused("sealing", name, fcntl_add_seals(fd, SealFlags::EXEC));
    }
    all_refused();
}

pub(super) fn removes_pages(attached: &mut Attached) {
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let collapse = [
        FallocateFlags::COLLAPSE_RANGE,
        FallocateFlags::INSERT_RANGE,
        FallocateFlags::ZERO_RANGE,
        punch,
    ];
    for (name, fd) in all(&attached.guest) {
        for how in collapse {
            refused("punching", name, fallocate(fd, how, 0, 4096));
        }
        refused("removing pages of", name, readable(fd.as_fd()).remove_pages());
    }
    refused("removing pages of", "host's outbox", attached.guest.host.remove_pages());
    refused("removing pages of", "own outbox", attached.guest.memory.remove_pages());
    all_refused();
}

pub(super) fn by_call(attached: &mut Attached) {
    let (mut from, mut into) = std::io::pipe().expect("a pipe");
    for (name, fd) in all(&attached.guest) {
        refused("writing", name, pwrite(fd, b"x", 0));
        refused("writing", name, rustix::io::pwritev(fd, &[std::io::IoSlice::new(b"x")], 64));
        let other = File::open("/proc/self/exe").expect("this program");
        refused("copying into", name, rustix::fs::copy_file_range(other, None, fd, None, 1));
        std::io::Write::write_all(&mut into, b"x").expect("written");
        let flags = rustix::pipe::SpliceFlags::NONBLOCK;
        refused(
            "splicing into",
            name,
            rustix::pipe::splice(&from, None, fd, Some(&mut 0), 1, flags),
        );
        std::io::Read::read_exact(&mut from, &mut [0]).expect("it is still there");
        refused(
            "sending a file into",
            name,
            rustix::fs::sendfile(fd, File::open("/proc/self/exe").expect("this program"), None, 1),
        );
    }
    all_refused();
}

pub(super) fn by_mprotect(attached: &mut Attached) {
    let guest = &attached.guest;
    refused("unprotecting", "host's outbox", guest.host.make_writable());
    for (name, fd) in all(guest) {
        refused("unprotecting", name, readable(fd.as_fd()).make_writable());
    }
    all_refused();
}

pub(super) fn by_new_mapping(attached: &mut Attached) {
    for (name, fd) in all(&attached.guest) {
        refused("mapping", name, RawMemory::map(fd.as_fd(), 4096, true));
        // A private mapping is a copy: what is written there nobody else sees.
        let before = readable(fd.as_fd());
        let private = RawMemory::map_privately(fd.as_fd(), 4096).expect("a private copy");
        let seen = before.load64(0);
        private.store64(0, !seen);
        assert_eq!(before.load64(0), seen, "a private copy of the {name} is shared");
    }
    all_refused();
}

/// Opened anew through proc(5), it is the same memory with the same seals.
pub(super) fn by_reopening(attached: &mut Attached) {
    for (name, fd) in all(&attached.guest) {
        for process in ["self".to_owned(), std::process::id().to_string()] {
            let path = format!("/proc/{process}/fd/{}", fd.as_raw_fd());
            for options in [OpenOptions::new().write(true), OpenOptions::new().append(true)] {
                let Ok(file) = options.read(true).open(&path) else { continue };
                refused("writing a reopened", name, file.write_at(b"x", 0));
                refused("truncating a reopened", name, file.set_len(0));
                refused("mapping a reopened", name, RawMemory::map(file.as_fd(), 4096, true));
            }
            refused(
                "truncating on opening",
                name,
                OpenOptions::new().write(true).truncate(true).open(&path),
            );
        }
    }
    all_refused();
}

/// A debugger writes through `/proc/<pid>/mem` even where a mapping is read-only; not where
/// it could never become writable.
pub(super) fn by_proc_mem(attached: &mut Attached) {
    let memory = OpenOptions::new().read(true).write(true).open("/proc/self/mem");
    let memory = memory.expect("its own memory");
    let write = |name: &str, mapping: &RawMemory| {
        let before = mapping.load64(0);
        refused("writing", name, memory.write_all_at(&(!before).to_le_bytes(), mapping.address()));
        assert_eq!(mapping.load64(0), before, "the {name} was written");
    };
    write("host's outbox", &attached.guest.host);
    write("hub", &readable(attached.guest.hub.as_fd()));
    write("host's outbox, mapped anew", &readable(attached.guest.outbox.as_fd()));
    // The route as such works.
    let own = &attached.guest.memory;
    memory.write_all_at(&[0; 8], own.address() + shm_tests::raw::at::DROPPED).expect("its own");
    all_refused();
}
