//! Streams of both kinds in tasks, for tests that compare them.

use shm_transport::stream::AsyncShmStream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

/// What tokio's `UnixStream` and an `AsyncShmStream` have in common.
pub trait AsyncByteStream: AsyncRead + AsyncWrite + Unpin + Send + Sized + 'static {
    /// Both ends.
    fn pair() -> (Self, Self);
}

impl AsyncByteStream for UnixStream {
    fn pair() -> (Self, Self) {
        UnixStream::pair().expect("a pair of sockets")
    }
}

impl AsyncByteStream for AsyncShmStream {
    fn pair() -> (Self, Self) {
        AsyncShmStream::pair().expect("a pair of streams")
    }
}

/// Makes a test over each kind of stream from each function, on each kind of runtime.
#[macro_export]
macro_rules! alike_in_tasks {
    ($(async fn $name:ident<$stream:ident>() $body:block)+) => {
        $(async fn $name<$stream: $crate::async_bytes::AsyncByteStream>() $body)+
        mod unix_stream {
            $(#[test] fn $name() {
                $crate::tasks::on_both_runtimes(super::$name::<::tokio::net::UnixStream>);
            })+
        }
        mod shm_stream {
            $(#[test] fn $name() {
                use shm_transport::stream::AsyncShmStream;
                $crate::tasks::on_both_runtimes(super::$name::<AsyncShmStream>);
            })+
        }
    };
}
