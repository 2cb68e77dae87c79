use std::os::unix::net;

use rustix::net::sockopt::set_socket_send_buffer_size;
use shm_benches::{Error, Opened, Runner, Setup, System, WAIT, Workload};

use crate::{Wait, bytes::Bytes, later::Later};

/// A Unix stream socket.
pub struct UnixStream(pub Wait);

type Connection = Bytes<net::UnixStream, net::UnixStream>;

fn connection(stream: net::UnixStream, wait: Wait, setup: &Setup) -> Result<Connection, Error> {
    // There is no buffer on the receiving side. The kernel cuts this to what it allows.
    set_socket_send_buffer_size(&stream, (4 * setup.size).max(256 << 10))?;
    stream.set_nonblocking(wait == Wait::Polled)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    Ok(Bytes::new(stream.try_clone()?, stream, wait, setup))
}

impl System for UnixStream {
    fn name(&self) -> &'static str {
        match self.0 {
            Wait::Blocking => "unix stream, blocking",
            Wait::Polled => "unix stream, polled",
        }
    }

    fn carries(&self, workload: Workload, _: usize) -> bool {
        workload != Workload::Wake || self.0 == Wait::Blocking
    }

    fn open(&self, setup: &Setup) -> Result<Opened, Error> {
        let path = setup.directory.join(format!("stream-{:?}", self.0));
        let listener = net::UnixListener::bind(&path)?;
        let ticket = path.to_str().ok_or("the directory's path is not UTF-8")?.to_owned();
        let (wait, setup) = (self.0, setup.clone());
        let near = Later::new(move || {
            std::fs::remove_file(path)?;
            connection(listener.accept()?.0, wait, &setup)
        });
        Ok(Opened { near: Box::new(near), ticket })
    }

    fn join(&self, setup: &Setup, ticket: &str) -> Result<Box<dyn Runner>, Error> {
        Ok(Box::new(connection(net::UnixStream::connect(ticket)?, self.0, setup)?))
    }
}
