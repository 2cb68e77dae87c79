//! The guest: sends and checks under full load, in two threads, until it is killed or
//! asked to leave.

use std::{path::Path, thread, time::Instant};

use shm_transport::{Guest, LinkEnd, Receiver, RecvError, SendError, Sender};

use super::{
    checker::{Checker, Counts, salt},
    record::{Phase, Record},
    traffic::Traffic,
};
use crate::WAIT;

/// Runs a guest that attaches to the host at `path`, or over the socket that it inherited.
/// Returns whether all was well.
#[must_use]
pub fn run(records: &Path, number: u64, life: u64, path: Option<&Path>) -> bool {
    let record = Record::open(records, number);
    let result = attach(path).and_then(|guest| serve(guest, life, &record));
    if let Err(error) = &result {
        eprintln!("guest {life}: {error}");
        record.set_phase(Phase::Failed);
    }
    result.is_ok()
}

fn attach(path: Option<&Path>) -> Result<Guest, String> {
    let guest = match path {
        Some(path) => Guest::attach(path, WAIT),
        None => Guest::attach_inherited(WAIT),
    };
    guest.map_err(|error| format!("it does not attach: {error:?}"))
}

fn serve(guest: Guest, life: u64, record: &Record) -> Result<(), String> {
    record.set_phase(Phase::Attached);
    let (mut sender, mut receiver) = guest.link.split();
    let sending = thread::spawn({
        let record = record.clone();
        move || {
            let result = send(&mut sender, life, &record);
            (sender, result)
        }
    });
    let received = receive(&mut receiver, life, record);
    let (mut sender, sent) = sending.join().map_err(|_| "the sending thread panicked")?;
    received.and(sent)?;
    // What the host holds it gives back when it has received the last message.
    let end = Instant::now() + WAIT;
    let mut in_flight = sender.slots_in_flight();
    while in_flight > 0 && Instant::now() < end {
        thread::yield_now();
        in_flight = sender.slots_in_flight();
    }
    record.set_in_flight(in_flight as u64);
    // Before the link is closed, so that who learns of that finds the record complete.
    record.set_phase(Phase::Finished);
    Ok(())
}

fn send(sender: &mut Sender, life: u64, record: &Record) -> Result<(), String> {
    let mut traffic = Traffic::new(salt(life, false), record.to_host());
    while !traffic.is_finished() {
        if record.is_to_leave() {
            traffic.finish();
        }
        match traffic.push(sender, Some(WAIT)) {
            Ok(true) => {}
            // The socket is full of descriptors.
            Ok(false) => thread::yield_now(),
            Err(SendError::Ended(LinkEnd::PeerDead)) => return Err("the host is gone".into()),
            Err(error) => return Err(format!("it does not send: {error:?}")),
        }
    }
    Ok(())
}

fn receive(receiver: &mut Receiver, life: u64, record: &Record) -> Result<(), String> {
    let mut checker = Checker::new(salt(life, true));
    while !checker.is_over {
        match receiver.recv(WAIT) {
            Ok(message) => checker.take(message),
            Err(RecvError::Ended(end)) => return Err(format!("the host hung up: {end:?}")),
            Err(error) => return Err(format!("it does not receive: {error:?}")),
        }
        record.set_counts(&found(&checker, receiver));
    }
    checker.release();
    record.set_counts(&found(&checker, receiver));
    Ok(())
}

/// What was dropped counts as lost if the guest was not told of it before.
fn found(checker: &Checker, receiver: &Receiver) -> Counts {
    let mut counts = checker.counts();
    counts.lost += checker.gaps_to_all.saturating_sub(receiver.missed());
    counts
}
