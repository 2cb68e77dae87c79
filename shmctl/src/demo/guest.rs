//! The guest's side: answers each block with its SHA-256 until the host says goodbye.

use std::{process::ExitCode, time::Duration};

use sha2::{Digest as _, Sha256};
use shm_transport::{Deadline, Guest, Link, LinkEnd, Message, RecvError, SendError};

use super::{blocks::Digest, failure::Failure, options::Fault, wire};

const ATTACH: Duration = Duration::from_secs(10);
const DETACH: Duration = Duration::from_secs(5);

/// The block, counted from 0, at which a guest that is to misbehave does.
const FAULTY_BLOCK: u64 = 20;

/// Serves the host that started this process.
pub fn run(fault: Option<Fault>) -> Result<ExitCode, Failure> {
    let mut guest = Guest::attach_inherited(ATTACH).map_err(Failure::of("attach to the host"))?;
    match serve(&mut guest.link, fault)? {
        LinkEnd::Departed => {}
        // The host tells why, if it can.
        _ => return Ok(ExitCode::FAILURE),
    }
    guest.detach(DETACH).map_err(Failure::of("leave the host"))?;
    Ok(ExitCode::SUCCESS)
}

/// Answers blocks until the link ends; returns how it did.
fn serve(link: &mut Link, fault: Option<Fault>) -> Result<LinkEnd, Failure> {
    let mut misbehaviour = Misbehaviour { fault, ..Misbehaviour::default() };
    loop {
        let (id, digest) = match link.receiver.recv(Deadline::NEVER) {
            Ok(message) => {
                let answer = (message.read_u64(0).unwrap_or(u64::MAX), digest_of(&message));
                misbehaviour.keep(message);
                answer
            }
            Err(RecvError::Ended(end)) => return Ok(end),
            Err(error) => return Err(Failure::of("receive a block")(error)),
        };
        // The message is dropped: its slot is the host's again before the host has the
        // answer.
        for (id, digest) in misbehaviour.answers(id, digest) {
            match link.sender.send(&wire::encode_answer(id, &digest), Deadline::NEVER) {
                Ok(()) => {}
                Err(SendError::Ended(end)) => return Ok(end),
                Err(error) => return Err(Failure::of("send an answer")(error)),
            }
        }
    }
}

fn digest_of(message: &Message<'_>) -> Digest {
    let mut hash = Sha256::new();
    let mut skip = wire::ID;
    message.chunks(|chunk| {
        let (_, bytes) = chunk.split_at(skip.min(chunk.len()));
        skip = skip.saturating_sub(chunk.len());
        hash.update(bytes);
    });
    hash.finalize().into()
}

/// What a guest does wrong on demand.
#[derive(Default)]
struct Misbehaviour {
    fault: Option<Fault>,
    blocks: u64,
    held_back: Option<(u64, Digest)>,
    has_kept: bool,
}

impl Misbehaviour {
    /// Keeps one message that takes a slot, if that is the fault.
    fn keep(&mut self, message: Message<'_>) {
        let in_a_slot = message.len() > 16 << 10;
        if self.fault == Some(Fault::Keep) && !self.has_kept && in_a_slot {
            self.has_kept = true;
            std::mem::forget(message.into_owned());
        }
    }

    /// What to answer for a block.
    fn answers(&mut self, id: u64, mut digest: Digest) -> impl Iterator<Item = (u64, Digest)> {
        let now = self.blocks == FAULTY_BLOCK;
        self.blocks += 1;
        let late = self.held_back.take();
        let mut second = None;
        let mut first = Some((id, digest));
        match self.fault.filter(|_| now) {
            Some(Fault::Lose) => first = None,
            Some(Fault::Duplicate) => second = first,
            Some(Fault::Reorder) => self.held_back = first.take(),
            Some(Fault::Mismatch) => {
                digest[0] ^= 1;
                first = Some((id, digest));
            }
            Some(Fault::Exit) => std::process::exit(3),
            Some(Fault::Keep | Fault::Forget) | None => {}
        }
        [first, second, late].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use shm_transport::LinkConfig;

    use super::*;

    #[test]
    fn the_digest_leaves_the_id_out_however_the_block_travels() {
        let (mut left, mut right) = Link::pair(&LinkConfig::default()).unwrap();
        for len in [0, 1, 8, 5000, 20_000, 300_000, 1 << 21] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
            wire::try_send_block(&mut left, 9, &bytes).unwrap();
            let message = right.recv(DETACH).unwrap();
            assert_eq!(message.read_u64(0), Some(9));
            assert_eq!(digest_of(&message), <Digest>::from(Sha256::digest(&bytes)), "{len}");
        }
    }
}
