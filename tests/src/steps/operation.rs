//! What victims do on a link.

use std::{fmt, str::FromStr, time::Duration};

use shm_transport::{Link, LinkConfig, LinkEvent, LinkSet, Message, SharedPayload, SizeClass};

use crate::{WAIT, pattern::message, small};

/// Bytes of a message that goes inline: the most, so that its space is an eighth of the ring
/// and is given back at once.
pub const INLINE: usize = 128;
/// Bytes of a message that goes through a slot.
pub const SLOT: usize = 1000;
/// Bytes of a message that goes in sealed memory.
pub const SEALED: usize = 1200;
/// How many messages of [`INLINE`] bytes fill a ring in which the victim's first message is.
pub const FILL: u64 = 7;

/// An operation on a link, done by either side of it.
///
/// The victim's message 0 says that it is there. What it sends before the operation is
/// numbered from 1 on, then comes what the operation itself sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Send a message inline.
    SendInline,
    /// Send one that does not fit before the end of the ring.
    SendAtTheWrap,
    /// Send a batch.
    SendBatch,
    /// Send a batch over the end of the ring.
    SendBatchAtTheWrap,
    /// Send a batch that is published in three parts.
    SendBatchInParts,
    /// Send through a slot, where there is one.
    SendSlot,
    /// Send through the first slot of a class.
    SendFirstSlot,
    /// Send through a slot of another extent, when those of the first are in use.
    SendSlotOfNextExtent,
    /// Send in sealed memory.
    SendSealed,
    /// Send a payload that could go to several.
    SendShared,
    /// Fill a grant of the ring and commit it.
    GrantInline,
    /// Fill a granted slot and commit it.
    GrantSlot,
    /// Fill granted memory and commit it.
    GrantSealed,
    /// Fill grants of each kind, drop them, and send a message.
    GrantsAborted,
    /// Send when the other side sleeps.
    SendToSleeper,
    /// Send when the other side sleeps in a set.
    SendToSleepingSet,
    /// Send when there is no room, and sleep until there is.
    SleepForRoom,
    /// Receive an inline message and drop it.
    RecvInline,
    /// Receive an inline message into a buffer.
    RecvInlineInto,
    /// Receive an inline message when the sender sleeps for its room.
    RecvFromSleeper,
    /// Receive through a slot and drop the message.
    RecvSlot,
    /// Receive through a slot of a class that was not used before.
    RecvFirstSlot,
    /// Receive through a slot into a buffer.
    RecvSlotInto,
    /// Receive sealed memory and drop it.
    RecvSealed,
    /// Receive sealed memory into a buffer.
    RecvSealedInto,
    /// Drop three messages in the order in which they came: slots and a sealed one.
    ReleaseInOrder,
    /// Drop them the other way round.
    ReleaseOutOfOrder,
    /// Receive when there is nothing, and sleep until there is.
    Sleep,
    /// Wait with a set of links when there is nothing, and sleep until there is.
    SleepInSet,
    /// Say goodbye, wait until all is received, and close.
    Detach,
    /// Drop the link.
    Drop,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 31] = {
        use Operation::*;
        [
            SendInline,
            SendAtTheWrap,
            SendBatch,
            SendBatchAtTheWrap,
            SendBatchInParts,
            SendSlot,
            SendFirstSlot,
            SendSlotOfNextExtent,
            SendSealed,
            SendShared,
            GrantInline,
            GrantSlot,
            GrantSealed,
            GrantsAborted,
            SendToSleeper,
            SendToSleepingSet,
            SleepForRoom,
            RecvInline,
            RecvInlineInto,
            RecvFromSleeper,
            RecvSlot,
            RecvFirstSlot,
            RecvSlotInto,
            RecvSealed,
            RecvSealedInto,
            ReleaseInOrder,
            ReleaseOutOfOrder,
            Sleep,
            SleepInSet,
            Detach,
            Drop,
        ]
    };

    /// How the link is configured.
    #[must_use]
    pub fn config(self) -> LinkConfig {
        let ring_capacity = if self == Self::SendBatchInParts { 16 << 10 } else { 1 << 10 };
        // Who waits sleeps at once.
        let size_classes = vec![SizeClass { slot_size: 1 << 10, extent_slots: 2, max_extents: 2 }];
        LinkConfig { ring_capacity, size_classes, spin: Duration::ZERO, ..small() }
    }

    /// Lengths of the messages that the victim sends before the operation, after message 0.
    #[must_use]
    pub fn before(self) -> Vec<usize> {
        match self {
            Self::SendAtTheWrap | Self::SendBatchAtTheWrap | Self::SleepForRoom => {
                vec![INLINE; FILL as usize]
            }
            Self::SendSlot | Self::GrantSlot => vec![SLOT],
            Self::SendSlotOfNextExtent => vec![SLOT; 2],
            Self::Detach | Self::Drop => vec![10],
            _ => Vec::new(),
        }
    }

    /// Lengths of the messages that the operation sends.
    #[must_use]
    pub fn sends(self) -> Vec<usize> {
        match self {
            Self::SendInline | Self::SendAtTheWrap | Self::GrantInline | Self::GrantsAborted => {
                vec![100]
            }
            Self::SleepForRoom => vec![INLINE],
            Self::SendBatch => vec![60; 5],
            Self::SendBatchAtTheWrap => vec![100; 3],
            Self::SendBatchInParts => vec![1000; 12],
            Self::SendSlot | Self::SendFirstSlot | Self::SendSlotOfNextExtent | Self::GrantSlot => {
                vec![SLOT]
            }
            Self::SendSealed | Self::SendShared | Self::GrantSealed => vec![SEALED],
            Self::SendToSleeper | Self::SendToSleepingSet => vec![10],
            _ => Vec::new(),
        }
    }

    /// How many of the messages of the operation there can be, if it is killed: none, or as
    /// many as are published together.
    #[must_use]
    pub fn parts(self) -> &'static [usize] {
        match self {
            Self::SendBatch => &[0, 5],
            Self::SendBatchAtTheWrap => &[0, 3],
            // 4 KiB at a time: a part ends with the message that makes it full.
            Self::SendBatchInParts => &[0, 5, 10, 12],
            _ => &[0, 1],
        }
    }

    /// Whether the victim sleeps.
    #[must_use]
    pub fn sleeps(self) -> bool {
        matches!(self, Self::SleepForRoom | Self::Sleep | Self::SleepInSet | Self::Detach)
    }

    /// Prepares the operation in the victim, and returns it. Nothing of the link is dropped
    /// when it is done, unless that is the operation.
    ///
    /// # Panics
    ///
    /// If the other side does not do its part.
    #[must_use]
    pub fn prepare(self, mut link: Link) -> Box<dyn FnMut()> {
        link.send(&message(0, 10), WAIT).expect("sent");
        for (number, len) in (1..).zip(self.before()) {
            link.send(&message(number, len), WAIT).expect("sent");
        }
        let first = 1 + self.before().len() as u64;
        let messages: Vec<_> =
            (first..).zip(self.sends()).map(|(number, len)| message(number, len)).collect();
        let one = messages.first().cloned().unwrap_or_default();
        match self {
            Self::SendInline
            | Self::SendAtTheWrap
            | Self::SendSlot
            | Self::SendFirstSlot
            | Self::SendSealed
            | Self::SendToSleeper
            | Self::SendToSleepingSet
            | Self::SleepForRoom => Box::new(move || link.send(&one, WAIT).expect("sent")),
            // Does not wait for a slot of the first one.
            Self::SendSlotOfNextExtent => Box::new(move || link.try_send(&one).expect("sent")),
            Self::SendBatch | Self::SendBatchAtTheWrap | Self::SendBatchInParts => {
                Box::new(move || link.sender.send_batch(&messages, WAIT).expect("sent"))
            }
            Self::SendShared => Box::new(move || {
                let payload = SharedPayload::new(&one).expect("memory");
                link.sender.send_shared(&payload, WAIT).expect("sent");
            }),
            Self::GrantInline | Self::GrantSlot | Self::GrantSealed => Box::new(move || {
                let mut grant = link.sender.grant(one.len(), WAIT).expect("granted");
                grant.copy_from_slice(&one);
                grant.commit().expect("sent");
            }),
            Self::GrantsAborted => Box::new(move || {
                for len in [INLINE, SLOT, SEALED] {
                    link.sender.grant(len, WAIT).expect("granted").fill(0xee);
                }
                link.send(&one, WAIT).expect("sent");
            }),
            Self::RecvInline | Self::RecvFromSleeper => {
                Box::new(move || assert_eq!(link.recv(WAIT).expect("received").len(), INLINE))
            }
            Self::RecvSlot => {
                // The extent is mapped.
                assert_eq!(link.recv(WAIT).expect("received").len(), SLOT);
                Box::new(move || assert_eq!(link.recv(WAIT).expect("received").len(), SLOT))
            }
            Self::RecvFirstSlot => {
                Box::new(move || assert_eq!(link.recv(WAIT).expect("received").len(), SLOT))
            }
            Self::RecvSealed => {
                Box::new(move || assert_eq!(link.recv(WAIT).expect("received").len(), SEALED))
            }
            Self::RecvInlineInto | Self::RecvSlotInto | Self::RecvSealedInto => {
                let mut buffer = vec![0; SEALED];
                Box::new(move || {
                    link.recv_into(&mut buffer, WAIT).expect("received");
                })
            }
            Self::ReleaseInOrder | Self::ReleaseOutOfOrder => {
                let mut receive = || link.recv(WAIT).expect("received").into_owned();
                let mut held: Vec<Message<'static>> = (0..3).map(|_| receive()).collect();
                if self == Self::ReleaseInOrder {
                    held.reverse();
                }
                Box::new(move || {
                    let _ = &link;
                    while held.pop().is_some() {}
                })
            }
            Self::Sleep => Box::new(move || {
                link.recv(WAIT).expect("received");
            }),
            Self::SleepInSet => {
                let mut set = LinkSet::new().expect("a set");
                let key = set.insert(link).expect("inserted");
                let mut events = Vec::with_capacity(1);
                Box::new(move || {
                    set.wait(&mut events, WAIT).expect("waited");
                    assert_eq!(events, [LinkEvent::Ready(key)]);
                    let link = set.get_mut(key).expect("there");
                    assert!(link.try_recv().expect("received").is_some());
                })
            }
            Self::Detach => {
                let mut link = Some(link);
                Box::new(move || {
                    link.take().expect("once").detach(WAIT).expect("detached");
                })
            }
            Self::Drop => {
                let mut link = Some(link);
                Box::new(move || drop(link.take()))
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|operation| operation.to_string() == name);
        found.ok_or_else(|| format!("no operation {name}"))
    }
}
