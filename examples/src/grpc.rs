//! What `tonic` needs to know of a stream that is not a socket: all that differs from a service
//! over a `UnixStream`.

use std::{
    io::{self, IoSlice},
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use shm_transport::stream::{AsyncShmListener, AsyncShmStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Channel, Endpoint, Uri, server::Connected};
use tower::service_fn;

/// A stream that a `tonic` server serves.
#[derive(Debug)]
pub struct Connection(pub AsyncShmStream);

/// What handlers learn of a client.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its process.
    pub pid: u32,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { pid: self.0.peer_pid() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// For [`serve_with_incoming`](tonic::transport::Server::serve_with_incoming).
pub fn incoming(listener: AsyncShmListener) -> impl Stream<Item = io::Result<Connection>> {
    listener.map(|stream| stream.map(Connection))
}

/// A channel to the server at a path.
///
/// # Errors
///
/// If there is none.
pub async fn connect(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let connector = move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(AsyncShmStream::connect(path).await?)) }
    };
    // An address is demanded, and not used.
    Endpoint::from_static("http://shm").connect_with_connector(service_fn(connector)).await
}
