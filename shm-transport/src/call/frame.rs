//! What goes over the link: one frame a message, a kind and the number of a call, then a body.
//!
//! ```text
//! | kind: u64 | call: u64 | body ...
//! ```
//!
//! | kind | call | body |
//! |---|---|---|
//! | `Hello` | calls that its sender takes at once | magic and version: the first frame, once |
//! | `Request` | number, given by the caller | the request |
//! | `Answer` | of which request | the answer |
//! | `Failure` | of which request | UTF-8, why there is no answer |
//! | `Cancel` | of which request | nothing |

use bytes::Bytes;

use crate::link::Message;

/// Bytes before the body.
pub(crate) const HEADER: usize = 16;
/// The most that a failure says.
pub(crate) const MAX_FAILURE: usize = 1 << 10;

/// With the version of the protocol.
pub(crate) const MAGIC: [u8; 8] = *b"shmcall1";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello = 1,
    Request,
    Answer,
    Failure,
    Cancel,
}

/// The number of a call, given by the side that calls. It is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallId(pub(crate) u64);

/// One frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) call: CallId,
    pub(crate) body: Bytes,
}

impl Frame {
    pub(crate) fn hello(max_served: u32) -> Self {
        let body = Bytes::from_static(&MAGIC);
        Self { kind: Kind::Hello, call: CallId(max_served.into()), body }
    }

    pub(crate) fn failure(call: CallId, message: &str) -> Self {
        let mut end = message.len().min(MAX_FAILURE);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let body = Bytes::copy_from_slice(message.get(..end).unwrap_or_default().as_bytes());
        Self { kind: Kind::Failure, call, body }
    }

    /// The frame that a message is; `None` if it is none.
    ///
    /// The body is copied even if it is sealed: what held on to the sender's memory for as long
    /// as a call takes could keep it from answering the very calls that this one waits for.
    pub(crate) fn parse(message: &Message<'_>) -> Option<Self> {
        let header = message.read_array::<HEADER>(0)?;
        let (kind, call) = header.split_first_chunk::<8>()?;
        let kind = match u64::from_le_bytes(*kind) {
            1 => Kind::Hello,
            2 => Kind::Request,
            3 => Kind::Answer,
            4 => Kind::Failure,
            5 => Kind::Cancel,
            _ => return None,
        };
        let call = CallId(u64::from_le_bytes(*call.first_chunk()?));
        let mut body = vec![0; message.len() - HEADER];
        message.copy_to(HEADER, &mut body);
        Some(Self { kind, call, body: body.into() })
    }

    /// Bytes of the message.
    pub(crate) fn len(&self) -> usize {
        HEADER + self.body.len()
    }

    /// Writes the message.
    pub(crate) fn write_to(&self, message: &mut [u8]) {
        let parts = [&(self.kind as u64).to_le_bytes()[..], &self.call.0.to_le_bytes(), &self.body];
        let mut rest = message;
        for part in parts {
            let Some((place, others)) = rest.split_at_mut_checked(part.len()) else { return };
            place.copy_from_slice(part);
            rest = others;
        }
    }
}
