use std::net::{Ipv4Addr, TcpListener, TcpStream};

use shm_benches::{Error, Opened, Runner, Setup, System, WAIT, Workload};

use crate::{Wait, bytes::Bytes, later::Later};

/// TCP over the loopback interface, without delay.
///
/// Its buffers keep the sizes that the kernel gives them as they are needed, which are larger
/// than those that may be asked for.
pub struct Tcp(pub Wait);

type Connection = Bytes<TcpStream, TcpStream>;

fn connection(stream: TcpStream, wait: Wait, setup: &Setup) -> Result<Connection, Error> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(wait == Wait::Polled)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    Ok(Bytes::new(stream.try_clone()?, stream, wait, setup))
}

impl System for Tcp {
    fn name(&self) -> &'static str {
        match self.0 {
            Wait::Blocking => "tcp, blocking",
            Wait::Polled => "tcp, polled",
        }
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        workload != Workload::Wake
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let ticket = listener.local_addr()?.to_string();
        let (wait, setup) = (self.0, setup.clone());
        let near = Later::new(move || connection(listener.accept()?.0, wait, &setup));
        Ok(Opened { near: Box::new(near), ticket })
    }

    fn join(&self, setup: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        Ok(Box::new(connection(TcpStream::connect(ticket)?, self.0, setup)?))
    }
}
