use std::{io::IoSlice, os::fd::OwnedFd};

use rustix::{
    io::{Errno, ioctl_fionbio},
    net::{
        AddressFamily, MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrUnix,
        SocketFlags, SocketType, accept_with, bind, connect, listen, recv, send, sendmmsg,
        socket_with,
        sockopt::{Timeout, set_socket_send_buffer_size, set_socket_timeout},
    },
};
use shm_benches::{Error, Opened, Runner, Setup, Side, System, WAIT, Workload, poll};

use crate::{Wait, later::Later};

/// What fits into the buffer that an unprivileged process may ask for.
const LARGEST: usize = 128 << 10;

/// A Unix socket that keeps the boundaries of messages.
pub struct Seqpacket(pub Wait);

fn socket() -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

struct Packets {
    socket: OwnedFd,
    wait: Wait,
}

impl Packets {
    fn new(socket: OwnedFd, wait: Wait, setup: &Setup) -> Result<Self, Error> {
        // There is no buffer on the receiving side. The kernel cuts this to what it allows.
        set_socket_send_buffer_size(&socket, (4 * setup.size).max(256 << 10))?;
        ioctl_fionbio(&socket, wait == Wait::Polled)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(WAIT))?;
        set_socket_timeout(&socket, Timeout::Send, Some(WAIT))?;
        Ok(Self { socket, wait })
    }

    #[inline]
    fn until_done(
        &self,
        mut operation: impl FnMut(&OwnedFd) -> Result<usize, Errno>,
    ) -> Result<usize, Error> {
        let mut result = operation(&self.socket);
        if self.wait == Wait::Polled && result == Err(Errno::AGAIN) {
            poll(|| {
                result = operation(&self.socket);
                result != Err(Errno::AGAIN)
            })?;
        }
        Ok(result?)
    }
}

impl Side for Packets {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        self.until_done(|socket| send(socket, message, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let length = self.until_done(|socket| {
            recv(socket, &mut *buffer, RecvFlags::empty()).map(|(_, length)| length)
        })?;
        if length == buffer.len() { Ok(()) } else { Err("the other end is gone".into()) }
    }

    fn send_batch(&mut self, messages: &[Vec<u8>]) -> Result<(), Error> {
        let slices: Vec<_> = messages.iter().map(|message| [IoSlice::new(message)]).collect();
        let mut control: Vec<_> = messages.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let headers = slices.iter().zip(&mut control);
        let mut headers: Vec<_> =
            headers.map(|(slice, control)| MMsgHdr::new(slice, control)).collect();
        let mut sent = 0;
        while sent < messages.len() {
            sent += self
                .until_done(|socket| sendmmsg(socket, &mut headers[sent..], SendFlags::NOSIGNAL))?;
        }
        Ok(())
    }
}

impl System for Seqpacket {
    fn name(&self) -> &'static str {
        match self.0 {
            Wait::Blocking => "unix seqpacket, blocking",
            Wait::Polled => "unix seqpacket, polled",
        }
    }

    fn carries(&self, workload: Workload, size: usize) -> bool {
        size <= LARGEST && (workload != Workload::Wake || self.0 == Wait::Blocking)
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        let path = setup.directory.join(format!("seqpacket-{:?}", self.0));
        let listener = socket()?;
        bind(&listener, &SocketAddrUnix::new(&path)?)?;
        listen(&listener, 1)?;
        let ticket = path.to_str().ok_or("the directory's path is not UTF-8")?.to_owned();
        let (wait, setup) = (self.0, setup.clone());
        let near = Later::new(move || {
            std::fs::remove_file(path)?;
            Packets::new(accept_with(&listener, SocketFlags::CLOEXEC)?, wait, &setup)
        });
        Ok(Opened { near: Box::new(near), ticket })
    }

    fn join(&self, setup: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        let socket = socket()?;
        connect(&socket, &SocketAddrUnix::new(ticket)?)?;
        Ok(Box::new(Packets::new(socket, self.0, setup)?))
    }
}
