//! What the demo's messages look like.
//!
//! ```text
//! to a guest:  block id (u64, little-endian) | bytes of the block
//! back:        block id (u64, little-endian) | SHA-256 of those bytes
//! ```

use shm_transport::{Link, Message, SendError};

use super::blocks::Digest;

/// Bytes of the block id.
pub const ID: usize = 8;

/// Bytes of an answer.
const ANSWER: usize = ID + 32;

/// Sends a block from where it lies into where the guest reads it, if there is room now.
pub fn try_send_block(link: &mut Link, id: u64, bytes: &[u8]) -> Result<(), SendError> {
    let mut grant = link.sender.try_grant(ID + bytes.len())?;
    if let Some((head, body)) = grant.split_at_mut_checked(ID) {
        head.copy_from_slice(&id.to_le_bytes());
        body.copy_from_slice(bytes);
    }
    grant.commit()
}

/// The answer to a block.
pub fn encode_answer(id: u64, digest: &Digest) -> [u8; ANSWER] {
    let mut answer = [0; ANSWER];
    answer[..ID].copy_from_slice(&id.to_le_bytes());
    answer[ID..].copy_from_slice(digest);
    answer
}

/// Id and digest of an answer; `None` if it is not one.
pub fn decode_answer(message: &Message<'_>) -> Option<(u64, Digest)> {
    if message.len() != ANSWER {
        return None;
    }
    let answer = message.read_array::<ANSWER>(0)?;
    let (id, digest) = answer.split_first_chunk::<ID>()?;
    Some((u64::from_le_bytes(*id), digest.try_into().ok()?))
}
