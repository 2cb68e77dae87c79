use std::{error::Error, fmt};

use crate::error::{LinkEnd, OsError};

/// Any error of a handler. The other side gets its message.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a call has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// None came before the deadline. The call was cancelled; it may have been carried out.
    DeadlineExceeded,
    /// The other side's handler failed, and says why.
    Failed {
        /// What it says, at most 1 KiB.
        message: String,
    },
    /// The request does not fit a message of this link.
    TooLarge {
        /// Bytes in the request.
        len: u64,
        /// The most that a request has.
        max: u64,
    },
    /// The link has ended: [`LinkEnd::PeerDead`] if the other process died. The call may have
    /// been carried out.
    Ended(LinkEnd),
    /// The [`Driver`](super::Driver) of this side was dropped, or failed. The call may have been
    /// carried out.
    Stopped,
    /// `call` without a `poll_ready` that was ready.
    NotReady,
    /// The memory for the request could not be had. It was not sent.
    Os(OsError),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeadlineExceeded => {
                f.write_str("no answer came before the deadline: the call was cancelled")
            }
            Self::Failed { message } => write!(f, "the call failed at the other side: {message}"),
            Self::TooLarge { len, max } => write!(
                f,
                "a request of {len} bytes; this link carries up to {max}: call in parts or \
                 configure a larger max_message"
            ),
            Self::Ended(end) => end.fmt(f),
            Self::Stopped => {
                f.write_str("nobody drives the calls of this link any more: keep its driver")
            }
            Self::NotReady => f.write_str("a call out of turn: wait for poll_ready first"),
            Self::Os(error) => error.fmt(f),
        }
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Ended(end) => Some(end),
            Self::Os(error) => Some(error),
            _ => None,
        }
    }
}
