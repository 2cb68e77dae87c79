use std::sync::Mutex;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use shm_benches::{Error, Far, Opened, Runner, Setup, Side, System, Workload, poll};

/// A bounded channel of crossbeam, between two threads: each message is a box of its own.
pub struct CrossbeamChannel {
    far: Mutex<Option<Ends>>,
}

impl CrossbeamChannel {
    /// Nobody has opened it.
    pub const fn new() -> Self {
        Self { far: Mutex::new(None) }
    }
}

struct Ends {
    sender: Sender<Box<[u8]>>,
    receiver: Receiver<Box<[u8]>>,
}

impl Side for Ends {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        let mut waiting = match self.sender.try_send(message.into()) {
            Err(TrySendError::Full(message)) => Some(message),
            result => return Ok(result?),
        };
        let mut result = Ok(());
        poll(|| {
            match waiting.take().map(|message| self.sender.try_send(message)) {
                Some(Err(TrySendError::Full(message))) => waiting = Some(message),
                Some(Err(error)) => result = Err(error),
                Some(Ok(())) | None => {}
            }
            waiting.is_none()
        })?;
        Ok(result?)
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let mut result = self.receiver.try_recv();
        if result == Err(TryRecvError::Empty) {
            poll(|| {
                result = self.receiver.try_recv();
                result != Err(TryRecvError::Empty)
            })?;
        }
        buffer.copy_from_slice(&result?);
        Ok(())
    }
}

impl System for CrossbeamChannel {
    fn name(&self) -> &'static str {
        "crossbeam-channel, threads"
    }

    fn far(&self) -> Far {
        Far::Thread
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        workload != Workload::Wake
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        // As many as the rings of the other systems hold.
        let capacity = ((64 << 10) / setup.size).max(4);
        let (sender, there) = bounded(capacity);
        let (back, receiver) = bounded(capacity);
        let far = Ends { sender: back, receiver: there };
        *self.far.lock().map_err(|error| error.to_string())? = Some(far);
        Ok(Opened { near: Box::new(Ends { sender, receiver }), ticket: String::new() })
    }

    fn join(&self, _: &Setup, _: &str) -> Result<Box<dyn Runner>, Error> {
        let far = self.far.lock().map_err(|error| error.to_string())?.take();
        Ok(Box::new(far.ok_or("it has not been opened")?))
    }
}
