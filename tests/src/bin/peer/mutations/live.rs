//! A guest's outbox and extent are changed, behind a real link: the transport's own checks, and
//! what becomes of the link.

use std::{os::fd::AsFd, path::PathBuf, thread, time::Duration};

use shm_primitives::{Memory, Offset};
use shm_tests::{
    Place, WAIT,
    pattern::{self, Random},
    raw::{
        NO_WRITER, ONE_WRITER, RawGuest, RawMemory, at, inline, memory, sealed, sealed_with, slot,
    },
};
use shm_transport::{Deadline, Host, LinkEnd, RecvError};

use super::{
    Kind, Other, Outcome, Refused, Unchanged, Wrong,
    change::{Changed, change},
};

const EXTENT: u64 = 2048;
const PAYLOAD: usize = 5000;

/// A message that the guest sent: its header's place, and its content's.
struct Sent {
    header: u64,
    content: Content,
    bytes: Vec<u8>,
}

enum Content {
    Ring(u64),
    Extent(u64),
    Sealed,
}

pub(super) struct Live {
    /// Removed when this is dropped.
    _place: Place,
    path: PathBuf,
    host: Host,
}

impl Live {
    pub(super) fn new() -> Self {
        let place = Place::new();
        let host = place.small_host();
        Self { path: place.hub(), _place: place, host }
    }
}

/// Sends some messages of all kinds. They fit.
fn send(guest: &mut RawGuest, extent: &RawMemory, random: &mut Random) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut sealed_sent = false;
    for _ in 0..=random.below(6) {
        let header = guest.frame_at();
        let (content, bytes) = match random.below(4) {
            0 => {
                let (index, len) = (random.below(2), random.below(1025));
                let mut bytes = vec![0; len as usize];
                extent.mapped().read(Offset::new(1024 * index), &mut bytes);
                guest.publish(slot(0, index as u16, len as u32), 8);
                (Content::Extent(1024 * index), bytes)
            }
            1 if !sealed_sent => {
                sealed_sent = true;
                let fd = memory(PAYLOAD as u64);
                let bytes = pattern::message(random.next(), PAYLOAD);
                rustix::io::pwrite(&fd, &bytes, 0).expect("written");
                let fd = sealed_with(fd, NO_WRITER);
                guest.socket.send(&[3, 0, 0], &[fd.as_fd()]).expect("room");
                guest.publish(sealed(0), 8);
                (Content::Sealed, bytes)
            }
            _ => {
                let word = random.next();
                guest.memory.store64(header + 8, word);
                guest.publish(inline(8), 16);
                (Content::Ring(header + 8), word.to_le_bytes().to_vec())
            }
        };
        sent.push(Sent { header, content, bytes });
    }
    sent
}

impl Kind for Live {
    fn name(&self) -> &'static str {
        "link"
    }

    fn run(&mut self, random: &mut Random) -> Outcome {
        let path = self.path.clone();
        let guest = thread::spawn(move || RawGuest::attach(&path));
        let mut link = self.host.accept(WAIT).expect("it attaches");
        let mut guest = guest.join().expect("it attaches");
        let fd = memory(EXTENT);
        let extent = RawMemory::map(fd.as_fd(), EXTENT as usize, true).expect("its own");
        (0..EXTENT / 8).for_each(|word| extent.store64(8 * word, random.next()));
        let fd = sealed_with(fd, ONE_WRITER);
        guest.socket.send(&[2, 0], &[fd.as_fd()]).expect("room");
        let sent = send(&mut guest, &extent, random);
        for len in [10, 500, 900, 20_000] {
            link.try_send(&vec![3; len]).expect("room");
        }

        let mut hot: Vec<u64> = sent.iter().map(|sent| sent.header).collect();
        hot.extend([at::TAIL, at::DATA_SLEEP, at::SPACE_SLEEP, at::DATA_BELL, at::DROPPED]);
        hot.extend((0..u64::from(guest.geometry.acks)).map(|ack| at::ACKS + 4 * ack));
        let changed = change(&guest.memory.mapped(), &hot, random);
        // Most say no goodbye: then all the rest is looked at.
        if random.below(4) > 0 {
            guest.memory.store32(at::GOODBYE, 0);
        }
        let in_extent = match random.below(2) {
            0 => change(&extent.mapped(), &[], random),
            _ => Changed::default(),
        };
        guest.ring_bell();

        let is_whole = |sent: &Sent| match sent.content {
            Content::Ring(at) => !changed.hits(at, 8),
            Content::Extent(at) => !in_extent.hits(at, sent.bytes.len() as u64),
            Content::Sealed => true,
        };
        let (mut clean, mut other) = (true, false);
        let mut held = Vec::new();
        for number in 0..200 {
            let expected = sent.get(number);
            clean &= expected.is_some_and(|sent| !changed.hits(sent.header, 8));
            match link.recv(Deadline::NOW) {
                Ok(message) => {
                    let bytes = message.to_bytes();
                    let is_same = expected.is_some_and(|sent| sent.bytes == bytes);
                    if clean && !is_same && expected.is_some_and(is_whole) {
                        return Wrong(format!("message {number} is another"));
                    }
                    other |= !(clean && is_same);
                    held.push(message.into_owned());
                }
                // A goodbye is no breach: what was sent before it comes first.
                Err(RecvError::TimedOut | RecvError::Ended(LinkEnd::Departed)) if clean => {
                    return Wrong(format!("message {number} of {} is missing", sent.len()));
                }
                Err(RecvError::Ended(LinkEnd::Corrupt(what))) if clean => {
                    return Wrong(format!("message {number}: {what}"));
                }
                Err(RecvError::TimedOut | RecvError::Ended(_)) => {
                    other |= number < sent.len();
                    break;
                }
                Err(error) => return Wrong(error.to_string()),
            }
            if held.len() > 3 {
                held.clear();
            }
        }
        for len in [0, 100, 100, 100, 100, 500, 2000, 20_000, 100] {
            let _ = link.try_send(&vec![4; len]);
        }
        let _ = link.send(&[5; 128], Duration::from_micros(50));
        let _ = (link.sender.slots_in_flight(), link.peer_heartbeat(), link.receiver.missed());
        if link.receiver.arm() {
            link.receiver.disarm();
        }
        let _ = self.host.hub().peers();
        match link.end() {
            Some(LinkEnd::Corrupt(_)) => Refused,
            Some(_) => Other,
            None if other => Other,
            None => Unchanged,
        }
    }
}
