use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use shm_primitives::pool::PoolGeometry;

use crate::{
    config::LinkGeometry,
    error::{BadDescriptor, Corruption, OsError},
    os::{foreign::Foreign, socket},
};

const BELL_TAG: u8 = 1;
const EXTENT_TAG: u8 = 2;
const SEALED_TAG: u8 = 3;

/// The message that rings the doorbell.
pub(crate) const BELL: [u8; 1] = [BELL_TAG];

/// The message that hands over the next extent of a class.
pub(crate) fn extent_message(class: u8) -> [u8; 2] {
    [EXTENT_TAG, class]
}

/// The message that hands over a sealed payload under a number.
pub(crate) fn sealed_message(index: u16) -> [u8; 3] {
    let [low, high] = index.to_le_bytes();
    [SEALED_TAG, low, high]
}

/// Messages that are read from the socket by whoever looks for a descriptor in them. An honest
/// peer has fewer under way; a flood ends the link.
pub(super) const ALL: usize = 4096;
/// Messages that are read by whoever was woken by them: what is left wakes it again.
pub(super) const SOME: usize = 16;

/// How far the socket was read.
#[derive(Debug)]
pub(crate) enum Drained {
    /// All that was there.
    Empty,
    /// All that was there, and nothing more will come.
    HungUp,
    /// Not all: the system refused what is next, such as for lack of a descriptor.
    Starved(OsError),
    /// As many as were to be read.
    Enough,
}

/// What came over a link's socket and was not asked for yet. The socket has this one
/// reader.
#[derive(Debug)]
pub(crate) struct Inbox {
    pool: PoolGeometry,
    /// Descriptors of extents by class, in order; taken when they are mapped.
    extents: Vec<Vec<Option<Foreign>>>,
    /// Descriptors of sealed payloads by number.
    sealed: Vec<Option<Foreign>>,
}

impl Inbox {
    pub(crate) fn new(geometry: &LinkGeometry) -> Self {
        Self {
            pool: geometry.pool.clone(),
            extents: geometry.pool.classes().iter().map(|_| Vec::new()).collect(),
            sealed: (0..geometry.pool.sealed()).map(|_| None).collect(),
        }
    }

    /// Reads what is there now, but no more than `most` messages.
    pub(crate) fn drain(
        &mut self,
        socket: BorrowedFd<'_>,
        most: usize,
    ) -> Result<Drained, Corruption> {
        for _ in 0..most {
            let mut message = [0; 8];
            match socket::receive(socket, &mut message) {
                Err(Errno::AGAIN) => return Ok(Drained::Empty),
                Err(errno) if !socket::is_over(errno) => {
                    return Ok(Drained::Starved(OsError::new("take over a descriptor", errno)));
                }
                Err(_) | Ok(None) => return Ok(Drained::HungUp),
                Ok(Some(datagram)) => {
                    let message = message.get(..datagram.len).unwrap_or_default();
                    self.take(message, datagram.descriptors)?;
                }
            }
        }
        Ok(Drained::Enough)
    }

    fn take(&mut self, message: &[u8], mut descriptors: Vec<Foreign>) -> Result<(), Corruption> {
        let place = match *message {
            [BELL_TAG] if descriptors.is_empty() => return Ok(()),
            [EXTENT_TAG, class] => {
                let max = self.pool.class(class).map_or(0, |class| class.max_extents as usize);
                let extents = self.extents.get_mut(usize::from(class));
                let extents = extents.filter(|extents| extents.len() < max);
                extents.map(|extents| {
                    extents.push(None);
                    extents.last_mut()
                })
            }
            [SEALED_TAG, low, high] => {
                let index = usize::from(u16::from_le_bytes([low, high]));
                self.sealed.get_mut(index).filter(|place| place.is_none()).map(Some)
            }
            _ => None,
        };
        let place = place.flatten().ok_or(Corruption::Socket)?;
        match (descriptors.pop(), descriptors.is_empty()) {
            (Some(descriptor), true) => *place = Some(descriptor),
            _ => return Err(Corruption::Descriptor(BadDescriptor::Missing)),
        }
        Ok(())
    }

    /// Takes the descriptor of extent `number` of a class, if it was handed over.
    pub(crate) fn take_extent(&mut self, class: u8, number: usize) -> Option<Foreign> {
        self.extents.get_mut(usize::from(class))?.get_mut(number)?.take()
    }

    /// Puts the descriptor of an extent back that could not be mapped now.
    pub(crate) fn put_back_extent(&mut self, class: u8, number: usize, descriptor: Foreign) {
        let extents = self.extents.get_mut(usize::from(class));
        if let Some(place) = extents.and_then(|extents| extents.get_mut(number)) {
            *place = Some(descriptor);
        }
    }

    /// Takes the descriptor of a sealed payload, if it was handed over.
    pub(crate) fn take_sealed(&mut self, index: u16) -> Option<Foreign> {
        self.sealed.get_mut(usize::from(index))?.take()
    }

    /// Puts the descriptor of a sealed payload back that could not be mapped now.
    pub(crate) fn put_back_sealed(&mut self, index: u16, descriptor: Foreign) {
        if let Some(place) = self.sealed.get_mut(usize::from(index)) {
            *place = Some(descriptor);
        }
    }
}
