//! A gRPC service, as `tonic-prost-build` would make it (by hand, so that no `protoc` is needed)
//! from
//!
//! ```proto
//! service Echo {
//!   rpc Once (Words) returns (Words);
//!   rpc Repeat (Words) returns (stream Words);
//!   rpc Chat (stream Words) returns (stream Words);
//! }
//! message Words { bytes data = 1; uint32 times = 2; }
//! ```

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client,
    server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService},
    transport::Channel,
};
use tonic_prost::ProstCodec;
use tower::Service;

const ONCE: &str = "/shm.Echo/Once";
const REPEAT: &str = "/shm.Echo/Repeat";
const CHAT: &str = "/shm.Echo/Chat";

/// The message of all calls.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Words {
    /// What comes back.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// How often, from `Repeat`.
    #[prost(uint32, tag = "2")]
    pub times: u32,
}

type Codec = ProstCodec<Words, Words>;
type Many = Pin<Box<dyn Stream<Item = Result<Words, Status>> + Send>>;

/// The server's side: it answers what it is told.
#[derive(Clone, Copy, Debug)]
pub struct EchoServer;

impl NamedService for EchoServer {
    const NAME: &str = "shm.Echo";
}

impl Service<http::Request<Body>> for EchoServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(Codec::default());
            Ok(match request.uri().path() {
                ONCE => grpc.unary(Once, request).await,
                REPEAT => grpc.server_streaming(Repeat, request).await,
                CHAT => grpc.streaming(Chat, request).await,
                path => Status::unimplemented(path).into_http(),
            })
        })
    }
}

struct Once;

impl UnaryService<Words> for Once {
    type Response = Words;
    type Future = Ready<Result<Response<Words>, Status>>;

    fn call(&mut self, request: Request<Words>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

struct Repeat;

impl ServerStreamingService<Words> for Repeat {
    type Response = Words;
    type ResponseStream = Many;
    type Future = Ready<Result<Response<Many>, Status>>;

    fn call(&mut self, request: Request<Words>) -> Self::Future {
        let words = request.into_inner();
        let all = stream::iter(0..words.times).map(move |_| Ok(words.clone()));
        ready(Ok(Response::new(Box::pin(all))))
    }
}

struct Chat;

impl StreamingService<Words> for Chat {
    type Response = Words;
    type ResponseStream = Many;
    type Future = Ready<Result<Response<Many>, Status>>;

    fn call(&mut self, request: Request<Streaming<Words>>) -> Self::Future {
        ready(Ok(Response::new(Box::pin(request.into_inner()))))
    }
}

/// The client's side.
#[derive(Clone, Debug)]
pub struct EchoClient {
    grpc: client::Grpc<Channel>,
}

impl EchoClient {
    /// A client over a channel.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { grpc: client::Grpc::new(channel) }
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))
    }

    /// One message, and its answer.
    ///
    /// # Errors
    ///
    /// The status of the call.
    pub async fn once(&mut self, data: Bytes) -> Result<Bytes, Status> {
        self.ready().await?;
        let request = Request::new(Words { data, times: 1 });
        let path = PathAndQuery::from_static(ONCE);
        let answer = self.grpc.unary(request, path, Codec::default()).await?;
        Ok(answer.into_inner().data)
    }

    /// One message, and many answers.
    ///
    /// # Errors
    ///
    /// The status of the call.
    pub async fn repeat(&mut self, data: Bytes, times: u32) -> Result<Streaming<Words>, Status> {
        self.ready().await?;
        let request = Request::new(Words { data, times });
        let path = PathAndQuery::from_static(REPEAT);
        let answer = self.grpc.server_streaming(request, path, Codec::default()).await?;
        Ok(answer.into_inner())
    }

    /// Many messages, and an answer to each.
    ///
    /// # Errors
    ///
    /// The status of the call.
    pub async fn chat(
        &mut self,
        words: impl Stream<Item = Words> + Send + 'static,
    ) -> Result<Streaming<Words>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(CHAT);
        let answer = self.grpc.streaming(Request::new(words), path, Codec::default()).await?;
        Ok(answer.into_inner())
    }
}
