//! Protocols that were written for sockets run over streams unchanged: HTTP/1.1 and HTTP/2 by
//! `hyper`, gRPC by `tonic`.

use std::{convert::Infallible, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    client::conn::{http1 as client1, http2 as client2},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use shm_examples::{
    echo::{EchoClient, EchoServer, Words},
    grpc::{connect, incoming},
};
use shm_tests::{Place, WAIT, alike_in_tasks, tasks::on_both_runtimes};
use shm_transport::stream::AsyncShmListener;
use tokio::sync::{Notify, oneshot};
use tonic::transport::Server;

fn bytes(len: usize, seed: usize) -> Bytes {
    (0..len).map(|at| (at ^ (at >> 8) ^ seed) as u8).collect::<Vec<_>>().into()
}

/// Sends the body of a request back, piece by piece as it comes; `GET` gets the path.
async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    Ok(match *request.method() {
        Method::POST => Response::new(request.into_body().boxed()),
        _ => {
            let path = Bytes::from(request.uri().path().to_owned());
            Response::new(Full::new(path).map_err(|never| match never {}).boxed())
        }
    })
}

type Answer = http_body_util::combinators::BoxBody<Bytes, hyper::Error>;

fn request(method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    let uri = format!("http://shm{path}");
    Request::builder().method(method).uri(uri).header("host", "shm").body(Full::new(body)).unwrap()
}

async fn whole<B: Body>(response: Response<B>) -> Bytes
where
    B::Error: std::fmt::Debug,
{
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap().to_bytes()
}

alike_in_tasks! {
    async fn http_1_keeps_it_alive_carries_large_bodies_and_shuts_down<S>() {
        let (near, far) = S::pair();
        let stop = Arc::new(Notify::new());
        let told = Arc::clone(&stop);
        let server = tokio::spawn(async move {
            let service = service_fn(answer);
            let connection = http1::Builder::new().serve_connection(TokioIo::new(far), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                served = connection.as_mut() => served,
                () = told.notified() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        });
        let (mut client, connection) = client1::handshake(TokioIo::new(near)).await.unwrap();
        let connection = tokio::spawn(connection);
        for number in 0..20 {
            let path = format!("/number/{number}");
            client.ready().await.unwrap();
            let got = client.send_request(request(Method::GET, &path, Bytes::new())).await.unwrap();
            assert_eq!(whole(got).await, path);
        }
        for len in [0, 1, 100_000, 12 << 20] {
            let body = bytes(len, len);
            let post = request(Method::POST, "/", body.clone());
            client.ready().await.unwrap();
            assert!(whole(client.send_request(post).await.unwrap()).await == body);
        }
        stop.notify_one();
        server.await.unwrap().unwrap();
        connection.await.unwrap().unwrap();
        assert!(client.send_request(request(Method::GET, "/", Bytes::new())).await.is_err());
    }

    async fn a_server_that_is_gone_is_an_error_of_the_request_and_not_of_others<S>() {
        let (near, far) = S::pair();
        let (mut client, connection) = client1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        let get = client.send_request(request(Method::GET, "/", Bytes::new()));
        drop(far);
        assert!(get.await.is_err());
    }

    async fn http_2_carries_many_requests_at_once_and_shuts_down<S>() {
        let (near, far) = S::pair();
        let stop = Arc::new(Notify::new());
        let told = Arc::clone(&stop);
        let server = tokio::spawn(async move {
            let builder = http2::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(far), service_fn(answer));
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                served = connection.as_mut() => served,
                () = told.notified() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        });
        let handshake = client2::handshake(TokioExecutor::new(), TokioIo::new(near));
        let (client, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let all = (0..60).map(|number| {
            let mut client = client.clone();
            async move {
                let body = bytes(number * number * 500, number);
                let post = request(Method::POST, "/", body.clone());
                assert!(whole(client.send_request(post).await.unwrap()).await == body);
            }
        });
        join_all(all).await;
        let body = bytes(16 << 20, 3);
        let post = request(Method::POST, "/", body.clone());
        assert!(whole(client.clone().send_request(post).await.unwrap()).await == body);
        stop.notify_one();
        // It ends; but a client that is faster breaks the pipe under its last word, as over a
        // socket.
        let _ = server.await.unwrap();
        // It ends, well or with what it was about to write.
        let _ = connection.await.unwrap();
        let get = request(Method::GET, "/", Bytes::new());
        assert!(client.clone().send_request(get).await.is_err());
    }
}

/// Serves gRPC at a path until it is told to stop.
struct Service {
    path: PathBuf,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Service {
    fn new(place: &Place) -> Self {
        let listener = AsyncShmListener::bind(place.hub()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or(()) };
        let server =
            Server::builder().serve_with_incoming_shutdown(EchoServer, incoming(listener), stopped);
        Self { path: place.hub(), stop, server: tokio::spawn(server) }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
    }
}

#[test]
fn grpc_calls_of_each_kind_are_answered() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let service = Service::new(&place);
        let mut client = EchoClient::new(connect(&service.path).await.unwrap());
        for len in [0, 64, 65_536, 3 << 20] {
            assert!(client.once(bytes(len, 1)).await.unwrap() == bytes(len, 1));
        }
        let mut answers = client.repeat(bytes(100_000, 2), 100).await.unwrap();
        let mut count = 0;
        while let Some(answer) = answers.next().await {
            assert!(answer.unwrap().data == bytes(100_000, 2));
            count += 1;
        }
        assert_eq!(count, 100);
        let words = (0..500).map(|number| Words { data: bytes(number * 10, number), times: 0 });
        let mut answers = client.chat(stream::iter(words)).await.unwrap();
        for number in 0..500 {
            let answer = answers.next().await.unwrap().unwrap();
            assert!(answer.data == bytes(number * 10, number));
        }
        assert!(answers.next().await.is_none());
        drop((client, answers));
        service.stop().await;
    });
}

#[test]
fn grpc_clients_call_at_once_and_the_server_finishes_what_it_has_begun() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let service = Service::new(&place);
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(EchoClient::new(connect(&service.path).await.unwrap()));
        }
        let calls = (0..200).map(|number| {
            let mut client = clients[number % 4].clone();
            async move {
                let data = bytes(number * 300, number);
                assert!(client.once(data.clone()).await.unwrap() == data);
            }
        });
        join_all(calls).await;
        // An answer of 20 MB is under way when the server is told to stop.
        let mut answers = clients[0].repeat(bytes(200_000, 5), 100).await.unwrap();
        assert!(answers.next().await.unwrap().is_ok());
        drop(clients);
        let rest = tokio::spawn(async move { answers.map(|answer| answer.unwrap()).count().await });
        service.stop().await;
        assert_eq!(rest.await.unwrap(), 99);
    });
}

#[test]
fn a_grpc_server_that_is_gone_is_unavailable() {
    on_both_runtimes(|| async {
        let place = Place::new();
        let service = Service::new(&place);
        let mut client = EchoClient::new(connect(&service.path).await.unwrap());
        client.once(bytes(10, 1)).await.unwrap();
        service.server.abort();
        assert!(service.server.await.unwrap_err().is_cancelled());
        drop(service.stop);
        // A connection's task ends a little later than the server's.
        let served = async { while client.once(bytes(10, 1)).await.is_ok() {} };
        tokio::time::timeout(WAIT, served).await.expect("nobody serves");
        assert!(connect(&place.hub()).await.is_err());
    });
}
