use std::fmt;

use crate::link::Message;

/// The longest name of a type, in bytes of UTF-8.
pub const MAX_NAME: usize = 128;

const MAGIC: [u8; 8] = *b"shm-type";
/// Magic, how it is encoded, and its size or fingerprint. The name follows.
const FIXED: usize = 24;

const PLAIN: u64 = 1;
const POSTCARD: u64 = 2;

/// What one side says about the values that it sends, or expects to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The type's [name](super::Declared::NAME).
    pub name: String,
    /// What else must be the same.
    pub identity: Identity,
}

/// What must be the same on both sides beside the name of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// A plain type.
    Plain {
        /// Bytes in each value.
        size: u64,
    },
    /// A type in the format of `postcard`.
    Postcard {
        /// A hash of its structure: names of structures, fields and variants, and types of fields.
        fingerprint: u64,
    },
}

impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped: the peer may have named it anything.
        write!(f, "{:?}, ", self.name)?;
        match self.identity {
            Identity::Plain { size } => write!(f, "plain, of {size} bytes"),
            Identity::Postcard { fingerprint } => {
                write!(f, "in postcard, of structure {fingerprint:016x}")
            }
        }
    }
}

impl Declaration {
    /// As a message.
    pub(crate) fn to_message(&self) -> Vec<u8> {
        let (encoding, identity) = match self.identity {
            Identity::Plain { size } => (PLAIN, size),
            Identity::Postcard { fingerprint } => (POSTCARD, fingerprint),
        };
        let mut message = Vec::with_capacity(FIXED + self.name.len());
        message.extend(MAGIC);
        message.extend(encoding.to_le_bytes());
        message.extend(identity.to_le_bytes());
        message.extend(self.name.as_bytes());
        message
    }

    /// The declaration that a message is; `None` if it is none.
    pub(crate) fn parse(message: &Message<'_>) -> Option<Self> {
        let mut buffer = [0; FIXED + MAX_NAME];
        if message.len() > buffer.len() || message.len() < FIXED {
            return None;
        }
        // Copied once, then read.
        message.copy_to(0, &mut buffer);
        let bytes = buffer.get(..message.len())?;
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (encoding, rest) = rest.split_first_chunk::<8>()?;
        let (identity, name) = rest.split_first_chunk::<8>()?;
        if *magic != MAGIC {
            return None;
        }
        let number = u64::from_le_bytes(*identity);
        let identity = match u64::from_le_bytes(*encoding) {
            PLAIN => Identity::Plain { size: number },
            POSTCARD => Identity::Postcard { fingerprint: number },
            _ => return None,
        };
        let name = str::from_utf8(name).ok()?.to_owned();
        Some(Self { name, identity })
    }
}
