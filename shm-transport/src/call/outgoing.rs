//! Frames on their way out.

use std::task::{Context, Poll, ready};

use super::{
    error::CallError,
    frame::{Frame, HEADER, Kind},
    served::Served,
    shared::Shared,
};
use crate::{asynchronous::AsyncSender, error::SendError};

#[derive(Debug)]
pub(crate) struct Outgoing {
    sender: AsyncSender,
    /// What is to be sent first.
    hello: Option<Frame>,
    /// Whether nothing can be sent any more. There may still be something to receive.
    over: bool,
}

impl Outgoing {
    pub(crate) fn new(sender: AsyncSender, max_served: u32) -> Self {
        Self { sender, hello: Some(Frame::hello(max_served)), over: false }
    }

    /// Sends what there is room for. If something is left, the task is woken when there is more.
    pub(crate) fn send_all(&mut self, shared: &Shared, served: &mut Served, cx: &mut Context<'_>) {
        // In turn, so that neither keeps the other one back.
        while self.poll_hello(cx).is_ready() && !self.over {
            let sent = [self.poll_answer(served, cx), self.poll_call(shared, cx)];
            if !sent.contains(&Poll::Ready(true)) {
                return;
            }
        }
    }

    fn poll_hello(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(hello) = &self.hello {
            if ready!(poll_send(&mut self.sender, hello, cx)).is_err() {
                self.over = true;
            }
            self.hello = None;
        }
        Poll::Ready(())
    }

    /// Sends an answer. Whether there was one.
    fn poll_answer(&mut self, served: &mut Served, cx: &mut Context<'_>) -> Poll<bool> {
        let max = self.sender.max_message();
        let Some(frame) = served.next_answer() else { return Poll::Ready(false) };
        if frame.kind == Kind::Answer && frame.len() as u64 > max {
            let (len, max) = (frame.body.len(), max - HEADER as u64);
            let why = format!("the answer has {len} bytes, the link carries up to {max}");
            *frame = Frame::failure(frame.call, &why);
        }
        match ready!(poll_send(&mut self.sender, frame, cx)) {
            Err(SendError::Os(error)) if frame.kind == Kind::Answer => {
                *frame = Frame::failure(frame.call, &error.to_string());
            }
            Err(_) => self.over = true,
            Ok(()) => served.answer_sent(),
        }
        Poll::Ready(true)
    }

    /// Sends a call or a cancellation. Whether there was one.
    fn poll_call(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(frame) = shared.next_frame() else { return Poll::Ready(false) };
        let room = ready!(self.sender.poll_ready_for(cx, frame.len()));
        let sent = room.and_then(|()| {
            // Not while the callers wait for the lock.
            match shared.send_frame(&frame, || send_now(&mut self.sender, &frame)) {
                Some(sent) => sent,
                None => Ok(()),
            }
        });
        let sent = match sent {
            // There is room, but not for the descriptors that the message needs.
            Err(SendError::Full) => {
                let bytes = assembled(&frame);
                let mut pending = false;
                let sent = shared.send_frame(&frame, || match self.sender.poll_send(cx, &bytes) {
                    Poll::Ready(sent) => sent,
                    Poll::Pending => {
                        pending = true;
                        Err(SendError::Full)
                    }
                });
                if pending {
                    return Poll::Pending;
                }
                sent.unwrap_or(Ok(()))
            }
            sent => sent,
        };
        match sent {
            Err(SendError::Os(error)) if frame.kind == Kind::Request => {
                shared.fail_unsent(frame.call, CallError::Os(error));
            }
            Err(_) => self.over = true,
            Ok(()) => {}
        }
        Poll::Ready(true)
    }
}

fn poll_send(
    sender: &mut AsyncSender,
    frame: &Frame,
    cx: &mut Context<'_>,
) -> Poll<Result<(), SendError>> {
    ready!(sender.poll_ready_for(cx, frame.len()))?;
    match send_now(sender, frame) {
        // There is room, but not for the descriptors that the message needs.
        Err(SendError::Full) => sender.poll_send(cx, &assembled(frame)),
        sent => Poll::Ready(sent),
    }
}

/// Writes a frame in place.
fn send_now(sender: &mut AsyncSender, frame: &Frame) -> Result<(), SendError> {
    let mut grant = sender.try_grant(frame.len())?;
    frame.write_to(&mut grant);
    grant.commit()
}

fn assembled(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0; frame.len()];
    frame.write_to(&mut bytes);
    bytes
}
