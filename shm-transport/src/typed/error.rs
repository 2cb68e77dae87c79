use std::{error::Error, fmt};

use super::{declaration::Declaration, encoding::ValueError};
use crate::error::{RecvError, SendError};

/// Why a value was not sent. Nothing of it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum TypedSendError {
    /// Its message could not be sent.
    Send(SendError),
    /// It could not be encoded.
    Value(ValueError),
}

impl fmt::Display for TypedSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => error.fmt(f),
            Self::Value(error) => error.fmt(f),
        }
    }
}

impl Error for TypedSendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Send(error) => Some(error),
            Self::Value(error) => Some(error),
        }
    }
}

impl From<SendError> for TypedSendError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<ValueError> for TypedSendError {
    fn from(error: ValueError) -> Self {
        Self::Value(error)
    }
}

/// Why no value was received.
#[derive(Debug)]
#[non_exhaustive]
pub enum TypedRecvError {
    /// No message was received.
    Recv(RecvError),
    /// The peer sends another type. Nothing more is received here.
    Mismatch {
        /// The type of this side.
        expected: Declaration,
        /// The type of the peer.
        found: Declaration,
    },
    /// The peer's first message does not say what type it sends. Nothing more is received here.
    Undeclared {
        /// The type of this side.
        expected: Declaration,
        /// Bytes in the message.
        len: usize,
    },
    /// A message was received that is not a value of the type. It is gone; the next one may be.
    Value(ValueError),
}

impl fmt::Display for TypedRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recv(error) => error.fmt(f),
            Self::Mismatch { expected, found } => write!(
                f,
                "the peer sends {found}; this side receives {expected}: use the same type and \
                 encoding on both sides"
            ),
            Self::Undeclared { expected, len } => write!(
                f,
                "the peer began with a message of {len} bytes that declares no type; this side \
                 receives {expected}: send with a TypedSender, or receive bytes"
            ),
            Self::Value(error) => error.fmt(f),
        }
    }
}

impl Error for TypedRecvError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Recv(error) => Some(error),
            Self::Value(error) => Some(error),
            Self::Mismatch { .. } | Self::Undeclared { .. } => None,
        }
    }
}

impl From<RecvError> for TypedRecvError {
    fn from(error: RecvError) -> Self {
        Self::Recv(error)
    }
}

impl From<ValueError> for TypedRecvError {
    fn from(error: ValueError) -> Self {
        Self::Value(error)
    }
}
