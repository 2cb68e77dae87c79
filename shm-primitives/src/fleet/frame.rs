//! A frame, copied out of a ring.

use alloc::vec::Vec;

use super::{geometry::FRAME_HEAD, id::FleetId, word::Position};

const HEAD: usize = FRAME_HEAD as usize;

/// A frame of a ring, copied out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetFrame {
    id: FleetId,
    position: Position,
    head: Head,
    /// The head's two words, then the payload.
    value: Vec<u8>,
}

impl FleetFrame {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> FleetId {
        self.id
    }

    /// Its place in the order of the ring.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// What kind of frame its publisher says it is.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.head.kind
    }

    /// The version of its content, as its publisher says.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.head.version
    }

    /// Its content.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.value.get(HEAD..).unwrap_or_default()
    }

    /// Its content, to keep.
    #[must_use]
    pub fn into_payload(mut self) -> Vec<u8> {
        self.value.drain(..HEAD.min(self.value.len()));
        self.value
    }

    pub(super) fn new(id: FleetId, position: Position, head: Head, value: Vec<u8>) -> Self {
        Self { id, position, head, value }
    }
}

/// Kind, version and length, as they stand in one word of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) version: u16,
    pub(super) len: u32,
}

impl Head {
    pub(super) fn to_word(self) -> u64 {
        u64::from(self.kind) << 48 | u64::from(self.version) << 32 | u64::from(self.len)
    }

    pub(super) fn of_word(word: u64) -> Self {
        Self { kind: (word >> 48) as u8, version: (word >> 32) as u16, len: word as u32 }
    }
}

/// Puts the value of a slot together.
pub(super) fn stage(value: &mut Vec<u8>, id: FleetId, head: Head, payload: &[u8]) {
    value.clear();
    value.extend_from_slice(&id.bits().to_le_bytes());
    value.extend_from_slice(&head.to_word().to_le_bytes());
    value.extend_from_slice(payload);
}

/// A buffer for the value of a slot whose payload has `len` bytes.
pub(super) fn buffer(len: u32) -> Vec<u8> {
    alloc::vec![0; HEAD.saturating_add(len as usize)]
}

/// The id and the head that a slot's value starts with.
pub(super) fn parse(value: &[u8]) -> Option<(FleetId, Head)> {
    let (id, rest) = value.split_first_chunk()?;
    let (head, _) = rest.split_first_chunk()?;
    let head = Head::of_word(u64::from_le_bytes(*head));
    Some((FleetId::from_bits(u64::from_le_bytes(*id)), head))
}
