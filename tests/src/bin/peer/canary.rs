//! Two guests of a host that do not know of each other: one has a secret, the other looks for
//! it in all that it has.

use std::{
    fmt,
    fs::{self, File},
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use shm_tests::WAIT;
use shm_transport::{Guest, Message};

use crate::{command, say};

/// Sizes of messages: inline, in a slot, and sealed.
const SIZES: [usize; 3] = [96, 900, 30_000];
/// A message that is full of the canary.
fn full_of(canary: u128, len: usize) -> Vec<u8> {
    canary.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// Sends and receives its canary in messages of all kinds, and holds what it received.
pub(crate) fn hold(path: &str, canary: &str) {
    let canary: u128 = canary.parse().expect("a canary");
    let mut guest = Guest::attach(path, WAIT).expect("attached");
    // The library keeps no descriptor of memory that it has mapped; a file of its own shows that
    // files are looked into.
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(&full_of(canary, 100), 0).expect("written");
    say(&format!("attached {}", guest.link.peer()));
    let mut held: Vec<Message<'static>> = Vec::new();
    while let Some(line) = command() {
        match line.as_str() {
            "send" => SIZES.iter().for_each(|len| {
                guest.link.send(&full_of(canary, *len), WAIT).expect("sent");
            }),
            "receive" => {
                for len in SIZES {
                    let message = guest.link.recv(WAIT).expect("a message");
                    assert!(message.to_bytes() == full_of(canary, len), "the host sends it back");
                    held.push(message.into_owned());
                }
            }
            // look KEY KEY …: where the canaries of these keys are found.
            line => {
                let keys = line.strip_prefix("look ").expect("a command");
                let keys: Vec<u128> =
                    keys.split(' ').map(|key| key.parse().expect("a key")).collect();
                look_for(&keys).iter().for_each(|found| say(&found.to_string()));
                continue;
            }
        }
        say("done");
    }
}

/// How often a canary was found, and in how many bytes it was looked for.
#[derive(Default)]
struct Found {
    mapped: usize,
    files: usize,
    sockets: usize,
    bytes: usize,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.mapped, self.files, self.sockets, self.bytes)
    }
}

/// Where canaries stand in all memory that this process can read, in its files and in its
/// sockets. A key is the complement of a canary: so this process does not find itself looking.
fn look_for(keys: &[u128]) -> Vec<Found> {
    let mut all: Vec<Found> = keys.iter().map(|_| Found::default()).collect();
    let mut count = |content: &[u8], place: fn(&mut Found) -> &mut usize| {
        for (found, key) in all.iter_mut().zip(keys) {
            found.bytes += content.len();
            *place(found) += occurrences(content, *key);
        }
    };
    let memory = File::open("/proc/self/mem").expect("its own memory");
    let mut part = Vec::new();
    for line in fs::read_to_string("/proc/self/maps").expect("its maps").lines() {
        let (range, rest) = line.split_once(' ').expect("a range");
        if !rest.starts_with('r') {
            continue;
        }
        let (from, to) = range.split_once('-').expect("from and to");
        let at = |text| u64::from_str_radix(text, 16).expect("an address");
        part.resize((at(to) - at(from)) as usize, 0);
        // Pages of the kernel cannot be read so.
        let read = memory.read_at(&mut part, at(from)).unwrap_or(0);
        count(&part[..read], |found| &mut found.mapped);
        part.fill(0);
    }
    for entry in fs::read_dir("/proc/self/fd").expect("its descriptors").flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // SAFETY: it was open a moment ago, and nobody else is here to close it; the one of
        // the directory itself is open as long as the loop.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().starts_with("socket:") {
            look_into_socket(fd, &mut count);
        } else if let Ok(file) = fd.try_clone_to_owned() {
            count(&content_of(file), |found| &mut found.files);
        }
    }
    all
}

/// What is in a file or in anonymous memory; nothing of anything else.
fn content_of(file: OwnedFd) -> Vec<u8> {
    let status = rustix::fs::fstat(&file).expect("its status");
    let is_file = rustix::fs::FileType::from_raw_mode(status.st_mode).is_file();
    let mut content = vec![0; if is_file { status.st_size as usize } else { 0 }];
    let read = File::from(file).read_at(&mut content, 0).unwrap_or(0);
    content.truncate(read);
    content
}

/// What is queued on a socket, and in the files that are.
fn look_into_socket(
    socket: BorrowedFd<'_>,
    count: &mut impl FnMut(&[u8], fn(&mut Found) -> &mut usize),
) {
    let mut message = vec![0; 1 << 16];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut buffer = [IoSliceMut::new(&mut message)];
        let Ok(received) = recvmsg(socket, &mut buffer, &mut ancillary, flags) else { return };
        let mut files = Vec::new();
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                files.extend(fds);
            }
        }
        if received.bytes == 0 && files.is_empty() {
            return;
        }
        count(&message[..received.bytes], |found| &mut found.sockets);
        for file in files {
            count(&content_of(file), |found| &mut found.sockets);
        }
    }
}

/// How often the canary of `key` stands in `bytes`.
fn occurrences(bytes: &[u8], key: u128) -> usize {
    let key = key.to_le_bytes();
    let is_it = |window: &&[u8]| window.iter().zip(key).all(|(found, key)| found ^ key == 0xff);
    bytes.windows(key.len()).filter(is_it).count()
}
