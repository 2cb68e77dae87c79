//! Other ways to pass messages, for the benchmarks between processes: each as its makers
//! recommend it, with the same payload rules as the library.
#![deny(unsafe_code)]

mod bytes;
mod channel;
mod events;
mod ipc_channels;
mod later;
mod pipe;
mod pubsub;
mod ring;
mod seqpacket;
mod tcp;
mod unix;

use shm_benches::System;

use channel::CrossbeamChannel;
use events::Iceoryx2WithEvents;
use ipc_channels::IpcChannel;
use pipe::Pipe;
use pubsub::Iceoryx2;
use ring::Rtrb;
use seqpacket::Seqpacket;
use tcp::Tcp;
use unix::UnixStream;

pub use pubsub::clean_up;

/// How an end waits that cannot poll memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// In the kernel.
    Blocking,
    /// It asks the kernel again and again.
    Polled,
}

/// All of them.
pub static SYSTEMS: &[&dyn System] = &[
    &Iceoryx2,
    &Iceoryx2WithEvents,
    &IpcChannel(Wait::Polled),
    &IpcChannel(Wait::Blocking),
    &UnixStream(Wait::Polled),
    &UnixStream(Wait::Blocking),
    &Seqpacket(Wait::Polled),
    &Seqpacket(Wait::Blocking),
    &Pipe(Wait::Polled),
    &Pipe(Wait::Blocking),
    &Tcp(Wait::Polled),
    &Tcp(Wait::Blocking),
    &CROSSBEAM_CHANNEL,
    &RTRB,
];

static CROSSBEAM_CHANNEL: CrossbeamChannel = CrossbeamChannel::new();
static RTRB: Rtrb = Rtrb::new();
