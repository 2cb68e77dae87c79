use ipc_channel::{
    TryRecvError,
    ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender},
};
use shm_benches::{Error, Opened, Runner, Setup, Side, System, Workload, poll};

use crate::{Wait, later::Later};

/// The channels of bytes of ipc-channel, which its documentation recommends where nothing
/// needs to be serialised.
pub struct IpcChannel(pub Wait);

/// The near end's half, which the far end makes and hands over.
type Half = (IpcBytesSender, IpcBytesReceiver);

struct Channels {
    sender: IpcBytesSender,
    receiver: IpcBytesReceiver,
    wait: Wait,
}

impl Channels {
    #[inline]
    fn next(&self) -> Result<Vec<u8>, Error> {
        if self.wait == Wait::Blocking {
            return Ok(self.receiver.recv()?);
        }
        let mut result = self.receiver.try_recv();
        if matches!(result, Err(TryRecvError::Empty)) {
            poll(|| {
                result = self.receiver.try_recv();
                !matches!(result, Err(TryRecvError::Empty))
            })?;
        }
        Ok(result?)
    }
}

impl Side for Channels {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        Ok(self.sender.send(message)?)
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        buffer.copy_from_slice(&self.next()?);
        Ok(())
    }
}

impl System for IpcChannel {
    fn name(&self) -> &'static str {
        match self.0 {
            Wait::Blocking => "ipc-channel, blocking",
            Wait::Polled => "ipc-channel, polled",
        }
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        workload != Workload::Wake || self.0 == Wait::Blocking
    }

    fn open(&self, _: &Setup) -> Result<Opened, Error> {
        let (server, ticket) = IpcOneShotServer::<Half>::new()?;
        let wait = self.0;
        let near = Later::new(move || {
            let (_, (sender, receiver)) = server.accept()?;
            Ok(Channels { sender, receiver, wait })
        });
        Ok(Opened { near: Box::new(near), ticket })
    }

    fn join(&self, _: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        let (sender, theirs) = ipc::bytes_channel()?;
        let (back, receiver) = ipc::bytes_channel()?;
        IpcSender::<Half>::connect(ticket.to_owned())?.send((back, theirs))?;
        Ok(Box::new(Channels { sender, receiver, wait: self.0 }))
    }
}
