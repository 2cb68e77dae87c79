//! A guest that does what it is told.

use std::{os::fd::AsFd, thread, time::Duration};

use nix::unistd::{ForkResult, fork};
use shm_tests::{WAIT, counts, monotonic, pattern};
use shm_transport::{
    AttachError, Deadline, Guest, LinkEnd, Message, PeerId, RecvError, SendError, Vitality,
};

use crate::{command, say};

pub(crate) fn by_path(path: &str, ticket: Option<&str>) {
    let mut builder = Guest::builder();
    if let Some(ticket) = ticket {
        builder = builder.ticket(ticket.parse::<PeerId>().expect("a ticket"));
    }
    serve(builder.attach(path, WAIT));
}

pub(crate) fn inherited(wait: Duration) {
    serve(Guest::attach_inherited(wait));
}

fn serve(attached: Result<Guest, AttachError>) {
    let mut guest = match attached {
        Ok(guest) => guest,
        Err(error) => return say(&format!("error {error:?}: {error}")),
    };
    say(&format!("attached {}", guest.link.peer()));
    let mut held: Vec<Message<'static>> = Vec::new();
    while let Some(line) = command() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).map_or(0, |word| crate::number(word));
        let answer = match words[0] {
            // send FIRST COUNT LEN: numbered messages.
            "send" => send(&mut guest, number(1), number(2), number(3) as usize),
            // As many as fit.
            "fill" => {
                let mut count = 0;
                let message = vec![7; number(1) as usize];
                let error = loop {
                    match guest.link.try_send(&message) {
                        Ok(()) => count += 1,
                        Err(error) => break error,
                    }
                };
                format!("filled {count} {error:?}")
            }
            // Waits for the peer or its end for as long as it takes.
            "send-for-ever" => {
                let message = vec![7; number(1) as usize];
                loop {
                    if let Err(error) = guest.link.send(&message, Deadline::NEVER) {
                        break format!("{error:?}");
                    }
                }
            }
            // Receives until the end of the link, and says how many came, in order.
            "receive-for-ever" => receive(&mut guest, Deadline::NEVER),
            "receive-all" => receive(&mut guest, WAIT.into()),
            "receive" => match guest.link.recv(Duration::from_millis(number(1))) {
                Ok(message) => format!("{} bytes", message.len()),
                Err(error) => format!("{error:?}"),
            },
            "hold" => match guest.link.recv(WAIT) {
                Ok(message) => {
                    held.push(message.into_owned());
                    format!("held {}", held.len())
                }
                Err(error) => format!("{error:?}"),
            },
            "release" => {
                held.clear();
                "released".into()
            }
            // Messages that may have gaps between them, until the end of the link.
            "gather" => gather(&mut guest),
            "missed" => guest.link.missed().to_string(),
            "peer-pid" => guest.link.peer_pid().to_string(),
            "echo" => echo(&mut guest),
            "in-flight" => guest.link.sender.slots_in_flight().to_string(),
            "peers" => format!("{:?}", guest.peers()),
            "statistics" => format!("{:?}", guest.statistics()),
            "leaving" => guest.host_is_leaving().to_string(),
            "end" => format!("{:?}", guest.link.end()),
            "beat" => {
                guest.link.beat();
                guest.link.peer_heartbeat().to_string()
            }
            // Beats on a thread of its own until the link ends.
            "keep-beating" => {
                let mut heartbeat = guest.link.heartbeat();
                thread::spawn(move || {
                    while !matches!(heartbeat.look(WAIT), Vitality::Ended(_)) {
                        heartbeat.beat();
                        thread::sleep(Duration::from_millis(5));
                    }
                });
                "beating".into()
            }
            // A child that keeps all descriptors and does nothing.
            "fork" => fork_a_sleeper(&guest),
            "detach" => return say(&format!("{:?}", guest.detach(WAIT))),
            "drop" => {
                drop(guest);
                return say("dropped");
            }
            _ => format!("unknown command {line}"),
        };
        say(&answer);
    }
}

fn send(guest: &mut Guest, first: u64, count: u64, len: usize) -> String {
    for number in first..first + count {
        if let Err(error) = guest.link.send(&pattern::message(number, len), WAIT) {
            return format!("{error:?}");
        }
    }
    "sent".into()
}

fn receive(guest: &mut Guest, deadline: Deadline) -> String {
    let mut count = 0;
    loop {
        match guest.link.recv(deadline) {
            Ok(message) if pattern::matches(count, &message.to_bytes()) => count += 1,
            Ok(_) => return format!("message {count} is another"),
            Err(error) => return format!("{count} {error:?}"),
        }
    }
}

/// Says how many came, how many were missed, and how the link ended. A message starts with
/// its number.
fn gather(guest: &mut Guest) -> String {
    let (mut count, mut next) = (0, 0);
    loop {
        match guest.link.recv(Deadline::NEVER).map(|message| message.to_bytes()) {
            Ok(message) => {
                let Some((number, rest)) = message.split_first_chunk() else {
                    return format!("a message of {} bytes", message.len());
                };
                let number = u64::from_le_bytes(*number);
                if number < next || !pattern::matches(number, rest) {
                    return format!("message {number} after {next} - 1");
                }
                count += 1;
                next = number + 1;
                // All that are not here were dropped before this one was sent.
                if guest.link.missed() < next - count {
                    return format!("{} of {next} missed", guest.link.missed());
                }
            }
            Err(error) => return format!("{count} {} {error:?}", guest.link.missed()),
        }
    }
}

fn echo(guest: &mut Guest) -> String {
    loop {
        match guest.link.recv(Deadline::NEVER).map(|message| message.to_bytes()) {
            Ok(message) => {
                if let Err(error) = guest.link.send(&message, WAIT) {
                    return format!("{error:?}");
                }
            }
            Err(error) => return format!("{error:?}"),
        }
    }
}

fn fork_a_sleeper(guest: &Guest) -> String {
    // SAFETY: the child calls nothing but sleep, which takes no lock that another thread
    // of the parent could have held.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => loop {
            thread::sleep(WAIT);
        },
        Ok(ForkResult::Parent { child }) => {
            let _ = guest.link.as_fd();
            let mappings = counts::mappings_of(&child.to_string());
            format!("{child} {mappings}")
        }
        Err(error) => format!("{error:?}"),
    }
}

/// Attaches to one host after the other. Tells when it first heard from each, and of which
/// process, and then exchanges messages with it until it is gone.
pub(crate) fn attach_again_and_again(path: &str) {
    loop {
        let mut guest = loop {
            match Guest::attach(path, WAIT) {
                Ok(guest) => break guest,
                // It was killed, or the next one is not there yet.
                Err(AttachError::NoHost(_) | AttachError::HostDead(_) | AttachError::HostGone) => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return say(&format!("error {error:?}")),
            }
        };
        let end = loop_with(&mut guest);
        if end != LinkEnd::PeerDead {
            return say(&format!("error {end:?}"));
        }
    }
}

/// Returns how the link ended.
fn loop_with(guest: &mut Guest) -> LinkEnd {
    for number in 0.. {
        let len = pattern::length(number, 3000);
        match guest.link.send(&pattern::message(number, len), WAIT) {
            Ok(()) => {}
            Err(SendError::Ended(end)) => return end,
            Err(error) => panic!("{error:?}"),
        }
        match guest.link.recv(WAIT) {
            Ok(echo) => {
                assert!(echo.len() == len && pattern::matches(number, &echo.to_bytes()));
            }
            Err(RecvError::Ended(end)) => return end,
            Err(error) => panic!("{error:?}"),
        }
        if number == 0 {
            say(&format!("{} {}", guest.link.peer_pid(), monotonic()));
        }
        thread::sleep(Duration::from_micros(300));
    }
    unreachable!("it goes on for ever");
}
