use std::marker::PhantomData;

use super::{
    encoding::{Declared, Encoding, Plain, declaration},
    error::TypedSendError,
};
use crate::{deadline::Deadline, error::SendError, link::Sender};

/// Sends values of one type over a link.
///
/// ```
/// use std::time::Duration;
/// use shm_transport::{
///     Link, LinkConfig,
///     typed::{Declared, TypedReceiver, TypedSender},
/// };
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
/// #[repr(C)]
/// struct Reading {
///     sensor: u64,
///     celsius: f64,
/// }
///
/// impl Declared for Reading {
///     const NAME: &'static str = "Reading/1";
/// }
///
/// let (left, right) = Link::pair(&LinkConfig::default())?;
/// let wait = Duration::from_secs(1);
/// let mut sender = TypedSender::<Reading>::new(left.sender);
/// let mut receiver = TypedReceiver::<Reading>::new(right.receiver);
/// sender.send(&Reading { sensor: 7, celsius: 21.5 }, wait)?;
/// assert_eq!(receiver.recv(wait)?, Reading { sensor: 7, celsius: 21.5 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TypedSender<T, E = Plain> {
    sender: Sender,
    declared: bool,
    buffer: Vec<u8>,
    of: PhantomData<fn(&T, E)>,
}

impl<T: Declared, E: Encoding<T>> TypedSender<T, E> {
    /// Makes a half of a link typed. Nothing should have been sent there before.
    #[must_use]
    pub fn new(sender: Sender) -> Self {
        Self { sender, declared: false, buffer: Vec::new(), of: PhantomData }
    }

    /// Sends a value, waiting for room until `deadline`.
    ///
    /// # Errors
    ///
    /// [`TypedSendError::Value`] if the value could not be encoded; else as [`Sender::send`].
    #[inline]
    pub fn send(&mut self, value: &T, deadline: impl Into<Deadline>) -> Result<(), TypedSendError> {
        let deadline = deadline.into();
        if !self.declared {
            return self.send_first(value, deadline);
        }
        let message = E::encode(value, &mut self.buffer)?;
        Ok(self.sender.send(message, deadline)?)
    }

    /// Sends a value if there is room now.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), with [`SendError::Full`] instead of `TimedOut`.
    #[inline]
    pub fn try_send(&mut self, value: &T) -> Result<(), TypedSendError> {
        if !self.declared {
            return match self.send_first(value, Deadline::NOW) {
                Err(TypedSendError::Send(SendError::TimedOut)) => Err(SendError::Full.into()),
                sent => sent,
            };
        }
        let message = E::encode(value, &mut self.buffer)?;
        Ok(self.sender.try_send(message)?)
    }

    #[cold]
    fn send_first(&mut self, value: &T, deadline: Deadline) -> Result<(), TypedSendError> {
        let deadline = deadline.fixed();
        // One that is not sent declares nothing.
        let message = E::encode(value, &mut self.buffer)?;
        self.sender.send(&declaration::<T, E>().to_message(), deadline)?;
        self.declared = true;
        Ok(self.sender.send(message, deadline)?)
    }

    /// The half of the link: for its limits and its descriptor.
    pub fn as_sender(&mut self) -> &mut Sender {
        &mut self.sender
    }
}
