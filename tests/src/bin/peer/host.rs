//! A host that does what it is told.

use std::time::Duration;

use nix::unistd::{ForkResult, fork};
use shm_tests::{WAIT, pattern, small};
use shm_transport::{Deadline, Host, Link, LinkEvent, LinkSet};

use crate::{command, say};

pub(crate) fn run(path: &str) {
    let mut host = match Host::builder().link(small()).create(path) {
        Ok(host) => Some(host),
        Err(error) => return say(&format!("error {error:?}: {error}")),
    };
    say("host");
    let mut links: Vec<Link> = Vec::new();
    while let Some(line) = command() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).map_or(0, |word| crate::number(word));
        let answer = match (words[0], host.as_mut(), links.last_mut()) {
            ("accept", Some(host), _) => match host.accept(WAIT) {
                Ok(link) => {
                    links.push(link);
                    format!("accepted {}", links.len())
                }
                Err(error) => format!("{error:?}"),
            },
            ("send", _, Some(link)) => {
                let (count, len) = (number(1), number(2) as usize);
                match (0..count).try_for_each(|n| link.send(&pattern::message(n, len), WAIT)) {
                    Ok(()) => "sent".into(),
                    Err(error) => format!("{error:?}"),
                }
            }
            ("receive-for-ever", _, Some(link)) => loop {
                if let Err(error) = link.recv(Deadline::NEVER) {
                    break format!("{error:?}");
                }
            },
            ("receive", _, Some(link)) => match link.recv(Duration::from_millis(number(1))) {
                Ok(message) => format!("{} bytes", message.len()),
                Err(error) => format!("{error:?}"),
            },
            ("say-goodbye", Some(host), _) => {
                host.hub().say_goodbye();
                "said".into()
            }
            ("drop", Some(_), _) => {
                host = None;
                "dropped".into()
            }
            // A child that keeps all descriptors and does nothing.
            // SAFETY: the child calls nothing but sleep, which takes no lock that another
            // thread of the parent could have held.
            ("fork", ..) => match unsafe { fork() } {
                Ok(ForkResult::Child) => loop {
                    std::thread::sleep(WAIT);
                },
                Ok(ForkResult::Parent { child }) => child.to_string(),
                Err(error) => format!("{error:?}"),
            },
            _ => format!("unknown command {line}"),
        };
        say(&answer);
    }
}

/// Sends back what any guest sends, until it is killed.
pub(crate) fn echo(path: &str) {
    let mut host = Host::builder().link(small()).create(path).expect("a host");
    let mut links = LinkSet::new().expect("a set");
    let mut events = Vec::new();
    loop {
        links.wait_with(&mut host, &mut events, Deadline::NEVER).expect("served");
        for event in &events {
            let LinkEvent::Ready(key) = *event else { continue };
            let Some(link) = links.get_mut(key) else { continue };
            let message = link.try_recv().map(|message| message.map(|there| there.to_bytes()));
            let echoed = match message {
                Ok(Some(message)) => link.send(&message, WAIT).is_ok(),
                Ok(None) => true,
                Err(_) => false,
            };
            if !echoed {
                links.remove(key);
            }
        }
    }
}
