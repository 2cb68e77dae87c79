use std::{
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    error::OsError,
    os::{poll::Timer, registered::Registered},
};

/// A wait for a time, in a runtime with or without a clock of its own.
#[derive(Debug, Default)]
pub(crate) struct Nap {
    timer: Option<Registered<Timer>>,
    asleep: bool,
}

impl Nap {
    /// Begins one; an earlier one is over.
    pub(crate) fn begin(&mut self, time: Duration) -> Result<(), OsError> {
        let timer = match self.timer.take() {
            Some(timer) => timer,
            None => Registered::new(Timer::new()?)?,
        };
        let timer = self.timer.insert(timer);
        timer.get().set(time)?;
        self.asleep = true;
        Ok(())
    }

    /// Whether there is none, or it is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OsError>> {
        let Some(timer) = self.timer.as_ref().filter(|_| self.asleep) else {
            return Poll::Ready(Ok(()));
        };
        loop {
            match timer.poll_readable(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(readable)) => {
                    let over = timer.get().clear();
                    readable.was_exhausted();
                    if over {
                        self.asleep = false;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}
