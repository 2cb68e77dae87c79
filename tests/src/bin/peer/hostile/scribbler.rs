//! A guest that writes anything, anywhere, as fast as it can.

use std::{
    os::fd::AsFd,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use shm_tests::{
    pattern::Random,
    raw::{RawGuest, RawMemory, RawSocket},
};

use super::{handed_over::sealed_with_writable, outbox::plausible};
use crate::{command, say};

/// Words between two looks at whether the link has ended.
const BURST: u64 = 4096;

/// All that a guest can write: its outbox and an extent that it handed over.
struct Writable {
    guest: RawGuest,
    extent: RawMemory,
}

impl Writable {
    fn attach(path: &Path) -> Option<Self> {
        let guest = RawSocket::try_connect(path)?.try_welcomed()?.claimed();
        let (fd, extent) = sealed_with_writable(2048);
        let _ = guest.socket.send(&[2, 0], &[fd.as_fd()]);
        Some(Self { guest, extent })
    }

    /// Of its outbox, the words from `first` on.
    fn scribble(&self, first: u64, random: &mut Random) {
        let words = [self.guest.memory.size() / 8, self.extent.size() / 8];
        for _ in 0..BURST {
            let word = if random.below(2) == 0 { random.next() } else { plausible(random) };
            match random.below(16) {
                0 => self.extent.store64(8 * random.below(words[1]), word),
                _ => {
                    let place = first + random.below(words[0] - first);
                    self.guest.memory.store64(8 * place, word);
                }
            }
        }
    }

    /// Whether the host has hung up.
    fn is_over(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.guest.socket, PollFlags::RDHUP)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)) == Ok(1)
    }
}

/// Scribbles until it is told to stop, attaching anew whenever its link has ended; says how
/// many words it wrote, in how many milliseconds, over how many links.
pub(crate) fn run(path: &str, seed: u64) {
    let mut random = Random::new(seed);
    let (mut words, mut links) = (0, 0);
    let mut spent = Duration::ZERO;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = command();
            stop.store(true, Ordering::Relaxed);
        });
        say("scribbling");
        while !stop.load(Ordering::Relaxed) {
            let Some(writable) = Writable::attach(Path::new(path)) else { continue };
            // Most spare the header: a goodbye there ends the link before it comes to anything.
            let first = if links % 4 == 0 { 0 } else { 16 };
            links += 1;
            let start = Instant::now();
            while !stop.load(Ordering::Relaxed) && !writable.is_over() {
                writable.scribble(first, &mut random);
                words += BURST;
            }
            spent += start.elapsed();
        }
    });
    say(&format!("{words} {} {links}", spent.as_millis()));
}
