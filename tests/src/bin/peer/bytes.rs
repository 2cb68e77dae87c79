//! A client of a stream listener.

use std::{net::Shutdown, os::unix::net::UnixStream, path::Path};

use shm_tests::bytes::ByteStream;
use shm_transport::stream::ShmStream;

use crate::{command, say};

/// Connects and does what it is told: `write N` bytes, `read N`, `end` what it writes.
pub fn client(kind: &str, path: &str) {
    match kind {
        "unix" => run::<UnixStream>(path.as_ref()),
        _ => run::<ShmStream>(path.as_ref()),
    }
}

fn run<S: ByteStream>(path: &Path) {
    let mut stream = S::connect(path).expect("a listener");
    say("connected");
    while let Some(command) = command() {
        match command.split_once(' ') {
            Some(("write", count)) => {
                stream.write_all(&vec![1; count.parse().expect("a number")]).expect("room");
            }
            Some(("read", count)) => {
                let mut bytes = vec![0; count.parse().expect("a number")];
                stream.read_exact(&mut bytes).expect("bytes");
            }
            _ => stream.shutdown(Shutdown::Write).expect("an end"),
        }
        say("done");
    }
}
