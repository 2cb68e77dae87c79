//! A gRPC service by `tonic`, over shared memory: a server, and a client in another process, with
//! one call of each kind.
//!
//! `cargo run -p shm-examples --bin grpc`

use std::{env, error::Error, path::Path};

use futures_util::{StreamExt, stream};
use shm_examples::{
    echo::{EchoClient, EchoServer, Words},
    grpc::{connect, incoming},
};
use shm_transport::stream::AsyncShmListener;
use tokio::process::Command;
use tonic::transport::Server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => serve().await,
        Some(path) => call(Path::new(&path)).await,
    }
}

/// Serves until the client is done.
async fn serve() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let listener = AsyncShmListener::bind(directory.path().join("echo"))?;
    let mut client = Command::new(env::current_exe()?).arg(listener.path()).spawn()?;
    let (done, is_done) = tokio::sync::oneshot::channel();
    let shutdown = async {
        let status = client.wait().await;
        // Nobody waits for it if serving has failed.
        let _ = done.send(status);
    };
    Server::builder()
        .serve_with_incoming_shutdown(EchoServer, incoming(listener), shutdown)
        .await?;
    if is_done.await??.success() { Ok(()) } else { Err("the client failed".into()) }
}

async fn call(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut client = EchoClient::new(connect(path).await?);

    let answer = client.once("are you there?".into()).await?;
    println!("once: {}", String::from_utf8_lossy(&answer));

    let megabyte = vec![7; 1 << 20].into();
    let mut answers = client.repeat(megabyte, 20).await?;
    let mut bytes = 0;
    while let Some(answer) = answers.next().await {
        bytes += answer?.data.len();
    }
    println!("repeat: {bytes} bytes");

    let words = ["one", "two", "three"].map(|word| Words { data: word.into(), times: 1 });
    let mut answers = client.chat(stream::iter(words)).await?;
    while let Some(answer) = answers.next().await {
        println!("chat: {}", String::from_utf8_lossy(&answer?.data));
    }
    Ok(())
}
