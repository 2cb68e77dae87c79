use std::marker::PhantomData;

use super::{
    declaration::Declaration,
    encoding::{Declared, Encoding, Plain, declaration},
    error::TypedRecvError,
};
use crate::{
    deadline::Deadline,
    link::{Message, Receiver},
};

/// Receives values of one type over a link. See [`TypedSender`](super::TypedSender).
#[derive(Debug)]
pub struct TypedReceiver<T, E = Plain> {
    receiver: Receiver,
    peer: Peer,
    of: PhantomData<fn() -> (T, E)>,
}

/// What the peer's first message was.
#[derive(Debug)]
enum Peer {
    Unknown,
    Agrees,
    Sends(Declaration),
    /// No declaration, but so many bytes.
    Undeclared(usize),
}

impl<T: Declared, E: Encoding<T>> TypedReceiver<T, E> {
    /// Makes a half of a link typed. Nothing should have been received there before.
    #[must_use]
    pub fn new(receiver: Receiver) -> Self {
        Self { receiver, peer: Peer::Unknown, of: PhantomData }
    }

    /// The next value, waiting for one until `deadline`.
    ///
    /// # Errors
    ///
    /// [`TypedRecvError::Mismatch`] and [`TypedRecvError::Undeclared`] if the peer does not send
    /// this type: at the first call that receives something, and at each one from then on.
    /// [`TypedRecvError::Value`] if it sends something else than it has declared. Else as
    /// [`Receiver::recv`].
    #[inline]
    pub fn recv(&mut self, deadline: impl Into<Deadline>) -> Result<T, TypedRecvError> {
        let mut deadline = deadline.into();
        if !matches!(self.peer, Peer::Agrees) {
            deadline = deadline.fixed();
            self.check_peer()?;
            if matches!(self.peer, Peer::Unknown) {
                let first = first(&self.receiver.recv(deadline)?, &declaration::<T, E>());
                self.peer = first;
                self.check_peer()?;
            }
        }
        Ok(E::decode(&self.receiver.recv(deadline)?)?)
    }

    /// The next value, if there is one.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<T>, TypedRecvError> {
        if !matches!(self.peer, Peer::Agrees) {
            self.check_peer()?;
            let Some(message) = self.receiver.try_recv()? else { return Ok(None) };
            let first = first(&message, &declaration::<T, E>());
            drop(message);
            self.peer = first;
            self.check_peer()?;
        }
        let Some(message) = self.receiver.try_recv()? else { return Ok(None) };
        Ok(Some(E::decode(&message)?))
    }

    fn check_peer(&self) -> Result<(), TypedRecvError> {
        let expected = declaration::<T, E>;
        match &self.peer {
            Peer::Unknown | Peer::Agrees => Ok(()),
            Peer::Sends(found) => {
                Err(TypedRecvError::Mismatch { expected: expected(), found: found.clone() })
            }
            Peer::Undeclared(len) => {
                Err(TypedRecvError::Undeclared { expected: expected(), len: *len })
            }
        }
    }

    /// The half of the link: for its descriptor, and to see how the link ended.
    pub fn as_receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }
}

fn first(message: &Message<'_>, expected: &Declaration) -> Peer {
    match Declaration::parse(message) {
        Some(found) if found == *expected => Peer::Agrees,
        Some(found) => Peer::Sends(found),
        None => Peer::Undeclared(message.len()),
    }
}
